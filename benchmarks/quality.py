"""Claims about quality: Reuters R90 and the built-in corpus, read from finished or fresh runs.

    python benchmarks/quality.py [--reuters RUN] [--pydocs RUN]

A RUN is a folder that `hornbook compare` wrote; without one the study is run here, with five
minutes a technique for Reuters (about half an hour) and `--total 4m` for pydocs. The peers on
Reuters are published figures: DocBERT (arXiv 1904.08398), table 2.
"""

from __future__ import annotations

import argparse

from claims import at_least

from hornbook import open_study
from hornbook.compare.study import compare

PUBLISHED = {"BERT-large": 0.907, "BERT-base": 0.890, "LSTM_reg": 0.870, "SVM": 0.861}
BUDGET = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reuters", help="a finished run on reuters")
    parser.add_argument("--pydocs", help="a finished run on pydocs")
    arguments = parser.parse_args()
    reuters = (
        open_study(arguments.reuters) if arguments.reuters else compare("reuters", budget=BUDGET)
    )
    pydocs = open_study(arguments.pydocs) if arguments.pydocs else compare("pydocs", total="4m")

    rows = {row.technique: row for row in reuters.leaderboard}
    best, svm = reuters.leaderboard[0], rows["tfidf-svm"]
    slowest = max(
        (row for row in rows.values() if row.technique != "ensemble"), key=lambda r: r.fit_seconds
    )
    at_least("reuters, tfidf-svm, micro-F1", svm.micro_f1, 0.885, digits=4)
    at_least("reuters, tfidf-svm, macro-F1", svm.macro_f1, 0.53, digits=4)
    at_least(f"reuters, best row ({best.technique}), micro-F1", best.micro_f1, 0.895, digits=4)
    at_least("reuters, the far target: micro-F1", best.micro_f1, 0.907, digits=4)
    at_least(
        "reuters, the far target: macro-F1",
        max(row.macro_f1 for row in rows.values()),
        0.60,
        digits=4,
    )
    print(f"  slowest fit: {slowest.technique}, {slowest.fit_seconds:.0f} s of {BUDGET:.0f} s")
    for name, figure in PUBLISHED.items():
        print(f"  ratio of the best row to {name} as published ({figure}): "
              f"{best.micro_f1 / figure:.3f}")  # fmt: skip

    rows = {row.technique: row for row in pydocs.leaderboard}
    neural = [rows[name] for name in ("finetune", "ensemble") if name in rows]
    at_least(
        "pydocs, finetune or ensemble, micro-F1, against tfidf-svm's",
        max((row.micro_f1 for row in neural), default=0.0),
        rows["tfidf-svm"].micro_f1,
        digits=4,
    )
    print(f"  {pydocs.summary.advice}")


if __name__ == "__main__":
    main()
