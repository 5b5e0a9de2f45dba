"""Write one text from another: translations and summaries, by an encoder-decoder of ours
(`hornbook train seq2seq`) or by a decoder that is given the source in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from hornbook.data.tokenizing import end_token
from hornbook.data.written import SourceText, open_sources
from hornbook.errors import ConfigError, DataError
from hornbook.interop.turns import write_bounds
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.nn.losses import LossSum
from hornbook.tasks.room import room
from hornbook.tasks.seq2seq import bounds
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.tasks.turn_findings import pad_ends, unended
from hornbook.tasks.turns import end_of_turn
from hornbook.tasks.write_forms import AfterPrompt, Form, FromSource, WriteItem
from hornbook.tasks.writing_metrics import bleu, chrf, rouge
from hornbook.text.tokenizer import Tokenizer

SAMPLED = 1000  # training texts that show how long what is written gets
READ_BY_DECODERS = 1024  # tokens of prompt and text together, where nobody says


@dataclass(frozen=True)
class Translate:
    """A text in another language, or whatever else is to be written from a source.

    form: how the model is given the source. n_tokens: written at most. n_beams, length_power: of
    the search for the likeliest text. label_smoothing: share of each target that is spread over the
    vocabulary while it learns (Vaswani et al. 2017, section 5.4); losses of evaluation are plain.
    """

    name: ClassVar[str] = "translate"
    prompt: ClassVar[str] = "{source} ="  # of plain decoders (Radford et al. 2019, section 3.7)
    chat_prompt: ClassVar[str] = "Translate:\n{source}"
    best: ClassVar[str] = "bleu"
    form: Form
    tokenizer: Tokenizer
    n_tokens: int
    n_beams: int = 4
    length_power: float = 1.0
    label_smoothing: float = 0.0

    # Before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """As `data.written.open_sources`: columns source and target, and which test part."""
        found = open_sources(data, columns, seed=seed)
        return Parts(
            found.name,
            found.train,
            found.validation,
            found.test,
            notes=found.notes,
            source=data,
            licence=found.licence,
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        prompt: str | None = None,
        n_tokens: int | None = None,
        n_beams: int = 4,
        length_power: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> Self:
        """max_tokens: of each side, or of prompt and text together for a decoder; the model's
        context when None (of decoders at most 1,024). prompt: for decoders, with {source} in it.
        n_tokens: a quarter more than the longest of 1,000 training texts when None.

        Raises ConfigError for a model that doesn't write, and for numbers out of range.
        """
        form = _form(bundle, max_tokens, prompt, cls)
        some = [one.targets[0] for one in parts.train[:: max(1, len(parts.train) // SAMPLED)]]
        longest = max(map(len, bundle.tokenizer.encode(some, special=False)), default=1)
        return cls(
            form,
            bundle.tokenizer,
            min(n_tokens or longest * 5 // 4 + 8, form.most_written),
            n_beams=n_beams,
            length_power=length_power,
            label_smoothing=label_smoothing,
        )

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Self:
        form = _form(bundle, card["max_tokens"], card.get("prompt"), cls)
        return cls(
            form,
            bundle.tokenizer,
            card["n_tokens"],
            n_beams=card["n_beams"],
            length_power=card["length_power"],
        )

    def __post_init__(self) -> None:
        if self.n_beams < 1 or self.n_tokens < 1 or not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"n_beams {self.n_beams}, n_tokens {self.n_tokens}, label_smoothing "
                f"{self.label_smoothing}",
                hint="The first two are 1 or more, the last from 0 to below 1.",
            )
        if self.label_smoothing and not isinstance(self.form, FromSource):
            raise ConfigError(
                "label smoothing is for encoder-decoders", hint="Leave label_smoothing out."
            )

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "max_tokens": self.form.max_tokens,
            "n_tokens": self.n_tokens,
            "n_beams": self.n_beams,
            "length_power": self.length_power,
            **({"prompt": self.form.prompt} if isinstance(self.form, AfterPrompt) else {}),
        }

    def build(self, bundle: Any) -> nn.Module:
        model: nn.Module = bundle.model
        return model

    def write_beside(self, folder: Path) -> None:
        """Write into an encoder-decoder's folder how transformers begins and ends its texts."""
        if isinstance(self.form, FromSource):
            start, end = bounds(self.tokenizer)
            write_bounds(folder, start=start, end=end)

    # Items and batches

    def items(self, examples: Sequence[SourceText | str]) -> list[WriteItem]:
        """An item for each target of each source; of a bare text one with nothing to write.

        Raises DataError for a source or a target that is empty.
        """
        found = []
        for number, example in enumerate(examples):
            one = SourceText(example, ("",)) if isinstance(example, str) else example
            empty = not one.source.strip() or (
                not isinstance(example, str) and not all(t.strip() for t in one.targets)
            )
            if empty or not one.targets:
                raise DataError(
                    f"{one.id or f'example {number + 1}'} has an empty source or target",
                    hint="Take it out: nothing can be learnt from it.",
                )
            found += [
                self.form.item(one.source, target, number, n_free=self.n_tokens)
                for target in one.targets
            ]
        return found

    def length(self, item: WriteItem) -> int:
        return self.form.length(item)

    def collate(self, items: Sequence[WriteItem], device: str = "cpu") -> Any:
        return self.form.collate(items, device)

    def loss(self, model: nn.Module, batch: Any) -> LossSum:
        return self.form.loss(model, batch, self.label_smoothing if model.training else 0.0)

    def predict(
        self,
        model: nn.Module,
        items: Sequence[WriteItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, str]]:
        """What is written from each source, {"text": …}."""
        asked = {item.source: item.read for item in items}  # several targets, one source
        was_training = model.training
        model.eval()
        try:
            written = self.form.write(
                model,
                [asked[number] for number in sorted(asked)],
                n_tokens=self.n_tokens,
                n_beams=self.n_beams,
                length_power=self.length_power,
                progress=progress,
            )
        finally:
            model.train(was_training)
        return [{"text": text} for text in written]

    # What it is worth

    def metrics(
        self, examples: Sequence[SourceText], predictions: Sequence[Mapping[str, str]]
    ) -> list[Metric]:
        """sacreBLEU and chrF; the note of each is its signature."""
        written, targets = _both(examples, predictions)
        return [bleu(written, targets), chrf(written, targets)]

    def show(self, item: WriteItem) -> list[Shown]:
        read, written = (
            [self.tokenizer.spelled(token) for token in side] for side in (item.read, item.written)
        )
        return [*map(Shown, read), *(Shown(text, text) for text in written)]

    def check(self, parts: Parts) -> list[Finding]:
        return [*self._ends(), *self._cut(parts), *_echoes(parts)]

    def _ends(self) -> Iterator[Finding]:
        """Of a decoder that reads conversations: whether its template and its tokenizer agree."""
        if not isinstance(self.form, AfterPrompt) or self.form.template is None:
            return
        if end_of_turn(self.form.template, self.tokenizer) is None:
            spelled = self.tokenizer.tokens[self.form.end]
            cost = f"What is written here ends with {spelled}, which the template never writes."
            yield unended(self.form.template, self.tokenizer, level="warn", cost=cost)
        yield from pad_ends(self.form.template, self.tokenizer, {self.form.end})

    def _cut(self, parts: Parts) -> Iterator[Finding]:
        some = parts.train[:: max(1, len(parts.train) // SAMPLED)]
        items = self.items(some)
        cut = [item.n_cut for item in items if item.n_cut]
        if cut:
            yield Finding(
                "truncation",
                "warn" if len(cut) > 0.05 * len(items) else "note",
                f"{len(cut) / len(items):.1%} of the training pairs are longer than "
                f"{self.form.max_tokens} tokens and lose {sum(cut) / len(cut):.0f} on average",
                "What was cut can't be read; a target that is cut teaches to end too early.",
                "Take a larger max_tokens, as far as the model's context goes, or leave them out.",
            )


class Summarize(Translate):
    """A short text that says what a long one does."""

    name: ClassVar[str] = "summarize"
    prompt: ClassVar[str] = "{source}\nTL;DR:"  # of plain decoders (Radford et al. 2019, 3.6)
    chat_prompt: ClassVar[str] = "Summarize in one sentence:\n{source}"
    best: ClassVar[str] = "rouge1"

    def metrics(
        self, examples: Sequence[SourceText], predictions: Sequence[Mapping[str, str]]
    ) -> list[Metric]:
        """ROUGE-1, -2 and -L; of several targets the nearest counts."""
        return rouge(*_both(examples, predictions))


def _form(bundle: Any, max_tokens: int | None, prompt: str | None, kind: type[Translate]) -> Form:
    """How a model writes: by what it is."""
    model = bundle.model
    context = getattr(getattr(model, "config", None), "context_length", None)
    if isinstance(model, EncoderDecoder):
        if prompt is not None:
            raise ConfigError(
                "an encoder-decoder is given the source as it is", hint="Leave the prompt out."
            )
        assert context is not None
        return FromSource(bundle.tokenizer, room(bundle, max_tokens, usual=context))
    if context is None or not hasattr(model, "logits"):
        raise ConfigError(
            f"{bundle.name or 'this model'} is a {type(model).__name__}, which doesn't write",
            hint="Take a decoder (smollm2), or a run of `hornbook train seq2seq`.",
        )
    end = _end(bundle)
    usual = kind.prompt if bundle.template is None else kind.chat_prompt
    most = room(bundle, max_tokens, usual=READ_BY_DECODERS)
    return AfterPrompt(bundle.tokenizer, prompt or usual, end, most, bundle.template)


def _end(bundle: Any) -> int:
    """The token that an answer ends with: what the template puts behind one, or the end of a text.

    Raises ConfigError for a model that has none.
    """
    if bundle.template is not None:
        said = end_of_turn(bundle.template, bundle.tokenizer)
        if said is not None:
            return said
    ends = sorted(bundle.stop_tokens)
    end = end_token(bundle.tokenizer) if not ends else ends[0]
    if end is None:
        raise ConfigError(
            "this tokenizer has no token for the end of a text, and nobody would know where to "
            "stop",
            hint="Take a model that has one.",
        )
    return end


def _both(
    examples: Sequence[SourceText], predictions: Sequence[Mapping[str, str]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    return [one["text"] for one in predictions], [one.targets for one in examples]


def _echoes(parts: Parts) -> Iterator[Finding]:
    """Targets that are their sources: most likely the wrong column, or a text left untranslated."""
    n = sum(one.source.strip() in {t.strip() for t in one.targets} for one in parts.train)
    if n:
        share = n / len(parts.train)
        yield Finding(
            "target-is-source",
            "stop" if share > 0.5 else "warn" if share > 0.02 else "note",
            f"{n:,} of {len(parts.train):,} training targets ({share:.1%}) are their source again",
            "The model learns to copy.",
            "Are source and target the right columns? Leave pairs out that are not translated.",
        )
