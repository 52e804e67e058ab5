"""``epilm predict``: probabilities of TF binding over whole contigs by Ray Data, to parquet, bigWig and DREAM submissions.

The driver checks everything and cuts the bins into parts, which a pool of actors writes (``predict.pool``). Of the finished
parts, tasks write the files of each (cell type, factor), reading one column part by part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from epilm.evaluate.predictions import PredictedPart, Predictions, write_predictions
from epilm.predict.file_tasks import write_files
from epilm.predict.genome_files import ColumnFile, ColumnWriter
from epilm.predict.genome_plan import PredictPlan, check_predict, file_name
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.genome_worker import GenomeWriter
from epilm.predict.parts import count_without_dna, finished_parts, remove_leftovers
from epilm.predict.pool import gpus_per_actor, write_parts
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "predict"


def run_predict(
    recipe: PredictRecipe, *, on_existing: OnExisting = "refuse", progress: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """Predict the recipe's bins into ``<storage>/<name>/part-*.parquet``, then write tracks, submissions and the manifest.

    Needs a connected Ray (``ray_session``). The same recipe writes the same bytes, with any number of workers and however
    often it was killed; a bin without a known base has no prediction (NaN) and is counted.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: model, corpus, contigs, cell types or targets are wrong or do not fit each other; before any actor starts.
    """
    plan = check_predict(recipe)
    num_gpus = gpus_per_actor(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    for folder in (run.folder, run.folder / "bigwig", run.folder / "dream"):
        remove_leftovers(folder)
    done = finished_parts(run.folder, plan.parts) if run.resumed else {}
    progress(_opening(plan, len(done)))
    started = time.monotonic()
    pending = [part for part in plan.parts if part.index not in done]
    constructor = {
        "recipe": recipe,
        "folder": run.folder,
        "model": Location(recipe.model),
        "corpus": Location(recipe.corpus),
        "parts": plan.parts,
        "asked": plan.asked,
        "cells": plan.cells,
        "targets": plan.targets,
        "column_outputs": plan.column_outputs,
    }
    entries = done | write_parts(
        GenomeWriter, constructor, recipe, num_gpus, pending, folder=run.folder, label=STAGE, progress=progress
    )
    seconds = time.monotonic() - started
    files = _write_files(recipe, plan, run.folder, progress)
    without_dna = count_without_dna(run.folder, plan.parts)
    write_predictions(run.folder, _manifest(recipe, plan, entries))
    intervals = sum(part.sequences for part in pending)
    if without_dna:
        progress(f"predict: {without_dna:,} bin(s) hold no known base and have no prediction")
    return run.finish(
        {
            "stage": STAGE,
            **_summary(recipe, plan),
            "bins_without_dna": without_dna,
            "files": files,
            "intervals_predicted": intervals,
            "parts_kept": len(done),
            "seconds": round(seconds, 3),
            "intervals_per_s": round(intervals / seconds, 1) if intervals else None,
        }
    )


def _opening(plan: PredictPlan, num_done: int) -> str:
    """The first line: what will be predicted, what was before, and what is left out."""
    kept = f"; {num_done} of them were done before" if num_done else ""
    left_out = "".join(f"; left out: {count:,} {reason}" for reason, count in plan.left_out.items())
    return (
        f"predict: {plan.asked.size:,} bins of {', '.join(plan.contigs[:6])}{' ...' if len(plan.contigs) > 6 else ''} x "
        f"{len(plan.columns)} column(s) in {len(plan.parts)} part(s){kept}{left_out}"
    )


def _summary(recipe: PredictRecipe, plan: PredictPlan) -> dict[str, Any]:
    binding = plan.info.binding
    return {
        "targets": list(dict.fromkeys(column.target for column in plan.columns)),
        "cell_types": list(dict.fromkeys(column.cell_type for column in plan.columns)),
        "contigs": list(plan.contigs),
        "bin_bp": binding.bin_bp,
        "step_bp": recipe.step_bp,
        "both_strands": binding.both_strands if recipe.both_strands is None else recipe.both_strands,
        "num_bins": plan.asked.size,
        "left_out": plan.left_out,
        "leak": plan.leak,
    }


def _manifest(recipe: PredictRecipe, plan: PredictPlan, entries: dict[int, dict[str, Any]]) -> Predictions:
    lengths = {contig.name: contig.end_bp for contig in plan.manifest.contigs}
    return Predictions(
        assembly=plan.manifest.assembly,
        bin_bp=plan.grid.bin_bp,
        step_bp=plan.grid.step_bp,
        columns=plan.columns,
        parts=tuple(
            PredictedPart(
                path=part.path,
                chrom=part.chrom,
                first_start=part.first_start,
                rows=part.rows,
                sha256=entries[part.index]["sha256"],
            )
            for part in plan.parts
        ),
        contig_lengths={name: lengths[name] for name in plan.contigs},
        predictor="model",
        provenance=plan.info.provenance,
        selected_on=plan.info.record.selected_on,
        corpus_fingerprint=plan.fingerprints["corpus"],
    )


def _write_files(
    recipe: PredictRecipe, plan: PredictPlan, folder: Location, progress: Callable[[str], None]
) -> dict[str, list[str]]:
    """The files of every column that are not there yet; the paths of all, by kind."""
    outputs = recipe.outputs
    forms = {"bigwig": "{}.bw"} if outputs.bigwig else {}
    forms |= {"dream": "F.{}.tab.gz"} if outputs.dream else {}
    files = [
        ColumnFile(kind, number, form.format(file_name(column)))
        for kind, form in forms.items()
        for number, column in enumerate(plan.columns)
    ]
    there = {f"{kind}/{name}" for kind in forms for name in (folder / kind).children()}
    pending = [file for file in files if file.path not in there]
    spans = {contig.name: (contig.start_bp, contig.end_bp) for contig in plan.manifest.contigs}
    write_files(
        ColumnWriter(folder, plan.grid, plan.asked, spans, plan.parts, pending),
        [file.path for file in pending],
        at_once=recipe.num_workers * recipe.cpus_per_worker,
        label=STAGE,
        progress=progress,
    )
    return {kind: [file.path for file in files if file.kind == kind] for kind in forms}
