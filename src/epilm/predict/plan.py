"""Everything about an embed run that is settled before Ray does anything: a recipe, checked against its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from epilm.corpus.intervals import load_intervals
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import CorpusError, RecipeError
from epilm.genome.intervals import overlaps
from epilm.models.fits_corpus import check_fits_corpus
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE, check_weights
from epilm.models.provenance import PROVENANCE_FILE, Provenance, match_trained
from epilm.predict.encode import Intervals
from epilm.predict.load import ModelInfo, TokenLayout, choose_cells, read_model_info
from epilm.predict.parts import Part, plan_parts
from epilm.predict.recipe import EmbedRecipe
from epilm.predict.tiles import count_tokens
from epilm.predict.worker import interval_columns
from epilm.storage import Location


@dataclass(frozen=True)
class EmbedPlan:
    """A recipe whose model, corpus, cell types and intervals are there and fit each other."""

    manifest: CorpusManifest
    info: ModelInfo
    intervals: pa.Table
    """id, chrom, start, end, strand; in the order of the output."""
    left_out: dict[str, int]
    """Intervals that do not lie on the corpus, by reason."""
    cells: tuple[int, ...]
    """Indices into ``manifest.cell_types``; empty for a model of DNA alone."""
    names: tuple[str, ...]
    """Column ``cell_type`` of an interval's rows: the names of ``cells``, or one empty text."""
    parts: list[Part]
    fingerprints: dict[str, str]
    """Identity of model, corpus and intervals, compared when a run resumes."""

    @property
    def columns(self) -> Intervals:
        return interval_columns(self.intervals)


def check_embed(recipe: EmbedRecipe) -> EmbedPlan:
    """Refuse what cannot be embedded; nothing is started and nothing is written.

    Raises:
        EpilmError: model, corpus, intervals or cell types are wrong or do not fit each other.
    """
    corpus, model = Location(recipe.corpus), Location(recipe.model)
    manifest = read_manifest(corpus)
    info = read_model_info(model)
    check_weights(model, info.config)
    check_fits_corpus(info.provenance, manifest, corpus=recipe.corpus)
    cells = choose_cells(recipe.cell_types, info.provenance, manifest)
    table = load_intervals(recipe.intervals, manifest, corpus=corpus).combine_chunks()
    columns = interval_columns(table)
    check_intervals(columns, table.column("id").to_pylist(), info.layout, recipe.pooling)
    parts = plan_parts(
        columns.end - columns.start,
        layout=info.layout,
        num_cells=max(1, len(cells)),
        pooling=recipe.pooling,
        sequences_per_part=recipe.sequences_per_part,
    )
    return EmbedPlan(
        manifest=manifest,
        info=info,
        intervals=table,
        left_out={key.decode(): int(count) for key, count in (table.schema.metadata or {}).items() if int(count)},
        cells=cells,
        names=tuple(manifest.cell_types[cell] for cell in cells) or ("",),
        parts=parts,
        fingerprints=_fingerprints(model, manifest, table),
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


def leak_summary(
    intervals: Intervals, cell_types: Sequence[str], provenance: Provenance, contigs: Sequence[str]
) -> dict[str, Any]:
    """Which of the intervals and cell types the model was trained on; readers of the embeddings check it.

    Args:
        contigs: names of the corpus that the intervals lie on. The model may have learned from another corpus of the
            assembly, whose names differ (``chrII``, ``II``); they are matched as everywhere. A model
            of ``*`` has seen them all.
    """
    names = match_trained(provenance.trained_contigs, contigs, source=f"the model's {PROVENANCE_FILE}")
    seen = np.isin(intervals.chrom.astype(str), list(names.values()))
    if provenance.trained_regions is not None:
        regions = pd.DataFrame(
            [(names[chrom], start, end) for chrom, start, end in provenance.trained_regions if chrom in names],
            columns=pd.Index(["chrom", "start", "end"]),
        )
        seen &= overlaps(intervals.chrom, intervals.start, intervals.end, regions)
    return {
        "trained_contigs": list(provenance.trained_contigs),
        "intervals_on_trained": int(seen.sum()),
        "trained_cell_types": [name for name in cell_types if name in provenance.trained_cell_types],
    }


def _fingerprints(model: Location, manifest: CorpusManifest, intervals: pa.Table) -> dict[str, str]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, intervals.schema.remove_metadata()) as stream:
        stream.write_table(intervals.replace_schema_metadata(None))
    return {
        "corpus": manifest.fingerprint(),
        "model": (model / WEIGHTS_FILE).sha256(),
        "model_config": (model / CONFIG_FILE).sha256(),
        "intervals": hashlib.sha256(sink.getvalue()).hexdigest()[:16],
    }
