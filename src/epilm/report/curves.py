"""Metric records to the curves on the page: one frame a (run, set), one chart a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from epilm.report.catalog import (
    BASELINES,
    KNOWN,
    LEARNING,
    MASKING,
    NOT_CURVES,
    THROUGHPUT,
    Metric,
    baseline_of,
    is_count,
    metric,
    set_order,
)
from epilm.report.collect import RunRecord
from epilm.report.text import number, show
from epilm.report.thin import ThinColumn, thin

MAX_VALUES = 150_000
"""Numbers in all curves of a page (about 8 bytes each), so that it stays well below 3 MB."""
MAX_POINTS = 600
"""Points of one curve; a chart is about as many pixels wide."""
MIN_POINTS = 20
TRAIN = "train"
EVENT = "event"
"""Kind of the records that mark a step, as where a curriculum moves on."""


@dataclass(frozen=True)
class Frame:
    """All metrics of one run on one set, by step."""

    run: str
    set: str
    steps: np.ndarray
    columns: dict[str, np.ndarray]


@dataclass(frozen=True)
class Mark:
    """A step of a run with a word for what changed there."""

    run: str
    step: int
    word: str
    when: str = "from step"


def stage_curves(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Stage -> what the page's script draws (``runs, sets, frames, groups, marks``), for stages with metrics."""
    frames = {record.folder: run_frames(record) for record in records}
    num_columns = sum(len(frame.columns) for group in frames.values() for frame in group)
    points = int(np.clip(MAX_VALUES // max(1, 3 * num_columns), MIN_POINTS, MAX_POINTS))
    stages: dict[str, dict[str, Any]] = {}
    for stage in dict.fromkeys(record.stage for record in records):
        members = [frame for record in records if record.stage == stage for frame in frames[record.folder]]
        if members:
            marks = [mark for record in records if record.stage == stage for mark in run_marks(record)]
            stages[stage] = {**_payload(members, points), "marks": [asdict(mark) for mark in marks]}
    return stages


def run_marks(record: RunRecord) -> list[Mark]:
    """Steps at which something of the run changed for good, in their order; of a step written again the last record."""
    events = {
        int(step): e for e in record.metrics if e.get("kind") == EVENT and (step := number(e.get("step"))) is not None
    }
    marks = [Mark(record.name, step, _event_word(events[step])) for step in sorted(events)]
    best = best_step(record)
    return marks if best is None else [*marks, Mark(record.name, best, "best AUPRC", "at step")]


def best_step(record: RunRecord) -> int | None:
    """Step of the weights that a fine-tuning keeps; of an unfinished one the best so far."""
    if record.stage != "finetune":
        return None
    known = number(record.result.get("best_step"))
    if known is not None:
        return int(known)
    scores = [(number(e.get("auprc")), number(e.get("step"))) for e in record.metrics if e.get("kind") == "eval"]
    found = [(score, -step) for score, step in scores if score is not None and step is not None]
    return int(-max(found)[1]) if found else None


def _event_word(event: dict[str, Any]) -> str:
    share = number(event.get("global_share"))
    if share is None:
        return "switch"
    return "Global PMI" if share >= 1 else f"{show(share, 'percent')} Global PMI"


def run_frames(record: RunRecord) -> list[Frame]:
    """A run's metrics, train first. Where a resumed run wrote a step again, the last record counts."""
    by_set: dict[str, dict[int, dict[str, Any]]] = {}
    for entry in record.metrics:
        step = number(entry.get("step"))
        if step is not None and entry.get("kind") != EVENT:
            by_set.setdefault(str(entry.get("set") or entry.get("kind") or TRAIN), {})[int(step)] = entry
    frames = []
    for name in sorted(by_set, key=set_order):
        rows = by_set[name]
        steps = np.array(sorted(rows), dtype=np.int64)
        ordered = [rows[step] for step in steps.tolist()]
        keys = [key for key in dict.fromkeys(k for row in ordered for k in row) if _is_curve(key, ordered)]
        columns = {key: np.array([_value(row.get(key)) for row in ordered]) for key in keys}
        frames.append(Frame(record.name, name, steps, columns))
    return frames


def _is_curve(key: str, rows: list[dict[str, Any]]) -> bool:
    if key in NOT_CURVES or (is_count(key) and key not in KNOWN):
        return False
    return any(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)


def _value(value: Any) -> float:
    finite = number(value)
    return np.nan if finite is None else finite


def non_finite_notes(record: RunRecord) -> list[str]:
    """One sentence a metric that was written as NaN or infinity somewhere: the curve alone would hide it."""
    found: dict[str, list[int]] = {}
    for entry in record.metrics:
        for key, value in entry.items():
            if isinstance(value, float) and not np.isfinite(value) and isinstance(entry.get("step"), int):
                where = f"{key} ({entry['set']})" if entry.get("set") else key
                found.setdefault(where, []).append(entry["step"])
    return [
        f"{record.name}: {key} is not finite in {len(steps):,} record{'s' * (len(steps) > 1)}, first at step {steps[0]:,}."
        for key, steps in found.items()
    ]


def _payload(frames: list[Frame], points: int) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for frame in frames for key in frame.columns))
    return {
        "runs": list(dict.fromkeys(frame.run for frame in frames)),
        "sets": sorted(dict.fromkeys(frame.set for frame in frames), key=set_order),
        "frames": [_thin_frame(frame, points) for frame in frames],
        "groups": _groups(keys),
        "baselines": BASELINES,
    }


def _thin_frame(frame: Frame, points: int) -> dict[str, Any]:
    steps, columns = thin(frame.steps, frame.columns, points)
    return {
        "run": frame.run,
        "set": frame.set,
        "x": steps.tolist(),
        "records": len(frame.steps),
        "columns": {key: _column(column) for key, column in columns.items()},
    }


def _column(column: ThinColumn) -> dict[str, list[float | None]]:
    parts = {"y": column.mean, "lo": column.low, "hi": column.high}
    return {name: _rounded(values) for name, values in parts.items() if values is not None}


def _rounded(values: np.ndarray) -> list[float | None]:
    """Five digits: finer than a pixel, and a third of the bytes of the full float."""
    return [None if value != value else float(f"{value:.5g}") for value in values.tolist()]


def _groups(keys: list[str]) -> list[dict[str, Any]]:
    other = [metric(key) for key in keys if key not in KNOWN and baseline_of(key, keys) is None]
    groups = [
        ("Learning", LEARNING),
        ("Masking", MASKING),
        ("Speed and optimiser", THROUGHPUT),
        ("Other metrics", tuple(other)),
    ]
    shown = [(title, [m for m in metrics if m.key in keys]) for title, metrics in groups]
    return [{"title": title, "charts": [_chart(m, keys) for m in metrics]} for title, metrics in shown if metrics]


def _chart(entry: Metric, keys: list[str]) -> dict[str, Any]:
    baselines = [(key, found) for key in keys if (found := baseline_of(key, keys)) and found[1] == entry.key]
    return {
        "key": entry.key,
        "title": entry.title,
        "style": entry.style,
        "help": entry.help,
        "reference": entry.reference and {"value": entry.reference[0], "name": entry.reference[1]},
        "baselines": [{"key": key, "name": found[0]} for key, found in baselines],
    }
