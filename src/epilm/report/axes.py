"""Numbers to places along an axis, 0..1, and round ticks beside them. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epilm.report.text import show


@dataclass(frozen=True)
class Scale:
    """A numeric axis from ``low`` to ``high``; what lies beyond is placed at the end."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float | None) -> float | None:
        """Share of the way from ``low`` to ``high``, within 0..1."""
        if value is None or (self.log and value <= 0):
            return None
        low, high, at = (
            (math.log(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the axis, at most ``most`` of them."""
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)

    def labels(self, style: str = "number", most: int = 6) -> list[tuple[float, str]]:
        """(place, text) of every tick; as many digits as the ticks need to differ."""
        ticks = self.ticks(most)
        return [(self.place(tick) or 0.0, text) for tick, text in zip(ticks, tick_texts(ticks, style), strict=True)]


def cover(values: list[float], *, margin: float = 0.06) -> Scale:
    """A linear axis that holds all values with some room beside them; 0..1 without any."""
    if not values:
        return Scale(0.0, 1.0)
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(low - room, high + room)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high."""
    if not high > low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (size * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)] or [low]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1-2-5 or whole decades from low to high; linear ticks where the range is less than one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        powers = range(first, last + 1, every)
        ticks = [float(f"{f * 10.0**p:.12g}") for p in powers for f in factors]
        within = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(within) <= most:
            break
    return within if len(within) > 1 else linear_ticks(low, high, most)


def tick_texts(ticks: list[float], style: str) -> list[str]:
    """Ticks as text: numbers and percentages with as many decimals as all of them need, other styles as everywhere."""
    if style not in ("number", "fine", "percent"):
        return [show(tick, style) for tick in ticks]
    values, unit = ([100 * t for t in ticks], " %") if style == "percent" else (ticks, "")
    sizes = [abs(v) for v in values if v]
    if sizes and (max(sizes) >= 1e6 or min(sizes) < 1e-3 or max(sizes) >= 1e3 * min(sizes)):
        return [_short(v) + unit for v in values]
    digits = next((d for d in range(6) if all(math.isclose(round(v, d), v, abs_tol=1e-12) for v in values)), 6)
    return [f"{v:,.{digits}f}{unit}".replace("-", "−") for v in values]


def _short(value: float) -> str:
    """``0.0001`` -> ``1e−4``, ``0.01`` -> ``0.01``."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        digits, _, power = f"{value:e}".partition("e")
        return f"{float(digits):g}e{int(power)}".replace("-", "−")
    return f"{value:g}".replace("-", "−")
