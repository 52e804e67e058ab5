"""``epilm embed``: embeddings of any intervals by Ray Data, to parquet.

The driver checks everything, cuts the intervals into parts and hands the parts' numbers to a fixed pool of actors; an
actor writes its parts itself, so that no embedding travels through the object store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from epilm.config import fingerprint
from epilm.corpus.intervals import load_intervals
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import CorpusError, EpilmError, RecipeError
from epilm.genome.intervals import overlap_bp
from epilm.models.provenance import Provenance
from epilm.predict.encode import Intervals
from epilm.predict.load import (
    WEIGHTS_FILE,
    TokenLayout,
    check_fits_corpus,
    choose_cells,
    read_model_info,
)
from epilm.predict.parts import (
    EMBEDDINGS_FILE,
    Part,
    count_without_dna,
    finished_parts,
    plan_parts,
    write_intervals,
)
from epilm.predict.recipe import EmbedRecipe
from epilm.predict.tiles import count_tokens
from epilm.predict.worker import PartWriter, interval_columns
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
    manifest = read_manifest(Location(recipe.corpus))
    info = read_model_info(Location(recipe.model))
    check_fits_corpus(info.provenance, manifest, corpus=recipe.corpus)
    cells = choose_cells(recipe.cell_types, info.provenance, manifest)
    names = tuple(manifest.cell_types[cell] for cell in cells) or ("",)
    table = load_intervals(recipe.intervals, manifest)
    columns = interval_columns(table)
    check_intervals(columns, table.column("id").to_pylist(), info.layout, recipe.pooling)
    num_gpus = _resources(recipe)
    fingerprints = _data_fingerprints(recipe, manifest, table)
    parts = plan_parts(
        columns.end - columns.start,
        layout=info.layout,
        num_cells=len(names),
        pooling=recipe.pooling,
        sequences_per_part=recipe.sequences_per_part,
    )
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=fingerprints)
    write_intervals(run.folder, table)
    done = finished_parts(run.folder, parts) if run.resumed else {}
    kept = f"; {len(done)} of them were done before" if done else ""
    progress(f"embed: {len(columns.chrom):,} intervals x {len(names)} cell type(s) in {len(parts)} part(s){kept}")
    started = time.monotonic()
    constructor = {"recipe": recipe, "folder": run.folder, "parts": parts, "cells": cells, "names": names}
    pending = [part for part in parts if part.index not in done]
    entries = done | _embed_parts(recipe, num_gpus, constructor, pending, progress)
    seconds = time.monotonic() - started
    summary = {
        "pooling": recipe.pooling,
        "dim": info.layout.hidden_size,
        "num_intervals": len(columns.chrom),
        "num_rows": sum(part.rows for part in parts),
        "cell_types": list(names) if cells else [],
        "intervals_without_dna": count_without_dna(run.folder, parts),
        "leak": leak_summary(columns, names if cells else (), info.provenance),
    }
    description = {
        **summary,
        "token_bp": {"k": info.layout.k, "stride": info.layout.stride},
        "dtype": recipe.dtype,
        "model_path": str(Location(recipe.model)),
        "model_sha256": fingerprints["model"],
        "model": info.provenance.model_dump(mode="json"),
        "corpus": str(Location(recipe.corpus)),
        "corpus_fingerprint": fingerprints["corpus"],
        "files": [entries[part.index] for part in parts],
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


def check_intervals(intervals: Intervals, ids: Sequence[str], layout: TokenLayout, pooling: str) -> None:
    """Refuse intervals that have no token, or more than one window where the pooling needs a single CLS.

    Raises:
        CorpusError: no interval at all.
        RecipeError: naming how many there are and the first of them.
    """
    if not len(ids):
        raise CorpusError("no interval is left to embed. Check `intervals` against the corpus' contigs.")
    num_tokens = count_tokens(intervals.end - intervals.start, k=layout.k, stride=layout.stride)
    short = np.flatnonzero(num_tokens == 0)
    if len(short):
        raise RecipeError(
            f"{len(short)} of {len(ids)} intervals are shorter than the model's k-mers of {layout.k} bp, e.g. "
            f"{_show(intervals, ids, short[0])}. Widen or remove them."
        )
    long = np.flatnonzero(num_tokens > layout.max_tokens)
    if pooling == "cls" and len(long):
        raise RecipeError(
            f"pooling=cls needs intervals of one window, at most {layout.window_bp + layout.stride - 1} bp, but "
            f"{len(long)} of {len(ids)} are longer, e.g. {_show(intervals, ids, long[0])}. Use pooling=mean or tokens."
        )


def _show(intervals: Intervals, ids: Sequence[str], row: int) -> str:
    start, end = int(intervals.start[row]), int(intervals.end[row])
    return f"{ids[row]!r} ({intervals.chrom[row]}:{start}-{end}, {end - start} bp)"


def leak_summary(intervals: Intervals, cell_types: Sequence[str], provenance: Provenance) -> dict[str, Any]:
    """Which of the intervals and cell types the model was trained on; readers of the embeddings check it."""
    seen = np.isin(intervals.chrom.astype(str), list(provenance.trained_contigs))
    if provenance.trained_regions is not None:
        import pandas as pd

        regions = pd.DataFrame(list(provenance.trained_regions), columns=["chrom", "start", "end"])
        seen &= overlap_bp(intervals.chrom, intervals.start, intervals.end, regions) > 0
    return {
        "trained_contigs": list(provenance.trained_contigs),
        "intervals_on_trained": int(seen.sum()),
        "trained_cell_types": [name for name in cell_types if name in provenance.trained_cell_types],
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


def _data_fingerprints(recipe: EmbedRecipe, manifest: CorpusManifest, intervals: pa.Table) -> dict[str, str]:
    """Identity of the inputs, compared when a run resumes."""
    return {
        "corpus": manifest.fingerprint(),
        "model": (Location(recipe.model) / WEIGHTS_FILE).sha256(),
        "intervals": fingerprint([column.to_pylist() for column in intervals.columns]),
    }


def _embed_parts(
    recipe: EmbedRecipe,
    num_gpus: float,
    constructor: dict[str, Any],
    pending: Sequence[Part],
    progress: Callable[[str], None],
) -> dict[int, dict[str, object]]:
    """Hand the pending parts to the actors; report each part as it is done. Returns their entries by index."""
    if not pending:
        return {}
    by_index = {part.index: part for part in pending}
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
    try:
        for row in dataset.iter_rows():
            part = by_index[row["part"]]
            entries[part.index] = {"path": part.path, "rows": part.rows, "sha256": row["sha256"]}
            done += part.sequences
            rate = done / (time.monotonic() - started)
            progress(f"embed: {done:,} of {total:,} windows ({100 * done / total:.0f} %), {rate:,.0f} windows/s")
    except Exception as error:
        raise _user_error(error) or error from error
    return entries


def _user_error(error: BaseException) -> EpilmError | None:
    """The user's error inside what Ray makes of an exception in an actor."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        item = todo.pop()
        if item is None or id(item) in seen:
            continue
        if isinstance(item, EpilmError):
            return item
        seen.add(id(item))
        todo += [item.__cause__, item.__context__, getattr(item, "cause", None)]
    return None
