"""Which way imports point, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hornbook

ROOT = Path(hornbook.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = [
    ["errors", "registry", "config", "files", "runs", "records"],
    ["text", "nn"],
    ["data", "models", "adapters", "quantization"],
    ["tasks", "generation", "embeddings", "interop"],
    ["bundle", "preference", "training", "retrieval"],
    ["evaluation", "serving"],
    ["recipes"],
    ["compare"],
    ["cli"],
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
REPORTS_SEE = {"records", "errors", "files", "reports"}
HEAVY = ("torch", "transformers", "sklearn", "pandas", "pyarrow", "scipy", "matplotlib")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every `hornbook.<room>` that a file imports, wherever in the file."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the direction"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            names = names if module == "hornbook" else [module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {n.split(".")[1] for n in names if n.startswith("hornbook.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    if path == ROOT / "__init__.py":
        return  # it names, lazily, what the package offers
    if room == "reports":
        assert imports(path) <= REPORTS_SEE
        return
    assert room in RANK, f"{room} has no place in ARCHITECTURE.md's import table"
    upward = {other for other in imports(path) - {"reports"} if RANK[other] > RANK[room]}
    assert not upward, f"{room} imports {upward}, which stand above it"
    if "reports" in imports(path):
        assert room in ("compare", "cli")


def test_the_rule_is_seen_to_bite(tmp_path):
    source = tmp_path / "x.py"
    source.write_text("def f():\n    from hornbook.cli import main\n    import hornbook.compare\n")
    assert imports(source) == {"cli", "compare"}


@pytest.mark.parametrize("module", ["hornbook", "hornbook.cli.main", "hornbook.records"])
def test_light_modules_load_nothing_heavy(module):
    code = f"import {module}, sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_only_the_command_line_prints_or_exits():
    allowed = {"cli"}
    offenders = []
    for path in FILES:
        if room_of(path) in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("print", "exit", "quit"):
                offenders.append(f"{path.relative_to(ROOT)}:{called.lineno}")
    assert not offenders


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
FORBIDDEN_ATTRIBUTES = {("torch", "load"), ("os", "system"), ("os", "popen"), ("np", "load")}
FORBIDDEN_ATTRIBUTES |= {("joblib", "load"), ("joblib", "dump")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_program_is_read_from_data(path):
    """No pickle, eval, torch.load or shell: weights and settings are never code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            assert not {n.split(".")[0] for n in names} & FORBIDDEN_MODULES
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"line {node.lineno}"
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            pair = (node.func.value.id, node.func.attr)
            assert pair not in FORBIDDEN_ATTRIBUTES, f"line {node.lineno}"
        for keyword in node.keywords:
            assert not (
                keyword.arg == "shell" and getattr(keyword.value, "value", None) is not False
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_ground_asks_the_network(path):
    """Downloads go through `files`, models through the catalogue, data through `data.hub`; what is
    shared through `interop.upload`; a server listens in one place, processes meet in one.
    """
    doors = {"files.py", "interop/catalogue.py", "data/hub.py", "serving/listening.py"}
    doors |= {"interop/upload.py", "training/launcher.py"}
    network = {"urllib.request", "requests", "httpx", "socket", "http.client", "huggingface_hub"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    if path.relative_to(ROOT).as_posix() not in doors:
        assert not found & network
