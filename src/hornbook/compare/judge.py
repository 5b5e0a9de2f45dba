"""The judge: scores what the techniques said of the test texts, and ranks them.

Only here are test labels compared with anything. A test label that no training text has counts as
missed, whatever is said, in micro-F1, weighted F1 and accuracy; macro-F1 is over the labels of the
training texts, which are those that a technique can give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from hornbook.compare.layout import RunPaths, StudyFolder, read_arrays
from hornbook.data.examples import Example, Problem, targets_of
from hornbook.evaluation.metrics import document_counts, score
from hornbook.evaluation.significance import bootstrap_micro_f1, holm, interval, paired_p_value
from hornbook.records import LeaderboardRow, TechniqueResult

ALPHA = 0.05  # techniques whose corrected p-value is above this tie with the leader


@dataclass(frozen=True)
class Verdicts:
    """What a technique said of the test texts in one repeat: (N, L) each."""

    probabilities: np.ndarray
    predictions: np.ndarray


@dataclass(frozen=True)
class Judge:
    """Holds the test texts with their labels.

    targets: (N, L), the labels of the problem. unseen: (N, U), those that no training text has.
    """

    folder: StudyFolder
    problem: Problem
    test: list[Example]
    targets: np.ndarray
    unseen: np.ndarray

    @classmethod
    def of(cls, folder: StudyFolder) -> Judge:
        return cls.over(folder, folder.problem(), folder.test_examples())

    @classmethod
    def over(cls, folder: StudyFolder, problem: Problem, test: list[Example]) -> Judge:
        given = {label for example in test for label in example.labels}
        unseen = sorted(given.difference(problem.label_names))
        known = targets_of(test, problem.label_names)
        return cls(folder, problem, test, known, targets_of(test, unseen))

    @property
    def truth(self) -> np.ndarray:
        """All labels of the test texts (N, L + U): the problem's, then the unseen ones."""
        return np.concatenate([self.targets, self.unseen], axis=1)

    def beside_truth(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions (N, L) in the shape of `truth`: nothing predicts an unseen label."""
        return np.concatenate([predictions, np.zeros_like(self.unseen)], axis=1)

    def verdicts(self, technique: str, repeat: int) -> Verdicts:
        """Read what was said. Raises CheckpointError when the file is damaged."""
        arrays = read_arrays(self.folder.run(technique, repeat).test_scores)
        return Verdicts(arrays["probabilities"], arrays["predictions"].astype(bool))

    def scores(self, paths: RunPaths) -> dict[str, float]:
        """micro_f1, macro_f1, weighted_f1 and accuracy of one run."""
        predictions = read_arrays(paths.test_scores)["predictions"].astype(bool)
        found = score(self.truth, self.beside_truth(predictions))
        return asdict(replace(found, macro_f1=score(self.targets, predictions).macro_f1))

    def leaderboard(self, results: Sequence[TechniqueResult]) -> list[LeaderboardRow]:
        """One row a technique that finished, each tested against the first.

        Best micro-F1 first; where that is equal, best macro-F1.
        """
        runs: dict[str, list[TechniqueResult]] = {}
        for result in results:
            if result.status == "ok":
                runs.setdefault(result.technique, []).append(result)
        if not runs:
            return []
        ranked = sorted(
            runs, key=lambda n: (-_mean(runs[n], "micro_f1"), -_mean(runs[n], "macro_f1"))
        )
        counts = [
            np.stack(
                [
                    document_counts(
                        self.truth, self.beside_truth(self.verdicts(name, r.repeat).predictions)
                    )
                    for r in runs[name]
                ]
            )
            for name in ranked
        ]
        samples = bootstrap_micro_f1(counts, seed=self.folder.plan().settings.seed)
        raw = [
            max(paired_p_value(samples[:, 0], samples[:, i]), _least_p_value(counts[0], counts[i]))
            for i in range(1, len(ranked))
        ]
        p_values: list[float | None] = [None, *holm(raw)]
        return [
            _row(name, runs[name], interval(samples[:, i]), p_values[i])
            for i, name in enumerate(ranked)
        ]


def _least_p_value(leader: np.ndarray, other: np.ndarray) -> float:
    """The p-value (two-sided) of a sign test in which every text that differs is for the leader.

    leader, other: counts (repeats, N, 3). Resampling two or three texts always finds the same in
    them; no test can be surer than this one.
    """
    n_repeats = min(len(leader), len(other))
    n_differing = (leader[:n_repeats] != other[:n_repeats]).any(axis=(0, 2)).sum()
    return min(1.0, 2 * 0.5 ** float(n_differing))


def _row(
    name: str,
    results: Sequence[TechniqueResult],
    bounds: tuple[float, float],
    p_value: float | None,
) -> LeaderboardRow:
    means = {
        field: _mean(results, field)
        for field in (
            "micro_f1",
            "macro_f1",
            "weighted_f1",
            "accuracy",
            "fit_seconds",
            "cpu_seconds",
            "p50_ms",
            "p95_ms",
            "texts_per_second",
            "energy_kwh",
        )
    }
    return LeaderboardRow(
        technique=name,
        **means,
        ci_low=bounds[0],
        ci_high=bounds[1],
        p_value=p_value,
        ties_with_leader=p_value is None or p_value > ALPHA,
        peak_bytes=max(result.peak_bytes or 0 for result in results),
        size_bytes=max(result.size_bytes or 0 for result in results),
        energy_source=results[0].energy_source,
        n_repeats=len(results),
    )


def _mean(results: Sequence[TechniqueResult], field: str) -> float:
    return float(np.mean([getattr(result, field) or 0.0 for result in results]))
