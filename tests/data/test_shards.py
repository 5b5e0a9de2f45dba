"""Shards: the same bytes however they are made, read as they lie, and never silently wrong."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from hornbook import files
from hornbook.data import shard_writer, shards, tokenizing
from hornbook.data.corpus import of_text
from hornbook.data.packing import TokenArray, pack, pack_corpus
from hornbook.data.shard_writer import shard_corpus, write_shards
from hornbook.data.shards import TokenShards, read_manifest
from hornbook.data.tokenizing import CHUNK, encode_documents, token_type
from hornbook.data.windows import Windows
from hornbook.errors import ConfigError, DataError, StudyError
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer
from hornbook.text.train import train_tokenizer

WORDS = ["ships", "wheat", "the", "of", "grain", "naïve", "café", "日本", "port", "a"]


def texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(1, 60))) + ".\n" for _ in range(n)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer("bpe", lambda: iter(texts(200)), 300)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return texts(400, seed=1)


@pytest.fixture(scope="module")
def folder(tokenizer, documents, tmp_path_factory) -> Path:
    """Many small shards of the documents."""
    folder = tmp_path_factory.mktemp("shards") / "train"
    write_shards(documents, folder, tokenizer, shard_tokens=1500)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != ".lock"}


def test_shards_hold_what_packing_gives(folder, tokenizer, documents):
    packed = pack(documents, tokenizer)
    read = TokenShards.open(folder)
    assert len(read.manifest.shards) > 5 and read.manifest.complete
    np.testing.assert_array_equal(read[:], packed.tokens)
    assert read[:].dtype == packed.tokens.dtype == np.uint16
    rows, ends = read.ends_between(np.zeros(1, np.int64), np.array([len(read)]))
    np.testing.assert_array_equal(ends, packed.ends)
    assert not rows.any()
    assert read.n_bytes == packed.n_bytes == sum(len(d.encode()) for d in documents)
    end = tokenizer.id_of(END_OF_TEXT)
    assert (packed.tokens[packed.ends - 1] == end).all()
    assert (packed.tokens == end).sum() == len(documents)
    start = 0
    for document, stop in zip(documents, packed.ends.tolist()):
        assert tokenizer.decode(packed.tokens[start : stop - 1].tolist()) == document
        start = stop


def test_several_processes_write_the_same_bytes(folder, tokenizer, documents, tmp_path):
    write_shards(documents, tmp_path / "two", tokenizer, shard_tokens=1500, jobs=2)
    assert content(tmp_path / "two") == content(folder)


def test_windows_read_shards_as_they_read_memory(folder, tokenizer, documents, monkeypatch):
    monkeypatch.setattr(shards, "RESIDENT", 20_000)  # less than there is: maps are let go
    packed, read = pack(documents, tokenizer), TokenShards.open(folder)
    for options in ({"context_length": 16}, {"context_length": 700}):  # within; over several
        sides = [Windows(tokens, batch_size=8, seed=4, **options) for tokens in (packed, read)]
        for _ in range(3 * sides[0].n_windows // 8):
            for ours, theirs in zip(next(sides[0]), next(sides[1])):
                np.testing.assert_array_equal(ours, theirs)
        assert sides[0].packing() == sides[1].packing()
        ordered = [
            list(Windows.in_order(tokens, batch_size=8, stride=9, **options))
            for tokens in (packed, read)
        ]
        for (tokens, targets), (others, their_targets) in zip(*ordered):
            np.testing.assert_array_equal(tokens, others)
            np.testing.assert_array_equal(targets, their_targets)
    everything = read.ends_between(
        np.array([-5, 0, 1490, 3000]), np.array([len(read), 0, 1510, len(read)])
    )
    expected = packed.ends_between(
        np.array([-5, 0, 1490, 3000]), np.array([len(read), 0, 1510, len(read)])
    )
    assert sorted(zip(*map(np.ndarray.tolist, everything))) == sorted(
        zip(*map(np.ndarray.tolist, expected))
    )


def test_pieces_of_one_text_have_no_ends_between(tokenizer, tmp_path):
    text = "".join(texts(300))
    cut = text.index("\n", 4000) + 1
    whole = tokenizer.encode([text], special=False)[0]
    packed = pack([text[:cut], text[cut:]], tokenizer, one_text=True)
    np.testing.assert_array_equal(packed.tokens, whole)
    assert packed.ends.tolist() == [len(whole)]
    write_shards([text[:cut], text[cut:]], tmp_path, tokenizer, one_text=True, shard_tokens=100)
    read = TokenShards.open(tmp_path)
    np.testing.assert_array_equal(read[:], whole)
    assert len(read.manifest.shards) == 2
    assert Windows(read, context_length=8, batch_size=1, seed=0).packing().n_ends == 1
    corpus = of_text("t", text, 0.25)
    train, validation = pack_corpus(corpus, tokenizer)
    assert len(train) + len(validation) == len(whole) + 1  # a word was cut, or so
    parts = shard_corpus(corpus, tmp_path / "parts", tokenizer)
    assert [part.n_tokens for part in parts] == [len(train), len(validation)]


def test_a_long_document_gives_the_ids_of_its_whole(data_folder):
    from hornbook.text.builtin import open_tokenizer

    text = (data_folder / "tinyshakespeare" / "input.txt").read_text()[: 2 * CHUNK]
    for name in ("gpt2", "bert-base-uncased"):
        tokenizer = open_tokenizer(name)
        [ids] = encode_documents([text], tokenizer)
        assert ids.tolist() == tokenizer.encode([text], special=False)[0]


def test_a_text_without_lines_loses_nothing(tokenizer):
    text = "日本 ships " * (CHUNK // 4)
    [ids] = encode_documents([text], tokenizer)
    assert tokenizer.decode(ids.tolist()) == text


def test_special_tokens_in_a_text_are_text(tokenizer):
    text = f"Type {END_OF_TEXT} to end."
    [ids] = encode_documents([text], tokenizer)
    assert tokenizer.id_of(END_OF_TEXT) not in ids and tokenizer.decode(ids.tolist()) == text


@pytest.mark.parametrize(("size", "name"), [(1 << 16, "<u2"), ((1 << 16) + 1, "<u4")])
def test_the_type_follows_the_vocabulary(size, name):
    assert token_type(size).str == name


class Killed(BaseException):
    pass


def test_a_killed_writer_goes_on_to_the_same_bytes(
    folder, tokenizer, documents, tmp_path, monkeypatch
):
    """Killed twice, each time within a shard; and files lie there that no manifest knows."""
    monkeypatch.setattr(tokenizing, "GROUP", 2000)

    def broken(at: int):
        for i, document in enumerate(documents):
            if i == at:
                raise Killed
            yield document

    for at in (120, 260):
        with pytest.raises(Killed):
            write_shards(broken(at), tmp_path, tokenizer, shard_tokens=1500)
        found = read_manifest(tmp_path)
        assert not found.complete
        with pytest.raises(DataError, match="not finished"):
            TokenShards.open(tmp_path)
    written = len(found.shards)
    assert written > 2
    (tmp_path / f"{written:05}.tokens").write_bytes(b"half a shard that no manifest knows")
    (tmp_path / ".00099.tokens.xyz.part").write_bytes(b"left over")
    told = []
    encoded = []
    real = shard_writer.encode_groups
    monkeypatch.setattr(
        shard_writer,
        "encode_groups",
        lambda groups, *a, **k: real((encoded.extend(g) or g for g in groups), *a, **k),
    )
    write_shards(documents, tmp_path, tokenizer, shard_tokens=1500, progress=told.append)
    assert content(tmp_path) == content(folder)
    assert told[0].n_shards == written and told[-1].n_documents == len(documents)
    n_kept = sum(shard.n_documents for shard in found.shards)
    assert encoded == documents[n_kept:]  # the finished ones were not tokenized again


_WRITER = """
import sys, time
from hornbook.data import tokenizing
from hornbook.data.shard_writer import write_shards
from hornbook.text.tokenizer import Tokenizer
from pathlib import Path

def documents():
    for line in Path("lines.txt").read_text().splitlines()[:300]:
        yield line
    time.sleep(100)

if __name__ == "__main__":
    tokenizing.GROUP = 2000
    tokenizer = Tokenizer.load(Path("tokenizer.json"))
    write_shards(documents(), Path("out"), tokenizer, shard_tokens=1500, jobs=2)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_killed_outright_no_worker_stays_and_the_rest_is_written(tokenizer, tmp_path):
    """A writer with two workers waits for its next document when it is killed."""
    lines = [text.strip() for text in texts(400, seed=1)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    (tmp_path / "writer.py").write_text(_WRITER)
    tokenizer.save(tmp_path / "tokenizer.json")
    process = subprocess.Popen([sys.executable, "writer.py"], cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not (tmp_path / "out" / "00001.tokens").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert len(workers) > 1 and not read_manifest(tmp_path / "out").complete
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if psutil.pid_exists(pid)]
    write_shards(lines, tmp_path / "out", tokenizer, shard_tokens=1500)
    np.testing.assert_array_equal(
        TokenShards.open(tmp_path / "out")[:], pack(lines, tokenizer).tokens
    )


def test_a_damaged_shard_is_named_and_written_again(folder, tokenizer, documents, tmp_path):
    write_shards(documents, tmp_path, tokenizer, shard_tokens=1500)
    path = tmp_path / "00002.tokens"
    whole = path.read_bytes()
    again = "writes it again"
    path.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"00002\.tokens is cut short: .* bytes, expected") as error:
        TokenShards.open(tmp_path, verify=False)
    assert again in error.value.hint
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    TokenShards.open(tmp_path, verify=False)
    with pytest.raises(DataError, match=r"00002\.tokens was changed or damaged"):
        TokenShards.open(tmp_path)
    ends = tmp_path / "00004.ends"
    ends.unlink()
    with pytest.raises(DataError, match="is missing"):
        TokenShards.open(tmp_path, verify=False)
    write_shards(documents, tmp_path, tokenizer, shard_tokens=1500)
    assert content(tmp_path) == content(folder)


@pytest.mark.parametrize(
    ("change", "type_", "said"),
    [
        (lambda d: d[1:], DataError, "00000.tokens was made of"),
        (lambda d: [*d[:-1], "changed"], DataError, "was made of"),
        (lambda d: [*d, "one more"], DataError, "more documents"),
        (lambda d: d[:-1], DataError, "was made of"),
    ],
)
def test_other_documents_are_refused(folder, tokenizer, documents, change, type_, said):
    before = content(folder)
    with pytest.raises(type_, match=said):
        write_shards(change(documents), folder, tokenizer, shard_tokens=1500)
    assert content(folder) == before


def test_other_settings_are_refused_with_the_difference(folder, tokenizer, documents):
    before = content(folder)
    with pytest.raises(ConfigError, match="shard_tokens was 1500, is 999"):
        write_shards(documents, folder, tokenizer, shard_tokens=999)
    other = train_tokenizer("character", lambda: iter(documents))
    with pytest.raises(ConfigError, match="tokenizer_sha256 was"):
        write_shards(documents, folder, other, shard_tokens=1500)
    with pytest.raises(ConfigError, match="jobs is 0"):
        write_shards(documents, folder, tokenizer, jobs=0)
    assert content(folder) == before


def test_nothing_to_write_and_nothing_to_read(tokenizer, tmp_path):
    with pytest.raises(DataError, match="no text"):
        write_shards([], tmp_path / "a", tokenizer)
    with pytest.raises(DataError, match="no text"):
        pack([], tokenizer)
    with pytest.raises(DataError, match=r"no manifest\.json"):
        TokenShards.open(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError) as error:
        TokenShards.open(tmp_path)
    assert "train" in error.value.hint
    (tmp_path / "manifest.json").write_text('{"shards": "none"}')
    with pytest.raises(DataError, match="not a manifest"):
        TokenShards.open(tmp_path)


def test_a_manifest_cannot_point_elsewhere(folder, tmp_path):
    found = json.loads((folder / "manifest.json").read_text())
    found["shards"][0]["name"] = "../../elsewhere"
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match="leads outside"):
        TokenShards.open(tmp_path)


def test_a_full_disk_leaves_what_is_whole(tokenizer, documents, folder, tmp_path, monkeypatch):
    real = files.atomic_file

    def full(path):
        if path.name == "00003.ends":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path)

    monkeypatch.setattr(files, "atomic_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_shards(documents, tmp_path, tokenizer, shard_tokens=1500)
    assert len(read_manifest(tmp_path).shards) == 3
    assert not list(tmp_path.glob(".*.part"))
    monkeypatch.undo()
    write_shards(documents, tmp_path, tokenizer, shard_tokens=1500)
    assert content(tmp_path) == content(folder)


def test_two_writers_do_not_meet(tokenizer, documents, tmp_path):
    def second():
        yield documents[0]
        write_shards(documents, tmp_path, tokenizer)

    with pytest.raises(StudyError, match="another process"):
        write_shards(second(), tmp_path, tokenizer, shard_tokens=10)


def test_slices_across_shards(folder):
    read = TokenShards.open(folder)
    everything = read[:].copy()
    edge = read.manifest.shards[0].n_tokens
    for part in (slice(edge - 5, edge + 5), slice(0, 0), slice(-10, None), slice(3, 4000, 7)):
        np.testing.assert_array_equal(read[part], everything[part])
    assert read.fingerprint == TokenShards.open(folder).fingerprint


def _peak_of_reading(folder: str, results) -> None:
    import resource

    read = TokenShards.open(folder, verify=False)
    windows = Windows(read, context_length=256, batch_size=64, seed=0)
    next(windows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(120):
        next(windows)
    results.put((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(read)))


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes as Linux counts them")
def test_reading_lets_go_of_what_it_read(tmp_path):
    """640 MB of tokens read all over; resident grows by no more than the limit and a bit."""
    manifest = {
        "complete": True,
        "dtype": "<u2",
        "vocab_size": 100,
        "tokenizer_sha256": "",
        "end_token": None,
        "one_text": True,
        "shard_tokens": 1,
        "shards": [
            {
                "name": f"{i:05}",
                "n_tokens": 160_000_000,
                "n_documents": 1,
                "n_ends": 0,
                "n_bytes": 1,
                "text_hash": "",
                "tokens_sha256": "",
                "ends_sha256": "",
            }
            for i in range(2)
        ],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for i in range(2):
        with (tmp_path / f"{i:05}.tokens").open("wb") as file:
            file.truncate(320_000_000)  # a hole: takes no room on the disk
        (tmp_path / f"{i:05}.ends").touch()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_peak_of_reading, args=(str(tmp_path), results))
    process.start()
    before, after, n = results.get(timeout=120)
    process.join()
    assert n == 320_000_000
    assert after - before < (shards.RESIDENT >> 10) + 60_000


def test_tokens_in_memory_are_one_document_unless_told(tokenizer):
    packed = TokenArray.of(np.arange(10))
    assert packed.ends.tolist() == [10]
    assert packed.fingerprint == TokenArray.of(np.arange(10, dtype=np.uint16)).fingerprint
    assert packed.fingerprint != TokenArray(np.arange(10), np.array([5, 10])).fingerprint
