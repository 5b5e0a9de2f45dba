"""What a study leaves behind: summary, record, results, the report, a card beside each model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hornbook.compare.advice import advise, recommend
from hornbook.compare.examine import confusions, hardest, mislabelled, per_label
from hornbook.compare.judge import Judge
from hornbook.compare.layout import StudyFolder
from hornbook.compare.settings import StudyPlan
from hornbook.config import format_duration
from hornbook.files import sha256
from hornbook.records import Audit, LeaderboardRow, StudyRecord, Summary, TechniqueResult
from hornbook.runs import read_record, write_lines, write_record

_ON_MINILM = ("zero-shot", "embed-knn", "embed-logreg", "lora", "finetune")


class Leaderboard(list[LeaderboardRow]):
    """Rows best first. Prints as a table; `=` marks what ties with the leader."""

    def __init__(self, rows: Iterable[LeaderboardRow]) -> None:
        super().__init__(rows)

    def __repr__(self) -> str:
        if not self:
            return "(no technique finished)"
        head = f"  {'technique':<14} micro-F1  95 % interval  macro-F1       fit   a text"
        lines = [
            f"{'=' if row.ties_with_leader else ' '} {row.technique:<14} {row.micro_f1:>8.3f}"
            f"   {row.ci_low:.3f}–{row.ci_high:.3f}  {row.macro_f1:>8.3f}"
            f"  {format_duration(row.fit_seconds):>8} {row.p50_ms:>6.1f}ms"
            for row in self
        ]
        return "\n".join([head, *lines])


def write_outcome(
    folder: StudyFolder,
    plan: StudyPlan,
    results: Sequence[TechniqueResult],
    interrupted: Sequence[TechniqueResult],
    seconds: float,
) -> StudyRecord:
    """Judge what has finished and write every file of the outcome."""
    from hornbook.reports.html import write_report

    judge = Judge.of(folder)
    board = judge.leaderboard(results)
    everything = [*results, *interrupted]
    summary = Summary(
        dataset=plan.dataset.name,
        splits={
            "train": plan.dataset.n_train,
            "validation": plan.dataset.n_validation,
            "test": plan.dataset.n_test,
        },
        n_labels=len(plan.dataset.label_names),
        multi_label=plan.dataset.multi_label,
        leaderboard=board,
        not_finished=[result for result in everything if result.status != "ok"],
        best=board[0].technique if board else None,
        recommended=recommend(board),
        advice=advise(board, len({result.technique for result in everything})),
        command=plan.command,
        seconds=seconds,
    )
    record = _record(folder, plan, judge, summary, everything)
    write_lines(folder.path / "results.jsonl", everything)
    write_record(folder.path / "study_record.json", record)
    _write_cards(folder, plan, record)
    write_report(record, folder.path / "report.html")
    write_record(folder.path / "summary.json", summary)
    return record


def _record(
    folder: StudyFolder,
    plan: StudyPlan,
    judge: Judge,
    summary: Summary,
    results: Sequence[TechniqueResult],
) -> StudyRecord:
    # The first repeat stands for all: a table of means over different models explains no error.
    first = {r.technique: r.repeat for r in reversed(results) if r.status == "ok"}
    board = summary.leaderboard
    verdicts = {row.technique: judge.verdicts(row.technique, first[row.technique]) for row in board}
    # The floor and what failed to learn would call every text hard.
    able = {row.technique for row in board if row.micro_f1 >= 0.8 * board[0].micro_f1}
    heard = {name: v for name, v in verdicts.items() if name in able}
    return StudyRecord(
        summary=summary,
        results=list(results),
        dataset=plan.dataset,
        audit=read_record(folder.path / "audit.json", Audit),
        per_label={name: per_label(judge, v) for name, v in verdicts.items()},
        confusions={name: confusions(judge, v) for name, v in verdicts.items()},
        hardest=hardest(judge, heard) if heard else [],
        mislabelled=mislabelled(judge, heard) if heard else [],
        settings={
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plan.settings.model_dump().items()
        },
        environment=plan.environment,
        hashes={"data": plan.dataset.sha256, **_model_hashes(folder, first)},
        started=plan.started,
    )


def _write_cards(folder: StudyFolder, plan: StudyPlan, record: StudyRecord) -> None:
    """A README.md beside each saved model, in the form that model hubs read."""
    from hornbook.interop.catalogue import CATALOGUE
    from hornbook.reports.model_card import write_model_card

    rows = {row.technique: row for row in record.summary.leaderboard}
    for result in record.results:
        if result.status != "ok":
            continue
        name = result.technique
        model = folder.run(name, result.repeat).model
        write_model_card(
            model / "README.md",
            result=result,
            row=rows.get(name),
            dataset=plan.dataset,
            per_label=record.per_label.get(name, []),
            environment=plan.environment,
            hashes={path.name: sha256(path) for path in sorted(model.rglob("*.safetensors"))},
            command=plan.command,
            base_model=CATALOGUE["minilm"].hub if name in _ON_MINILM else None,
        )


def _model_hashes(folder: StudyFolder, first: dict[str, int]) -> dict[str, str]:
    """SHA-256 of every weights file, by its path in the study's folder."""
    paths = [
        path
        for name, repeat in first.items()
        for path in sorted(folder.run(name, repeat).model.rglob("*.safetensors"))
    ]
    return {path.relative_to(folder.path.resolve()).as_posix(): sha256(path) for path in paths}
