"""Arms of a comparison over seeds: one panel a metric with every seed as a dot, margins to the baseline, and a table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from epilm.report.axes import Scale, cover
from epilm.report.catalog import BASELINES, baseline_of, metric_of_set, set_order
from epilm.report.collect import RunRecord
from epilm.report.learning import Cell
from epilm.report.text import ABSENT, figure, interval, number, setting, show, signed, spread, words

READING = (
    "Dots are single seeds, the tick is their mean, the whisker one standard deviation to each side; the whisker of a margin is "
    "its 95 % interval, paired by seed."
)


@dataclass(frozen=True)
class ArmRow:
    """A mean with its spread; positions are percentages of the track, None where there is nothing to place."""

    label: str
    text: str
    detail: str
    at: float | None
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    remark: str = ""
    """``baseline``, or the verdict on a margin."""
    verdict: str = ""
    """``above`` / ``below`` for a margin that is better / worse than the baseline beyond its interval; ``best``."""


@dataclass(frozen=True)
class MetricPanel:
    title: str
    remark: str
    ticks: tuple[tuple[float, str], ...]
    zero: float | None
    rows: tuple[ArmRow, ...]


@dataclass(frozen=True)
class ArmTable:
    """Per arm and metric: mean and spread, and the margin to the baseline."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[tuple[str, Cell], ...]], ...]
    """(arm, remark, number of seeds, (level, margin) of each metric)."""


@dataclass(frozen=True)
class ComparisonView:
    name: str
    baseline: str
    facts: tuple[tuple[str, str], ...]
    seeds: str
    levels: tuple[MetricPanel, ...]
    margins: tuple[MetricPanel | None, ...]
    """One a level; None where there are no margins of its metric."""
    table: ArmTable
    settings: tuple[tuple[str, str], ...]
    """(arm, what it changes)."""
    single: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
    """(headings, rows): the figures of every run."""
    reading: str = READING
    """How whiskers are to be read."""


def comparison_view(
    name: str,
    comparison: Mapping[str, Any],
    facts: Iterable[tuple[str, str]] = (),
    *,
    keys: Collection[str] | None = None,
    drawn: Collection[str] | None = None,
    reading: str = READING,
) -> ComparisonView | None:
    """The view of ``{"arms", "baseline", "margins"}``; None where it holds no arms with figures.

    Args:
        keys: metrics of the tables, all where None.
        drawn: those of them with panels of their own.
    """
    arms = [a for a in _list(comparison.get("arms")) if isinstance(a, dict) and isinstance(a.get("summary"), dict)]
    found = dict.fromkeys(key for arm in arms for key in arm["summary"])
    shown = [key for key in found if not _is_baseline(key, found) and (keys is None or key in keys)]
    if not shown:
        return None
    shown.sort(key=_key_order)
    panels = [key for key in shown if drawn is None or key in drawn]
    arms = _best_first(arms, shown[0])
    baseline = str(comparison.get("baseline"))
    margins = {(m.get("arm"), m.get("metric")): m for m in _list(comparison.get("margins")) if isinstance(m, dict)}
    return ComparisonView(
        name=name,
        baseline=baseline,
        facts=tuple(facts),
        seeds=_seeds(arms),
        levels=tuple(_levels(key, arms, baseline) for key in panels),
        margins=tuple(_margins(key, arms, baseline, margins) for key in panels),
        table=_table(shown, arms, baseline, margins),
        settings=tuple((str(arm.get("name")), _changes(arm)) for arm in arms),
        single=_single(shown, arms),
        reading=reading,
    )


def run_view(record: RunRecord) -> ComparisonView | None:
    """The view of an ``eval-masking`` run; None where it has no result."""
    result = record.result
    facts = [
        ("Arms", show(len(_list(result.get("arms"))))),
        ("Baseline", str(result.get("baseline"))),
        ("Budget of a run", f"{show(result.get('budget_tokens'), 'si')} tokens"),
    ]
    return comparison_view(record.name, result, facts) if result else None


def metric_title(key: str) -> str:
    """``held_out_contigs/base_loss`` -> ``Base loss on held-out contigs``."""
    name_of_set, entry = metric_of_set(key)
    return f"{entry.title} on {words(name_of_set)}" if name_of_set else entry.title


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_baseline(key: str, keys: Iterable[str]) -> bool:
    name_of_set, _, name = key.rpartition("/")
    return baseline_of(name, [other.rpartition("/")[2] for other in keys if other.startswith(name_of_set)]) is not None


def _key_order(key: str) -> int:
    return set_order(key.rpartition("/")[0])


def _mean(arm: dict[str, Any], key: str, figure: str = "mean") -> float | None:
    summary = arm["summary"].get(key)
    return number(summary.get(figure)) if isinstance(summary, dict) else None


def _best_first(arms: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    sign = -1.0 if metric_of_set(key)[1].better == "higher" else 1.0

    def rank(arm: dict[str, Any]) -> tuple[bool, float]:
        mean = _mean(arm, key)
        return mean is None, sign * (mean or 0.0)

    return sorted(arms, key=rank)


def _seeds(arms: list[dict[str, Any]]) -> str:
    trained = [arm for arm in arms if arm.get("kind") != "rival"]  # a simple predictor beside them has one run
    runs = [[run.get("seed") for run in _list(arm.get("runs")) if isinstance(run, dict)] for arm in trained]
    seeds = sorted({seed for of_arm in runs for seed in of_arm if isinstance(seed, int)})
    counts = sorted({len(of_arm) for of_arm in runs})
    if counts == [1]:
        return f"One seed ({seeds[0]}): neither spread nor interval can be told." if seeds else "One seed."
    number_of = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number_of} seeds an arm ({', '.join(map(str, seeds))})."


def _values(arm: dict[str, Any], key: str) -> list[float]:
    runs = [run.get("metrics") for run in _list(arm.get("runs")) if isinstance(run, dict)]
    return [v for metrics in runs if isinstance(metrics, dict) and (v := number(metrics.get(key))) is not None]


def _levels(key: str, arms: list[dict[str, Any]], baseline: str) -> MetricPanel:
    """Mean, its interval (mean +- sd where it has none) and the single seeds; the axis begins where the figures do."""
    entry = metric_of_set(key)[1]
    spans = [(_mean(arm, key), _whisker(arm, key), _values(arm, key)) for arm in arms]
    scale = cover([x for mean, ends, dots in spans for x in (mean, *ends, *dots) if x is not None])
    means = [m for m, _, _ in spans if m is not None]
    best = (max(means) if entry.better == "higher" else min(means)) if means and entry.better else None
    rows = tuple(
        ArmRow(
            label=str(arm.get("name")),
            text=figure(mean, entry.style),
            detail=f"± {spread(sd, entry.style)}" if (sd := _mean(arm, key, "sd")) is not None else "",
            at=percent(scale, mean),
            low=percent(scale, low),
            high=percent(scale, high),
            dots=tuple(p for v in dots if (p := percent(scale, v)) is not None),
            remark="baseline" if arm.get("name") == baseline != "baseline" else "",
            verdict="best" if mean is not None and mean == best else "",
        )
        for arm, (mean, (low, high), dots) in zip(arms, spans, strict=True)
    )
    return MetricPanel(metric_title(key), _remark(key, arms), ticks_of(scale, entry.style), None, rows)


def _whisker(arm: dict[str, Any], key: str) -> tuple[float | None, float | None]:
    mean, sd = _mean(arm, key), _mean(arm, key, "sd")
    low, high = _mean(arm, key, "low"), _mean(arm, key, "high")
    if low is None and mean is not None and sd is not None:
        return mean - sd, mean + sd
    return low, high


def _remark(key: str, arms: list[dict[str, Any]]) -> str:
    """Which way is better, and what the baselines without a model reach on the same bases."""
    name_of_set, entry = metric_of_set(key)
    parts = [f"{entry.better} is better"] if entry.better else []
    for prefix, title in BASELINES.items():
        other = f"{name_of_set}/{prefix}_{entry.key}" if name_of_set else f"{prefix}_{entry.key}"
        texts = dict.fromkeys(figure(m, entry.style) for arm in arms if (m := _mean(arm, other)) is not None)
        parts += [f"{title}: {' or '.join(texts)}"] if texts else []
    return "; ".join(parts)


def _margins(
    key: str, arms: list[dict[str, Any]], baseline: str, margins: Mapping[tuple[Any, Any], dict[str, Any]]
) -> MetricPanel | None:
    """Arm minus baseline with its interval; the axis holds zero."""
    entry = metric_of_set(key)[1]
    found = [(str(a.get("name")), margins[a.get("name"), key]) for a in arms if (a.get("name"), key) in margins]
    if not found:
        return None
    ends = [v for _, m in found for f in ("mean", "low", "high") if (v := number(m.get(f))) is not None]
    scale = cover([0.0, *ends])
    rows = []
    for name, margin in found:
        mean, low, high = (number(margin.get(f)) for f in ("mean", "low", "high"))
        verdict, remark = margin_verdict(low, high, entry.better)
        rows.append(
            ArmRow(
                label=name,
                text=signed(mean, entry.style),
                detail=interval(low, high, entry.style),
                at=percent(scale, mean),
                low=percent(scale, low),
                high=percent(scale, high),
                dots=(),
                remark=remark,
                verdict=verdict,
            )
        )
    title = f"{metric_title(key)}: margin to {baseline}"
    remark = (
        f"arm minus {baseline}; {'below' if entry.better == 'lower' else 'above'} zero is better"
        if entry.better
        else ""
    )
    return MetricPanel(title, remark, ticks_of(scale, entry.style), percent(scale, 0.0), tuple(rows))


def margin_verdict(low: float | None, high: float | None, better: str) -> tuple[str, str]:
    """(class, words): an interval that holds zero does not tell the arm from the baseline."""
    if low is None or high is None:
        return "", "no interval"
    if low <= 0 <= high:
        return "", "not told apart"
    if not better:
        return "", "differs"
    good = (high < 0) == (better == "lower")
    return ("above", "better") if good else ("below", "worse")


def _table(
    keys: list[str], arms: list[dict[str, Any]], baseline: str, margins: Mapping[tuple[Any, Any], dict[str, Any]]
) -> ArmTable:
    rows = []
    for arm in arms:
        name = str(arm.get("name"))
        cells = [(_level_text(arm, key), _margin_cell(margins.get((arm.get("name"), key)), key)) for key in keys]
        counts = sorted({int(n) for key in keys if (n := _mean(arm, key, "n")) is not None})
        rows.append(
            (name, "baseline" if name == baseline != "baseline" else "", " or ".join(map(str, counts)), tuple(cells))
        )
    return ArmTable(tuple(metric_title(key) for key in keys), tuple(rows))


def _level_text(arm: dict[str, Any], key: str) -> str:
    style, sd = metric_of_set(key)[1].style, _mean(arm, key, "sd")
    text = figure(_mean(arm, key), style) + (f" ± {spread(sd, style)}" if sd is not None else "")
    return text + plain_interval(_mean(arm, key, "low"), _mean(arm, key, "high"), style)


def plain_interval(low: float | None, high: float | None, style: str) -> str:
    """`` [0.4100, 0.4700]``; nothing where there is none."""
    return "" if low is None or high is None else f" [{figure(low, style)}, {figure(high, style)}]"


def _margin_cell(margin: dict[str, Any] | None, key: str) -> Cell:
    if margin is None:
        return Cell("")
    entry = metric_of_set(key)[1]
    mean, low, high = (number(margin.get(f)) for f in ("mean", "low", "high"))
    verdict, note = margin_verdict(low, high, entry.better)
    return Cell(f"{signed(mean, entry.style)} {interval(low, high, entry.style)}".strip(), verdict, note)


def _single(keys: list[str], arms: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    headings = ("Arm", "Seed", *(metric_title(key) for key in keys), "Run")
    rows = []
    for arm in arms:
        for run in _list(arm.get("runs")):
            metrics = run.get("metrics") if isinstance(run, dict) else None
            if isinstance(metrics, dict):
                texts = (figure(number(metrics.get(key)), metric_of_set(key)[1].style) for key in keys)
                rows.append((str(arm.get("name")), show(run.get("seed")), *texts, str(run.get("run") or ABSENT)))
    return headings, tuple(rows)


def _changes(arm: dict[str, Any]) -> str:
    overrides = arm.get("overrides")
    if not isinstance(overrides, dict) or not overrides:
        return "nothing"
    return ", ".join(f"{key}={setting(value)}" for key, value in overrides.items())


def percent(scale: Scale, value: float | None) -> float | None:
    place = scale.place(value)
    return None if place is None else 100 * place


def ticks_of(scale: Scale, style: str) -> tuple[tuple[float, str], ...]:
    """(percentage of the way, text) of an axis' ticks."""
    return tuple((100 * place, text) for place, text in scale.labels(style, most=5))
