"""What the page's script draws of a sweep: parallel coordinates, and the metric over tokens. Places are shares, 0..1."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epilm.report.axes import Scale, cover
from epilm.report.text import figure, number, setting

MAX_POINTS = 200
"""Evaluations of a trial that are drawn; a chart is a few hundred pixels wide."""
FAR = 4.0
"""A value that lies further from the best than so many times the median's distance is drawn at the end of its axis."""
BAND = 0.6
"""Part of a category's room over which its trials are spread, so that lines do not lie on each other."""


@dataclass(frozen=True)
class Point:
    """One evaluation of a trial; ``value`` None where it was no number."""

    tokens: float
    value: float | None


@dataclass(frozen=True)
class Trial:
    id: str
    status: str
    parameters: dict[str, Any]
    points: tuple[Point, ...]
    value: float | None
    tokens: float | None
    seconds: float | None
    error: str


def draw_data(
    trials: Sequence[Trial],
    best: Trial | None,
    space: Mapping[str, Any],
    labels: Mapping[str, str],
    *,
    title: str,
    style: str,
    mode: str,
) -> dict[str, Any]:
    """JSON of both plots: ``axes`` with the places of every trial (None = not drawn), ``curves``, ``trials``."""
    names = _axis_order(trials, labels)
    values = [t.value for t in trials]
    axes = [_axis(name, labels[name], space.get(name), trials, mode) for name in names]
    last = _metric_axis(title, values, style, mode)
    columns = [*(axis.pop("places") for axis in axes), last.pop("places")]
    curves = _curves(trials, title, style, mode)
    return {
        "axes": [*axes, last],
        "curves": {key: curves[key] for key in ("x", "y", "title")},
        "low": figure(_worst_best(values, mode)[0], style),
        "high": figure(_worst_best(values, mode)[1], style),
        "trials": [
            {
                "id": t.id,
                "status": t.status,
                "best": t is best,
                "share": columns[-1][i],
                "places": [column[i] for column in columns],
                "curve": curves["lines"][i],
                "facts": [*((labels[k], setting(v)) for k, v in t.parameters.items()), (title, figure(t.value, style))],
            }
            for i, t in enumerate(trials)
        ],
    }


def _axis_order(trials: Sequence[Trial], labels: Mapping[str, str]) -> list[str]:
    """Settings that only some trials drew first, so that the metric's axis stands beside one that all drew."""
    drawn = [name for name in labels if any(name in t.parameters for t in trials)]
    return sorted(drawn, key=lambda name: all(name in t.parameters for t in trials))


def _axis(name: str, label: str, spec: Any, trials: Sequence[Trial], mode: str) -> dict[str, Any]:
    spec = spec if isinstance(spec, dict) else {}
    listed = spec.get("values")
    values = [t.parameters.get(name) for t in trials]
    seen = [v for t, v in zip(trials, values, strict=True) if name in t.parameters]
    numbers = [v for v in map(number, seen) if v is not None]
    if isinstance(listed, list) or len(numbers) < len(seen):
        return {"label": label, "title": name, **_category_axis(name, listed, seen, trials, mode)}
    low, high = number(spec.get("low")), number(spec.get("high"))
    if low is None or high is None or low > min(numbers) or high < max(numbers):
        low, high = min(numbers), max(numbers)
    scale = Scale(low, high, log=bool(spec.get("log")) and low > 0)
    kind = "log" if scale.log else "linear"
    return {
        "label": label,
        "title": f"{name}{', logarithmic' if scale.log else ''}",
        "kind": kind,
        "ticks": scale.labels(most=6),
        "bands": [],
        "places": [_rounded(scale.place(number(v))) for v in values],
    }


def _category_axis(name: str, listed: Any, seen: Sequence[Any], trials: Sequence[Trial], mode: str) -> dict[str, Any]:
    """Each value has its room; within it the trials stand by their metric, the better ones above."""
    texts = list(dict.fromkeys(map(setting, [*(listed if isinstance(listed, list) else []), *seen])))
    room = 1 / len(texts)
    places: list[float | None] = [None] * len(trials)
    sign = 1.0 if mode == "min" else -1.0
    for at, text in enumerate(texts):
        members = [i for i, t in enumerate(trials) if name in t.parameters and setting(t.parameters[name]) == text]
        members.sort(key=lambda i: -math.inf if (v := trials[i].value) is None else -sign * v)
        for rank, i in enumerate(members):
            off = 0.0 if len(members) == 1 else (rank / (len(members) - 1) - 0.5) * BAND * room
            places[i] = _rounded((at + 0.5) * room + off)
    centres = [(at + 0.5) * room for at in range(len(texts))]
    return {
        "kind": "category",
        "ticks": list(zip(centres, texts, strict=True)),
        "bands": [[c - BAND * room / 2, c + BAND * room / 2] for c in centres],
        "places": places,
    }


def _metric_axis(title: str, values: Sequence[float | None], style: str, mode: str) -> dict[str, Any]:
    """The best value is at the top; what lies far off the others ends at the bottom."""
    scale = _metric_scale([v for v in values if v is not None], mode)
    flip = mode == "min"
    ticks = [(1 - p if flip else p, text) for p, text in scale.labels(style)]
    places = [scale.place(v) for v in values]
    return {
        "label": title,
        "title": title,
        "kind": "metric",
        "ticks": ticks,
        "bands": [],
        "places": [None if p is None else _rounded(1 - p if flip else p) for p in places],
    }


def _metric_scale(known: Sequence[float], mode: str) -> Scale:
    if not known:
        return Scale(0.0, 1.0)
    best = min(known) if mode == "min" else max(known)
    reach = FAR * abs(statistics.median(known) - best)
    kept = [v for v in known if abs(v - best) <= reach] if reach else list(known)
    return cover(kept, margin=0.03)


def _worst_best(values: Sequence[float | None], mode: str) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    ends = (min(known), max(known)) if known else (None, None)
    return ends if mode == "max" else (ends[1], ends[0])


def _curves(trials: Sequence[Trial], title: str, style: str, mode: str) -> dict[str, Any]:
    """The metric over tokens; a value that is no number is a gap."""
    most = max((p.tokens for t in trials for p in t.points), default=1.0)
    x = Scale(0.0, most)
    y = _metric_scale([p.value for t in trials for p in t.points if p.value is not None], mode)
    lines = []
    for trial in trials:
        every = max(1, math.ceil(len(trial.points) / MAX_POINTS))
        kept = [*trial.points[::every], *(trial.points[-1:] if every > 1 else ())]
        lines.append([(_rounded(x.place(p.tokens)), _rounded(y.place(p.value))) for p in kept])
    return {
        "title": f"{title}, over tokens",
        "x": x.labels("si"),
        "y": y.labels(style),
        "lines": lines,
    }


def _rounded(place: float | None) -> float | None:
    return None if place is None else round(place, 4)
