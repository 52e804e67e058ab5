"""Results as people read them (a line as each case ends, a table at the end) and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from epilm.bench.measure import BenchResult
from epilm.errors import StorageError

HEADER = ("case", "ratio", "spread", "target", "verdict", "peer")


def summary(result: BenchResult) -> str:
    """One line on a result."""
    name, ratio, spread = result["name"], result["ratio"], result["spread"]
    detail = f"; {result['detail']}" if result["detail"] else ""
    if result["skipped"]:
        return f"{name}: skipped, {result['skipped']}"
    if ratio is None or spread is None:
        return f"{name}: FAILED{detail}"
    return (
        f"{name}: {ratio:.3g} x [{spread[0]:.3g}, {spread[1]:.3g}], target {result['target']:g} x, {verdict(result)}; "
        f"{result['ours']:.3g} against {result['theirs']:.3g} {result['unit']} ({result['clock']} time){detail}"
    )


def verdict(result: BenchResult) -> str:
    """``ok``; ``MISSED`` (too slow); ``FAILED`` (outputs differ); ``skipped`` (peer not installed)."""
    if result["skipped"]:
        return "skipped"
    return "FAILED" if result["ratio"] is None else "ok" if result["ok"] else "MISSED"


def format_table(results: Sequence[BenchResult]) -> str:
    """A row a case, then what else was seen; speeds are ours over the peer's, so a case is ok from its target upward."""
    rows = [HEADER, *map(_row, results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER) - 1)]
    lines = [
        "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in [*widths, len(HEADER[-1])]))
    notes = [f"  {r['name']}: {note}" for r in results if (note := r["skipped"] or r["detail"])]
    legend = "ratio = our work per second over the peer's, median of pairs timed in turn; ok means ratio >= target"
    return "\n".join([*lines, "", legend, *notes])


def _row(result: BenchResult) -> tuple[str, ...]:
    ratio, spread = result["ratio"], result["spread"]
    return (
        result["name"],
        "-" if ratio is None else f"{ratio:.3g} x",
        "-" if spread is None else f"{spread[0]:.3g} to {spread[1]:.3g}",
        f"{result['target']:.3g} x",
        verdict(result),
        result["peer"],
    )


def check_json_path(path: str) -> None:
    """Raise before minutes of timing whose result could not be written.

    Raises:
        StorageError: the folder is absent or not writable, or the path is a folder.
    """
    try:
        with Path(path).open("a"):
            pass
    except OSError as error:
        raise StorageError(
            f"--json {path} cannot be written: {error.strerror}. Give a file in a folder that exists."
        ) from error


def write_json(results: Sequence[BenchResult], path: str) -> None:
    """A list of :class:`~epilm.bench.measure.BenchResult`: ``name, peer, ratio, target, ok, spread`` and what explains them."""
    Path(path).write_text(json.dumps(results, indent=2) + "\n")
