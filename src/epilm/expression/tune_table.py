"""The trials of a search as a table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epilm.tune.records import TrialRecord

_STATUS = ("finished", "stopped", "failed")


def format_trials(records: Sequence[TrialRecord], keys: Sequence[str], best: TrialRecord) -> str:
    """A line a trial, the highest validation r first, failed ones last; ``*`` is the best, ``-`` what was not drawn."""
    ranked = sorted(records, key=lambda r: (_STATUS.index(r.status), r.value is None, -(r.value or 0.0), r.id))
    rows = [["trial", "validation r", *keys, "time", ""]]
    for record in ranked:
        drawn = [_shown(record.parameters[key]) if key in record.parameters else "-" for key in keys]
        value = record.status if record.value is None else f"{record.value:.4f}"
        note = "*" if record.id == best.id else (record.error or "").partition("\n")[0]
        rows.append([record.id, value, *drawn, f"{record.seconds:.0f} s", note])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in rows
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(value)
