"""Beam search of an encoder-decoder, of many sources at once.

As transformers and fairseq search, so that figures compare: a text's score is its log-probability
over its length to a power, the end counted (Wu et al. 2016, section 7, without the constant 5); an
end joins what is found when it is among the best `n_beams` continuations; a source is done when so
many are found and the best path going on is, at its present length, no better than the worst of
them. That is a guess, not a proof: `beam.beam_search` waits for the proof, which takes a text of
the greatest length each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.generation.beam import Beam
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.nn.attention import KeysValues
from hornbook.nn.cache import Continued, KeyValueCache
from hornbook.nn.layout import Padded, rectangle
from hornbook.tasks.seq2seq import side_by_side

_NEVER = -float("inf")


@torch.inference_mode()
def beams_of_sources(
    model: EncoderDecoder,
    sources: Sequence[Sequence[int]],
    *,
    start: int,
    end: int,
    max_tokens: int,
    n_beams: int = 4,
    length_power: float = 1.0,
) -> list[list[Beam]]:
    """The best `n_beams` texts from each source, the best first.

    Sources of like length belong together: the shorter ones are filled up. Training mode is left as
    it is: call `model.eval()` first. Raises ConfigError for numbers out of range.
    """
    if n_beams < 1 or max_tokens < 1 or not sources:
        raise ConfigError(
            f"{n_beams} beams of {max_tokens} tokens from {len(sources)} sources can't be searched",
            hint="All three have to be 1 or more.",
        )
    padded, layout = side_by_side(sources, model.tokens.weight.device)
    memory = model.remember(model.encode(padded, layout))
    with padded.device:
        search = _Search(len(sources), n_beams, start, end, max_tokens, length_power)
    source = torch.arange(len(sources), device=padded.device)  # what each row searches for
    cache = KeyValueCache()
    done: list[list[Beam]] = [[] for _ in sources]
    for n in range(1, max_tokens + 1):
        tokens = search.written[:, :, -1]
        hidden = model.decode(tokens, _Together(cache, tokens), memory, layout)
        rows = search.step(model.logits(hidden).log_softmax(-1), n)
        settled = search.settled(n)
        for row in settled.nonzero()[:, 0].tolist():
            done[int(source[row])] = search.texts(row)
        if settled.all():
            break
        going = (~settled).nonzero()[:, 0]
        cache.take(rows[going].flatten())
        if len(going) < len(source):  # the others go on with less to carry
            source, layout = source[going], Padded(layout.mask[going])
            memory = [_of_rows(one, going) for one in memory]
            search.keep(going)
    return done


def _of_rows(memory: KeysValues, rows: Tensor) -> KeysValues:
    return memory[0][rows], memory[1][rows]


class _Search:
    """Paths going on and texts found, of N sources with K beams each.

    written: (N, K, 1 + n) tokens of each path, `start` first. totals: (N, K) log-probabilities, the
    best first. found, lengths, scores, sums: texts (N, K, max_tokens) with their tokens' number,
    score and log-probability; those not found yet have a score of minus infinity.
    """

    def __init__(
        self, n_rows: int, n_beams: int, start: int, end: int, max_tokens: int, power: float
    ) -> None:
        self.n_beams, self.end, self.max_tokens, self.power = n_beams, end, max_tokens, power
        self.written = torch.full((n_rows, n_beams, 1), start)
        self.totals = torch.full((n_rows, n_beams), _NEVER)
        self.totals[:, 0] = 0  # all paths begin alike: one of them is enough
        self.found = torch.zeros(n_rows, n_beams, max_tokens, dtype=torch.long)
        self.lengths = torch.zeros(n_rows, n_beams, dtype=torch.long)
        self.scores = torch.full((n_rows, n_beams), _NEVER)
        self.sums = torch.full((n_rows, n_beams), _NEVER)

    def step(self, shares: Tensor, n: int) -> Tensor:
        """Go on by one token, the n-th. shares: log-probabilities (N, K, V).

        Returns of which path (numbers 0 to N K) each of the new paths is a continuation, (N, K).
        """
        n_rows, k, vocab_size = shares.shape
        scores = (self.totals[..., None] + shares.to(self.totals)).flatten(1)
        # Each path has one end, so twice as many as there are beams leave enough that go on.
        values, places = scores.topk(min(2 * k, scores.shape[1]))
        parents, tokens = places // vocab_size, places % vocab_size
        longer = torch.cat([_picked(self.written, parents), tokens[..., None]], 2)
        ends = tokens == self.end
        self._find(longer[:, :k, 1:], values[:, :k], ends[:, :k] | (n == self.max_tokens), n)
        self.totals, best = values.masked_fill(ends, _NEVER).topk(k)
        self.written = _picked(longer, best)
        rows = torch.arange(n_rows, device=best.device)[:, None]
        return rows * k + parents.gather(1, best)

    def _find(self, texts: Tensor, sums: Tensor, ended: Tensor, n: int) -> None:
        """Put texts (N, K, n) that have ended among the found, of which the best stay."""
        new = torch.zeros_like(self.found)
        new[..., :n] = texts
        scores = (sums / n**self.power).masked_fill(~ended, _NEVER)
        self.scores, best = torch.cat([self.scores, scores], 1).topk(self.n_beams)
        self.found = _picked(torch.cat([self.found, new], 1), best)
        self.lengths = torch.cat([self.lengths, torch.full_like(self.lengths, n)], 1).gather(
            1, best
        )
        self.sums = torch.cat([self.sums, sums], 1).gather(1, best)

    def settled(self, n: int) -> Tensor:
        """Which sources are done after n tokens: (N,)."""
        worst = self.scores[:, -1]
        no_better = self.totals[:, 0] / n**self.power <= worst
        return ((worst > _NEVER) & no_better) | torch.full_like(no_better, n == self.max_tokens)

    def keep(self, rows: Tensor) -> None:
        """Go on with these sources alone."""
        for name in ("written", "totals", "found", "lengths", "scores", "sums"):
            setattr(self, name, getattr(self, name)[rows])

    def texts(self, row: int) -> list[Beam]:
        """What was found of a source."""
        beams = []
        for i in range(self.n_beams):
            if self.scores[row, i] == _NEVER:
                continue  # a vocabulary of fewer tokens than beams has fewer texts
            tokens = self.found[row, i, : self.lengths[row, i]].tolist()
            ended = tokens[-1] == self.end
            total, score = float(self.sums[row, i]), float(self.scores[row, i])
            beams.append(Beam(tuple(tokens[:-1] if ended else tokens), total, score, ended))
        return beams


def _picked(texts: Tensor, chosen: Tensor) -> Tensor:
    """texts (N, M, n) at (N, K) numbers below M."""
    return texts.gather(1, chosen[..., None].expand(-1, -1, texts.shape[2]))


class _Together:
    """The layout of one new token (N, K) for each of K beams of N sources.

    Each beam has a past of its own; the source is one for all of a row, looked at once.
    """

    def __init__(self, cache: KeyValueCache, tokens: Tensor) -> None:
        self.n_beams = tokens.shape[1]
        self.past: Continued = cache.extend(
            torch.ones_like(tokens.flatten()[:, None], dtype=torch.bool)
        )

    def positions(self) -> Tensor:
        return self.past.positions().unflatten(0, (-1, self.n_beams))[..., 0]

    def longest(self) -> int:
        return self.past.longest()

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        q, k, v = (x.flatten(0, 1)[:, None] for x in (q, k, v))  # (N K, 1, H, D)
        mixed = self.past.attend(q, k, v, causal=causal, window=window, dropout=dropout)
        return mixed[:, 0].unflatten(0, (-1, self.n_beams))

    def attend_to(
        self, memory: Padded, q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0
    ) -> Tensor:
        return rectangle(q, k, v, memory.mask[:, None, None, :], dropout=dropout)

    def first(self, hidden: Tensor) -> Tensor:
        return hidden

    def last(self, hidden: Tensor) -> Tensor:
        return hidden

    def mean(self, hidden: Tensor) -> Tensor:
        return hidden
