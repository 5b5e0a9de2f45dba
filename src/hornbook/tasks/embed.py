"""Vectors for texts: those of texts that are alike point the same way.

An encoder's hidden states, averaged over a text (Reimers and Gurevych 2019), as `TextEncoder` reads
them and sentence-transformers does. Learnt from pairs, by which of a batch's other texts belong
together; from triplets, with one more that does not; or from pairs with a score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hornbook.data.alike import Alike, Form, open_alike
from hornbook.data.batching import by_length
from hornbook.errors import ConfigError, DataError
from hornbook.interop.sentence_transformers import write_sentence_modules
from hornbook.models.bert import Bert
from hornbook.models.modern_bert import ModernBert
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum
from hornbook.nn.processes import of_all
from hornbook.tasks.embed_losses import at_sizes, cosine_regression, in_batch_negatives, triplet
from hornbook.tasks.embed_metrics import embed_metrics, places
from hornbook.tasks.label_findings import cut_short
from hornbook.tasks.room import room
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.text.tokenizer import Tokenizer

LOSSES: dict[Form, tuple[str, ...]] = {  # the first is what is taken when nobody says
    "pairs": ("in-batch",),
    "triplets": ("in-batch", "triplet"),
    "scored": ("cosine",),
}
READ = 256  # tokens of a text, as `TextEncoder` reads
AT_ONCE = 4096  # tokens of a batch that is only read


@dataclass(frozen=True)
class EmbedItem:
    """The token ids of each text of an example, and its score."""

    texts: tuple[list[int], ...]
    score: float | None
    source: int


@dataclass(frozen=True)
class EmbedBatch:
    """All first texts of N examples, then all second ones, then the negatives, if any.

    parts: texts end to end, longest first, in so many passes of the encoder. order: (K N,), where
    each text stands among those of the parts. scores: (N,). numbers: (K N,), the same for the same
    text, in whatever process.
    """

    parts: tuple[tuple[Tensor, Ragged], ...]
    order: Tensor
    n: int
    scores: Tensor | None = None
    numbers: Tensor | None = None


@dataclass(frozen=True)
class Embed:
    """Sentence embeddings.

    loss: "in-batch", "triplet", "cosine". scale: of cosines, for in-batch. margin: for triplet.
    sizes: how many of a vector's first numbers shall be good vectors too (Matryoshka). chunk:
    tokens that the encoder reads at once; a batch of more is read twice, first without keeping
    anything, then again chunk by chunk on the way back (Gao et al. 2021, "Scaling Deep Contrastive
    Learning Batch Size under Memory Limited Setup"): the same gradients, the memory of a chunk.
    """

    name: ClassVar[str] = "embed"
    tokenizer: Tokenizer
    form: Form
    loss_name: str
    d_model: int
    max_tokens: int = READ
    scale: float = 20.0
    margin: float = 0.3
    sizes: tuple[int, ...] = ()
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.loss_name not in LOSSES[self.form]:
            raise ConfigError(
                f"the loss '{self.loss_name}' doesn't read {self.form}",
                hint=f"Of {self.form} one learns by: {', '.join(LOSSES[self.form])}.",
            )
        if wrong := [size for size in self.sizes if not 1 <= size <= self.d_model]:
            raise ConfigError(
                f"vectors can't be cut at {wrong[0]}: they have {self.d_model} numbers",
                hint=f"Take sizes from 1 to {self.d_model}, the last of them too.",
            )

    @property
    def best(self) -> str:
        return {"scored": "spearman", "triplets": "accuracy", "pairs": "mrr"}[self.form]

    @property
    def compares(self) -> bool:
        """Whether the examples of a batch see one another in the loss."""
        return self.loss_name == "in-batch"

    @property
    def pooled(self) -> bool:
        """Whether its metrics hang on how many examples there are: each is sought among all."""
        return self.form == "pairs"

    # Before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """As `data.alike.open_alike`: columns first, second, negative, score."""
        found = open_alike(data, columns, seed=seed)
        return Parts(
            found.name, found.train, found.validation, found.test, notes=found.notes, source=data
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        loss: str | None = None,
        scale: float = 20.0,
        margin: float = 0.3,
        sizes: Sequence[int] = (),
        chunk: int | None = None,
    ) -> Embed:
        """loss: by the data when None; the other settings as the class says.

        Raises ConfigError for a loss that these data don't have what it takes for, for a model that
        isn't an encoder, and for sizes beyond its width.
        """
        config = _encoder(bundle).config
        form = _form(parts.train[0])
        most = room(bundle, max_tokens, usual=READ)
        return cls(
            bundle.tokenizer,
            form,
            loss or LOSSES[form][0],
            config.d_model,
            max_tokens=most,
            scale=scale,
            margin=margin,
            sizes=tuple(sizes),
            chunk=chunk,
        )

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Embed:
        kept = ("form", "loss_name", "d_model", "max_tokens", "scale", "margin")
        return cls(bundle.tokenizer, **{k: card[k] for k in kept}, sizes=tuple(card["sizes"]))

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "form": self.form,
            "loss_name": self.loss_name,
            "d_model": self.d_model,
            "max_tokens": self.max_tokens,
            "scale": self.scale,
            "margin": self.margin,
            "sizes": list(self.sizes),
        }

    def build(self, bundle: Any) -> nn.Module:
        return _encoder(bundle)

    def write_beside(self, folder: Path) -> None:
        """Write into a model's folder what sentence-transformers opens it by."""
        write_sentence_modules(folder, self.tokenizer, self.d_model, self.max_tokens)

    # Items and batches

    def items(self, examples: Sequence[Alike]) -> list[EmbedItem]:
        """Raises DataError for an example that is of another form than the training data's."""
        texts: list[str] = []
        for number, one in enumerate(examples, 1):
            if _form(one) != self.form:
                raise DataError(
                    f"{one.id or f'example {number}'} has {_form(one)}, the training data "
                    f"{self.form}",
                    hint="All parts need the same columns.",
                )
            texts += _texts(one)
        tokens = self.tokenizer.encode(texts, max_tokens=self.max_tokens)
        k = len(texts) // max(1, len(examples))
        return [
            EmbedItem(tuple(tokens[k * i : k * i + k]), one.score, i)
            for i, one in enumerate(examples)
        ]

    def length(self, item: EmbedItem) -> int:
        return sum(map(len, item.texts))

    def collate(self, items: Sequence[EmbedItem], device: str = "cpu") -> EmbedBatch:
        texts = [text for column in zip(*(item.texts for item in items)) for text in column]
        order, parts = _laid(texts, self.chunk, device)
        scores = None
        if self.form == "scored":
            scores = torch.tensor([item.score for item in items], device=device)
        numbers = torch.tensor([hash(tuple(text)) for text in texts], device=device)
        return EmbedBatch(parts, order, len(items), scores, numbers)

    def loss(self, model: nn.Module, batch: EmbedBatch) -> LossSum:
        """The sum over examples; of Matryoshka sizes, over these too. In-batch negatives are those
        of all processes that learn together."""
        columns = self._vectors(model, batch).split(batch.n)
        losses: Callable[..., Tensor]
        if self.loss_name == "cosine":
            assert batch.scores is not None
            losses = partial(cosine_regression, scores=batch.scores)
        elif self.loss_name == "triplet":
            losses = partial(triplet, margin=self.margin)
        else:
            assert batch.numbers is not None
            numbers = batch.numbers.split(batch.n)
            candidates = torch.cat([of_all(column) for column in numbers[1:]])
            excluded = repeated(numbers[0], candidates)
            columns = columns[0], torch.cat([of_all(column) for column in columns[1:]])
            losses = partial(in_batch_negatives, scale=self.scale, excluded=excluded)
        return LossSum(at_sizes(losses, columns, self.sizes).sum(), batch.n)

    def _vectors(self, model: nn.Module, batch: EmbedBatch) -> Tensor:
        """The vector of each text of a batch: (K N, E)."""

        def read(tokens: Tensor, layout: Ragged) -> Tensor:
            return layout.mean(model(tokens, layout))

        if self.chunk is None or not torch.is_grad_enabled():
            vectors = [read(*part) for part in batch.parts]
        else:
            vectors = [checkpoint(read, *part, use_reentrant=False) for part in batch.parts]
        return torch.cat(vectors)[batch.order]

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[EmbedItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """The cosine of each example's texts; of pairs also the place of the second text among
        those of all examples, from 1; of triplets also the negative's cosine; with sizes also the
        cosines "at" each of them."""
        columns = [
            self._read(model, [item.texts[i] for item in items], device) for i in range(self._k)
        ]
        if progress:
            progress(len(items), len(items))
        cosines = F.cosine_similarity(columns[0], columns[1])
        found: list[dict[str, Any]] = [{"cosine": round(float(x), 6)} for x in cosines]
        for size in self.sizes:
            at = F.cosine_similarity(columns[0][:, :size], columns[1][:, :size])
            for one, x in zip(found, at, strict=True):
                one.setdefault("at", {})[str(size)] = round(float(x), 6)
        if self.form == "triplets":
            for one, x in zip(found, F.cosine_similarity(columns[0], columns[2]), strict=True):
                one["negative"] = round(float(x), 6)
        if self.form == "pairs":
            for one, place in zip(found, places(columns, [item.texts[1] for item in items])):
                one["place"] = place
        return found

    @property
    def _k(self) -> int:
        return 3 if self.form == "triplets" else 2

    def _read(self, model: nn.Module, texts: list[list[int]], device: str) -> Tensor:
        """Vectors of length 1 of texts: (N, E)."""
        was_training = model.training
        model.eval()
        order, parts = _laid(texts, AT_ONCE, device)
        vectors = torch.cat([layout.mean(model(tokens, layout)) for tokens, layout in parts])
        model.train(was_training)
        return F.normalize(vectors[order].float(), dim=-1)

    # What it is worth

    def metrics(
        self, examples: Sequence[Alike], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        """Of scores the correlations of Spearman and Pearson; of triplets how often the alike is
        nearer; of pairs how often the second text comes first, and the mean of 1 / place."""
        return embed_metrics(self.form, examples, predictions, self.sizes)

    def show(self, item: EmbedItem) -> list[Shown]:
        name = self.tokenizer.spelled
        return [Shown(name(token)) for text in item.texts for token in text]

    def check(self, parts: Parts) -> list[Finding]:
        some = parts.train[:LOOKED_AT]
        texts = [text for one in some for text in _texts(one)]
        found = cut_short(list(map(len, self.tokenizer.encode(texts))), self.max_tokens)
        if self.loss_name == "in-batch":
            firsts = Counter(one.first for one in parts.train)
            n = sum(count for count in firsts.values() if count > 1)
            if n:
                found.append(
                    Finding(
                        "several-positives",
                        "warn" if n > 0.2 * len(parts.train) else "note",
                        f"{n:,} of {len(parts.train):,} training pairs share their first text",
                        "In one batch the others' second texts count as wrong answers.",
                        "Larger data or smaller batches make it rarer; equal texts are left out.",
                    )
                )
        return found


LOOKED_AT = 2000  # examples whose texts are measured before training


def _encoder(bundle: Any) -> Any:
    """The encoder of an opened model, without a head. Raises ConfigError for another model."""
    model = getattr(bundle.model, "trunk", bundle.model)
    if not isinstance(model, Bert | ModernBert):
        raise ConfigError(
            f"{bundle.name or 'this model'} is a {type(model).__name__}, not an encoder",
            hint="Take minilm, or an encoder trained here (bert, modern-bert).",
        )
    return model


def _form(one: Alike) -> Form:
    if one.score is not None:
        return "scored"
    return "pairs" if one.negative is None else "triplets"


def _texts(one: Alike) -> list[str]:
    return [one.first, one.second, *([] if one.negative is None else [one.negative])]


def _laid(
    texts: Sequence[Sequence[int]], chunk: int | None, device: str
) -> tuple[Tensor, tuple[tuple[Tensor, Ragged], ...]]:
    """Texts in parts of so many tokens, longest first, and where each of them stands."""
    lengths = [len(text) for text in texts]
    batches = by_length(lengths, sum(lengths) if chunk is None else chunk)
    order = torch.empty(len(texts), dtype=torch.long)
    order[torch.tensor([i for batch in batches for i in batch])] = torch.arange(len(texts))
    parts = [
        (
            torch.tensor([t for i in batch for t in texts[i]], device=device),
            Ragged([lengths[i] for i in batch], device),
        )
        for batch in batches
    ]
    return order.to(device), tuple(parts)


def repeated(anchors: Tensor, candidates: Tensor) -> Tensor:
    """Which candidates are an anchor's own text, or its second text, once more: (N, M) bool.

    anchors: (N,) numbers of texts; candidates: (M,), the N second texts first.
    """
    n = len(anchors)
    same = (candidates == anchors[:, None]) | (candidates == candidates[:n, None])
    same[torch.arange(n), torch.arange(n)] = False
    return same
