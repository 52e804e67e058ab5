"""``epilm mutagenesis``: every substitution of intervals by Ray Data, to parquet, bigWig and the report's logos.

The driver checks everything and cuts the intervals into parts, which a pool of actors writes (``predict.pool``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch

from epilm.evaluate.predictions import PredictedColumn
from epilm.predict.binding_scorer import BindingScorer, reads_cell_type
from epilm.predict.file_tasks import write_files
from epilm.predict.genome_plan import file_name
from epilm.predict.mutagenesis_files import choose_logos, count_substitutions, mutated_table
from epilm.predict.mutagenesis_plan import MutagenesisPlan, check_mutagenesis
from epilm.predict.mutagenesis_recipe import MutagenesisRecipe
from epilm.predict.mutagenesis_scores import mutate
from epilm.predict.mutagenesis_tracks import ImportanceTracks
from epilm.predict.parts import Part, finished_parts, remove_leftovers
from epilm.predict.pool import PartActor, gpus_per_actor, write_parts
from epilm.predict.variants_files import read_table, write_part_table, write_table
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "mutagenesis"
INTERVALS_FILE = "intervals.parquet"
MUTAGENESIS_FILE = "mutagenesis.json"
"""What the parts were made from, and their checksums; written when all are there."""
PARTS_FOLDER = "mutagenesis"
"""Folder of the parts: ``pandas.read_parquet(<run>/mutagenesis)`` reads them all, in the intervals' order."""
BIGWIG_FOLDER = "bigwig"


def run_mutagenesis(
    recipe: MutagenesisRecipe,
    *,
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Mutate the recipe's intervals into ``<storage>/<name>/mutagenesis/part-*.parquet``, then write tracks and logos.

    Needs a connected Ray (``ray_session``). Rows are in the order (interval, cell type, factor), the same for any number of
    workers; see :func:`~epilm.predict.mutagenesis_files.mutated_schema` for the columns.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: model, corpus, cell types, factors or intervals are wrong or do not fit each other; before any actor starts.
    """
    plan = check_mutagenesis(recipe)
    num_gpus = gpus_per_actor(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    write_table(run.folder / INTERVALS_FILE, plan.intervals)
    folder = (run.folder / PARTS_FOLDER).mkdir()
    for place in (folder, run.folder / BIGWIG_FOLDER):
        remove_leftovers(place)
    done = finished_parts(folder, plan.parts) if run.resumed else {}
    progress(_opening(plan, len(done)))
    started = time.monotonic()
    pending = [part for part in plan.parts if part.index not in done]
    constructor = {
        "recipe": recipe,
        "run_folder": run.folder,
        "model": Location(recipe.model),
        "corpus": Location(recipe.corpus),
        "parts": plan.parts,
        "cell_types": plan.cell_types,
        "columns": plan.columns,
        "target_rows": plan.target_rows,
    }
    entries = done | write_parts(
        IntervalWriter, constructor, recipe, num_gpus, pending, folder=folder, label=STAGE, progress=progress
    )
    seconds = time.monotonic() - started
    paths = [folder / part.path for part in plan.parts]
    windows = sum(part.sequences for part in pending)
    summary = _summary(recipe, plan)
    files = [entries[part.index] | {"path": f"{PARTS_FOLDER}/{part.path}"} for part in plan.parts]
    (run.folder / MUTAGENESIS_FILE).write_json(summary | {"fingerprints": plan.fingerprints, "files": files})
    return run.finish(
        {
            "stage": STAGE,
            **summary,
            "num_substitutions": count_substitutions(paths, plan.parts, len(plan.columns)),
            "logos": choose_logos(paths, recipe.num_logos),
            "bigwig": _write_tracks(recipe, plan, run.folder, paths, progress),
            "windows_predicted": windows,
            "parts_kept": len(done),
            "seconds": round(seconds, 3),
            "windows_per_s": round(windows / seconds, 1) if windows else None,
        }
    )


class IntervalWriter(PartActor):
    """The actor: holds the model and a corpus reader, mutates the parts that it is handed, and writes them."""

    def __init__(
        self,
        *,
        recipe: MutagenesisRecipe,
        run_folder: Location,
        model: Location,
        corpus: Location,
        parts: Sequence[Part],
        cell_types: tuple[str, ...],
        columns: tuple[PredictedColumn, ...],
        target_rows: tuple[int, ...],
        device: str,
    ):
        # not the recipe's paths: an actor of a cluster runs in a folder of its own, where a relative one means another
        self.recipe, self.folder, self.model, self.corpus, self.device = recipe, run_folder, model, corpus, device
        self.parts, self.cell_types, self.columns, self.target_rows = parts, cell_types, columns, target_rows

    @cached_property
    def scorer(self) -> BindingScorer:
        torch.set_num_threads(self.recipe.cpus_per_worker)  # more threads than cores only wait for each other
        return BindingScorer(
            self.model,
            self.corpus,
            device=self.device,
            dtype=self.recipe.dtype,
            batch_size=self.recipe.batch_size,
            both_strands=self.recipe.both_strands,
            cell_types=self.cell_types,
        )

    @cached_property
    def intervals(self) -> pa.Table:
        return read_table(self.folder / INTERVALS_FILE)

    def write(self, index: int) -> dict[str, object]:
        part = self.parts[index]
        rows = self.intervals.slice(part.first, part.last - part.first)
        num_cells = len(self.cell_types) if reads_cell_type(self.scorer.info) else 1
        mutated = mutate(
            self.scorer,
            rows["chrom"].to_numpy(),
            rows["start"].to_numpy(),
            rows["end"].to_numpy(),
            rows["bin_start"].to_numpy(),
            num_cells=num_cells,
            methods=self.recipe.attributions,
        )
        # a model that reads no cell type has one answer for all
        cells = [cell % num_cells for cell in range(len(self.cell_types)) for _ in self.target_rows]
        outputs = self.target_rows * len(self.cell_types)
        table = mutated_table(rows, mutated, self.columns, cells, outputs)
        return write_part_table(self.folder / PARTS_FOLDER, part, table)


def _opening(plan: MutagenesisPlan, num_done: int) -> str:
    """The first line: what will be mutated, what was before, and what is left out."""
    kept = f"; {num_done} of them were done before" if num_done else ""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in plan.left_out.items())
    return (
        f"{STAGE}: {plan.intervals.num_rows:,} intervals x {len(plan.cell_types)} cell type(s) x {len(plan.targets)} factor(s) "
        f"in {len(plan.parts)} part(s){kept}{f'; left out: {left_out}' if left_out else ''}"
    )


def _summary(recipe: MutagenesisRecipe, plan: MutagenesisPlan) -> dict[str, Any]:
    return {
        "model": str(Location(recipe.model)),
        "corpus": str(Location(recipe.corpus)),
        "num_intervals": plan.intervals.num_rows,
        "intervals_left_out": plan.left_out,
        "cell_types": [name for name in plan.cell_types if name],
        "targets": list(plan.targets),
        "attributions": list(recipe.attributions),
        "trained_contigs": list(plan.info.provenance.trained_contigs),
    }


def _write_tracks(
    recipe: MutagenesisRecipe,
    plan: MutagenesisPlan,
    folder: Location,
    parts: list[Location],
    progress: Callable[[str], None],
) -> list[str]:
    """The bigWig of every (cell type, factor) that is not there yet; the paths of all."""
    if not recipe.bigwig:
        return []
    names = tuple(f"{file_name(column)}.bw" for column in plan.columns)
    there = set((folder / BIGWIG_FOLDER).children())
    pending = tuple(place for place, name in enumerate(names) if name not in there)
    contigs = tuple((contig.name, contig.end_bp) for contig in plan.manifest.contigs)
    writer = ImportanceTracks(folder / BIGWIG_FOLDER, tuple(parts), contigs, len(names), names, pending)
    at_once = recipe.num_workers * recipe.cpus_per_worker
    write_files(writer, [names[place] for place in pending], at_once=at_once, label=STAGE, progress=progress)
    return [f"{BIGWIG_FOLDER}/{name}" for name in names]
