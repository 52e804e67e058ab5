"""Regression results as bars with intervals (one panel a score, one row a feature set), as a table, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epilm.report.collect import RunRecord
from epilm.report.text import ABSENT, number, show

SCORES = {"pearson": "Pearson r", "spearman": "Spearman ρ", "r2": "R²"}


@dataclass(frozen=True)
class IntervalBar:
    """A bar from zero to the value with a whisker; positions are percentages of the track."""

    label: str
    detail: str
    text: str
    interval: str
    best: bool
    left: float
    width: float
    low: float | None
    high: float | None
    dots: tuple[float, ...]
    """One a seed, where the result holds several."""


@dataclass(frozen=True)
class Panel:
    title: str
    ticks: tuple[tuple[float, str], ...]
    """(position, label)."""
    zero: float
    bars: tuple[IntervalBar, ...]


@dataclass(frozen=True)
class Score:
    """One figure with its bootstrap interval and its value for every seed, as far as the result has them."""

    value: float | None
    low: float | None = None
    high: float | None = None
    seeds: tuple[float, ...] = ()

    @property
    def known(self) -> list[float]:
        return [v for v in (self.value, self.low, self.high, *self.seeds) if v is not None]


@dataclass(frozen=True)
class FeatureSet:
    label: str
    detail: str
    scores: dict[str, Score]


def read_score(entry: dict[str, Any], key: str) -> Score:
    """``entry[key]`` as ``{value, low, high}`` or a bare number, with ``entry["seeds"][key]["values"]``."""
    value = entry.get(key)
    spread = entry.get("seeds")
    spread = spread.get(key) if isinstance(spread, dict) else None
    values = spread.get("values") if isinstance(spread, dict) else None
    seeds = tuple(v for v in map(number, values if isinstance(values, list) else []) if v is not None)
    seeds = seeds if len(seeds) > 1 else ()  # a single seed is the value itself
    if not isinstance(value, dict):
        return Score(number(value), seeds=seeds)
    return Score(number(value.get("value")), number(value.get("low")), number(value.get("high")), seeds)


def feature_sets(records: Sequence[RunRecord]) -> list[FeatureSet]:
    """Every (run, feature set), best Pearson first; the run is named where there are several."""
    found = []
    for record in records:
        features = record.result.get("features")
        for label, entry in features.items() if isinstance(features, dict) else ():
            if isinstance(entry, dict):
                name = f"{label} · {record.name}" if len(records) > 1 else str(label)
                scores = {key: read_score(entry, key) for key in SCORES if key in entry}
                found.append(FeatureSet(name, _detail(entry), scores))
    return sorted(found, key=lambda item: -_rank(item.scores.get("pearson")))


def _rank(score: Score | None) -> float:
    return -math.inf if score is None or score.value is None else score.value


def _detail(entry: dict[str, Any]) -> str:
    parts = [("num_train", "train"), ("num_test", "test"), ("rounds", "rounds")]
    return ", ".join(f"{show(entry[key])} {name}" for key, name in parts if key in entry)


def score_table(sets: Sequence[FeatureSet]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """(headings, rows): the panels' figures as text that can be copied."""
    keys = [key for key in SCORES if any(key in item.scores for item in sets)]
    headings = ("Features", *(SCORES[key] for key in keys), "Rows")
    return headings, tuple(
        (s.label, *(_with_interval(s.scores.get(k)) for k in keys), s.detail or ABSENT) for s in sets
    )


def differences(records: Sequence[RunRecord]) -> tuple[tuple[str, str, str, str], ...]:
    """(first, second, Pearson of the first minus that of the second with its paired interval, verdict)."""
    rows = []
    for record in records:
        entries = record.result.get("differences")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(entry.get("pearson"), dict):
                score, suffix = read_score(entry, "pearson"), f" · {record.name}" if len(records) > 1 else ""
                names = (f"{entry.get('first')}{suffix}", f"{entry.get('second')}{suffix}")
                rows.append((*names, _with_interval(score, "signed"), _verdict(score)))
    return tuple(rows)


def _verdict(score: Score) -> str:
    if score.low is None or score.high is None:
        return ABSENT
    return "first is better" if score.low > 0 else "second is better" if score.high < 0 else "not told apart"


def _with_interval(score: Score | None, style: str = "three") -> str:
    if score is None or score.value is None:
        return ABSENT
    shown = [
        show(v, "signed") if style == "signed" else _three(v)
        for v in (score.value, score.low, score.high)
        if v is not None
    ]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else shown[0]


def _three(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def panels(sets: Sequence[FeatureSet]) -> list[Panel]:
    """One panel for each score that any feature set has, all rows in the same order."""
    return [_panel(key, title, sets) for key, title in SCORES.items() if any(key in s.scores for s in sets)]


def _panel(key: str, title: str, sets: Sequence[FeatureSet]) -> Panel:
    scores = {s.label: s.scores.get(key, Score(None)) for s in sets}
    known = [value for score in scores.values() for value in score.known]
    ticks = _ticks(max(-1.0, min([0.0, *known])), min(1.0, max([0.1, *known])))
    start, end = ticks[0], ticks[-1]

    def place(value: float | None) -> float | None:
        return None if value is None else 100 * min(1.0, max(0.0, (value - start) / (end - start)))

    zero = place(0.0) or 0.0
    best = max((_rank(score) for score in scores.values()), default=-math.inf)
    bars = tuple(_bar(s, scores[s.label], zero, place, best) for s in sets)
    return Panel(title, tuple((place(t) or 0.0, f"{t:.1f}".replace("-", "−")) for t in ticks), zero, bars)


def _bar(item: FeatureSet, score: Score, zero: float, place: Any, best: float) -> IntervalBar:
    at = place(score.value)
    has_interval = score.low is not None and score.high is not None
    return IntervalBar(
        label=item.label,
        detail=item.detail,
        text=ABSENT if score.value is None else _three(score.value),
        interval=f"{_three(score.low)} to {_three(score.high)}"
        if score.low is not None and score.high is not None
        else "",
        best=score.value is not None and score.value == best,
        left=zero if at is None else min(zero, at),
        width=0.0 if at is None else abs(at - zero),
        low=place(score.low) if has_interval else None,
        high=place(score.high) if has_interval else None,
        dots=tuple(place(v) for v in score.seeds),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round steps of 0.1, 0.2 or 0.5 that cover low..high with at most seven ticks."""
    for step in (0.1, 0.2, 0.5):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= 6:
            break
    return [round(i * step, 1) for i in range(first, max(last, first + 1) + 1)]
