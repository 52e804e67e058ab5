"""Numbers as people read them. Every function takes what a result file may hold, also None and infinities."""

from __future__ import annotations

import math
from typing import Any

ABSENT = "–"


def number(value: Any) -> float | None:
    """The value as a finite float; None for anything else (absent, text, true/false, NaN, infinity)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def show(value: Any, style: str = "number") -> str:
    """One value as text, by style: ``number``, ``percent``, ``bytes``, ``bp``, ``si``, ``seconds``, ``duration``, ``signed`` or
    ``fine``."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    finite = number(value)
    if finite is None:
        return "not a number" if value != value else ("∞" if value > 0 else "−∞")
    return _STYLES[style](finite if isinstance(value, float) else value)


def _plain(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if value == 0:
        return "0"
    if abs(value) >= 1e7 or abs(value) < 1e-4:
        return f"{value:.3g}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}".replace("-", "−")


def _percent(value: float) -> str:
    share = 100 * value
    return f"{share:.3g} %" if 0 < abs(share) < 1 else f"{share:.1f} %"


def _scaled(value: float, base: float, units: tuple[str, ...], small: str) -> str:
    size, unit = float(value), small
    for following in units:
        if abs(size) < base:
            break
        size, unit = size / base, following
    return f"{size:.3g} {unit}".strip() if abs(size) < 1000 else f"{size:.0f} {unit}".strip()


def _duration(value: float) -> str:
    """``18720`` -> ``5 h 12 min``; seconds alone below two minutes."""
    if abs(value) < 120:
        return f"{value:.3g} s"
    minutes = round(value / 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


_STYLES = {
    "number": _plain,
    "percent": _percent,
    "bytes": lambda value: _scaled(value, 1024, ("KiB", "MiB", "GiB", "TiB"), "B"),
    "bp": lambda value: _scaled(value, 1000, ("kb", "Mb", "Gb"), "bp"),
    "si": lambda value: _scaled(value, 1000, ("k", "M", "G", "T"), ""),
    "seconds": lambda value: f"{value:.3g} s" if abs(value) >= 1 else f"{1000 * value:.3g} ms",
    "duration": _duration,
    "fine": lambda value: f"{value:,.4f}".replace("-", "−"),
    "signed": lambda value: f"{'+' if value >= 0 else '−'}{abs(value):.3f}",
}


def figure(value: float | None, style: str) -> str:
    """With the digits that differences between seeds need: four decimals, or hundredths of a percent."""
    if value is None:
        return ABSENT
    return f"{100 * value:.2f} %" if style == "percent" else show(float(value), "fine" if style == "number" else style)


def spread(value: float, style: str) -> str:
    """A standard deviation: as :func:`figure`, with a digit more where it would be nothing."""
    if not 0 < value < 1e-4:
        return figure(value, style)
    return f"{100 * value:.4f} %" if style == "percent" else f"{value:.5f}"


def signed(value: float | None, style: str) -> str:
    """A difference with its sign; of shares in percentage points."""
    if value is None:
        return ABSENT
    size = f"{abs(100 * value):.2f} points" if style == "percent" else f"{abs(value):.4f}"
    return f"{'−' if value < 0 else '+'}{size}"


def interval(low: float | None, high: float | None, style: str) -> str:
    if low is None or high is None:
        return ""
    return "[" + ", ".join(signed(x, style).removesuffix(" points") for x in (low, high)) + "]"


def setting(value: Any) -> str:
    """A setting as a recipe writes it: ``true``, ``none``; numbers as people read them."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else show(value)


def words(key: str) -> str:
    """``held_out_contigs`` -> ``held-out contigs``; the names people gave to things stay as they are otherwise."""
    text = (
        key.replace("held_out_both", "held-out contigs and cell types")
        .replace("held_out", "held-out")
        .replace("_", " ")
        .strip()
    )
    return text or key
