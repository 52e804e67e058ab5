"""What ``result.json`` tells of a training, from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def speed_summary(records: Sequence[Mapping[str, Any]], reported: Mapping[str, Any]) -> dict[str, Any]:
    """The last step's figures and the medians of the later half of the run: the first steps hold the workers' start.

    Args:
        records: of ``metrics.jsonl``.
        reported: with the checkpoint that is the result.
    """
    steps = [record for record in records if record["kind"] == "train"]
    late = steps[len(steps) // 2 :]
    names = ("step_time_s", "tokens_per_s", "data_wait_share", "mfu")
    return {
        "train": numbers(steps[-1]) if steps else {},
        **{f"median_{name}": _median(late, name) for name in names},
        "matmul_peak_gflops": reported.get("matmul_peak_gflops"),
    }


def numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what places it."""
    return {k: v for k, v in record.items() if k not in ("kind", "set", "step", "time")}


def _median(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = sorted(r[name] for r in records if r.get(name) is not None)
    return values[len(values) // 2] if values else None
