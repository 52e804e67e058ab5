"""``epilm embed``: embeddings of any intervals by Ray Data, to parquet.

The driver checks everything and cuts the intervals into parts, which a pool of actors writes (``predict.pool``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from epilm.predict.parts import (
    EMBEDDINGS_FILE,
    count_without_dna,
    finished_parts,
    remove_leftovers,
    write_intervals,
)
from epilm.predict.plan import EmbedPlan, check_embed, leak_summary
from epilm.predict.pool import gpus_per_actor, write_parts
from epilm.predict.recipe import EmbedRecipe
from epilm.predict.worker import PartWriter
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "embed"


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
    num_gpus = gpus_per_actor(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    write_intervals(run.folder, plan.intervals)
    remove_leftovers(run.folder)
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
        "cells": plan.cells,
        "names": plan.names,
    }
    entries = done | write_parts(
        PartWriter, constructor, recipe, num_gpus, pending, folder=run.folder, label=STAGE, progress=progress
    )
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
