"""All cases by name, and ``run_bench``, which runs some of them."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from epilm.bench import deepdiff, files, masks, ngrams, policies, predict_binding, ranking, sequences, streams, training
from epilm.bench.isolate import run_isolated
from epilm.bench.measure import BenchResult, Case, Workbench, run_case
from epilm.bench.table import summary
from epilm.errors import EpilmError

CASES: dict[str, Case] = {
    case.name: case
    for module in (sequences, files, ngrams, masks, policies, ranking, streams, training, deepdiff, predict_binding)
    for case in module.CASES
}


def bench_names() -> dict[str, str]:
    """Name of every case -> one line on what it compares, with its target."""
    return {name: f"{case.about}, against {case.peer} (target {case.target:g} x)" for name, case in CASES.items()}


def find_cases(names: Sequence[str] | None) -> list[Case]:
    """The named cases in the registry's order, each once; all of them for None or an empty list.

    Raises:
        EpilmError: a name is unknown; the message has the nearest names and all of them.
    """
    unknown = [name for name in names or () if name not in CASES]
    if unknown:
        near = [match for name in unknown for match in difflib.get_close_matches(name, CASES, n=1)]
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        raise EpilmError(f"no bench case {', '.join(map(repr, unknown))}.{hint} Allowed: {', '.join(CASES)}.")
    return [case for name, case in CASES.items() if not names or name in names]


def run_bench(
    names: Sequence[str] | None = None,
    *,
    progress: Callable[[str], None] = lambda message: None,
    seed: int = 0,
    size: float = 1.0,
    pairs: int | None = None,
) -> list[BenchResult]:
    """Run the named cases (None = all) one after the other.

    Args:
        progress: told the name of each case as it starts, and its figure when it ends.
        size: share of the full size of the data; below 1 the figures mean nothing (the tests' plumbing runs at 0.01).
        pairs: timings of each side; None = what each case states.

    Raises:
        EpilmError: an unknown name. A case whose own process failed is a result with the end of what it wrote.
    """
    results = []
    for case in find_cases(names):
        progress(f"{case.name}: {case.about}, against {case.peer}")
        results.append(_run_one(case, seed=seed, size=size, pairs=pairs))
        progress(summary(results[-1]))
    return results


def _run_one(case: Case, *, seed: int, size: float, pairs: int | None) -> BenchResult:
    if reason := case.missing():
        return case.skipped(reason)
    with tempfile.TemporaryDirectory(prefix=f"epilm-bench-{case.name}-") as folder:
        bench = Workbench(folder=Path(folder), seed=seed, size=size)
        try:
            return run_isolated(case, bench, pairs=pairs) if case.isolated else run_case(case, bench, pairs=pairs)
        except EpilmError as error:
            return case.failed(str(error))  # the other cases' figures are not lost with it
