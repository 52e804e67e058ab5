"""The result of an evaluation: figures by data set, leaderboards, ranks and medians, as JSON and as a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from epilm.evaluate.blocks import difference_intervals, intervals
from epilm.evaluate.dream import (
    RANKED_METRICS,
    dream_overall,
    dream_ranks,
    mean_ranks,
    metric_ranks,
    ranks_of,
    second_best,
)
from epilm.evaluate.outcome import Outcome
from epilm.evaluate.ranking import METRICS
from epilm.evaluate.recipe import BASE_RATE
from epilm.evaluate.references import ASSEMBLY, SOURCE, TEST_CONTIGS, references_for
from epilm.labels.label_set import Pair

Outcomes = Mapping[Pair, Mapping[str, Outcome]]
"""Data set -> submission (and ``base_rate``) -> figures; a submission that does not predict a data set is absent there."""


def evaluation_tables(
    outcomes: Outcomes,
    names: Sequence[str],
    *,
    baseline: str | None,
    level: float,
    comparable: bool,
) -> dict[str, Any]:
    """All figures: ``data_sets``, ``overall`` and ``medians``.

    Args:
        names: submissions in the recipe's order.
        comparable: whether assembly and contigs are those of the published figures; their rows say so.
    """
    pairs = list(outcomes)
    table = _metric_table(outcomes, names)
    paper = metric_ranks(table)
    official = _official(outcomes, names)
    data_sets = []
    for i, pair in enumerate(pairs):
        entries = {
            name: _entry(outcome, outcomes[pair].get(baseline) if baseline not in (None, name) else None, level)
            for name, outcome in outcomes[pair].items()
        }
        for j, name in enumerate(names):
            if name in entries:
                entries[name]["metric_rank"] = paper[i, j]
                entries[name]["dream_rank"] = second_best(official[i])[j] if official is not None else None
        some = next(iter(outcomes[pair].values())).metrics
        data_sets.append(
            {
                "cell_type": pair[0],
                "target": pair[1],
                "num_positives": int(some["num_positives"]),
                "num_negatives": int(some["num_negatives"]),
                "submissions": entries,
                "leaderboard": leaderboard(pair, entries, comparable),
            }
        )
    return plain(
        {"data_sets": data_sets, "overall": _overall(names, paper, official), "medians": _medians(outcomes, names)}
    )


def leaderboard(pair: Pair, entries: Mapping[str, Mapping[str, Any]], comparable: bool) -> list[dict[str, Any]]:
    """Rows by falling AUPRC: submissions, the base rate, and the published figures of the data set."""
    rows = [
        {
            "name": name,
            "kind": "base_rate" if name == BASE_RATE else "submission",
            **{metric: entry["metrics"][metric] for metric in METRICS},
        }
        for name, entry in entries.items()
    ]
    rows += [
        {"name": row.model, "kind": "published", "source": SOURCE, "comparable": comparable, **row.metrics}
        for row in references_for(*pair)
    ]
    return sorted(rows, key=lambda row: -np.nan_to_num(row["auprc"], nan=-1.0))


def is_comparable(assembly: str, spans: Sequence[tuple[str, int, int]], *, bin_bp: int, step_bp: int) -> bool:
    """Whether the published figures are of the same bins: 200 bp every 50 bp of hg19's chromosomes 1, 8 and 21 as wholes."""
    scored = {(name.removeprefix("chr"), start, end) for name, start, end in spans}
    published = {(name.removeprefix("chr"), 0, length_bp) for name, length_bp in TEST_CONTIGS.items()}
    return (assembly, bin_bp, step_bp) == (ASSEMBLY, 200, 50) and scored == published


def scores_table(tables: Mapping[str, Any]) -> pa.Table:
    """One row a (data set, submission, metric): value, interval, and difference to the baseline with its interval."""
    rows = [
        {
            "cell_type": data_set["cell_type"],
            "target": data_set["target"],
            "submission": name,
            "metric": metric,
            "value": entry["metrics"][metric],
            **dict(zip(("low", "high"), entry["intervals"].get(metric, (None, None)), strict=True)),
            **{f"difference{key}": entry["differences"].get(metric, {}).get(of) for key, of in _DIFFERENCE.items()},
            "num_positives": data_set["num_positives"],
            "num_negatives": data_set["num_negatives"],
            "missing_bins": entry["missing_bins"],
        }
        for data_set in tables["data_sets"]
        for name, entry in data_set["submissions"].items()
        for metric in METRICS
    ]
    texts = {"cell_type", "target", "submission", "metric"}
    whole = {"num_positives", "num_negatives", "missing_bins"}
    kinds = {name: pa.string() if name in texts else pa.int64() if name in whole else pa.float64() for name in rows[0]}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))


def resamples_table(outcomes: Outcomes) -> pa.Table:
    """One row a (data set, submission, resample), a column a metric: resample ``i`` draws the same stretches of the genome in
    all of them, so that any mean over data sets and any difference has its interval too. NaN where it drew no bound bin."""
    parts = [
        pa.table(
            {
                "cell_type": pa.array([pair[0]] * num, pa.string()),
                "target": pa.array([pair[1]] * num, pa.string()),
                "submission": pa.array([name] * num, pa.string()),
                "resample": pa.array(range(num), pa.int32()),
                **{metric: pa.array(outcome.resampled.get(metric, []), pa.float64()) for metric in METRICS},
            }
        )
        for pair, of in outcomes.items()
        for name, outcome in of.items()
        for num in [len(outcome.resampled.get(METRICS[0], ()))]
    ]
    return pa.concat_tables(parts)


_DIFFERENCE = {"": "value", "_low": "low", "_high": "high"}


def plain(value: Any) -> Any:
    """The same with numpy's numbers as Python's, and NaN as None, which JSON has a word for."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _entry(outcome: Outcome, baseline: Outcome | None, level: float) -> dict[str, Any]:
    differences: dict[str, Any] = {}
    if baseline is not None:
        bounds = difference_intervals(outcome.resampled, baseline.resampled, level)
        for metric in METRICS:
            low, high = bounds.get(metric, (None, None))
            gain = outcome.metrics[metric] - baseline.metrics[metric]
            differences[metric] = {"value": gain, "low": low, "high": high}
    return {
        "metrics": {metric: outcome.metrics[metric] for metric in METRICS},
        "intervals": intervals(outcome.resampled, level),
        "differences": differences,
        "missing_bins": outcome.missing_bins,
        "curve": outcome.curve,
    }


def _metric_table(outcomes: Outcomes, names: Sequence[str]) -> NDArray[np.float64]:
    """[num_sets, num_submissions, 4] of the challenge's metrics; NaN where a submission is missing."""
    missing = [np.nan] * len(RANKED_METRICS)
    return np.array(
        [
            [[of[name].metrics[m] for m in RANKED_METRICS] if name in of else missing for name in names]
            for of in outcomes.values()
        ]
    )


def _official(outcomes: Outcomes, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Ranks in each sample, [num_sets, 10, num_submissions]; None where no samples were drawn."""
    num = max(len(outcome.samples) for of in outcomes.values() for outcome in of.values())
    if not num:
        return None
    gap = np.full((num, len(RANKED_METRICS)), np.nan)
    return np.stack(
        [dream_ranks(np.stack([of[n].samples if n in of else gap for n in names], axis=1)) for of in outcomes.values()]
    )


def _overall(names: Sequence[str], paper: NDArray[np.float64], official: NDArray[np.float64] | None) -> dict[str, Any]:
    means = mean_ranks(paper)
    places = ranks_of(-np.round(means, 12), method="min")
    result: dict[str, Any] = {
        "mean_rank": {name: {"rank": places[j], "mean": means[j]} for j, name in enumerate(names)},
        "dream": None,
    }
    if official is not None:
        standing = dream_overall(official)
        result["dream"] = {
            name: {
                "rank": standing.rank[j],
                "score": standing.score[j],
                "low": standing.score_low[j],
                "high": standing.score_high[j],
            }
            for j, name in enumerate(names)
        }
    return result


def _medians(outcomes: Outcomes, names: Sequence[str]) -> dict[str, Any]:
    """Median of each metric over the data sets of a submission, and how many there are; the published models' beside."""
    result: dict[str, Any] = {}
    for name in (*names, BASE_RATE):
        found = [of[name].metrics for of in outcomes.values() if name in of]
        result[name] = {"num_data_sets": len(found), **{m: np.median([one[m] for one in found]) for m in METRICS}}
    published: dict[str, list[dict[str, float]]] = {}
    for pair in outcomes:
        for row in references_for(*pair):
            published.setdefault(row.model, []).append(row.metrics)
    result["published"] = {
        model: {"num_data_sets": len(found), **{m: np.median([one[m] for one in found]) for m in found[0]}}
        for model, found in published.items()
    }
    return result
