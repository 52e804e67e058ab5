"""The arms of ``eval-binding``: AUPRC over data sets and on each of them with every seed, and the differences of all pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from epilm.report.binding import METRICS, Table
from epilm.report.collect import RunRecord, as_dict, as_list
from epilm.report.comparisons import ComparisonView, comparison_view, margin_verdict
from epilm.report.text import ABSENT, interval, number, show, signed, words


def study_view(record: RunRecord) -> ComparisonView | None:
    """The view of an ``eval-binding`` run: panels of AUPRC over data sets and of each of them, tables of all means."""
    result = record.result
    test, boot = as_dict(result.get("test")), as_dict(result.get("bootstrap"))
    means = list(as_dict(test.get("means")))
    each = [f"{one.get('name')}/auprc" for one in as_list(result.get("data_sets")) if isinstance(one, dict)]
    over = [f"{mean}/{metric}" for mean in means for metric in METRICS]
    drawn = [key for key in over if key.endswith("/auprc")]
    facts = [
        ("Arms and rivals", show(len(as_list(result.get("arms"))))),
        ("Tested on", ", ".join(map(str, as_list(test.get("contigs")))) or ABSENT),
        ("Cell types trained on", ", ".join(map(str, as_list(test.get("cell_types")))) or "none"),
        ("Cell types held out", ", ".join(map(str, as_list(test.get("held_out_cell_types")))) or "none"),
        ("Bound training bins", _positives(as_list(result.get("arms")))),
    ]
    reading = (
        f"Dots are single seeds, the tick is their mean, the whisker its interval: {show(boot.get('num'))} resamples of "
        f"{show(boot.get('num_blocks'))} stretches of the test contigs and of the seeds, the same for all. A margin pairs seeds "
        "and resamples."
    )
    return comparison_view(
        record.name, result, facts, keys=[*over, *each, "validation/auprc"], drawn=[*drawn, *each], reading=reading
    )


def pair_table(record: RunRecord) -> Table:
    """Differences of every pair of arms other than the baseline's, over data sets."""
    rows = []
    for one in as_list(record.result.get("pairs")):
        if isinstance(one, dict) and str(one.get("metric")).endswith("/auprc"):
            low, high = number(one.get("low")), number(one.get("high"))
            place = words(str(one["metric"]).rpartition("/")[0])
            text = f"{signed(number(one.get('mean')), 'fine')} {interval(low, high, 'fine')}".strip()
            rows.append((str(one.get("arm")), str(one.get("baseline")), place, text, _told_apart(low, high)))
    return ("First", "Second", "On", "AUPRC of the first minus the second's", ""), tuple(rows)


def _positives(arms: Iterable[Any]) -> str:
    counts = {str(a.get("name")): a.get("positives") for a in arms if isinstance(a, dict) and a.get("positives")}
    if len(set(counts.values())) == 1:
        return show(next(iter(counts.values())))
    return ", ".join(f"{name} {show(count)}" for name, count in counts.items()) or ABSENT


def _told_apart(low: float | None, high: float | None) -> str:
    verdict = margin_verdict(low, high, "higher")[1]
    return {"better": "first is better", "worse": "second is better"}.get(verdict, verdict)
