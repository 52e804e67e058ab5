"""The end of each training: one table a set, every metric beside its baselines, and the headline tiles made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epilm.report.catalog import BASELINES, LEARNING, Metric, baseline_of, set_order
from epilm.report.collect import RunRecord
from epilm.report.text import number, show, words

HEADLINE_METRICS = ("state_accuracy", "base_accuracy", "dna_accuracy", "auprc")
"""The first on every set, the others on the first set that has them."""
VALIDATION = "validation"
"""The set that fine-tuning is stopped by."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table. ``verdict`` is ``above``/``below`` for a metric that beats / misses every baseline."""

    text: str
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True)
class Group:
    """A metric and its baselines: neighbouring columns under one heading."""

    metric: Metric
    columns: tuple[str, ...]
    """Keys; the metric's own first."""
    labels: tuple[str, ...]


@dataclass(frozen=True)
class FinalTable:
    set: str
    title: str
    groups: tuple[Group, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]
    """(run, remark, cells in the order of the groups' columns)."""


@dataclass(frozen=True)
class Bar:
    """A labelled bar; ``share`` is its length as a part of the track, 0..1."""

    label: str
    text: str
    share: float
    kind: str
    """``run`` or ``baseline``."""
    run: str = ""


@dataclass(frozen=True)
class Tile:
    title: str
    subtitle: str
    bars: tuple[Bar, ...]


def final_metrics(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Set -> metrics at the end (of a fine-tuning, at the step that it keeps): from ``result.json``, or the last evaluation
    written by a run that is not finished."""
    final, best = record.result.get("final"), record.result.get("best")
    if record.stage == "finetune" and isinstance(best, dict):
        return {VALIDATION: best}
    if isinstance(final, dict):
        return _by_set(final)
    last: dict[str, dict[str, Any]] = {}
    for entry in record.metrics:
        if entry.get("set"):
            last[str(entry["set"])] = entry
    return last


def _by_set(final: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """``{set: {metric: value}}``; a trial of a sweep writes ``{"set/metric": value}``."""
    sets: dict[str, dict[str, Any]] = {}
    for key, value in final.items():
        name, _, metric = str(key).rpartition("/")
        if isinstance(value, dict):
            sets.setdefault(str(key), {}).update(value)
        elif name:
            sets.setdefault(name, {})[metric] = value
    return sets


def final_tables(records: Sequence[RunRecord]) -> list[FinalTable]:
    """One table a set, rows in the order of the runs; runs without that set are left out of it."""
    finals = [(record, final_metrics(record)) for record in records]
    names = sorted(dict.fromkeys(name for _, final in finals for name in final), key=set_order)
    return [_table(name, [(record, final[name]) for record, final in finals if name in final]) for name in names]


def _table(name: str, entries: list[tuple[RunRecord, dict[str, Any]]]) -> FinalTable:
    keys = list(dict.fromkeys(key for _, values in entries for key in values))
    groups = tuple(_group(metric, keys) for metric in LEARNING if metric.key in keys)
    rows = tuple((r.name, _remark(r, values), _cells(values, groups)) for r, values in entries)
    return FinalTable(name, words(name).capitalize(), groups, rows)


def _group(metric: Metric, keys: list[str]) -> Group:
    baselines = [(key, found) for key in keys if (found := baseline_of(key, keys)) and found[1] == metric.key]
    return Group(
        metric,
        (metric.key, *(key for key, _ in baselines)),
        ("model", *(BASELINES[prefix] for _, (prefix, _) in baselines)),
    )


def _remark(record: RunRecord, values: dict[str, Any]) -> str:
    if record.status == "finished":
        return f"best, at step {show(record.result['best_step'])}" if "best_step" in record.result else ""
    step = number(values.get("step"))
    return f"{record.status}, at step {step:,.0f}" if step is not None else record.status


def _cells(values: dict[str, Any], groups: tuple[Group, ...]) -> tuple[Cell, ...]:
    cells = []
    for group in groups:
        verdict, note = _verdict(values, group)
        for key in group.columns:
            own = key == group.metric.key
            cells.append(Cell(show(values.get(key), group.metric.style), verdict if own else "baseline", note * own))
    return tuple(cells)


def _verdict(values: dict[str, Any], group: Group) -> tuple[str, str]:
    value = number(values.get(group.metric.key))
    others = [b for key in group.columns[1:] if (b := number(values.get(key))) is not None]
    if value is None or not others or not group.metric.better:
        return "", ""
    higher = group.metric.better == "higher"
    best = max(others) if higher else min(others)
    good = value > best if higher else value < best
    margin = 100 * (value - best) if group.metric.style == "percent" else value - best
    sign = "+" if margin >= 0 else "−"
    size = f"{abs(margin):.2g}" if abs(margin) < 1 else f"{abs(margin):.1f}"
    unit = " points" if group.metric.style == "percent" else ""
    return ("above" if good else "below"), f"{sign}{size}{unit} against the best baseline"


def headline_tiles(records: Sequence[RunRecord]) -> list[Tile]:
    """State accuracy on every set, then accuracies of the DNA on the held-out contigs: runs first, baselines below."""
    finals = {record.name: final_metrics(record) for record in records}
    names = sorted(dict.fromkeys(n for final in finals.values() for n in final), key=set_order)
    tiles = []
    for metric in LEARNING:
        if metric.key in HEADLINE_METRICS:
            found = []
            for name in names:
                bars = _bars(metric, {run: final[name] for run, final in finals.items() if name in final})
                found += [Tile(metric.title, f"on {words(name)}", bars)] if bars else []
            tiles += found if metric.key == HEADLINE_METRICS[0] else found[:1]
    return tiles


def _bars(metric: Metric, values: dict[str, dict[str, Any]]) -> tuple[Bar, ...]:
    found: list[tuple[str, float, str]] = []
    for run, entry in values.items():
        value = number(entry.get(metric.key))
        if value is not None:
            found.append((run, value, "run"))
    if not found:
        return ()
    baselines: dict[tuple[str, str], float] = {}
    for entry in values.values():
        for prefix, label in BASELINES.items():
            value = number(entry.get(f"{prefix}_{metric.key}"))
            if value is not None:  # runs scored on the same windows share their baselines
                baselines.setdefault((label, show(value, metric.style)), value)
    found += [(label, value, "baseline") for (label, _), value in baselines.items()]
    most = max(value for _, value, _ in found) or 1.0
    scale = 1.0 if metric.style == "percent" and most > 0.4 else 1.1 * most
    return tuple(
        Bar(label, show(value, metric.style), min(1.0, max(0.0, value / scale)), kind, label if kind == "run" else "")
        for label, value, kind in found
    )
