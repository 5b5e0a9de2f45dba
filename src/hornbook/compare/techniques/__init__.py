"""One file a technique. The table is in the order in which a study runs them: cheap ones first."""

from __future__ import annotations

from hornbook.registry import Registry

_HERE = "hornbook.compare.techniques."

TECHNIQUES = Registry(
    "technique",
    {
        "majority": _HERE + "majority:Majority",
        "tfidf-logreg": _HERE + "tfidf_logreg:TfidfLogreg",
        "tfidf-svm": _HERE + "tfidf_svm:TfidfSvm",
        "zero-shot": _HERE + "zero_shot:ZeroShot",
        "embed-knn": _HERE + "embed_knn:EmbedKnn",
        "embed-logreg": _HERE + "embed_logreg:EmbedLogreg",
        "lora": _HERE + "lora:Lora",
        "finetune": _HERE + "finetune:Finetune",
        "gpt-scratch": _HERE + "gpt_scratch:GptScratch",
        "bert-scratch": _HERE + "bert_scratch:BertScratch",
        "ensemble": _HERE + "ensemble:Ensemble",
    },
)

# Those that need a model which no package brings: NAME=MODEL, and only where they are named.
WITH_MODEL = Registry("technique", {"zero-shot-nli": _HERE + "zero_shot_nli:ZeroShotNli"})

BUILT_IN = frozenset({*TECHNIQUES, *WITH_MODEL})
