from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter

import pytest

from hornbook import files
from hornbook.data.datasets import reuters
from hornbook.errors import DataError, DownloadError, UnavailableError

SGML = """<!DOCTYPE lewis SYSTEM "lewis.dtd">
<REUTERS TOPICS="YES" LEWISSPLIT="TRAIN" CGISPLIT="TRAINING-SET" OLDID="1" NEWID="7">
<TOPICS><D>acq</D><D>earn</D><D>acq</D></TOPICS>
<TEXT>&#2;
<TITLE>FOO &lt;FOO> BUYS
BAR</TITLE>
<DATELINE>    SALVADOR, Feb 26 - </DATELINE><BODY>Foo &amp; Co said &lt;BAR&gt; is good.
    It rose.
 Reuter
&#3;</BODY></TEXT>
</REUTERS>
<REUTERS TOPICS="YES" LEWISSPLIT="TEST" CGISPLIT="TRAINING-SET" OLDID="2" NEWID="8">
<TOPICS><D>money-supply</D></TOPICS>
<TEXT TYPE="UNPROC">&#2;
FED REPORT
 line two
&#3;</TEXT>
</REUTERS>
<REUTERS TOPICS="YES" LEWISSPLIT="TEST" CGISPLIT="TRAINING-SET" OLDID="3" NEWID="9">
<TOPICS></TOPICS>
<TEXT TYPE="BRIEF">&#2;
******<TITLE>SHORT NEWS
</TITLE>Blah blah blah.
&#3;

</TEXT>
</REUTERS>
<REUTERS TOPICS="NO" LEWISSPLIT="TRAIN" CGISPLIT="TRAINING-SET" OLDID="4" NEWID="10">
<TOPICS><D>acq</D></TOPICS><TEXT><BODY>unused</BODY></TEXT></REUTERS>
"""


def test_the_kinds_of_story():
    (train, story), (_, table), (_, brief) = reuters._stories(SGML)
    assert (train, story.id, story.labels) == ("TRAIN", "7", ("acq", "earn"))
    assert story.document.title == "FOO <FOO> BUYS BAR"
    assert story.document.text == "Foo & Co said <BAR> is good.\n    It rose."
    assert (table.document.title, table.document.text) == ("", "FED REPORT\n line two")
    assert (brief.document.title, brief.document.text) == ("SHORT NEWS", "")


def test_counts_are_those_of_the_literature(data_folder):
    d = reuters.load()
    assert (len(d.train), len(d.test)) == (7_770, 3_019)
    assert sum(len(e.labels) for e in d.train) == 9_585
    assert sum(len(e.labels) for e in d.test) == 3_744
    train, test = (Counter(t for e in part for t in e.labels) for part in (d.train, d.test))
    assert len(train) == 90 and train.keys() == test.keys() == d.label_descriptions.keys()
    published = {"earn": (2877, 1087), "acq": (1650, 719), "grain": (433, 149), "corn": (181, 56)}
    assert {topic: (train[topic], test[topic]) for topic in published} == published
    assert len({e.id for e in d.examples}) == 10_789
    assert d.multi_label and all(e.document.full.strip() for e in d.examples)
    everything = "".join(e.document.full for e in d.examples)
    assert "&#" not in everything and "&lt;" not in everything and "Blah blah" not in everything
    assert all(c.isprintable() or c in "\n\t\xa0\xad" for c in set(everything))
    assert d.label_descriptions["acq"] == "Mergers/Acquisitions"
    assert d.label_descriptions["soy-oil"] == "soybean oil"


def test_offline_the_error_says_what_works(tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    with pytest.raises(UnavailableError) as caught:
        reuters.load()
    assert "pydocs" in caught.value.hint and "reut2-000.sgm" in caught.value.hint


def test_half_a_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    (tmp_path / "reuters").mkdir()
    (tmp_path / "reuters" / "reut2-003.sgm").write_text(SGML)
    with pytest.raises(DataError, match=r"1 of 22 files.*reut2-000\.sgm"):
        reuters.load()


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def two_files(monkeypatch):
    contents = {"reut2-000.sgm": SGML.encode(), "reut2-001.sgm": b"other"}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(reuters, "CHECKSUMS", sums)
    return contents


def test_only_what_the_checksums_vouch_for_is_unpacked(tmp_path, two_files):
    first, second = two_files.values()
    archive(
        tmp_path / "a.tar.gz",
        {"../../reut2-000.sgm": first, "/x/reut2-001.sgm": second, "../evil.txt": b"x"},
    )
    reuters._unpack(tmp_path / "a.tar.gz", tmp_path / "in" / "reuters21578")
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["a.tar.gz", "in/reuters21578/reut2-000.sgm", "in/reuters21578/reut2-001.sgm"]


@pytest.mark.parametrize("change", [b"changed", None])
def test_a_changed_or_missing_member_leaves_nothing(tmp_path, two_files, change):
    members = {**two_files, "reut2-001.sgm": change} if change else {"reut2-000.sgm": b"x"}
    archive(tmp_path / "a.tar.gz", members)
    with pytest.raises(DownloadError, match=r"reut2-001\.sgm"):
        reuters._unpack(tmp_path / "a.tar.gz", tmp_path / "reuters21578")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_the_second_home_is_asked_when_the_first_is_broken(tmp_path, two_files, monkeypatch):
    asked = []

    def download(url, path, *, sha256_expected):
        asked.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(asked) == 1:
            path.write_bytes(b"not an archive")
        else:
            archive(path, two_files)

    monkeypatch.setattr(files, "download", download)
    folder = reuters._fetch(tmp_path / "data" / "reuters21578")
    assert asked == list(reuters.URLS)
    assert sorted(p.name for p in folder.iterdir()) == sorted(two_files)
    assert not (tmp_path / "data" / "reuters21578.tar.gz").exists()
