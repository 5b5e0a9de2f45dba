"""A study as `hornbook compare` might leave it: 11 techniques, 38 labels, two that failed."""

from __future__ import annotations

import random

from hornbook.records import (
    Audit,
    Confusion,
    DatasetInfo,
    Duplicate,
    Environment,
    HardText,
    LabelCount,
    LabelIssue,
    LabelScore,
    LeaderboardRow,
    StudyRecord,
    Summary,
    TechniqueResult,
)

_NAMES = """
    asyncio tkinter email unittest multiprocessing distutils idlelib concurrent xml http logging
    ctypes urllib json typing importlib test turtle pathlib argparse ssl socket tarfile zipfile
    decimal datetime statistics random inspect ast subprocess threading collections functools
    mailbox imaplib smtplib optparse
"""
MODULES = _NAMES.split()

# technique: micro, macro, half interval, p, ties, fit s, p50 ms, texts/s, bytes, Wh
_ROWS = {
    "ensemble": (0.847, 0.801, 0.021, None, True, 4.1, 31.2, 61, 190_300_000, 0.021),
    "finetune": (0.839, 0.789, 0.022, 0.412, True, 118.4, 21.9, 88, 91_200_000, 0.612),
    "tfidf-svm": (0.836, 0.780, 0.022, 0.287, True, 6.32, 0.91, 5210, 14_200_000, 0.033),
    "lora": (0.831, 0.779, 0.022, 0.061, True, 119.7, 22.4, 87, 92_100_000, 0.618),
    "embed-logreg": (0.822, 0.771, 0.023, 0.018, False, 24.8, 20.8, 91, 91_400_000, 0.131),
    "tfidf-logreg": (0.804, 0.722, 0.024, 0.004, False, 3.9, 0.88, 5480, 11_900_000, 0.02),
    "embed-knn": (0.771, 0.701, 0.025, 0.0005, False, 22.9, 21.3, 90, 97_700_000, 0.12),
    "zero-shot": (0.402, 0.371, 0.029, 0.0005, False, 0.8, 20.6, 92, 90_900_000, 0.004),
    "majority": (0.093, 0.004, 0.017, 0.0005, False, 0.002, 0.0009, 1_250_000, 912, 0.0),
}


def fake_study(**changes: object) -> StudyRecord:
    """The record; keyword arguments replace whole fields of it."""
    rng = random.Random(7)
    board = [_row(name, *values) for name, values in _ROWS.items()]
    unfinished = [
        TechniqueResult(
            technique="bert-scratch",
            repeat=0,
            status="killed",
            budget_seconds=120,
            fit_seconds=71.3,
            message="The process was killed by signal 9 at 3.1 GB, probably for want of memory. "
            "Try a smaller batch or --techniques without it.",
        ),
        TechniqueResult(
            technique="gpt-scratch",
            repeat=0,
            status="skipped",
            budget_seconds=120,
            message="120 s are too few: one pass over the training texts is estimated at 204 s. "
            "Give it --budget 7m.",
        ),
    ]
    results = [_result(row, rng) for row in board] + unfinished
    supports = {label: max(6, 120 - 3 * i) for i, label in enumerate(MODULES)}
    fields: dict[str, object] = {
        "summary": Summary(
            dataset="pydocs",
            splits={"train": 3010, "validation": 430, "test": 861},
            n_labels=len(MODULES),
            multi_label=False,
            leaderboard=board,
            not_finished=unfinished,
            best="ensemble",
            recommended="tfidf-svm",
            advice="Use tfidf-svm: at 0.836 micro-F1 it can't be told from the best (ensemble, "
            "0.847) on 861 test texts, and it fits in 6 seconds and answers in under 1 ms.",
            command="hornbook compare pydocs --budget 2m --repeats 1 --seed 0",
            seconds=287.4,
        ),
        "results": results,
        "dataset": DatasetInfo(
            name="pydocs",
            source="docstrings of the standard library of Python 3.11.2",
            licence="PSF-2.0",
            multi_label=False,
            n_train=3010,
            n_validation=430,
            n_test=861,
            label_names=list(MODULES),
            sha256="5b" * 32,
            notes=["Modules with fewer than 40 docstrings are left out."],
        ),
        "audit": _audit(supports),
        "per_label": {
            name: [_label(label, n, values[0], rng) for label, n in supports.items()]
            for name, values in _ROWS.items()
        },
        "confusions": {"ensemble": _confusions(rng)},
        "hardest": _texts(),
        "mislabelled": [
            HardText(
                id="Lib/distutils/log.py:12",
                text="A simple log mechanism styled after PEP 282.",
                truth=["distutils"],
                predicted=["logging"],
                n_wrong=8,
                n_techniques=9,
                probability=0.0121,
            )
        ],
        "settings": {
            "budget": "2m",
            "repeats": 1,
            "seed": 0,
            "techniques": list(_ROWS),
            "n_bootstrap": 2000,
            "device": "auto",
            "resume": False,
            "text": None,
        },
        "environment": Environment(
            hornbook="0.1.0",
            python="3.11.2",
            platform="Linux-6.1-x86_64",
            processor="Intel Xeon Platinum 8488C",
            n_cpus=2,
            memory_bytes=8_200_000_000,
            device="cpu",
            precision="bfloat16 (AMX)",
            packages={"torch": "2.13.0", "scikit-learn": "1.9.0", "tokenizers": "0.22.1"},
        ),
        "hashes": {"minilm/model.safetensors": "53aa" * 16, "models/ensemble": "0c" * 32},
        "started": "2026-11-22T01:40:12Z",
    }
    return StudyRecord(**(fields | changes))  # type: ignore[arg-type]


def _row(name, micro, macro, half, p, ties, fit, p50, speed, size, wh) -> LeaderboardRow:
    return LeaderboardRow(
        technique=name,
        micro_f1=micro,
        macro_f1=macro,
        weighted_f1=micro - 0.004,
        accuracy=micro,
        ci_low=micro - half,
        ci_high=micro + 0.9 * half,
        p_value=p,
        ties_with_leader=ties,
        fit_seconds=fit,
        cpu_seconds=1.9 * fit,
        peak_bytes=int(240e6 + 4 * size),
        p50_ms=p50,
        p95_ms=1.4 * p50,
        texts_per_second=speed,
        size_bytes=size,
        energy_kwh=wh / 1000,
        energy_source="estimated",
        n_repeats=1,
    )


def _result(row: LeaderboardRow, rng: random.Random) -> TechniqueResult:
    shared = row.model_dump(include=TechniqueResult.model_fields.keys() & row.model_dump().keys())
    return TechniqueResult(
        **shared,
        repeat=0,
        status="ok",
        validation_micro_f1=row.micro_f1 + rng.uniform(-0.01, 0.01),
        budget_seconds=120,
        emissions_kg=0.38 * row.energy_kwh,
        decision="argmax of calibrated scores",
        settings={"C": 2.0, "n_epochs": 3, "lr": 5e-5, "fused": True},
    )


def _label(label: str, support: int, level: float, rng: random.Random) -> LabelScore:
    f1 = min(1.0, max(0.0, rng.gauss(level - 0.0005 * (100 - support), 0.09)))
    return LabelScore(label=label, support=support, precision=f1, recall=f1, f1=f1)


def _confusions(rng: random.Random) -> list[Confusion]:
    pairs = [rng.sample(MODULES, 2) for _ in range(24)]
    counts = sorted((rng.randint(1, 14) for _ in pairs), reverse=True)
    return [Confusion(truth=a, predicted=b, count=n) for (a, b), n in zip(pairs, counts)]


def _texts() -> list[HardText]:
    texts = [
        "Return the value of the option, or the default when there is none.",
        "Close the connection.\n\nThis method does nothing when it is closed already. " * 8,
        "يعيد هذا التابع قيمة الخيار أو القيمة المبدئية عند غيابها",
        "Set the state.",
    ]
    return [
        HardText(
            id=f"Lib/{label}/__init__.py:{100 + 17 * i}",
            text=text,
            truth=[label],
            predicted=["argparse"],
            n_wrong=9 - i,
            n_techniques=9,
            probability=0.0004 * (1 + 40 * i),
        )
        for i, (text, label) in enumerate(zip(texts, ["optparse", "smtplib", "imaplib", "turtle"]))
    ]


def _audit(supports: dict[str, int]) -> Audit:
    leak = Duplicate(
        first_id="Lib/asyncio/events.py:91",
        second_id="Lib/asyncio/base_events.py:402",
        first_split="train",
        second_split="test",
        similarity=0.91,
        same_labels=True,
        excerpt="Wait for the handle to be cancelled and return its result.",
    )
    return Audit(
        n_texts=4301,
        n_labels=len(MODULES),
        multi_label=False,
        n_empty=3,
        n_exact_duplicates=12,
        n_near_duplicates=31,
        n_leaks=2,
        labels_per_text=1.0,
        words_p5=4,
        words_median=19,
        words_p95=141,
        words_max=2210,
        label_counts=[
            LabelCount(label=label, train=4 * n, validation=n // 2, test=n)
            for label, n in supports.items()
        ],
        co_occurrence=[("asyncio", "concurrent", 4)],
        leaks=[leak],
        duplicates=[leak, leak],
        label_issues=[
            LabelIssue(
                id="Lib/tkinter/dnd.py:3",
                split="train",
                given=["tkinter"],
                suggested=["idlelib"],
                given_probability=0.031,
                excerpt="Drag-and-drop support for widgets, within one application.",
            )
        ],
        findings=[
            "2 test texts are near-duplicates of training texts: every score may be up to 0.002 "
            "too high. Drop them with --drop-leaks.",
            "The rarest label has 6 test texts: its F1 is a guess.",
        ],
    )
