"""``epilm embed``: embeddings of any intervals by Ray Data, to parquet.

The driver checks everything, cuts the intervals into parts and hands the parts' numbers to a fixed pool of actors; an
actor writes its parts itself, so that no embedding travels through the object store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
import ray.data

from epilm import errors
from epilm.errors import EpilmError, RecipeError
from epilm.predict.parts import (
    EMBEDDINGS_FILE,
    Part,
    count_without_dna,
    finished_parts,
    remove_leftovers,
    write_intervals,
)
from epilm.predict.plan import EmbedPlan, check_embed, leak_summary
from epilm.predict.recipe import EmbedRecipe
from epilm.predict.worker import PartWriter
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "embed"
MAX_BLOCKS = 2000
"""Blocks of a Ray Data dataset; with more, the scheduler itself becomes the limit."""


def run_embed(
    recipe: EmbedRecipe, *, on_existing: OnExisting = "refuse", progress: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """Embed the recipe's intervals into ``<storage>/<name>/part-*.parquet``, then write ``embeddings.json``.

    Needs a connected Ray (``ray_session``). Rows are in the order (interval, cell type), the same for any number of
    workers; an interval without a single known k-mer has a NaN ``mean`` and is counted.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: model, corpus, intervals or cell types are wrong or do not fit each other; before any actor starts.
    """
    plan = check_embed(recipe)
    num_gpus = _resources(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    write_intervals(run.folder, plan.intervals)
    remove_leftovers(run.folder)
    done = finished_parts(run.folder, plan.parts) if run.resumed else {}
    progress(_opening(plan, len(done)))
    started = time.monotonic()
    pending = [part for part in plan.parts if part.index not in done]
    entries = done | _embed_parts(recipe, num_gpus, run.folder, plan, pending, progress)
    seconds = time.monotonic() - started
    summary = _summary(recipe, plan) | {"intervals_without_dna": count_without_dna(run.folder, plan.parts)}
    description = summary | {
        **_origin(recipe, plan),
        "files": [entries[part.index] for part in plan.parts],
    }
    (run.folder / EMBEDDINGS_FILE).write_json(description)
    windows = sum(part.sequences for part in pending)
    if summary["intervals_without_dna"]:
        progress(f"embed: {summary['intervals_without_dna']} interval(s) hold no known k-mer; their mean is NaN")
    return run.finish(
        {
            "stage": STAGE,
            **summary,
            "windows_embedded": windows,
            "parts_kept": len(done),
            "seconds": round(seconds, 3),
            "windows_per_s": round(windows / seconds, 1) if windows else None,
        }
    )


def _opening(plan: EmbedPlan, num_done: int) -> str:
    """The first line: what will be embedded, what was before, and what is left out."""
    kept = f"; {num_done} of them were done before" if num_done else ""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in plan.left_out.items())
    return (
        f"embed: {plan.intervals.num_rows:,} intervals x {len(plan.names)} cell type(s) in {len(plan.parts)} part(s)"
        f"{kept}{f'; left out: {left_out}' if left_out else ''}"
    )


def _summary(recipe: EmbedRecipe, plan: EmbedPlan) -> dict[str, Any]:
    """What both ``result.json`` and ``embeddings.json`` say of the rows."""
    cell_types = plan.names if plan.cells else ()
    contigs = [contig.name for contig in plan.manifest.contigs]
    return {
        "pooling": recipe.pooling,
        "dim": plan.info.layout.hidden_size,
        "num_intervals": plan.intervals.num_rows,
        "num_rows": sum(part.rows for part in plan.parts),
        "cell_types": list(cell_types),
        "intervals_left_out": plan.left_out,
        "leak": leak_summary(plan.columns, cell_types, plan.info.provenance, contigs),
    }


def _origin(recipe: EmbedRecipe, plan: EmbedPlan) -> dict[str, Any]:
    """What the rows come from, for those who read them."""
    return {
        "token_bp": {"k": plan.info.layout.k, "stride": plan.info.layout.stride},
        "dtype": recipe.dtype,
        "model_path": str(Location(recipe.model)),
        "model_sha256": plan.fingerprints["model"],
        "model": plan.info.provenance.model_dump(mode="json"),
        "corpus": str(Location(recipe.corpus)),
        "corpus_fingerprint": plan.fingerprints["corpus"],
    }


def _resources(recipe: EmbedRecipe) -> float:
    """GPUs of an actor. A Ray that was started here cannot grow, so too large a pool is refused before it waits."""
    have = ray.cluster_resources()
    num_gpus = recipe.gpus_per_worker
    if num_gpus is None:
        num_gpus = 1.0 if have.get("GPU", 0) >= 1 else 0.0
    for name, each, setting in [("CPU", recipe.cpus_per_worker, "cpus"), ("GPU", num_gpus, "gpus")]:
        wanted = each * recipe.num_workers
        if recipe.ray.address == "local" and wanted > have.get(name, 0):
            raise RecipeError(
                f"num_workers={recipe.num_workers} x {setting}_per_worker={each:g} needs {wanted:g} {name}s, this Ray "
                f"has {have.get(name, 0):g}. Lower num_workers or {setting}_per_worker."
            )
    return num_gpus


def _embed_parts(
    recipe: EmbedRecipe,
    num_gpus: float,
    folder: Location,
    plan: EmbedPlan,
    pending: Sequence[Part],
    progress: Callable[[str], None],
) -> dict[int, dict[str, object]]:
    """Hand the pending parts to the actors; report each part as it is done. Returns their entries by index."""
    if not pending:
        return {}
    by_index = {part.index: part for part in pending}
    constructor = {
        "recipe": recipe,
        "folder": folder,
        "model": Location(recipe.model),
        "corpus": Location(recipe.corpus),
        "parts": plan.parts,
        "cells": plan.cells,
        "names": plan.names,
        # not "auto": an actor without a GPU of its own may still see the machine's
        "device": "cuda" if num_gpus else "cpu",
    }
    total, done, started = sum(part.sequences for part in pending), 0, time.monotonic()
    entries: dict[int, dict[str, object]] = {}
    dataset = ray.data.from_items(
        [{"part": part.index} for part in pending], override_num_blocks=min(len(pending), MAX_BLOCKS)
    ).map_batches(
        PartWriter,  # pyright: ignore[reportArgumentType]
        fn_constructor_kwargs=constructor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(recipe.num_workers, len(pending))),
        num_cpus=recipe.cpus_per_worker,
        num_gpus=num_gpus,
    )
    for row in dataset.iter_rows():
        if row["error"]:
            raise getattr(errors, row["error_kind"], EpilmError)(
                f"{row['error']}\nThe finished parts are kept in {folder}; go on with --resume."
            )
        part = by_index[row["part"]]
        entries[part.index] = {"path": part.path, "rows": part.rows, "sha256": row["sha256"]}
        done += part.sequences
        rate = done / (time.monotonic() - started)
        progress(f"embed: {done:,} of {total:,} windows ({100 * done / total:.0f} %), {rate:,.0f} windows/s")
    return entries
