"""Logos of in silico mutagenesis: a stretch of DNA whose letters are as tall as their bases matter. Pure; inline SVG paths.

A letter above the line is one whose loss lowers the prediction; one below the line (drawn upside down, paler) raises it when
it is lost. Letters are paths and not text, so that they fill their boxes in every browser and need no font.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from epilm.report.axes import linear_ticks, tick_texts
from epilm.report.collect import RunRecord
from epilm.report.text import number, show

BASES = "ACGT"
LETTER_WIDTH = 10.0
HEIGHT = 120.0
"""Height of the letters' field; units of the drawing, about a pixel each on a wide page."""
LEFT, RIGHT, TOP, BOTTOM = 46.0, 6.0, 6.0, 22.0
MAX_BASES = 240
"""More letters than this would be hairlines; a longer stretch is cut to where it matters most."""
MAX_LOGOS = 24
MAX_NAMES = 12

# Outlines in a box of 1 x 1, y from the foot of the letter up: straight lines, and cubic curves for the round ones. Curves and
# lines stay what they are when a box is stretched, so a letter of any height is its points times the box.
_GLYPHS: dict[str, tuple[tuple[str, tuple[float, ...]], ...]] = {
    "A": (
        ("M", (0.0, 0.0)), ("L", (0.4, 1.0)), ("L", (0.6, 1.0)), ("L", (1.0, 0.0)), ("L", (0.8, 0.0)), ("L", (0.71, 0.24)),
        ("L", (0.29, 0.24)), ("L", (0.2, 0.0)), ("Z", ()),
        ("M", (0.35, 0.4)), ("L", (0.65, 0.4)), ("L", (0.5, 0.82)), ("Z", ()),
    ),
    "C": (
        ("M", (1.0, 0.7)), ("C", (0.94, 0.9, 0.78, 1.0, 0.54, 1.0)), ("C", (0.2, 1.0, 0.0, 0.8, 0.0, 0.5)),
        ("C", (0.0, 0.2, 0.2, 0.0, 0.54, 0.0)), ("C", (0.78, 0.0, 0.94, 0.1, 1.0, 0.3)), ("L", (0.8, 0.36)),
        ("C", (0.76, 0.22, 0.68, 0.15, 0.54, 0.15)), ("C", (0.32, 0.15, 0.2, 0.28, 0.2, 0.5)),
        ("C", (0.2, 0.72, 0.32, 0.85, 0.54, 0.85)), ("C", (0.68, 0.85, 0.76, 0.78, 0.8, 0.64)), ("Z", ()),
    ),
    "G": (
        ("M", (0.98, 0.7)), ("C", (0.92, 0.9, 0.77, 1.0, 0.54, 1.0)), ("C", (0.2, 1.0, 0.0, 0.8, 0.0, 0.5)),
        ("C", (0.0, 0.2, 0.2, 0.0, 0.54, 0.0)), ("C", (0.74, 0.0, 0.9, 0.06, 1.0, 0.17)), ("L", (1.0, 0.55)),
        ("L", (0.54, 0.55)), ("L", (0.54, 0.4)), ("L", (0.8, 0.4)), ("L", (0.8, 0.24)),
        ("C", (0.73, 0.18, 0.65, 0.15, 0.55, 0.15)), ("C", (0.32, 0.15, 0.2, 0.28, 0.2, 0.5)),
        ("C", (0.2, 0.72, 0.32, 0.85, 0.54, 0.85)), ("C", (0.67, 0.85, 0.74, 0.79, 0.78, 0.66)), ("Z", ()),
    ),
    "T": (
        ("M", (0.0, 1.0)), ("L", (1.0, 1.0)), ("L", (1.0, 0.84)), ("L", (0.6, 0.84)), ("L", (0.6, 0.0)), ("L", (0.4, 0.0)),
        ("L", (0.4, 0.84)), ("L", (0.0, 0.84)), ("Z", ()),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LogoMark:
    """A tick: ``at`` is a place in the drawing, across for bases and down for values."""

    at: float
    text: str


@dataclass(frozen=True)
class LogoView:
    title: str
    remark: str
    letters: tuple[tuple[str, bool, str], ...]
    """(base, below the line, path of all its letters); no more than eight paths, however long the stretch."""
    zero: float
    values: tuple[LogoMark, ...]
    places: tuple[LogoMark, ...]
    width: float
    height: float
    summary: str
    """What the drawing shows, for those who do not see it."""


@dataclass(frozen=True)
class LogoGroup:
    run: str
    facts: tuple[tuple[str, str], ...]
    logos: tuple[LogoView, ...]
    left_out: int


def logo_group(record: RunRecord) -> LogoGroup | None:
    """The logos of a ``mutagenesis`` run; None where its result holds none."""
    entries = record.result.get("logos")
    found = [view for entry in entries if (view := logo_view(entry))] if isinstance(entries, list) else []
    if not found:
        return None
    facts = [
        (name, _fact(record.result[key]))
        for name, key in (
            ("Intervals", "num_intervals"),
            ("Substitutions", "num_substitutions"),
            ("Cell types", "cell_types"),
            ("Factors", "targets"),
        )
        if record.result.get(key)
    ]
    return LogoGroup(record.name, tuple(facts), tuple(found[:MAX_LOGOS]), max(0, len(found) - MAX_LOGOS))


def _fact(value: Any) -> str:
    if not isinstance(value, list):
        return show(value)
    more = f" and {len(value) - MAX_NAMES} more" if len(value) > MAX_NAMES else ""
    return ", ".join(map(str, value[:MAX_NAMES])) + more


def logo_view(entry: Any) -> LogoView | None:
    """One logo of ``{"chrom", "start", "sequence", "importance", "cell_type", "target", "probability", "id"}``; None where its
    sequence and importance are not of one length, or hold nothing."""
    if not isinstance(entry, Mapping):
        return None
    sequence, values = entry.get("sequence"), entry.get("importance")
    if not isinstance(sequence, str) or not isinstance(values, list) or not 0 < len(sequence) == len(values):
        return None
    heights = [number(value) or 0.0 for value in values]
    first, last = most_important(heights, MAX_BASES)
    sequence, heights = sequence[first:last].upper(), heights[first:last]
    start = int(number(entry.get("start")) or 0) + first
    high, low = max(*heights, 0.0), min(*heights, 0.0)
    span = (high - low) or 1.0
    scale = HEIGHT / span
    zero = TOP + high * scale if high > low else TOP + HEIGHT
    return LogoView(
        title=_title(entry),
        remark=_remark(entry, start, start + len(sequence)),
        letters=tuple(_paths(sequence, heights, zero=zero, scale=scale)),
        zero=round(zero, 2),
        values=_value_ticks(low, high, zero, scale),
        places=_place_ticks(start, len(sequence)),
        width=LEFT + LETTER_WIDTH * len(sequence) + RIGHT,
        height=TOP + HEIGHT + BOTTOM,
        summary=_summary(sequence, heights),
    )


def most_important(heights: list[float], num_bases: int) -> tuple[int, int]:
    """(first, last) of the ``num_bases`` neighbours whose absolute heights sum to the most; all where there are no more."""
    if len(heights) <= num_bases:
        return 0, len(heights)
    total = sum(map(abs, heights[:num_bases]))
    best, first = total, 0
    for i in range(1, len(heights) - num_bases + 1):
        total += abs(heights[i + num_bases - 1]) - abs(heights[i - 1])
        if total > best:
            best, first = total, i
    return first, first + num_bases


def glyph_path(base: str, x: float, y: float, width: float, height: float) -> str:
    """SVG path of a letter whose foot is at ``y`` and whose head is ``height`` above it (below, upside down, if negative)."""
    parts = []
    for command, points in _GLYPHS[base]:
        placed = (x + width * p if i % 2 == 0 else y - height * p for i, p in enumerate(points))
        parts.append(command + " ".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in placed))
    return "".join(parts)


def _paths(sequence: str, heights: list[float], *, zero: float, scale: float) -> Iterator[tuple[str, bool, str]]:
    """All letters of a base on one side of the line as one path; N and letters of no height are not drawn."""
    for base in BASES:
        for below in (False, True):
            drawn = [
                glyph_path(base, LEFT + LETTER_WIDTH * i + 0.4, zero, LETTER_WIDTH - 0.8, height * scale)
                for i, (letter, height) in enumerate(zip(sequence, heights, strict=True))
                if letter == base and (height < 0) == below and abs(height * scale) >= 0.05
            ]
            if drawn:
                yield base, below, "".join(drawn)


def _value_ticks(low: float, high: float, zero: float, scale: float) -> tuple[LogoMark, ...]:
    ticks = linear_ticks(low, high, most=4) if high > low else [0.0]
    return tuple(
        LogoMark(round(zero - tick * scale, 2), text)
        for tick, text in zip(ticks, tick_texts(ticks, "number"), strict=True)
    )


def _place_ticks(start: int, num_bases: int) -> tuple[LogoMark, ...]:
    """Round positions, 1-based as browsers count, at the middles of their letters; at least a hundred units apart."""
    most = max(1, math.floor(num_bases * LETTER_WIDTH / 100))
    ticks = [round(tick) for tick in linear_ticks(start + 1, start + num_bases, most=most) if tick == round(tick)]
    return tuple(LogoMark(LEFT + LETTER_WIDTH * (tick - start - 0.5), f"{tick:,}") for tick in dict.fromkeys(ticks))


def _title(entry: Mapping[str, Any]) -> str:
    pair = [str(entry[key]) for key in ("target", "cell_type") if entry.get(key)]
    return " in ".join(pair) or "Prediction"


def _remark(entry: Mapping[str, Any], start: int, end: int) -> str:
    place = f"{entry.get('chrom', '?')}:{start + 1:,}–{end:,}"
    name = str(entry.get("id") or "")
    probability = number(entry.get("probability"))
    return " · ".join(
        part
        for part in (
            place,
            name if ":" not in name else "",
            "" if probability is None else f"predicted {show(probability, 'percent')}",
        )
        if part
    )


def _summary(sequence: str, heights: list[float]) -> str:
    at = max(range(len(heights)), key=lambda i: abs(heights[i]))
    return f"Importance of {len(sequence)} bases; the strongest is {sequence[at]} at base {at + 1} with {show(heights[at])}."
