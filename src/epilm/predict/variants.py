"""``epilm variants``: what variants do to predicted TF binding, by Ray Data, to parquet and a table.

The driver checks everything and cuts the variants into parts, which a pool of actors writes (``predict.pool``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import read_manifest
from epilm.labels.grid import BinGrid
from epilm.predict.binding_scorer import BindingScorer, reads_cell_type
from epilm.predict.parts import Part, finished_parts, remove_leftovers
from epilm.predict.pool import PartActor, gpus_per_actor, write_parts
from epilm.predict.variants_dna import Alleles
from epilm.predict.variants_effects import effects_table, variant_effects
from epilm.predict.variants_files import TSV_FILE, read_table, strongest, write_part_table, write_table, write_tsv
from epilm.predict.variants_plan import VariantsPlan, bins_of, check_variants
from epilm.predict.variants_recipe import VariantsRecipe
from epilm.predict.variants_reference import dna_reader
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "variants"
ALLELES_FILE = "alleles.parquet"
VARIANTS_FILE = "variants.json"
"""What the parts were made from, and their checksums; written when all are there."""
PARTS_FOLDER = "variants"
"""Folder of the parts: ``pandas.read_parquet(<run>/variants)`` reads them all, in the file's order."""


def run_variants(
    recipe: VariantsRecipe,
    *,
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Predict the recipe's variants into ``<storage>/<name>/variants/part-*.parquet`` and ``variants.tsv.gz``.

    Needs a connected Ray (``ray_session``). Rows are in the order (variant, cell type, factor), the same for any number of
    workers; see :func:`~epilm.predict.variants_effects.effects_schema` for the columns.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: model, corpus, cell types, factors or variants are wrong or do not fit each other; before any actor starts.
    """
    plan = check_variants(recipe)
    num_gpus = gpus_per_actor(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    write_table(run.folder / ALLELES_FILE, plan.variants)
    folder = (run.folder / PARTS_FOLDER).mkdir()
    for place in (run.folder, folder):
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
        "targets": plan.targets,
        "target_rows": plan.target_rows,
    }
    entries = done | write_parts(
        VariantWriter, constructor, recipe, num_gpus, pending, folder=folder, label=STAGE, progress=progress
    )
    seconds = time.monotonic() - started
    paths = [folder / part.path for part in plan.parts]
    if recipe.tsv:
        write_tsv(run.folder / TSV_FILE, paths)
    windows = sum(part.sequences for part in pending)
    summary = _summary(recipe, plan)
    files = [entries[part.index] | {"path": f"{PARTS_FOLDER}/{part.path}"} for part in plan.parts]
    (run.folder / VARIANTS_FILE).write_json(summary | {"fingerprints": plan.fingerprints, "files": files})
    return run.finish(
        {
            "stage": STAGE,
            **summary,
            "strongest": strongest(paths, plan.targets),
            "windows_predicted": windows,
            "parts_kept": len(done),
            "seconds": round(seconds, 3),
            "windows_per_s": round(windows / seconds, 1) if windows else None,
        }
    )


class VariantWriter(PartActor):
    """The actor: holds the model and the corpus' readers, predicts the parts that it is handed, and writes them."""

    def __init__(
        self,
        *,
        recipe: VariantsRecipe,
        run_folder: Location,
        model: Location,
        corpus: Location,
        parts: Sequence[Part],
        cell_types: tuple[str, ...],
        targets: tuple[str, ...],
        target_rows: tuple[int, ...],
        device: str,
    ):
        # not the recipe's paths: an actor of a cluster runs in a folder of its own, where a relative one means another
        self.recipe, self.folder, self.model, self.corpus, self.device = recipe, run_folder, model, corpus, device
        self.parts, self.cell_types, self.targets, self.target_rows = parts, cell_types, targets, target_rows

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
    def reader(self) -> ContigReader:
        return dna_reader(self.corpus, read_manifest(self.corpus))

    @cached_property
    def variants(self) -> pa.Table:
        return read_table(self.folder / ALLELES_FILE)

    def write(self, index: int) -> dict[str, object]:
        part, every = self.parts[index], self.recipe.bins == "all"
        rows = self.variants.slice(part.first, part.last - part.first)
        grid = BinGrid.of(self.scorer.manifest, self.scorer.binding.bin_bp, self.recipe.step_bp)
        ref_bp = np.fromiter(map(len, rows["ref"].to_pylist()), np.int64, rows.num_rows)
        num_cells = len(self.cell_types) if reads_cell_type(self.scorer.info) else 1
        effects = variant_effects(
            self.scorer,
            self.reader,
            rows["chrom"].to_numpy(),
            Alleles.of(rows["pos"].to_numpy() - 1, ref_bp, rows["alt"]),
            bins_of(rows, grid, every=every),
            np.arange(num_cells),
        )
        table = effects_table(rows, effects, self.cell_types, self.targets, self.target_rows, every=every)
        return write_part_table(self.folder / PARTS_FOLDER, part, table)


def _opening(plan: VariantsPlan, num_done: int) -> str:
    """The first line: what will be predicted, what was before, and what is left out."""
    kept = f"; {num_done} of them were done before" if num_done else ""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in plan.excluded.items())
    return (
        f"{STAGE}: {plan.variants.num_rows:,} alleles x {len(plan.cell_types)} cell type(s) x {len(plan.targets)} factor(s) in "
        f"{len(plan.parts)} part(s){kept}{f'; left out: {left_out}' if left_out else ''}"
    )


def _summary(recipe: VariantsRecipe, plan: VariantsPlan) -> dict[str, Any]:
    return {
        "model": str(Location(recipe.model)),
        "corpus": str(Location(recipe.corpus)),
        "vcf": recipe.vcf,
        "num_records": plan.num_records,
        "num_alleles": plan.variants.num_rows,
        "alleles_left_out": plan.excluded,
        "cell_types": [name for name in plan.cell_types if name],
        "targets": list(plan.targets),
        "bins": recipe.bins,
        "num_rows": sum(part.rows for part in plan.parts),
        "trained_contigs": list(plan.info.provenance.trained_contigs),
    }
