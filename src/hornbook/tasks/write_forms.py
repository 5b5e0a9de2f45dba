"""Two ways for a model to write one text from another: an encoder reads the source, or it stands
before the text in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from torch import nn

from hornbook.errors import ConfigError
from hornbook.generation.batch import Batch
from hornbook.generation.beam import beam_search
from hornbook.generation.reading import context_length_of
from hornbook.generation.request import Request, Sampling
from hornbook.generation.translate import write_from
from hornbook.nn.losses import LossSum
from hornbook.tasks import seq2seq
from hornbook.tasks.language_modeling import Marked, lay, marked_loss
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

PLACE = "{source}"  # in a prompt, where the source comes
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WriteItem:
    """read: what the model is given, as token ids; written: what it shall write, its end included.

    n_cut: tokens that had no room, of the source and of what is written from it.
    """

    read: list[int]
    written: list[int]
    source: int
    n_cut: int = 0


class Form(Protocol):
    """What `tasks.write` asks of a way to write."""

    @property
    def max_tokens(self) -> int:
        """That a model reads and writes."""
        ...

    @property
    def most_written(self) -> int:
        """Tokens that a text and its end may have at most."""
        ...

    def item(self, source: str, target: str, number: int, *, n_free: int) -> WriteItem:
        """n_free: tokens that stay free for what is written, where it shares the context."""
        ...

    def length(self, item: WriteItem) -> int: ...
    def collate(self, items: Sequence[WriteItem], device: str) -> Any: ...
    def loss(self, model: nn.Module, batch: Any, smoothing: float) -> LossSum: ...
    def write(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        *,
        n_tokens: int,
        n_beams: int,
        length_power: float,
        progress: Progress | None,
    ) -> list[str]: ...


@dataclass(frozen=True)
class FromSource:
    """An encoder-decoder: the source with its end is read by the encoder."""

    tokenizer: Tokenizer
    max_tokens: int  # of each side

    @property
    def most_written(self) -> int:
        return self.max_tokens

    def item(self, source: str, target: str, number: int, *, n_free: int) -> WriteItem:
        sides = self.tokenizer.encode([source, target], special=False, read_special=False)
        end = seq2seq.bounds(self.tokenizer)[1]
        kept = [[*side[: self.max_tokens - 1], end] for side in sides]
        n_cut = sum(max(0, len(side) + 1 - self.max_tokens) for side in sides)
        return WriteItem(kept[0], kept[1], number, n_cut)

    def length(self, item: WriteItem) -> int:
        return max(len(item.read), len(item.written))

    def collate(self, items: Sequence[WriteItem], device: str) -> seq2seq.PairBatch:
        start, end = seq2seq.bounds(self.tokenizer)
        if device == "cpu":
            pairs = [(item.read, item.written[:-1]) for item in items]
            return seq2seq.collate(pairs, start=start, end=end)
        sides = ([np.array(one) for one in side] for side in zip(*map(_sides, items), strict=True))
        return seq2seq.rectangles(*sides, start=start, device=device)

    def loss(self, model: nn.Module, batch: seq2seq.PairBatch, smoothing: float) -> LossSum:
        whole = seq2seq.Seq2Seq(model)  # type: ignore[arg-type]  # `build` gave an EncoderDecoder
        if smoothing:
            return seq2seq.smoothed_loss_of(whole, batch, smoothing)
        return seq2seq.loss_of(whole, batch)

    def write(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        *,
        n_tokens: int,
        n_beams: int,
        length_power: float,
        progress: Progress | None,
    ) -> list[str]:
        written = write_from(
            model,
            prompts,
            self.tokenizer,
            max_tokens=n_tokens,
            n_beams=n_beams,
            length_power=length_power,
            progress=progress,
        )
        return [self.tokenizer.decode(row) for row in written]


@dataclass(frozen=True)
class AfterPrompt:
    """A decoder: the source in a prompt, then the text and its end, which alone carry loss.

    prompt: holds {source} once. template: of a model that reads conversations; the prompt is then
    what the user says. end: the token that what is written ends with.
    """

    tokenizer: Tokenizer
    prompt: str
    end: int
    max_tokens: int  # of prompt and text together
    template: ChatTemplate | None = None

    def __post_init__(self) -> None:
        if self.prompt.count(PLACE) != 1:
            raise ConfigError(
                f"the prompt {self.prompt!r} has {PLACE} {self.prompt.count(PLACE)} times",
                hint=f'Once, where the source comes: --set prompt="Summarize: {PLACE}".',
            )

    def _asked(self, source: str) -> list[int]:
        text = self.prompt.replace(PLACE, source)
        if self.template is None:
            return self.tokenizer.encode([text], special=False, read_special=False)[0]
        return self.template.encode([{"role": "user", "content": text}], self.tokenizer)

    @property
    def most_written(self) -> int:
        return max(1, self.max_tokens // 2)

    def item(self, source: str, target: str, number: int, *, n_free: int) -> WriteItem:
        """A target has half of the room at most; of a source that is too long the end goes. What is
        read of it does not hang on how long its target is: nobody knows that when it is asked for.
        """
        if self.template is None:
            target = " " + target.lstrip()  # a word's piece, as it stands in running text
        written = self.tokenizer.encode([target], special=False, read_special=False)[0]
        most = self.most_written
        n_cut = max(0, len(written) + 1 - most)
        written = [*written[: most - 1], self.end]
        read = self._asked(source)
        room = self.max_tokens - max(len(written), min(n_free, most))
        if len(read) > room:
            ids = self.tokenizer.encode([source], special=False, read_special=False)[0]
            n_over = len(read) - room
            n_cut += n_over
            read = self._asked(self.tokenizer.decode(ids[: max(0, len(ids) - n_over)]))[-room:]
        return WriteItem(read, written, number, n_cut)

    def length(self, item: WriteItem) -> int:
        return len(item.read) + len(item.written)

    def collate(self, items: Sequence[WriteItem], device: str) -> Any:
        texts = [
            Marked(
                np.array(item.read + item.written),
                np.arange(len(item.read) + len(item.written)) >= len(item.read),
            )
            for item in items
        ]
        return lay(texts, device)

    def loss(self, model: nn.Module, batch: Any, smoothing: float) -> LossSum:
        if smoothing:
            raise ConfigError(
                "label smoothing is for encoder-decoders", hint="Leave label_smoothing out."
            )
        return marked_loss(model, batch)

    def write(
        self,
        model: nn.Module,
        prompts: Sequence[list[int]],
        *,
        n_tokens: int,
        n_beams: int,
        length_power: float,
        progress: Progress | None,
    ) -> list[str]:
        if n_beams == 1:
            return self._greedy(model, prompts, n_tokens, progress)
        written = []
        for i, prompt in enumerate(prompts, 1):
            beams = beam_search(
                model,
                prompt,
                n_tokens=min(n_tokens, context_length_of(model) - len(prompt) + 1),
                n_beams=n_beams,
                stop_tokens=frozenset([self.end]),
                length_power=length_power,
            )
            written.append(self.tokenizer.decode(beams[0].tokens).strip())
            if progress:
                progress(i, len(prompts))
        return written

    def _greedy(
        self, model: nn.Module, prompts: Sequence[list[int]], n_tokens: int, tell: Progress | None
    ) -> list[str]:
        batch = Batch(
            SimpleNamespace(model=model, tokenizer=self.tokenizer), n_slots=min(8, len(prompts))
        )
        numbers = {
            batch.add(
                Request(
                    prompt, n_tokens, Sampling(temperature=0), stop_tokens=frozenset([self.end])
                )
            ): i
            for i, prompt in enumerate(prompts)
        }
        written = [""] * len(prompts)
        n_done = 0
        while batch.n_running or batch.n_waiting:
            for piece in batch.step():
                written[numbers[piece.request]] += piece.text
                if piece.finish:
                    n_done += 1
                    if tell:
                        tell(n_done, len(prompts))
        return [text.strip() for text in written]


def _sides(item: WriteItem) -> tuple[list[int], list[int]]:
    return item.read, item.written
