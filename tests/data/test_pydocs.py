from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from hornbook.data.datasets import pydocs as corpus
from hornbook.data.store import fingerprint
from hornbook.errors import UnavailableError


def test_a_sensible_task(pydocs):
    counts = Counter(e.labels[0] for e in pydocs.train)
    assert len(pydocs.train) >= 3_000 and len(counts) >= 30
    assert min(counts.values()) >= corpus.MIN_TEXTS
    assert {"asyncio", "email", "logging", "tkinter", "decimal"} <= counts.keys()
    assert not any(label.startswith("_") for label in counts)
    assert pydocs.label_descriptions.keys() == counts.keys()
    assert len({e.id for e in pydocs.train}) == len(pydocs.train)
    assert pydocs.test is None and not pydocs.multi_label


def test_no_text_names_a_label_or_holds_an_interactive_example(pydocs):
    labels = "|".join({e.labels[0] for e in pydocs.train})
    named = re.compile(rf"(?<![^\W_])({labels})(?![^\W_])", re.IGNORECASE)
    for example in pydocs.train:
        assert not named.search(example.document.text), example.id
        assert not re.search(r"^\s*>>>", example.document.text, re.MULTILINE), example.id


def test_the_same_in_another_process_and_nothing_imported(pydocs):
    code = (
        "import sys, sysconfig\n"
        "from hornbook.data.datasets import pydocs\n"
        "from hornbook.data.store import fingerprint\n"
        "dataset = pydocs.load()\n"
        "before = set(sys.modules)\n"
        "pydocs.load()\n"
        "assert set(sys.modules) == before\n"
        "assert not {'turtle', 'tkinter', 'imaplib', 'mailbox', 'pdb'} & set(sys.modules)\n"
        "print(fingerprint(dataset.train))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == fingerprint(pydocs.train)


def test_a_python_without_sources_is_told_so(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text('"""A module of the library that stands all alone here."""')
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UnavailableError, match="too few"):
        corpus.load()


def test_copies_in_two_modules_go_and_descriptions_are_the_modules_own(tmp_path, monkeypatch):
    shared = "Do a thing that stands in two modules in just these words."
    for label in ("alpha", "beta"):
        lines = [f'"""The module {label}. More about it."""']
        lines += [
            f"def f{i}():\n    '''Handle {label}case number{i} by {label}way{i} and "
            f"{label}trick{i} of {label}land; see alpha.'''"
            for i in range(45)
        ]
        lines += [f'def g():\n    """{shared}"""', f"class {label.title()}:\n    'too short'"]
        (tmp_path / f"{label}.py").write_text("\n".join(lines))
    for skipped in ("site-packages", "test"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "x.py").write_text((tmp_path / "alpha.py").read_text())
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    dataset = corpus.load()
    assert Counter(e.labels[0] for e in dataset.train) == {"alpha": 45, "beta": 45}
    assert not any(shared in e.document.text for e in dataset.train)
    assert all("see ___." in e.document.text for e in dataset.train)
    assert dataset.label_descriptions == {"alpha": "The module alpha.", "beta": "The module beta."}
    assert dataset.train[0].id == "alpha.py:2"
