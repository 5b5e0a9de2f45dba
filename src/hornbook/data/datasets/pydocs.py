"""The built-in corpus: docstrings of the running Python's standard library, labelled by module.

It needs no network and is in every Python, so that the first comparison runs anywhere. The sources
are read with `ast` and never imported. What makes it a fair task of language:

- The prose is kept, the doctest examples (">>> ...") are dropped: code in them names the module.
- The name of any label is blanked ("___") in every text, whatever its own label. On 3.11 one text
  in eight says its own module's name; blanking costs a linear SVM half a point of accuracy only,
  and what it then learns is what a module does. All names are blanked in all texts, for if only a
  text's own name were, the blank itself would tell.
- A docstring that stands, nearly word for word, in several modules says nothing of either: all its
  copies go. Of copies within a module the first stays.
- A module's own opening docstring is not among the texts: its first sentence describes the label.
"""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections import Counter, defaultdict
from pathlib import Path

from hornbook.data.datasets import Card
from hornbook.data.duplicates import find_duplicates, groups
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.errors import UnavailableError

CARD = Card(
    name="pydocs",
    summary="docstrings of Python's standard library by module; built in, works offline",
    size="about 4,300 texts, 37 labels (Python 3.11)",
    source="the running interpreter's standard library",
    licence="PSF-2.0",
)

MIN_TEXTS = 40  # a label
MIN_WORDS = 7  # of two letters or more, a text
BLANK = "___"

# Not the library: other people's packages, tests (their docstrings are of a kind of their own), and
# two programs and a program's grammar tables that merely ship with it.
SKIPPED = {"__pycache__", "dist-packages", "idle_test", "idlelib", "lib2to3", "site-packages"}
SKIPPED |= {"_bundled", "test", "tests", "turtledemo"}

# Private files that implement a public module are counted under its name.
IMPLEMENTS = {
    "_collections_abc": "collections",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
}

_WORD = re.compile(r"[^\W\d_]{2,}")
_DOCTEST = re.compile(r"^[ \t]*>>>.*(?:\n(?![ \t]*\n).*)*", re.MULTILINE)  # to the next empty line
_GAP = re.compile(r"\n\s*\n")
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def load() -> TextDataset:
    """Read the docstrings, in the order of the files' names and of the lines; takes seconds.

    Raises UnavailableError where the interpreter came without its library's sources.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    examples: list[Example] = []
    descriptions: dict[str, str] = {}
    for path in sources(folder):
        name = path.relative_to(folder).as_posix()
        label = _label(name)
        tree = parse(path)
        texts = docstrings(tree)
        if name.partition("/")[2] in ("", "__init__.py") and texts and texts[0][0] == 0:
            sentence = _first_sentence(texts.pop(0)[1])
            descriptions[label] = descriptions.get(label, sentence) if name[0] == "_" else sentence
        for line, text in texts:
            if len(_WORD.findall(text)) >= MIN_WORDS:
                examples.append(Example(Document(text), (label,), id=f"{name}:{line}"))

    n_read = len(examples)
    examples = _without_copies(examples)
    n_different = len(examples)
    counts = Counter(e.labels[0] for e in examples)
    labels = sorted(label for label, n in counts.items() if n >= MIN_TEXTS)
    if len(labels) < 2:
        raise UnavailableError(
            f"{folder} holds too few of the standard library's sources for the corpus pydocs",
            hint="Some systems ship Python without them; use your own table, or another Python.",
        )
    blanked = re.compile(rf"(?<![^\W_])(?:{'|'.join(labels)})(?![^\W_])", re.IGNORECASE)
    train = [
        Example(Document(blanked.sub(BLANK, e.document.text)), e.labels, e.id)
        for e in examples
        if e.labels[0] in labels
    ]
    return TextDataset(
        name="pydocs",
        train=train,
        source=f"{CARD.source}, {folder}",
        licence=CARD.licence,
        notes=[
            f"{n_read:,} docstrings of at least {MIN_WORDS} words; {n_read - n_different:,} of "
            "them dropped as near-duplicates.",
            f"{len(train):,} texts of the {len(labels)} modules with at least {MIN_TEXTS}; the "
            f"names of these modules are blanked in all texts ({BLANK}).",
        ],
        label_descriptions={label: descriptions.get(label, label) for label in labels},
    )


def sources(folder: Path) -> list[Path]:
    """The library's source files, sorted by name."""
    found = []
    for parent, folders, names in os.walk(folder):
        # config-3.11-x86_64-linux-gnu and the like hold the build's settings.
        folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith("config-")]
        found += [Path(parent, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _label(name: str) -> str:
    """The top-level module of a file: "xml" for "xml/dom/minidom.py"."""
    top = name.partition("/")[0].removesuffix(".py")
    return IMPLEMENTS.get(top, top)


def parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # old escapes in strings are not our matter
        return ast.parse(path.read_bytes(), filename=str(path))


def docstrings(tree: ast.Module) -> list[tuple[int, str]]:
    """Line number (0: the module) and prose of each docstring, in order of lines."""
    found = []
    nodes: list[ast.AST] = [tree]
    while nodes:  # through statements only, which takes a tenth of the time of `ast.walk`
        node = nodes.pop()
        if isinstance(node, _Documented) and (text := ast.get_docstring(node)):
            found.append((getattr(node, "lineno", 0), _prose(text)))
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            nodes += [n for n in getattr(node, block, []) if not isinstance(n, ast.Expr)]
    return sorted(found)


def _prose(text: str) -> str:
    """A docstring without its interactive examples."""
    return _GAP.sub("\n\n", _DOCTEST.sub("", text)).strip()


def _without_copies(examples: list[Example]) -> list[Example]:
    """One of each group of near-duplicates, none where the group has more than one label."""
    group = groups(len(examples), find_duplicates([e.document.text for e in examples]))
    labels = defaultdict(set)
    for number, example in zip(group, examples):
        labels[number].add(example.labels[0])
    seen = {number for number, names in labels.items() if len(names) > 1}
    kept = []
    for number, example in zip(group, examples):
        if number not in seen:
            seen.add(number)
            kept.append(example)
    return kept


def _first_sentence(text: str) -> str:
    """The first sentence of a text's first paragraph, on one line."""
    paragraph = " ".join(_GAP.split(text.strip(), maxsplit=1)[0].split()).rstrip(" =-")
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]
