"""Ranking metrics out of sums that add up over batches and workers: histograms of the logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from epilm.evaluate.ranking import METRICS, binding_metrics, counts_from_histogram

_LOGIT_LIMIT, _LOGIT_BINS = 16.0, 16_384
"""Scores are counted in steps of .002 of the logit; within a step they are ties."""


def logit_histogram(logits: Tensor, bound: Tensor, scored: Tensor, weight: Tensor) -> Tensor:
    """Weights of the scored bins by target, label and step of the logit: float64 [targets * 2 * steps]; all NaN where a
    scored logit is not finite (a diverged model has no metrics).

    Args:
        logits, bound, scored: [B, targets]; weight: [B].
    """
    num = logits.shape[1]
    step = (
        ((logits.double().nan_to_num() + _LOGIT_LIMIT) * (_LOGIT_BINS / (2 * _LOGIT_LIMIT)))
        .long()
        .clamp(0, _LOGIT_BINS - 1)
    )
    target = torch.arange(num, device=logits.device).expand_as(step)
    place = (target * 2 + bound.long()) * _LOGIT_BINS + step
    weights = weight.double()[:, None] * scored
    total = torch.bincount(place.reshape(-1), weights.reshape(-1), minlength=num * 2 * _LOGIT_BINS)
    return torch.where((logits.isfinite() | ~scored).all(), total, torch.nan)


def histogram_metrics(histogram: Sequence[float], targets: Sequence[str]) -> dict[str, float]:
    """Means over the targets of all ranking metrics and of the share of bound bins; of several targets also each AUPRC."""
    totals = np.asarray(histogram).reshape(len(targets), 2, _LOGIT_BINS)
    if np.isnan(totals).any():
        return dict.fromkeys((*METRICS, "base_rate_auprc"), float("nan"))
    each = {
        target: binding_metrics(counts_from_histogram(positives, negatives))
        for target, (negatives, positives) in zip(targets, totals, strict=True)
    }
    metrics = {name: _mean([found[name] for found in each.values()]) for name in METRICS}
    bound = [f["num_positives"] / max(1.0, f["num_positives"] + f["num_negatives"]) for f in each.values()]
    metrics["base_rate_auprc"] = _mean(bound)
    return metrics | ({f"auprc.{target}": f["auprc"] for target, f in each.items()} if len(each) > 1 else {})


def _mean(values: list[float]) -> float:
    """Over the factors that have a value."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
