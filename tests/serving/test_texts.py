"""Texts in a file: what is kept, what is refused, and what is never lost or touched."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from small_server import serving

from hornbook.errors import ConfigError, DataError
from hornbook.serving import texts as texts_module
from hornbook.serving.kept_texts import LONGEST
from hornbook.serving.keys import Keys
from hornbook.serving.refusals import Refusal
from hornbook.serving.texts import Making, Texts

BY_HAND = Making(None, {})
KEY = "a-key-of-this-test-0123456789"
NAUGHTY = "'; DROP TABLE texts; --"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "texts.sqlite"


@pytest.fixture
def texts(path):
    with closing(Texts(path)) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "texts.sqlite"
    with serving(texts=Texts(path)) as server:
        server.path = path
        yield server


@pytest.fixture
def ask(server):
    """Ask the server with texts, from a file in which there are none."""
    with closing(sqlite3.connect(server.path)) as file, file:
        file.execute("DELETE FROM texts")
    return server.client


def error_of(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_text_is_kept_with_how_it_was_made_changed_listed_and_deleted(ask):
    assert ask.get("/v1/models").json()["keeps_texts"] is True
    settings = {"max_tokens": 24, "temperature": 0.5, "seed": 7}
    body = {"title": f" {NAUGHTY} ", "text": "Once\n\x00 <b>👩‍👧", "model": "tiny"}
    row = ask.post("/v1/texts", json=body | {"settings": settings}).json()
    assert (row["version"], row["title"], row["model"]) == (1, NAUGHTY, "tiny")
    assert row["settings"] == settings and row["created"] == row["saved"] and "text" not in row
    assert row["n_characters"] == len(body["text"])  # a NUL ends nothing
    at = f"/v1/texts/{row['id']}"
    assert ask.get(at).json() == row | {"text": body["text"]}
    changed = ask.post(at, json={"version": 1, "text": "By hand now"}).json()
    assert (changed["version"], changed["title"], changed["n_characters"]) == (2, NAUGHTY, 11)
    assert (changed["model"], changed["settings"]) == (None, {})
    assert ask.post(at, json={"version": 2, "title": "Fable"}).json()["version"] == 3
    listed = ask.get("/v1/texts").json()
    assert (listed["object"], listed["has_more"]) == ("list", False)
    assert [(r["title"], r["version"]) for r in listed["data"]] == [("Fable", 3)]
    assert ask.get(at).json()["text"] == "By hand now"
    assert ask.delete(at, params={"version": 3}).json()["deleted"] is True
    assert error_of(ask.get(at), 404)["code"] == "no_such_text"
    again = ask.post("/v1/texts", json={"title": "New", "text": ""}).json()
    assert again["id"] != row["id"]  # who still has the deleted one open can't meet another


def test_a_newer_version_is_never_written_over_or_deleted(ask):
    at = f"/v1/texts/{ask.post('/v1/texts', json={'title': 'A', 'text': 'one'}).json()['id']}"
    assert ask.post(at, json={"version": 1, "text": "two"}).json()["version"] == 2
    for answer in (
        ask.post(at, json={"version": 1, "text": "late"}),
        ask.post(at, json={"version": 1, "title": "late"}),
        ask.delete(at, params={"version": 1}),
    ):
        error = error_of(answer, 409)
        assert (error["code"], error["param"]) == ("newer_version", "version")
        assert "version 2" in error["message"] and "version 1" in error["message"]
    kept = ask.get(at).json()
    assert (kept["title"], kept["text"], kept["version"]) == ("A", "two", 2)


def test_many_who_save_the_same_version_are_told_apart(texts):
    id = texts.add("A", "", BY_HAND).id
    won, lost = [], []

    def save(n):
        try:
            won.append((n, texts.save(id, 1, None, str(n), BY_HAND).version))
        except Refusal as refusal:
            lost.append(refusal.code)

    threads = [threading.Thread(target=save, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version for _, version in won] == [2] and lost == ["newer_version"] * 7
    assert texts.read(id).text == str(won[0][0])


def test_pages_go_on_after_the_last_of_the_one_before(ask):
    ids = [
        ask.post("/v1/texts", json={"title": f"T{n}", "text": "x"}).json()["id"] for n in range(5)
    ]
    ask.post(f"/v1/texts/{ids[1]}", json={"version": 1, "title": "last saved"})
    seen, query = [], {"limit": 2}
    while True:
        page = ask.get("/v1/texts", params=query).json()
        seen += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = seen[-1]
    assert len(page["data"]) == 1
    assert seen == [ids[1], ids[4], ids[3], ids[2], ids[0]]
    for wrong in ({"limit": 101}, {"limit": 0}, {"limit": "many"}, {"after": 2**63}):
        assert error_of(ask.get("/v1/texts", params=wrong), 422)["param"].endswith(min(wrong))
    error_of(ask.get("/v1/texts", params={"after": 10**6}), 404)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": "x"}, "title"),
        ({"title": " \n", "text": "x"}, "title"),
        ({"title": "x" * 201, "text": "x"}, "title"),
        ({"title": "x"}, "text"),
        ({"title": "x", "text": "y" * (LONGEST + 1)}, "text"),
        ({"title": "x", "text": 5}, "text"),
        ({"title": "x", "text": "y", "settings": {"temperature": 3}}, "settings.temperature"),
    ],
)
def test_what_does_not_fit_is_refused(ask, body, param):
    assert error_of(ask.post("/v1/texts", json=body), 422)["param"] == param
    assert ask.get("/v1/texts").json()["data"] == []


def test_a_change_without_a_change_and_settings_without_a_text_are_refused(ask):
    at = f"/v1/texts/{ask.post('/v1/texts', json={'title': 'A', 'text': 'one'}).json()['id']}"
    for body in ({"version": 1}, {"version": 1, "title": "B", "model": "tiny"}, {"title": "B"}):
        error_of(ask.post(at, json=body), 422)
    error_of(ask.delete(at), 422)  # which version? nobody said
    assert ask.get(at).json()["title"] == "A"


def test_the_longest_text_fits_whatever_its_letters(ask):
    long = "é" * LONGEST
    row = ask.post("/v1/texts", json={"title": "Long", "text": long}).json()
    assert ask.get(f"/v1/texts/{row['id']}").json()["text"] == long
    assert error_of(ask.post("/v1/texts", json={"text": "x" * 2**20}), 413)


def test_no_foreign_page_reads_or_writes(ask):
    body = b'{"title": "Planted", "text": "x"}'
    as_form = {"content-type": "text/plain", "origin": "http://evil.example"}
    assert ask.post("/v1/texts", content=body, headers=as_form).status_code == 415
    for site in ("cross-site", "same-site"):
        foreign = {"sec-fetch-site": site, "content-type": "application/json"}
        for answer in (
            ask.post("/v1/texts", content=body, headers=foreign),
            ask.get("/v1/texts", headers=foreign),
            ask.delete("/v1/texts/1?version=1", headers=foreign),
        ):
            assert error_of(answer, 403)["code"] == "foreign_page"
    rebound = {"host": "evil.example", "content-type": "application/json"}
    preflight = {"origin": "http://evil.example", "access-control-request-method": "DELETE"}
    asked = ask.options("/v1/texts/1", headers=preflight)
    assert asked.status_code == 405 and "access-control-allow-origin" not in asked.headers
    with serving(hosts=frozenset({"127.0.0.1"})) as other:
        assert other.client.post("/v1/texts", content=body, headers=rebound).status_code == 403
    own = {"sec-fetch-site": "same-origin"}
    assert ask.get("/v1/texts", headers=own).json()["data"] == []


def test_a_key_is_needed_where_there_are_keys_and_without_texts_there_is_no_path(path):
    with serving(texts=Texts(path), keys=Keys([KEY])) as server:
        assert error_of(server.client.get("/v1/texts"), 401)
        allowed = server.client.get("/v1/texts", headers={"authorization": f"Bearer {KEY}"})
        assert allowed.status_code == 200
    with serving() as server:
        assert server.client.get("/v1/models").json()["keeps_texts"] is False
        assert error_of(server.client.get("/v1/texts"), 404)
        assert error_of(server.client.post("/v1/texts", json={"title": "a", "text": "b"}), 404)


def test_texts_are_there_again_after_the_server_has_ended(path):
    with serving(texts=Texts(path)) as server:
        row = server.client.post("/v1/texts", json={"title": "A", "text": "one"}).json()
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # one file, to carry away
    assert path.stat().st_mode & 0o077 == 0  # and nobody else's to read
    with serving(texts=Texts(path)) as server:
        assert server.client.get(f"/v1/texts/{row['id']}").json()["text"] == "one"


def test_a_text_of_another_file_cannot_be_meant(tmp_path):
    """A page that was left open when the server was started anew with another file."""
    first, second = (Texts(tmp_path / name) for name in ("a.sqlite", "b.sqlite"))
    kept, other = (texts.add("A", "one", BY_HAND) for texts in (first, second))
    assert kept.id != other.id and 0 < kept.id < 2**53
    with pytest.raises(Refusal, match="there is no text"):
        second.save(kept.id, kept.version, None, "two", BY_HAND)
    first.close()
    second.close()


def test_what_was_confirmed_outlives_a_kill(path):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from hornbook.serving.texts import Making, Texts\n"
        "texts = Texts(Path(sys.argv[1]))\nkept = texts.add('A', '', Making(None, {}))\n"
        "while True:\n"
        "    kept = texts.save(kept.id, kept.version, None, 'x' * 30_000, Making(None, {}))\n"
        "    print(kept.version, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        seen = [int(process.stdout.readline()) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    with closing(Texts(path)) as texts:
        (kept,), _ = texts.page(5)
        assert kept.version in (seen[-1], seen[-1] + 1)
        assert len(texts.read(kept.id).text) == 30_000


def other_programs(path):
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT)")
    return "another program's"


def no_database(path):
    path.write_text("my notes")
    return "no SQLite database"


def newer(path):
    Texts(path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 2")
    return "newer Hornbook"


def another_table(path):
    Texts(path).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("ALTER TABLE texts DROP COLUMN seed")
    return "no such column: seed"


def damaged(path):
    with closing(Texts(path)) as texts:
        for n in range(40):
            texts.add("A", str(n) * 3000, BY_HAND)
    whole = bytearray(path.read_bytes())
    whole[8192:40960] = b"\x5a" * 32768
    path.write_bytes(whole)
    return "cannot be used"


@pytest.mark.parametrize("make", [other_programs, no_database, newer, another_table, damaged])
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_was(path, make):
    why = make(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match=why) as refused:
        Texts(path)
    assert refused.value.hint
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_places_where_no_file_can_be_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, why in [("pipe", "no file"), (".", "no file"), ("none/t.sqlite", "no folder")]:
        with pytest.raises(ConfigError, match=why):
            Texts(tmp_path / place)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@contextmanager
def without_rights():
    """root may write everywhere; nobody may not."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_cannot_be_written_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.sqlite"
        Texts(path).close()
        before = path.read_bytes()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with without_rights():
            with pytest.raises(DataError, match="cannot be written") as refused:
                Texts(path)
            with pytest.raises(DataError, match="cannot be written"):
                Texts(Path(folder) / "new.sqlite")
        assert "writable" in refused.value.hint and path.read_bytes() == before
        path.chmod(0o666)
        with without_rights(), pytest.raises(DataError, match="cannot be used") as refused:
            Texts(path)  # the file could be, the journal beside it could not
        assert "writable" in refused.value.hint and path.read_bytes() == before
        Path(folder).chmod(0o755)


def test_a_disk_that_says_no_is_told_and_changes_nothing(path, monkeypatch):
    monkeypatch.setattr(texts_module, "_PATIENCE", 0.05)
    with serving(texts=Texts(path)) as server:
        row = server.client.post("/v1/texts", json={"title": "A", "text": "one"}).json()
        at = f"/v1/texts/{row['id']}"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # another program writes
            with pytest.raises(DataError, match="locked") as refused:
                Texts(path)
            assert "Another program" in refused.value.hint
            error = error_of(server.client.post(at, json={"version": 1, "text": "two"}), 503)
            assert error["code"] == "no_storage" and "locked" in error["message"]
        kept = server.client.post(at, json={"version": 1, "text": "two"}).json()
        assert kept["version"] == 2
        path.rename(path.with_suffix(".moved"))  # what is written now would be found by nobody
        error_of(server.client.post(at, json={"version": 2, "text": "three"}), 503)
    with closing(Texts(path.with_suffix(".moved"))) as texts:
        assert texts.read(row["id"]).text == "two"


def test_a_full_file_says_so(texts, monkeypatch):
    monkeypatch.setattr(texts_module, "MOST_TEXTS", 2)
    ids = [texts.add("A", "", BY_HAND).id for _ in range(2)]
    with pytest.raises(Refusal, match="delete some"):
        texts.add("B", "", BY_HAND)
    texts.save(ids[0], 1, None, "goes on", BY_HAND)
    texts.delete(ids[1], 1)
    texts.add("B", "", BY_HAND)
