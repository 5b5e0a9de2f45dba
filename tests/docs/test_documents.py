"""Documents keep to the program: examples run, links lead somewhere, tables are pasted whole."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path

import pytest

import hornbook
from hornbook.compare.study import compare

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "experiments").glob("*.md"),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_technique_of_the_readme_learns_and_is_the_same_once_saved(tmp_path):
    """Its validation figure is of the fitted object, its test figure of the saved one."""
    block = re.search(r"<!-- own technique -->\n```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    own = tmp_path / "centroids.py"
    own.write_text(block[1], encoding="utf-8")
    rng = random.Random(0)
    words = {label: [f"{label}{i}" for i in range(8)] for label in ("ship", "wheat", "gold", "oil")}
    rows = []
    for i in range(200):
        label = list(words)[i % 4]
        noise = [f"word{rng.randrange(500)}" for _ in range(6)]
        rows.append((" ".join(rng.choices(words[label], k=2) + noise), label))
    study = compare(
        rows, techniques=["majority", f"{own}:Centroids"], budget=20, out=tmp_path / "run"
    )
    assert study.leaderboard[0].technique == "centroids"
    assert study.leaderboard[0].micro_f1 > 0.8
    assert study.best.predict(["gold1 gold2 word3"]) == ["gold"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_named_sources_exist(document):
    text = document.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text)
    assert [link for link in linked if not (document.parent / link).exists()] == []
    rooms = "text|data|nn|models|adapters|tasks|training|embeddings|interop|evaluation|recipes"
    named = re.findall(rf"`((?:{rooms}|compare|reports|cli)/[\w/]+(?:\.py|/))`", text)
    package = Path(hornbook.__file__).parent
    named = [name for name in named if "NAME" not in name]  # "models/NAME.py" is yours to write
    assert [name for name in named if not (package / name).exists()] == []


def test_a_leaderboard_is_pasted_between_its_own_markers_only():
    path = ROOT / "benchmarks" / "readme_leaderboard.py"
    specification = importlib.util.spec_from_file_location("readme_leaderboard", path)
    assert specification is not None and specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    once = script.pasted(README, "pydocs", r"a new \1 table")
    assert r"a new \1 table" in once
    assert script.pasted(once, "pydocs", r"a new \1 table") == once
    before, _, rest = README.partition("<!-- leaderboard: pydocs -->")
    assert once.startswith(before)
    assert once.endswith(rest.partition("<!-- end of leaderboard: pydocs -->")[2])
    with pytest.raises(ValueError, match="must hold"):
        script.pasted(README, "unknown", "text")
