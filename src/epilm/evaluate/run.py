"""``epilm evaluate``: exact metrics of predictions over all bins of some contigs, by Ray tasks of a stretch each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from epilm.evaluate.check import EvaluatePlan, check_evaluate
from epilm.evaluate.on_ray import gather, rewrite_remotely
from epilm.evaluate.outcome import Outcome
from epilm.evaluate.recipe import EvaluateRecipe
from epilm.evaluate.score import Key, Scoring
from epilm.evaluate.submissions import ScoreColumn, place_columns
from epilm.evaluate.table import evaluation_tables, is_comparable, resamples_table, scores_table
from epilm.labels.label_set import Pair
from epilm.runs import OnExisting, Run, open_run
from epilm.storage import Location

STAGE = "evaluate"
SCORES_FILE = "scores.parquet"
RESAMPLES_FILE = "resamples.parquet"
REWRITTEN = "submissions"
"""Folder in the run, of submission files rewritten as predictions; deleted at the end."""
Progress = Callable[[str], None]


def run_evaluate(
    recipe: EvaluateRecipe,
    *,
    on_existing: OnExisting = "refuse",
    progress: Progress = lambda message: None,
) -> dict[str, Any]:
    """Score the recipe's submissions; write ``scores.parquet``, ``resamples.parquet`` and ``result.json``.

    Needs a connected Ray (``ray_session``). The figures do not depend on the number of tasks. A resumed run begins anew:
    an evaluation takes minutes.

    Returns:
        what ``result.json`` holds.

    Raises:
        LeakError: a model has seen what it would be scored on.
        EpilmError: labels or submissions are wrong or do not fit each other; before any task starts, but for rows of
            submission files.
    """
    plan = check_evaluate(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    started = time.monotonic()
    for line in _opening(plan, recipe):
        progress(line)
    (run.folder / REWRITTEN).delete()
    try:
        columns = plan.columns | _rewrite(plan, run.folder, progress)
        outcomes = Scoring(recipe, plan, columns, progress).outcomes()
    finally:
        (run.folder / REWRITTEN).delete()
    return _finish(recipe, plan, outcomes, run, time.monotonic() - started)


def _finish(
    recipe: EvaluateRecipe, plan: EvaluatePlan, outcomes: dict[Pair, dict[str, Outcome]], run: Run, elapsed_s: float
) -> dict[str, Any]:
    comparable = is_comparable(
        plan.manifest.assembly, plan.spans, bin_bp=plan.labels.grid.bin_bp, step_bp=plan.labels.grid.step_bp
    )
    tables = evaluation_tables(
        outcomes,
        list(recipe.submissions),
        baseline=recipe.baseline,
        level=recipe.bootstrap.level,
        comparable=comparable,
    )
    for name, table in ((SCORES_FILE, scores_table(tables)), (RESAMPLES_FILE, resamples_table(outcomes))):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        (run.folder / name).write_bytes(sink.getvalue().to_pybytes())
    return run.finish(
        {
            "stage": STAGE,
            "assembly": plan.manifest.assembly,
            "evaluated": [{"contig": name, "start": start, "end": end} for name, start, end in plan.spans],
            "num_bins": plan.bins.size,
            "bin_bp": plan.labels.grid.bin_bp,
            "step_bp": plan.labels.grid.step_bp,
            "baseline": recipe.baseline,
            "bootstrap": {**recipe.bootstrap.model_dump(), "num_blocks": len(plan.blocks), "seed": recipe.seed},
            "submissions": list(recipe.submissions),
            **tables,
            "skipped": plan.skipped,
            "leaks": plan.leaks,
            "elapsed_s": round(elapsed_s, 1),
        }
    )


def _opening(plan: EvaluatePlan, recipe: EvaluateRecipe) -> Iterator[str]:
    yield (
        f"evaluate: {len(plan.pairs)} data sets x {len(recipe.submissions)} submissions on {', '.join(plan.contigs)}: "
        f"{plan.bins.size:,} bins in {len(plan.blocks):,} blocks"
    )
    for name, reason in plan.skipped.items():
        yield f"evaluate: {name} is left out: {reason}"
    for name, leak in plan.leaks.items():
        if not leak["known"]:
            yield f"evaluate: {name}: what its model was trained on is not known"
        for what in ("allowed_contigs", "allowed_cell_types"):
            if leak[what]:
                yield f"evaluate: {name} has seen {', '.join(leak[what])} (allow_overlap)"


def _rewrite(plan: EvaluatePlan, folder: Location, progress: Progress) -> dict[str, dict[Pair, ScoreColumn]]:
    """Submission files as columns of predictions, one task a file."""
    tasks = {(pair, name): path for name, of in plan.files.items() for pair, path in of.items() if pair in plan.pairs}
    if not tasks:
        return {}
    progress(f"evaluate: reading {len(tasks)} submission files")
    shared = ray.put(plan.labels.grid)
    columns: dict[str, dict[Pair, ScoreColumn]] = {name: {} for name in plan.files}
    places = {key: folder / REWRITTEN / f"{number:04d}" for number, key in enumerate(tasks)}
    assembly, contigs = plan.manifest.assembly, plan.contigs

    def calls() -> Iterator[tuple[Key, ray.ObjectRef]]:
        for key, path in tasks.items():
            yield key, rewrite_remotely.remote(path, places[key], key[0], assembly, shared, contigs)

    for (pair, name), predictions in gather(calls()):
        columns[name] |= place_columns(places[pair, name], predictions, plan.labels.grid, plan.manifest)
        progress(f"evaluate: read {tasks[pair, name]}")
    return columns
