"""The comparison as plain text: a block for each metric over data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epilm.studies.comparison import SHOWN, VALIDATION


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Each arm's mean, deviation over seeds and interval, and its margin to the baseline, for every mean over data sets; the
    data sets themselves by AUPRC alone."""
    keys = [f"{mean}/{metric}" for mean in comparison["test"]["means"] for metric in SHOWN]
    keys += [VALIDATION, *(f"{one['name']}/auprc" for one in comparison["data_sets"])]
    blocks = [_block(comparison, key) for key in keys if any(key in arm["summary"] for arm in comparison["arms"])]
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(comparison: Mapping[str, Any], key: str) -> list[str]:
    baseline, level = comparison["baseline"], comparison["bootstrap"]["level"]
    margins = {one["arm"]: one for one in comparison["margins"] if one["metric"] == key}
    rows = [["arm", "mean", "sd", "n", f"{level:.0%} interval", f"margin to {baseline}"]]
    for arm in comparison["arms"]:
        found, name = arm["summary"].get(key), arm["name"]
        if found is not None:
            margin = "baseline" if name == baseline else _margin(margins.get(name))
            rows.append([name, _number(found["mean"]), _number(found["sd"]), str(found["n"]), _interval(found), margin])
    place, _, metric = key.rpartition("/")
    rate = comparison["arms"][0]["summary"].get(f"{place}/base_rate_{metric}")
    if rate is not None:
        rows.append(["(base rate)", _number(rate["mean"]), "", "", "", "no model: the share of bound bins"])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [key] + [
        "  ".join(["  " + row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), row[5]]).rstrip()
        for row in rows
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(found: Mapping[str, Any], sign: str = "") -> str:
    low, high = found.get("low"), found.get("high")
    return "-" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def _margin(margin: Mapping[str, Any] | None) -> str:
    if margin is None:
        return "-"
    interval = _interval(margin, "+")
    return f"{margin['mean']:+.4f}" + (f" {interval}" if interval != "-" else "")
