"""Progress of long work: how far it is, how fast it goes, when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable

PROGRESS_EVERY_S = 5.0


class Meter:
    """Tells how far a stage is, how fast it goes and when it will be done: every few seconds, and at its end."""

    def __init__(self, label: str, unit: str, total: float, progress: Callable[[str], None]) -> None:
        self.label, self.unit, self.total, self.progress = label, unit, total, progress
        self.done = 0.0
        self._began = self._told = time.monotonic()

    def add(self, amount: float) -> None:
        self.done += amount
        now = time.monotonic()
        spent = max(now - self._began, 1e-3)
        finished = self.done >= self.total * (1 - 1e-9)
        if not finished and now - self._told < PROGRESS_EVERY_S:
            return
        self._told = now
        rate = self.done / spent
        text = f"{self.label}: {_number(self.done)}/{_number(self.total)} {self.unit}, {_number(rate)} {self.unit}/s"
        if not finished and rate:
            text += f", {(self.total - self.done) / rate:,.0f} s left"
        self.progress(text)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.3g}"
