"""Precision over recall of submissions, thinned to what a page can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from epilm.report.collect import RunRecord, as_dict, as_list
from epilm.report.text import number

BASE_RATE = "base_rate"
"""The submission of a constant score, which every evaluation has."""
MAX_VALUES = 40_000
"""Numbers in all curves of a page, about 7 bytes each."""
MIN_POINTS = 20


def chart_data(records: Iterable[RunRecord]) -> list[dict[str, Any]]:
    """What the page's script draws: one entry a data set with curves, in the order of the views."""
    sets = [
        one for r in records for one in as_list(r.result.get("data_sets")) if isinstance(one, dict) and curves_of(one)
    ]
    points = MAX_VALUES // max(1, 2 * sum(len(curves_of(one)) for one in sets))
    return [
        {
            "title": data_set_title(one),
            "curves": [
                {
                    "name": name,
                    "plain": name == BASE_RATE,
                    "auprc": auprc,
                    **_thinned(recall, precision, max(MIN_POINTS, points)),
                }
                for name, auprc, recall, precision in curves_of(one)
            ],
        }
        for one in sets
    ]


def curves_of(one: Mapping[str, Any]) -> list[tuple[str, float | None, list[float], list[float]]]:
    """(submission, AUPRC, recall, precision) of a data set, for those that have a curve."""
    found = []
    for name, entry in as_dict(one.get("submissions")).items():
        curve = as_dict(as_dict(entry).get("curve"))
        recall, precision = as_list(curve.get("recall")), as_list(curve.get("precision"))
        if 0 < len(recall) == len(precision) and all(number(v) is not None for v in (*recall, *precision)):
            found.append((str(name), number(as_dict(entry.get("metrics")).get("auprc")), recall, precision))
    return found


def _thinned(recall: list[float], precision: list[float], most: int) -> dict[str, list[float]]:
    """At most ``most`` points, the first and the last among them; recall rises, and a single point becomes a line."""
    step = max(1, -(-(len(recall) - 1) // max(1, most - 1)))
    places = sorted({*range(0, len(recall), step), len(recall) - 1})
    if len(recall) == 1:
        return {"recall": [0.0, recall[0]], "precision": [precision[0]] * 2}
    return {"recall": [recall[i] for i in places], "precision": [precision[i] for i in places]}


def data_set_title(one: Mapping[str, Any]) -> str:
    return f"{one.get('target')} in {one.get('cell_type')}"
