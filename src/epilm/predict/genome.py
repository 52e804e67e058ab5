"""``epilm predict``: probabilities of TF binding over whole contigs by Ray Data, to parquet, bigWig and DREAM submissions.

The driver checks everything and cuts the bins into parts, which a pool of actors writes (``predict.pool``). Of the finished
parts, tasks write the files of each (cell type, factor), reading one column part by part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.errors import StorageError
from epilm.evaluate.predictions import PredictedPart, Predictions, write_predictions
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.predict.genome_plan import GenomePart, PredictPlan, check_predict, file_name
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.genome_submission import write_submission
from epilm.predict.genome_tracks import ShownBases, TrackPiece, bigwig_bytes, write_bigwig
from epilm.predict.genome_worker import GenomeWriter
from epilm.predict.parts import count_without_dna, finished_parts, remove_leftovers
from epilm.predict.pool import gpus_per_actor, write_files, write_parts
from epilm.predict.whole_file import whole_file
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
    files = _write_outputs(recipe, plan, run.folder, progress)
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


def _write_outputs(
    recipe: PredictRecipe, plan: PredictPlan, folder: Location, progress: Callable[[str], None]
) -> dict[str, list[str]]:
    """The files of every column that are not there yet; all of their paths, by kind."""
    spans = {contig.name: (contig.start_bp, contig.end_bp) for contig in plan.manifest.contigs}
    files: dict[str, list[str]] = {}
    for kind, wanted, form in [
        ("bigwig", recipe.outputs.bigwig, "{}.bw"),
        ("dream", recipe.outputs.dream, "F.{}.tab.gz"),
    ]:
        if not wanted:
            continue
        names = [form.format(file_name(column)) for column in plan.columns]
        there = set((folder / kind).children())
        pending = [place for place, name in enumerate(names) if name not in there]
        writer = ColumnFiles(kind, folder, plan.grid, plan.asked, spans, plan.parts, tuple(pending), tuple(names))
        write_files(
            writer,
            [names[place] for place in pending],
            at_once=recipe.num_workers * recipe.cpus_per_worker,
            label=STAGE,
            progress=progress,
        )
        files[kind] = [f"{kind}/{name}" for name in names]
    return files


@dataclass(frozen=True)
class ColumnFiles:
    """Writes the file of one column, reading the parts one after the other. Picklable."""

    kind: str
    """``bigwig`` or ``dream``: also the name of their folder."""
    folder: Location
    grid: BinGrid
    asked: Runs
    spans: dict[str, tuple[int, int]]
    """What the corpus holds of each contig: (start, end), in the corpus' order."""
    parts: list[GenomePart]
    columns: tuple[int, ...]
    """Numbers of the columns to write."""
    names: tuple[str, ...]
    """Name of every column's file."""

    def __call__(self, number: int) -> None:
        column = self.columns[number]
        target = self.folder / self.kind / self.names[column]
        if self.kind == "dream":
            with whole_file(target) as path:
                write_submission(path, self._submitted(column), bin_bp=self.grid.bin_bp)
            return
        with whole_file(target, at_most_bytes=bigwig_bytes(self.asked.size)) as path:
            header = [(name, end) for name, (_, end) in self.spans.items()]
            write_bigwig(path, header, self._shown(column))

    def _asked(self, column: int) -> Iterator[tuple[GenomePart, np.ndarray, np.ndarray]]:
        """(part, rows int64 [n] that were asked for, their values float32 [n]) of every part."""
        for part in self.parts:
            rows = np.flatnonzero(self.asked.mask(part.first_bin, part.first_bin + part.rows))
            yield part, rows, read_column(self.folder, part, column)[rows]

    def _submitted(self, column: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for part, rows, values in self._asked(column):
            yield part.chrom, part.first_start + rows * self.grid.step_bp, values

    def _shown(self, column: int) -> Iterator[TrackPiece]:
        shown = ShownBases.of(self.grid, self.asked, self.spans)
        for part, rows, values in self._asked(column):
            known = ~np.isnan(values)
            rows, values = rows[known], values[known]
            start, end = shown.of_bins(part.first_bin + rows, part.first_start + rows * self.grid.step_bp)
            yield TrackPiece(part.chrom, start, end, values)


def read_column(folder: Location, part: GenomePart, column: int) -> np.ndarray:
    """One column of a part: float32 [rows].

    Raises:
        StorageError: the part has been damaged since it was written.
    """
    path = folder / part.path
    try:
        values = pq.read_table(path.path, filesystem=path.fs, columns=[f"p{column}"]).column(0).to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path} cannot be read: {error}. Delete it and go on with --resume.") from error
    if len(values) != part.rows:
        raise StorageError(f"{path} has {len(values)} rows, not {part.rows}. Delete it and go on with --resume.")
    return values
