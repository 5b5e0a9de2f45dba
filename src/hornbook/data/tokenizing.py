"""Documents to token ids: in memory that doesn't grow, by several processes, the same as by one."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from hornbook.data.textfiles import cut_place
from hornbook.errors import DataError
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

CHUNK = 1 << 16  # characters of a text for the tokenizer, which holds some 100 bytes a token
GROUP = 1 << 18  # characters of all texts tokenized together

Encoded = list[np.ndarray]  # the ids of each document of a group


def token_type(vocab_size: int) -> np.dtype:
    """The smaller of uint16 and uint32 that holds every id, little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def end_token(tokenizer: Tokenizer) -> int | None:
    """The id put behind each document: that of END_OF_TEXT, or None where there is none."""
    try:
        return tokenizer.id_of(END_OF_TEXT)
    except KeyError:
        return None


def encode_documents(
    documents: Sequence[str], tokenizer: Tokenizer, *, end: int | None = None
) -> Encoded:
    """The ids of each document, with `end` behind it, in the smallest type for the vocabulary.

    A long document goes through the tokenizer in chunks cut at line ends, where tokenizers that
    split at spaces (GPT-2's, BERT's, words, characters) give the same ids as for the whole. A
    special token spelled out in a text is read as the characters it is.
    """
    kind = token_type(tokenizer.vocab_size)
    chunks = [list(_chunks(document)) for document in documents]
    flat = iter(chain.from_iterable(chunks))
    ids = chain.from_iterable(
        (np.array(row, kind) for row in tokenizer.encode(few, special=False, read_special=False))
        for few in grouped(flat)
    )
    tail = [] if end is None else [np.array([end], kind)]
    return [np.concatenate([*(next(ids) for _ in own), *tail]) for own in chunks]


def _chunks(document: str) -> Iterator[str]:
    start = 0
    while len(document) - start > CHUNK:
        end = start + cut_place(document[start : start + CHUNK + 1], CHUNK)
        yield document[start:end]
        start = end
    yield document[start:]


def grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of about GROUP characters: what is tokenized together."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def encode_groups(
    groups: Iterable[list[str]],
    tokenizer: Tokenizer,
    *,
    end: int | None,
    jobs: int = 1,
    saved: Path | None = None,
) -> Generator[tuple[list[str], Encoded], None, None]:
    """Each group with its ids, in order. jobs > 1: by so many processes, which read `saved`.

    A few groups a process are under way at a time: memory holds these only. Raises DataError where
    a process is killed.
    """
    if jobs == 1 or saved is None:
        for group in groups:
            yield group, encode_documents(group, tokenizer, end=end)
        return
    under_way: deque[tuple[list[str], Future[Encoded]]] = deque()
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (str(saved), end))
    try:
        for group in groups:
            under_way.append((group, pool.submit(_encode, group)))
            if len(under_way) > 2 * jobs:
                done, ids = under_way.popleft()
                yield done, ids.result()
        while under_way:
            done, ids = under_way.popleft()
            yield done, ids.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"one of the {jobs} tokenizing processes was killed",
            hint="Was there too little memory? Use fewer --jobs. What is finished is kept: the "
            "same command goes on from there.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[Tokenizer, int | None]  # of a worker process: set when it starts


def _start_worker(saved: str, end: int | None) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are processes enough
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    _worker = (Tokenizer.load(Path(saved)), end)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Where the parent is killed outright nobody else ends its workers."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(group: list[str]) -> Encoded:
    tokenizer, end = _worker
    return encode_documents(group, tokenizer, end=end)
