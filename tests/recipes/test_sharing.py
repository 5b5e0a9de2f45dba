"""What would leave this machine: no data, no secret, no path; and nothing unless asked."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.errors import CheckpointError, DataError, UnavailableError
from hornbook.interop import upload
from hornbook.recipes.sharing import pack

CARD = "---\nlicense: apache-2.0\n---\n# Spam\n"


@pytest.fixture
def run(tmp_path):
    """A finished run, with all that lies in one."""
    folder = tmp_path / "spam"
    for name, text in {
        "README.md": CARD,
        "config.yaml": "data: /home/ada/private.csv",
        "metrics.jsonl": "{}",
        "summary.json": "{}",
        "validation.jsonl": '{"text": "a private message"}',
        "checkpoints/step-1/state.json": "{}",
        "evaluations/test.jsonl": "{}",
        "model/config.json": json.dumps({"model_type": "bert"}),
        "model/tokenizer.json": json.dumps({"vocab": ["/home/ada/x", "hf_" + "a" * 30]}),
        "model/task.json": json.dumps({"task": "classify"}),
        "model/notes.csv": "text,label",
        "model/.cache": "x",
        "adapter/adapter_config.json": json.dumps(
            {"base_model_name_or_path": "/home/ada/models/minilm"}
        ),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    save_file({"w": torch.ones(3)}, folder / "model" / "model.safetensors")
    return folder


def test_only_the_model_and_its_card_go(run, tmp_path):
    parcel = pack(run)
    assert [one.name for one in parcel.sent] == [
        "README.md",
        "adapter/adapter_config.json",
        "config.json",
        "model.safetensors",
        "task.json",
        "tokenizer.json",
    ]
    assert set(parcel.left) == {
        "checkpoints",
        "config.yaml",
        "evaluations",
        "metrics.jsonl",
        "model/.cache",
        "model/notes.csv",
        "summary.json",
        "validation.jsonl",
    }
    out = tmp_path / "out"
    parcel.write(out)
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert written == {one.name for one in parcel.sent}
    assert parcel.n_bytes == sum(p.stat().st_size for p in out.rglob("*") if p.is_file())


def test_paths_of_this_machine_are_shortened_in_what_goes_alone(run, tmp_path):
    (run / "README.md").write_text(
        CARD + "Trained on `/work/data/sms spam.csv`, ~/x/y.csv and C:\\Users\\ada\\z.csv, see "
        "https://example.org/home/page, and/or a/b/c.\n"
    )
    parcel = pack(run)
    parcel.write(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`sms spam.csv`, y.csv and z.csv, see https://example.org/home/page, and/or a/b/c" in (
        card
    )
    adapter = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert adapter == {"base_model_name_or_path": "minilm"}
    assert "/home/ada/models/minilm" in (run / "adapter/adapter_config.json").read_text()
    assert any("goes as 'minilm'" in note for note in parcel.notes)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("data: /cluster/home/alice/data.csv", "data: data.csv"),
        ("--data=/gscratch/alice/a.csv,/n/fs/bob/b.csv", "--data=a.csv,b.csv"),
        (
            "/home/o'brien/x.csv and '/ceph/ada/y.csv', '/ceph/ada/z.csv'",
            "x.csv and 'y.csv', 'z.csv'",
        ),
        ("PATH:/pfs/ada/bin and ada@host:/pfs/ada/x", "PATH:bin and ada@host:x"),
        ("file:///pfs/ada/x.csv file:///C:/Users/ada/y.csv", "x.csv y.csv"),
        ("C:\\Users\\ada\\z.csv and \\\\nas\\ada\\z.csv", "z.csv and z.csv"),
        ('"C:\\\\Users\\\\ada\\\\z.csv"', '"z.csv"'),
        ("~alice/runs/spam, ~/x", "spam, x"),
        ("--out /home/alice or /Users/ada/", "--out ~ or ~"),
        ("https://x.org/?at=/home/page/1 s3://bucket/home/ada http://localhost:80/v1/models", None),
        ("and/or ./a/b ../a/b 1/2 </s></p> ~5 /think", None),
        ("'\\n\\nHello' and \\s+\\S [^\\r\\n\\p{L}]", None),
    ],
)
def test_every_path_from_a_root_on_is_shortened_and_nothing_else(run, text, sent):
    (run / "README.md").write_text(CARD + text)
    assert pack(run).card.removeprefix(CARD) == (text if sent is None else sent)


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "Ab1" * 12,
        "AKIA" + "ABCDEFGH12345678",
        "-----BEGIN RSA PRIVATE KEY-----",
        "https://ada:lovelace1815@example.org/data",
        'api_key = "0123456789abc"',
    ],
)
@pytest.mark.parametrize("place", ["README.md", "model/config.json"])
def test_a_secret_stops_it_and_is_not_repeated(run, secret, place):
    path = run / place
    path.write_text(path.read_text() + "\n" + secret)
    with pytest.raises(DataError, match=r"holds what looks like a") as caught:
        pack(run)
    assert secret not in str(caught.value)
    assert "line" in str(caught.value)


def test_a_secret_in_the_weights_header_is_found(run):
    save_file({"w": torch.ones(1)}, run / "model/model.safetensors", {"token": "hf_" + "x1Y" * 10})
    with pytest.raises(DataError, match=r"model\.safetensors"):
        pack(run)


def test_what_is_no_run_and_what_has_no_card_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="no model to share"):
        pack(tmp_path)
    (run / "README.md").unlink()
    with pytest.raises(CheckpointError, match="no model card"):
        pack(run)


def test_a_card_without_licence_is_said(run):
    (run / "README.md").write_text("---\ntags: [x]\n---\n# Spam\n")
    assert any("no licence" in note for note in pack(run).notes)


def test_a_link_out_of_the_model_is_not_followed(run, tmp_path):
    (tmp_path / "private.json").write_text("{}")
    (run / "model" / "linked.json").symlink_to(tmp_path / "private.json")
    assert "linked.json" not in [one.name for one in pack(run).sent]


def test_nothing_is_sent_unless_asked(run, monkeypatch):
    sent = []
    monkeypatch.setattr(upload, "upload", lambda *a, **k: sent.append((a, k)) or "address")
    shown = CliRunner().invoke(app, ["share", str(run), "--name", "ada/spam"])
    assert shown.exit_code == 0, shown.output
    assert "Nothing was sent" in shown.output
    assert "model.safetensors" in shown.output and "| # Spam" in shown.output
    assert sent == []
    CliRunner().invoke(app, ["share", str(run), "--name", "ada/spam", "--yes"])
    ((where, how),) = sent
    assert where[1] == "ada/spam"
    assert how["private"] is True


def test_offline_sends_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="was not sent"):
        upload.upload(tmp_path, "ada/spam", private=True, message="x")


def test_the_hub_is_asked_once_for_a_private_repository(run, tmp_path, monkeypatch):
    """What huggingface_hub is called with; the calls themselves are its own."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    calls = []

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            calls.append((name, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(sorted(p.name for p in folder_path.iterdir()))
            return "https://hub/ada/spam"

    monkeypatch.delenv("HORNBOOK_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    (tmp_path / "out").mkdir()
    pack(run).write(tmp_path / "out")
    assert upload.upload(tmp_path / "out", "ada/spam", private=True, message="x").endswith("spam")
    assert calls[0] == ("ada/spam", True, True)
    assert "model.safetensors" in calls[1]
