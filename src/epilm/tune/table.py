"""A comparison as a table of plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epilm.tune.figures import CONFIDENCE, needs_no_model

_SAME = 1e-9
_BY_SEED = f"{CONFIDENCE:.0%} interval, paired by seed"


def format_comparison(comparison: Mapping[str, Any], interval: str = _BY_SEED) -> str:
    """A block a metric: each arm's mean and deviation over seeds, and its margin to the baseline with its interval.

    Args:
        interval: what the margins' interval is.
    """
    arms = comparison["arms"]
    names = dict.fromkeys(name for arm in arms for name in arm["summary"])
    metrics = [name for name in names if not needs_no_model(name)]
    return "\n\n".join("\n".join(_block(comparison, metric, interval)) for metric in metrics)


def _block(comparison: Mapping[str, Any], metric: str, interval: str) -> list[str]:
    baseline = comparison["baseline"]
    margins = {m["arm"]: m for m in comparison["margins"] if m["metric"] == metric}
    rows = [["arm", "mean", "sd", "n", f"margin to {baseline} [{interval}]"]]
    for arm in comparison["arms"]:
        found = arm["summary"].get(metric)
        if found is not None:
            margin = "baseline" if arm["name"] == baseline else _margin(margins.get(arm["name"]))
            rows.append([arm["name"], _number(found["mean"]), _number(found["sd"]), str(found["n"]), margin])
    unigram = _unigram(comparison, metric)
    if unigram is not None:
        rows.append(["(unigram)", _number(unigram), "", "", "no model: the frequencies of k-mers"])
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [metric] + [
        "  ".join(["  " + row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]])
        for row in rows
    ]


def _unigram(comparison: Mapping[str, Any], metric: str) -> float | None:
    """What the frequencies of k-mers reach on the same bases; None where it is not the same for all arms (another k)."""
    set_name, _, name = metric.partition("/")
    found = [arm["summary"].get(f"{set_name}/unigram_{name}") for arm in comparison["arms"]]
    means = [summary["mean"] for summary in found if summary is not None]
    return means[0] if means and max(means) - min(means) < _SAME else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _margin(margin: Mapping[str, Any] | None) -> str:
    if margin is None:
        return "-"
    interval = "" if margin["low"] is None else f" [{margin['low']:+.4f}, {margin['high']:+.4f}]"
    return f"{margin['mean']:+.4f}{interval}"
