"""``epilm gene-marks``: bigWig tracks of marks -> values in bins around every gene's TSS, by Ray Data.

Genes are sorted by place and cut into parts. A task reads every track over the windows of one part and writes one file, whole
or not at all; a resumed run keeps the files that are intact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epilm.config import fingerprint
from epilm.corpus.inputs import absolute
from epilm.corpus.manifest import SourceFile
from epilm.corpus.tasks import Record, run_tasks
from epilm.errors import GenomeError
from epilm.genome.bigwig import open_big
from epilm.histone.count_plan import GeneMarksPlan, check_gene_marks
from epilm.histone.recipe import GeneMarksRecipe
from epilm.histone.saved import (
    GENE_MARKS_FILE,
    GeneMarksFile,
    GeneMarksManifest,
    part_table,
    read_part,
    values_of,
    write_part,
)
from epilm.histone.windows import mark_values
from epilm.runs import OnExisting, open_run, refuse_existing
from epilm.storage import Location

STAGE = "gene-marks"

Progress = Callable[[str], None]


def run_gene_marks(
    recipe: GeneMarksRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Write ``<storage>/<name>/part-*.parquet``, then ``gene_marks.json``, inside an open Ray session.

    The values are the same for any number of workers and any ``genes_per_task``. A folder without ``gene_marks.json`` is
    unfinished; ``on_existing="resume"`` keeps its intact parts and writes the others.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: as :func:`check_gene_marks`, before anything is written; also where a track holds negative values, or
            nothing but 0 in all windows.
    """
    refuse_existing(recipe, on_existing)
    plan = check_gene_marks(recipe)
    for note in plan.notes:
        progress(f"{STAGE}: {note}")
    sources = _checksums(plan, progress)
    _refuse_copies(plan, sources)
    data = {"sources": fingerprint([source.sha256 for source in sources])}
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=data)
    _remove_leftovers(run.folder)
    began = time.monotonic()
    sizes = [len(plan.part(index)) for index in range(plan.num_parts)]
    records = run_tasks(WritePart(plan, run.folder, keep=run.resumed), sizes, STAGE, progress, unit="genes")
    levels = _levels(plan, records)
    manifest = GeneMarksManifest(
        cell_types=recipe.cell_types,
        marks=recipe.marks,
        bin_bp=recipe.bin_bp,
        num_bins=recipe.num_bins,
        num_genes=len(plan.genes),
        statistic=recipe.statistic,
        missing=recipe.missing,
        round=recipe.round,
        off_contig=recipe.off_contig,
        left_out=plan.left_out,
        files=tuple(GeneMarksFile.model_validate(record["file"]) for record in records),
        sources=sources,
    )
    (run.folder / GENE_MARKS_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return run.finish(
        {
            "stage": STAGE,
            **manifest.model_dump(
                mode="json", include={"cell_types", "marks", "bin_bp", "num_bins", "num_genes", "statistic", "left_out"}
            ),
            "levels": levels,
            "parts": plan.num_parts,
            "parts_kept": sum(record["kept"] for record in records),
            "gene_marks_fingerprint": manifest.fingerprint(),
            "seconds": round(time.monotonic() - began, 3),
        }
    )


@dataclass(frozen=True)
class _Checksum:
    """Task i: size and checksum of file i."""

    paths: tuple[str, ...]

    def __call__(self, index: int) -> Record:
        location = Location(self.paths[index])
        return {"bytes": location.size(), "sha256": location.sha256()}


def _checksums(plan: GeneMarksPlan, progress: Progress) -> tuple[SourceFile, ...]:
    recipe = plan.recipe
    given: dict[str, dict[str, str]] = {recipe.genes: {}}
    if isinstance(recipe.gene_list, str):
        given[recipe.gene_list] = {}
    for track in plan.tracks:
        given[recipe.tracks[track.cell][track.mark]] = {theirs: ours for ours, theirs in track.contigs.items()}
    paths = tuple(absolute(path) for path in given)
    sizes = [Path(path).stat().st_size / 1e6 for path in paths]
    records = run_tasks(_Checksum(paths), sizes, "checksums of the sources", progress, unit="MB")
    named = zip(given.items(), records, strict=True)
    return tuple(SourceFile(path=path, contig_names=names, **record) for (path, names), record in named)


def _refuse_copies(plan: GeneMarksPlan, sources: tuple[SourceFile, ...]) -> None:
    """Tracks of the same content under two names."""
    checksum = {source.path: source.sha256 for source in sources}
    seen: dict[str, str] = {}
    for track in plan.tracks:
        sha256 = checksum[plan.recipe.tracks[track.cell][track.mark]]
        if sha256 in seen:
            raise GenomeError(f"{seen[sha256]} and {track.label} are copies of one track. Give each its own.")
        seen[sha256] = track.label


@dataclass(frozen=True)
class WritePart:
    """Task i: part i, and what its values are like."""

    plan: GeneMarksPlan
    folder: Location
    keep: bool
    """Keep a part that an earlier run has written."""

    def __call__(self, index: int) -> Record:
        plan, cells = self.plan, self.plan.recipe.cell_types
        genes, location = plan.part(index), self.folder / f"part-{index:05d}.parquet"
        kept = read_part(location, genes, plan.schema) if self.keep else None
        if kept is None:
            table = part_table(genes, {cell: self._values(genes, cell) for cell in cells})
            file = write_part(location, table)
        else:
            file, table = kept
        record: Record = {"file": file.model_dump(mode="json"), "kept": kept is not None}
        by_cell = [values_of(table, cell, len(plan.recipe.marks)) for cell in cells]
        record["total"] = [values.sum(axis=(0, 1), dtype=np.float64).tolist() for values in by_cell]
        record["highest"] = [values.max(axis=(0, 1)).tolist() for values in by_cell]
        record["zeros"] = [(values == 0).sum(axis=(0, 1)).tolist() for values in by_cell]
        return record

    def _values(self, genes: pd.DataFrame, cell: str) -> np.ndarray:
        """float32 [n, bins, marks] of neighbouring genes in a cell type."""
        recipe = self.plan.recipe
        values = np.empty((len(genes), recipe.num_bins, len(recipe.marks)), np.float32)
        starts, plus = genes["start"].to_numpy(np.int64), (genes["strand"] == "+").to_numpy()
        chrom = genes["chrom"].to_numpy(object)
        for number, track in enumerate(track for track in self.plan.tracks if track.cell == cell):
            with open_big(track.path, "bigWig") as opened:
                for name in dict.fromkeys(chrom):
                    rows = np.flatnonzero(chrom == name)
                    values[rows, :, number] = mark_values(
                        opened, track.contigs[name], starts[rows], plus[rows], recipe, source=track.label
                    )
        return values


def _levels(plan: GeneMarksPlan, records: list[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Cell type -> mark -> mean and highest value of its bins, and the share of those that hold 0.

    Raises:
        GenomeError: a track is 0 in every bin.
    """
    recipe = plan.recipe
    highest = np.max([record["highest"] for record in records], axis=0)
    num = len(plan.genes) * recipe.num_bins
    mean = np.sum([record["total"] for record in records], axis=0) / num
    zeros = np.sum([record["zeros"] for record in records], axis=0) / num
    empty = [track.label for track, level in zip(plan.tracks, highest.reshape(-1), strict=True) if not level > 0]
    if empty:
        hint = ", or round: false where values are below 0.5" if recipe.round else ""
        raise GenomeError(
            f"{', '.join(empty[:3])} ({len(empty)} of {len(plan.tracks)} tracks): 0 in all bins of all {len(plan.genes):,} "
            f"genes. Give a track that covers the genes{hint}."
        )
    return {
        cell: {
            mark: {
                "mean": float(f"{mean[i, j]:.6g}"),
                "max": float(highest[i, j]),
                "zero_share": float(f"{zeros[i, j]:.6g}"),
            }
            for j, mark in enumerate(recipe.marks)
        }
        for i, cell in enumerate(recipe.cell_types)
    }


def _remove_leftovers(folder: Location) -> None:
    """Delete the halves of files that a killed run left behind."""
    for name in folder.children():
        if name.endswith(".tmp"):
            (folder / name).delete()
