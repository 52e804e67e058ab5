"""Metrics of 10 million predictions, 1 % of them positive, against three calls of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from epilm.bench.measure import Case, Duel, Workbench
from epilm.evaluate.ranking import binding_metrics, count_ranks

SHARE = 0.01
TOLERANCE = 1e-9


def ranking_metrics(bench: Workbench) -> Duel:
    """AUROC, average precision and recall at 10 and 50 % FDR of float32 scores; ours gives Davis-Goadrich's AUPRC as well.

    Scores have the digits of probabilities that a model writes, so some are tied.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    num = bench.scaled(10_000_000, 5_000)
    generator = np.random.default_rng(bench.seed)
    labels = generator.random(num) < SHARE
    logits = generator.normal(size=num) + 2.5 * labels - 3
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)

    def ours() -> dict[str, float]:
        return binding_metrics(count_ranks(scores, labels))

    def theirs() -> tuple[float, float, tuple[Any, ...]]:
        return (
            float(roc_auc_score(labels, scores)),
            float(average_precision_score(labels, scores)),
            precision_recall_curve(labels, scores),
        )

    def compare(mine: dict[str, float], other: tuple[float, float, tuple[Any, ...]]) -> str:
        area, average, (precision, recall, _) = other
        expected = {"auroc": area, "average_precision": average}
        for fdr in (10, 50):
            enough = precision[:-1] >= 1 - fdr / 100  # the last point is no threshold
            expected[f"recall_at_{fdr}_fdr"] = float(recall[:-1][enough].max(initial=0.0))
        wrong = [name for name, value in expected.items() if not abs(mine[name] - value) <= TOLERANCE]
        return ", ".join(wrong)

    return Duel(
        ours, theirs, num, num, compare, lambda: f"{num / 1e6:g} M predictions, {SHARE:.0%} positive", least_s=0
    )


CASES = (
    Case(
        name="ranking_metrics",
        about="AUROC, average precision, AUPRC and recall at FDR of one ranking",
        peer="roc_auc_score, average_precision_score and precision_recall_curve of scikit-learn",
        unit="M predictions/s",
        target=10,
        build=ranking_metrics,
        pairs=3,
        scale=1e6,
        requires=("sklearn",),
        install="pip install scikit-learn",
    ),
)
