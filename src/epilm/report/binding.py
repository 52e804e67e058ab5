"""TF binding scored (``epilm evaluate``): metrics of every (cell type, factor) and submission with intervals, differences, ranks,
leaderboards with published figures, and what models have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epilm.report.axes import cover
from epilm.report.binding_curves import BASE_RATE, curves_of, data_set_title
from epilm.report.catalog import KNOWN
from epilm.report.collect import RunRecord, as_dict, as_list
from epilm.report.comparisons import (
    ArmRow,
    MetricPanel,
    margin_verdict,
    percent,
    plain_interval,
    ticks_of,
)
from epilm.report.learning import Cell
from epilm.report.text import ABSENT, figure, interval, number, show, signed

METRICS = ("auprc", "auroc", "average_precision", "recall_at_10_fdr", "recall_at_50_fdr")
MAX_OPEN = 6
"""Data sets that are shown with panels at once; more are folded, but for the first."""

Table = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""(headings, rows)."""


@dataclass(frozen=True)
class ScoreRow:
    """A submission on a data set: a cell a metric with its interval, then the difference of AUPRC, then the ranks."""

    submission: str
    kind: str
    """``submission`` or ``base_rate``."""
    cells: tuple[Cell, ...]
    difference: Cell
    ranks: tuple[str, str]


@dataclass(frozen=True)
class DataSetView:
    title: str
    remark: str
    level: MetricPanel
    difference: MetricPanel | None
    rows: tuple[ScoreRow, ...]
    published: tuple[tuple[str, str, tuple[str, ...]], ...]
    """(model, whether it can be compared, its metrics)."""
    curves: int
    """Number of its chart among the page's; -1 without one."""


@dataclass(frozen=True)
class EvaluationView:
    name: str
    facts: tuple[tuple[str, str], ...]
    reading: str
    heads: tuple[str, ...]
    baseline: str
    data_sets: tuple[DataSetView, ...]
    folded: bool
    overall: Table
    """Ranks and medians of the submissions, then the medians of published models."""
    seen: Table


def evaluation_views(records: Iterable[RunRecord]) -> dict[str, EvaluationView]:
    """Folder -> view of every ``evaluate`` run with a data set; their charts are numbered through the page."""
    views: dict[str, EvaluationView] = {}
    charts = 0
    for record in records:
        view = evaluation_view(record, charts)
        if view is not None:
            views[record.folder] = view
            charts += sum(one.curves >= 0 for one in view.data_sets)
    return views


def evaluation_view(record: RunRecord, first_chart: int = 0) -> EvaluationView | None:
    """The view of an ``evaluate`` run; None where its result holds no data set.

    Args:
        first_chart: number of its first chart on the page.
    """
    result = record.result
    sets = [
        one for one in as_list(result.get("data_sets")) if isinstance(one, dict) and as_dict(one.get("submissions"))
    ]
    if not sets:
        return None
    baseline = str(result.get("baseline") or "")
    charts = iter(range(first_chart, first_chart + len(sets)))
    return EvaluationView(
        name=record.name,
        facts=tuple(_facts(result, sets)),
        reading=_reading(as_dict(result.get("bootstrap"))),
        heads=tuple(KNOWN[key].title for key in METRICS),
        baseline=baseline,
        data_sets=tuple(_data_set(one, baseline, next(charts) if curves_of(one) else -1) for one in sets),
        folded=len(sets) > MAX_OPEN,
        overall=_overall(result),
        seen=_seen(as_dict(result.get("leaks"))),
    )


def _data_set(one: Mapping[str, Any], baseline: str, chart: int) -> DataSetView:
    entries = {str(name): entry for name, entry in one["submissions"].items() if isinstance(entry, dict)}
    names = sorted(entries, key=lambda name: -(_metric(entries[name], "auprc") or 0.0))
    published = [
        row for row in as_list(one.get("leaderboard")) if isinstance(row, dict) and row.get("kind") == "published"
    ]
    counts = f"{show(one.get('num_positives'))} bound bins, {show(one.get('num_negatives'))} unbound"
    return DataSetView(
        title=data_set_title(one),
        remark=counts,
        level=_level_panel(names, entries, baseline),
        difference=_difference_panel(names, entries, baseline),
        rows=tuple(_score_row(name, entries[name], baseline) for name in names),
        published=tuple(_published(row) for row in published),
        curves=chart,
    )


def _level_panel(names: Sequence[str], entries: Mapping[str, Mapping[str, Any]], baseline: str) -> MetricPanel:
    """AUPRC with its interval, best first."""
    spans = {name: (_metric(entries[name], "auprc"), *_interval_of(entries[name], "auprc")) for name in names}
    scale = cover([value for span in spans.values() for value in span if value is not None])
    submitted = [span[0] for name, span in spans.items() if name != BASE_RATE and span[0] is not None]
    best = max(submitted, default=None)
    rows = tuple(
        ArmRow(
            label=_label(name),
            text=figure(value, "fine"),
            detail=plain_interval(low, high, "fine").strip(),
            at=percent(scale, value),
            low=percent(scale, low),
            high=percent(scale, high),
            dots=(),
            remark="baseline" if name == baseline else "",
            verdict="best" if value is not None and value == best and name != BASE_RATE else "",
        )
        for name, (value, low, high) in spans.items()
    )
    return MetricPanel("AUPRC", "higher is better", ticks_of(scale, "fine"), None, rows)


def _difference_panel(
    names: Sequence[str], entries: Mapping[str, Mapping[str, Any]], baseline: str
) -> MetricPanel | None:
    """AUPRC minus the baseline's with its paired interval; the axis holds zero."""
    found = {name: gain for name in names if (gain := as_dict(as_dict(entries[name].get("differences")).get("auprc")))}
    if not found:
        return None
    spans = {name: tuple(number(gain.get(key)) for key in ("value", "low", "high")) for name, gain in found.items()}
    scale = cover([0.0, *(value for span in spans.values() for value in span if value is not None)])
    rows = []
    for name, (value, low, high) in spans.items():
        verdict, remark = margin_verdict(low, high, "higher")
        text, detail = signed(value, "fine"), interval(low, high, "fine")
        places = [percent(scale, number) for number in (value, low, high)]
        rows.append(ArmRow(_label(name), text, detail, *places, dots=(), remark=remark, verdict=verdict))
    title = f"AUPRC: difference to {_label(baseline)}"
    return MetricPanel(
        title,
        "on the same bins, paired; above zero is better",
        ticks_of(scale, "fine"),
        percent(scale, 0.0),
        tuple(rows),
    )


def _score_row(name: str, entry: Mapping[str, Any], baseline: str) -> ScoreRow:
    cells = tuple(
        Cell(figure(_metric(entry, key), "fine"), note=plain_interval(*_interval_of(entry, key), "fine").strip())
        for key in METRICS
    )
    gain = as_dict(as_dict(entry.get("differences")).get("auprc"))
    value, low, high = (number(gain.get(key)) for key in ("value", "low", "high"))
    verdict = margin_verdict(low, high, "higher")[0] if gain else ""
    apart = interval(low, high, "fine") if gain else "baseline" * (name == baseline)
    return ScoreRow(
        submission=_label(name),
        kind=BASE_RATE if name == BASE_RATE else "submission",
        cells=cells,
        difference=Cell(signed(value, "fine") if gain else "", verdict, apart),
        ranks=(_rank(entry.get("dream_rank")), _rank(entry.get("metric_rank"))),
    )


def _published(row: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    comparable = "" if row.get("comparable") else "other contigs or another assembly: not comparable"
    return str(row.get("name")), comparable, tuple(figure(number(row.get(key)), "fine") for key in METRICS)


def _overall(result: Mapping[str, Any]) -> Table:
    """A row a submission: both standings, then its medians; rows of published models follow."""
    overall, medians = as_dict(result.get("overall")), as_dict(result.get("medians"))
    dream, mean = as_dict(overall.get("dream")), as_dict(overall.get("mean_rank"))
    rows = []
    for name in [str(name) for name in medians if name != "published"]:
        standing, own = as_dict(dream.get(name)), as_dict(mean.get(name))
        score = plain_interval(number(standing.get("low")), number(standing.get("high")), "fine")
        rows.append(
            (
                _label(name),
                _rank(standing.get("rank")),
                figure(number(standing.get("score")), "fine") + score if standing else ABSENT,
                _rank(own.get("rank")),
                show(number(own.get("mean"))),
                *_median_cells(as_dict(medians.get(name))),
            )
        )
    for name, entry in as_dict(medians.get("published")).items():
        rows.append((f"{name} (published)", *[ABSENT] * 4, *_median_cells(as_dict(entry))))
    heads = ("Submission", "DREAM rank", "DREAM score", "Paper's rank", "Mean rank", "Data sets")
    return (*heads, *(f"Median {KNOWN[key].title}" for key in METRICS)), tuple(rows)


def _median_cells(entry: Mapping[str, Any]) -> list[str]:
    return [show(entry.get("num_data_sets")), *(figure(number(entry.get(key)), "fine") for key in METRICS)]


def _seen(leaks: Mapping[str, Any]) -> Table:
    """What each submission's model was trained on, and what of the evaluation it has seen."""
    heads = ("Submission", "Predictor", "Trained on contigs", "Trained in cell types", "Of these, evaluated", "Allowed")
    rows = []
    for name, entry in leaks.items():
        entry = as_dict(entry)
        trained = as_dict(entry.get("model_trained_on"))
        known = "not known" if entry.get("known") is False else ABSENT
        seen = [*as_list(entry.get("trained_contigs")), *as_list(entry.get("selected_contigs"))]
        evaluated = ", ".join(map(str, [*dict.fromkeys(seen), *as_list(entry.get("trained_cell_types"))]))
        allowed = [*as_list(entry.get("allowed_contigs")), *as_list(entry.get("allowed_cell_types"))]
        rows.append(
            (
                str(name),
                str(entry.get("predictor", ABSENT)),
                ", ".join(map(str, as_list(trained.get("contigs")))) or known,
                ", ".join(map(str, as_list(trained.get("cell_types")))) or known,
                evaluated or ("not known" if entry.get("known") is False else "none"),
                ", ".join(map(str, allowed)) or "none",
            )
        )
    return heads, tuple(rows)


def _facts(result: Mapping[str, Any], sets: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    spans = [one for one in as_list(result.get("evaluated")) if isinstance(one, dict)]
    places = [f"{one.get('contig')}:{show(one.get('start'))}–{show(one.get('end'))}" for one in spans]
    yield "Assembly", str(result.get("assembly", ABSENT))
    yield "Evaluated", ", ".join(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")
    yield (
        "Bins",
        f"{show(result.get('num_bins'))} of {show(result.get('bin_bp'))} bp every {show(result.get('step_bp'))}",
    )
    yield "Data sets", show(len(sets))
    yield "Submissions", show(len(as_list(result.get("submissions"))))
    for name, reason in as_dict(result.get("skipped")).items():
        yield f"Left out: {name}", str(reason)
    gaps = {
        f"{name} on {data_set_title(one)}": number(as_dict(entry).get("missing_bins"))
        for one in sets
        for name, entry in one["submissions"].items()
    }
    for name, missing in gaps.items():
        if missing:
            yield "Without a prediction", f"{show(int(missing))} bins of {name}"


def _reading(boot: Mapping[str, Any]) -> str:
    if not boot.get("num"):
        return "No intervals were asked for."
    return (
        f"Whiskers and brackets are {show(boot.get('level'), 'percent')} intervals: {show(boot.get('num'))} resamples of "
        f"{show(boot.get('num_blocks'))} stretches of {show(boot.get('block_bp'), 'bp')}, the same for all submissions."
    )


def _label(name: str) -> str:
    return "constant score" if name == BASE_RATE else name


def _rank(value: Any) -> str:
    rank = number(value)
    return ABSENT if rank is None else f"{rank:g}"


def _metric(entry: Mapping[str, Any], key: str) -> float | None:
    return number(as_dict(entry.get("metrics")).get(key))


def _interval_of(entry: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    ends = as_list(as_dict(entry.get("intervals")).get(key))
    return (number(ends[0]), number(ends[1])) if len(ends) == 2 else (None, None)
