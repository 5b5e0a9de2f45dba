"""A made training run for its report: plausible curves, samples, a plan and what came of it."""

from __future__ import annotations

import math
import random

from hornbook.records import (
    ClusterRecord,
    CorpusRecord,
    CurveReading,
    Environment,
    EvaluationRecord,
    Evidence,
    MemoryRecord,
    Metrics,
    PlanCheck,
    PlanRecord,
    Referee,
    RunSummary,
    StepRecord,
)

WORDS = "thou art not what the king and my lord shall be to him that I have seen"


def fake_metrics(n_steps: int = 2000, every: int = 100, seed: int = 0) -> Metrics:
    rng = random.Random(seed)
    steps, evaluations = [], []
    for i in range(1, n_steps + 1):
        p = i / n_steps
        loss = 1.38 + 2.8 * math.exp(-14 * p) + 0.25 * math.exp(-3 * p) + rng.gauss(0, 0.05)
        warm = min(1.0, p / 0.05)
        steps.append(
            StepRecord(
                step=i,
                tokens=i * 4096,
                seconds=i * 0.031,
                loss=loss,
                lr=1e-3 * warm * (0.1 + 0.45 * (1 + math.cos(math.pi * p))),
                gradient_norm=0.4 + 2.5 * math.exp(-20 * p) + abs(rng.gauss(0, 0.05)),
                tokens_per_second=132_000 * (1 + rng.gauss(0, 0.02)),
            )
        )
        if i % every == 0:
            smooth = 1.38 + 2.8 * math.exp(-14 * p) + 0.25 * math.exp(-3 * p)
            validation = smooth + 0.06 + 0.15 * max(0.0, p - 0.6)
            evaluations.append(
                EvaluationRecord(
                    step=i,
                    tokens=i * 4096,
                    seconds=i * 0.031,
                    train_loss=smooth,
                    validation_loss=validation,
                    bits_per_byte=validation / math.log(2),
                    sample=f"KING HENRY:\n{' '.join(rng.choices(WORDS.split(), k=40))},\nexeunt.",
                )
            )
    return Metrics(steps=steps, evaluations=evaluations)


def fake_run(metrics: Metrics | None = None) -> RunSummary:
    metrics = metrics or fake_metrics()
    best = min(metrics.evaluations, key=lambda e: e.validation_loss or 9.0)
    cluster = ClusterRecord(
        n_devices=1,
        device="cpu",
        sharding="none",
        device_bytes=20 * 10**9,
        matrix_speed=8.28e11,
        utilisation=0.42,
        speed_source="measured",
    )
    memory = MemoryRecord(
        weights=10_800_000,
        gradients=0,
        optimizer=21_600_000,
        activations=298_000_000,
        head=9_000_000,
        working=110_000_000,
        total=449_400_000,
    )
    plan = PlanRecord(
        model="modern-gpt",
        n_parameters=2_692_032,
        vocab_size=65,
        context_length=128,
        batch_size=32,
        micro_batch_size=32,
        n_steps=2000,
        n_tokens=8_192_000,
        flops_per_token=1.78e7,
        flops=1.46e14,
        precision="bfloat16",
        gradient_checkpointing=False,
        memory=memory,
        seconds=57.0,
        tokens_per_second=143_719.0,
        cluster=cluster,
        fits=True,
        verdict="It fits: 449 MB of the 18.4 GB that this machine can give.",
        notes=["The rule 6 N + 12 L d T gives 1.78e+07 FLOPs a token, 100.0% of what was counted."],
        settings={"n_layers": 6, "n_heads": 3, "d_model": 192, "d_ff": 768},
    )
    return RunSummary(
        model="modern-gpt",
        n_parameters=2_692_032,
        corpus=CorpusRecord(
            name="tinyshakespeare",
            source="karpathy/char-rnn",
            licence="public domain",
            n_train_tokens=1_003_854,
            n_validation_tokens=111_540,
            sha256="ab" * 32,
            notes=["One document, cut by position: the last tenth of the characters validates."],
        ),
        unit="character",
        vocab_size=65,
        bytes_per_token=1.0,
        status="finished",
        n_steps=2000,
        n_tokens=8_192_000,
        seconds=66.4,
        best_step=best.step,
        best_validation_loss=best.validation_loss,
        best_bits_per_byte=best.bits_per_byte,
        last_validation_loss=metrics.evaluations[-1].validation_loss,
        last_train_loss=metrics.evaluations[-1].train_loss,
        referees=[
            Referee(name="2-gram, Witten-Bell", order=2, loss=2.455, bits_per_byte=3.542),
            Referee(name="5-gram, Witten-Bell", order=5, loss=1.669, bits_per_byte=2.408),
        ],
        plan=plan,
        checks=[
            PlanCheck(quantity="time", unit="seconds", predicted=57.0, actual=62.1, error=-0.082),
            PlanCheck(
                quantity="speed", unit="tokens/s", predicted=143_719, actual=131_916, error=0.089
            ),
            PlanCheck(
                quantity="share of matrix peak",
                unit="share",
                predicted=0.42,
                actual=0.29,
                error=0.45,
            ),
            PlanCheck(
                quantity="peak memory",
                unit="bytes",
                predicted=449_400_000,
                actual=461_000_000,
                error=-0.025,
            ),
        ],
        reading=CurveReading(
            pattern="overfitting",
            says="Validation was best at step 1,300 (1.498) and has risen by 3% since, while "
            "training fell by 0.019.",
            evidence=[
                Evidence(name="best validation loss", value=1.498, unit="nats"),
                Evidence(name="at step", value=1300.0),
                Evidence(name="gap to training", value=0.12, unit="nats"),
            ],
            advice=[
                "Use the best checkpoint, of step 1,300; stop there next time.",
                "More text is worth most; then dropout 0.1 to 0.3 and more weight decay.",
                "Or a smaller model: this one can learn its text by heart.",
            ],
        ),
        settings={"depth": 6, "seed": 1, "optimizer": "muon", "betas": [0.9, 0.95]},
        derived={"lr": 0.02, "batch_size": 32, "warm_up": 0.05},
        energy_kwh=0.0011,
        emissions_kg=0.0004,
        energy_source="estimated",
        environment=Environment(
            hornbook="0.2.0",
            python="3.11.9",
            platform="Linux",
            processor="a processor",
            n_cpus=2,
            memory_bytes=24 * 10**9,
            device="cpu",
            precision="bfloat16",
            packages={"torch": "2.13.0"},
        ),
        hashes={"tokenizer.json": "cd" * 32},
        command="hornbook train modern-gpt --data tinyshakespeare --depth 6 --seed 1",
        started="2026-11-22T04:00:00+00:00",
    )
