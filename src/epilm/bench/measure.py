"""What a case is, and how its two sides are timed in turn."""

from __future__ import annotations

import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

Clock = Literal["cpu", "wall"]
CLOCKS: dict[Clock, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


class BenchResult(TypedDict):
    """One row of the table; what ``--json`` writes."""

    name: str
    peer: str
    ratio: float | None
    """Median of ours / theirs in ``unit``; None where the case was skipped."""
    target: float
    ok: bool
    """The target was met and the outputs agreed; False for a skipped case, which shows nothing."""
    spread: list[float] | None
    """Least and greatest of the pairwise ratios."""
    unit: str
    ours: float | None
    """Our median speed in ``unit``."""
    theirs: float | None
    clock: Clock
    pairs: int
    """Number of pairs timed."""
    detail: str
    """Sizes, and what else was seen (rows dropped, disagreement of the outputs)."""
    skipped: str | None
    """Why the case was not run and how to mend it; None where it ran."""


@dataclass(frozen=True)
class Workbench:
    """What a builder gets: a temporary folder, a seed, and the share of the full size to make."""

    folder: Path
    seed: int
    size: float = 1.0

    def scaled(self, full: int, least: int = 1) -> int:
        """``full`` at size 1, in proportion below, never under ``least``."""
        return max(least, int(full * self.size))


@dataclass(frozen=True)
class Duel:
    """The two sides of a case, ready to run.

    Attributes:
        ours, theirs: do the work once and return its output. A slow peer may do less of it.
        ours_work, theirs_work: units of work in one call.
        compare: given both outputs of the first call, says what is wrong ("" = they agree).
        describe: after the timing, what else to tell: sizes, rows dropped.
        least_s: a side is called again within one timing until this much time has gone by; 0 = one call, and no warm-up
            beyond the compared one.
        close: ends what the builder started.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    ours_work: float
    theirs_work: float
    compare: Callable[[Any, Any], str]
    describe: Callable[[], str] = lambda: ""
    least_s: float = 0.1
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Case:
    """A named comparison.

    Attributes:
        unit: of the speeds, e.g. ``Mbase/s``; ``scale`` units of work make one.
        pairs: how many times both sides are timed.
        requires: modules that the peer needs, and ``install``: the command that brings them.
        isolated: run in a process of its own, because it sets threads, precision, or starts Ray or a process group.
    """

    name: str
    about: str
    peer: str
    unit: str
    target: float
    build: Callable[[Workbench], Duel]
    clock: Clock = "cpu"
    pairs: int = 7
    scale: float = 1.0
    requires: tuple[str, ...] = ()
    install: str = "pip install 'epilm[bench]'"
    isolated: bool = False

    def missing(self) -> str | None:
        """What to install before the case can run, or None."""
        absent = [module for module in self.requires if importlib.util.find_spec(module) is None]
        return f"{', '.join(absent)} not installed; {self.install}" if absent else None

    def skipped(self, reason: str) -> BenchResult:
        return _result(self, skipped=reason)

    def failed(self, reason: str) -> BenchResult:
        return _result(self, detail=reason)


def run_case(case: Case, bench: Workbench, *, pairs: int | None = None) -> BenchResult:
    """Build a case, compare the outputs of both sides, then time them in turn."""
    duel = case.build(bench)
    try:
        if bench.size < 1:
            duel = replace(duel, least_s=0)  # a figure of a part of the data means nothing: one call a side will do
        return _run_duel(case, duel, pairs or case.pairs)
    finally:
        duel.close()


def _run_duel(case: Case, duel: Duel, pairs: int) -> BenchResult:
    ours_output, theirs_output = duel.ours(), duel.theirs()
    fault = duel.compare(ours_output, theirs_output)
    if fault:
        return _result(case, detail=f"the outputs differ: {fault}")
    del ours_output, theirs_output
    clock = CLOCKS[case.clock]
    calls = [_calls_needed(side, clock, duel.least_s) for side in (duel.ours, duel.theirs)]
    speeds: list[tuple[float, float]] = []
    for _ in range(pairs):
        ours_s = _seconds_per_call(duel.ours, clock, calls[0])
        theirs_s = _seconds_per_call(duel.theirs, clock, calls[1])
        speeds.append((duel.ours_work / ours_s / case.scale, duel.theirs_work / theirs_s / case.scale))
    return _result(case, speeds=speeds, detail=duel.describe())


def _calls_needed(side: Callable[[], Any], clock: Callable[[], float], least_s: float) -> int:
    """Calls that fill ``least_s``, from one call that is not in the result and warms up."""
    if not least_s:
        return 1
    return max(1, round(least_s / max(_seconds_per_call(side, clock, 1), 1e-6)))


def _seconds_per_call(side: Callable[[], Any], clock: Callable[[], float], calls: int) -> float:
    """Mean seconds of ``calls`` calls, with the collector off (it would charge one side for the other's garbage)."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        for _ in range(calls):
            side()
        return max(clock() - start, 1e-9) / calls
    finally:
        gc.enable()


def _result(
    case: Case, *, speeds: list[tuple[float, float]] | None = None, detail: str = "", skipped: str | None = None
) -> BenchResult:
    ratios = [ours / theirs for ours, theirs in speeds or []]
    ratio = statistics.median(ratios) if ratios else None
    return BenchResult(
        name=case.name,
        peer=case.peer,
        ratio=ratio,
        target=case.target,
        ok=ratio is not None and ratio >= case.target,
        spread=[min(ratios), max(ratios)] if ratios else None,
        unit=case.unit,
        ours=statistics.median(ours for ours, _ in speeds) if speeds else None,
        theirs=statistics.median(theirs for _, theirs in speeds) if speeds else None,
        clock=case.clock,
        pairs=len(ratios),
        detail=detail,
        skipped=skipped,
    )
