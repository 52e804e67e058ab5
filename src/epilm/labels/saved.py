"""The folder of ``epilm labels``: ``labels.parquet``, the runs of bins, and ``labels.json``, what they are.

A row of ``labels.parquet`` is a run on one contig: ``cell_type``, ``target``, ``code`` (see :mod:`epilm.labels.codes`),
``chrom``, ``start`` (int64, first base of the first bin, 0-based) and ``num_bins`` (int64). Runs of code EXCLUDED hold
for all pairs and have no cell type and no target; what has no row is unbound.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from epilm.config import Config
from epilm.corpus.manifest import CorpusManifest, SourceFile
from epilm.errors import CorpusError
from epilm.genome.contigs import match_contigs
from epilm.labels.codes import AMBIGUOUS, BOUND, EXCLUDED, UNMEASURED
from epilm.labels.gathered import Gathered, Names
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import LabelSet, Pair
from epilm.labels.recipe import SavedLabels
from epilm.labels.runs import Runs
from epilm.storage import Location

LABELS_FILE = "labels.json"
RUNS_FILE = "labels.parquet"
FORMAT_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("cell_type", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("code", pa.uint8(), nullable=False),
        pa.field("chrom", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("num_bins", pa.int64(), nullable=False),
    ]
)


class LabelledContig(Config):
    """A contig of the corpus that was labelled, and the part of it that has bins (0-based half-open)."""

    name: str
    start_bp: int
    end_bp: int


class PairCounts(Config):
    """Bins of one measured (cell type, factor)."""

    cell_type: str
    target: str
    bound: int
    ambiguous: int
    unbound: int
    unlabelled: int
    excluded: int


class LabelsManifest(Config):
    """``labels.json``."""

    format_version: Literal[1] = FORMAT_VERSION
    assembly: str
    bin_bp: int
    step_bp: int
    contigs: tuple[LabelledContig, ...]
    num_bins: int
    cell_types: tuple[str, ...]
    targets: tuple[str, ...]
    counts: tuple[PairCounts, ...]
    sources: tuple[SourceFile, ...]
    """The files that the labels come from, with checksums."""
    settings: dict[str, Any]
    """The ``labels`` of the recipe: the rule."""
    corpus_fingerprint: str
    labels_fingerprint: str
    """Of :meth:`LabelSet.fingerprint`."""
    sha256: str
    """Checksum of ``labels.parquet``."""


def write_labels(
    folder: Location,
    labels: LabelSet,
    manifest: CorpusManifest,
    *,
    sources: tuple[SourceFile, ...],
    settings: dict[str, Any],
) -> LabelsManifest:
    """Write both files; ``labels.json`` comes last, so that a folder without it is known to be unfinished."""
    sink = pa.BufferOutputStream()
    pq.write_table(runs_table(labels), sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    (folder / RUNS_FILE).write_bytes(data)
    description = LabelsManifest(
        assembly=manifest.assembly,
        bin_bp=labels.grid.bin_bp,
        step_bp=labels.grid.step_bp,
        contigs=tuple(LabelledContig(name=c.name, start_bp=c.start_bp, end_bp=c.end_bp) for c in manifest.contigs),
        num_bins=labels.grid.num_bins,
        cell_types=labels.cell_types,
        targets=labels.targets,
        counts=tuple(PairCounts.model_validate(row) for row in labels.counts().to_dict("records")),
        sources=sources,
        settings=settings,
        corpus_fingerprint=manifest.fingerprint(),
        labels_fingerprint=labels.fingerprint(),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    (folder / LABELS_FILE).write_text(description.model_dump_json(indent=1) + "\n")
    return description


def runs_table(labels: LabelSet) -> pa.Table:
    """The rows of ``labels.parquet``."""
    every: list[tuple[Pair, int, Runs]] = [(("", ""), EXCLUDED, labels.excluded)]
    for pair in labels.bound:
        every += [(pair, BOUND, labels.bound[pair]), (pair, AMBIGUOUS, labels.ambiguous[pair])]
        every += [(pair, UNMEASURED, labels.unlabelled[pair])] if pair in labels.unlabelled else []
    split = [labels.grid.split(runs) for _, _, runs in every]
    rows = [len(start) for _, start, _ in split]
    contig, start, num_bins = (np.concatenate(column) for column in zip(*split, strict=True))
    columns = [
        np.repeat(np.array([pair[0] for pair, _, _ in every], object), rows),
        np.repeat(np.array([pair[1] for pair, _, _ in every], object), rows),
        np.repeat(np.array([code for _, code, _ in every], np.uint8), rows),
        labels.grid.names[contig],
        start,
        num_bins,
    ]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def read_labels_manifest(folder: Location) -> LabelsManifest:
    """Read ``labels.json``.

    Raises:
        CorpusError: no finished labels lie there.
    """
    path = folder / LABELS_FILE
    if not path.exists():
        what = f"has no {LABELS_FILE} (unfinished? go on with --resume)" if folder.exists() else "does not exist"
        raise CorpusError(f"no labels at {folder}: the folder {what}. Give the folder of an `epilm labels` run.")
    try:
        return LabelsManifest.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CorpusError(f"{path} is no description of labels of format {FORMAT_VERSION}: {error}") from error


def check_saved(config: SavedLabels, manifest: CorpusManifest) -> LabelsManifest:
    """The description of labels that fit a corpus.

    Raises:
        CorpusError: unfinished, or of another assembly.
    """
    saved = read_labels_manifest(Location(config.path))
    if saved.assembly != manifest.assembly:
        raise CorpusError(
            f"{config.path} labels {saved.assembly}, but the corpus {manifest.name} is {manifest.assembly}. Use labels of "
            "the same assembly."
        )
    return saved


def measured_in_saved(saved: LabelsManifest) -> dict[str, tuple[str, ...]]:
    """Target -> its cell types."""
    return {t: tuple(row.cell_type for row in saved.counts if row.target == t) for t in saved.targets}


def gather_saved(
    config: SavedLabels, saved: LabelsManifest, manifest: CorpusManifest, grid: BinGrid, names: Names
) -> Gathered:
    """Runs of a folder on the bins of a corpus, which may hold other contigs or pieces than that they were made for.

    Raises:
        CorpusError: the file is damaged, or labels no bin of the corpus.
    """
    table = _read_runs(Location(config.path) / RUNS_FILE, saved)
    reference: dict[str, int | None] = {contig.name: None for contig in manifest.contigs}
    matches = match_contigs(reference, {contig.name: None for contig in saved.contigs}, source=config.path)
    number = pd.Index(list(reference)).get_indexer(pd.Index([matches.get(c.name) for c in saved.contigs], dtype=object))
    index = pd.Index([contig.name for contig in saved.contigs])

    def placed(rows: pd.DataFrame) -> Runs:
        contig = number[index.get_indexer(pd.Index(rows["chrom"].to_numpy(object)))]
        return grid.place(contig, rows["start"].to_numpy(np.int64), rows["num_bins"].to_numpy(np.int64))

    found = Gathered(contig_names={config.path: matches})
    found.excluded = _unlabelled_bins(saved, number, grid, config, manifest, found)
    for row in saved.counts:
        if row.cell_type in names.cells and row.target in names.targets:
            pair = (names.cells[row.cell_type], row.target)
            found.bound[pair] = found.ambiguous[pair] = Runs.empty()
    tables = {BOUND: found.bound, AMBIGUOUS: found.ambiguous, UNMEASURED: found.unlabelled}
    for (cell, target, code), rows in table.groupby(["cell_type", "target", "code"], sort=False):
        pair = (names.cells.get(str(cell), ""), str(target))
        if code == EXCLUDED:
            found.excluded = found.excluded.union(placed(rows))
        elif pair in found.bound:
            tables[int(str(code))][pair] = placed(rows)
    return found


def _unlabelled_bins(
    saved: LabelsManifest,
    number: np.ndarray,
    grid: BinGrid,
    config: SavedLabels,
    manifest: CorpusManifest,
    found: Gathered,
) -> Runs:
    """Bins of the corpus that the folder has none of."""
    spans = [(contig.name, contig.start_bp, contig.end_bp) for contig in saved.contigs]
    theirs = BinGrid.of_spans(spans, saved.bin_bp, saved.step_bp)
    contig, start_bp, num_bins = theirs.split(theirs.all_bins())
    lost = grid.all_bins().subtract(grid.place(number[contig], start_bp, num_bins))
    if lost.size == grid.num_bins:
        raise CorpusError(
            f"{config.path} labels no bin of what the corpus {manifest.name} holds: "
            + ", ".join(f"{c.name}:{c.start_bp}-{c.end_bp}" for c in manifest.contigs[:5])
            + ". Write labels of this corpus (epilm labels)."
        )
    if lost:
        found.notes.append(f"{config.path} has no labels of {lost.size:,} of {grid.num_bins:,} bins of the corpus")
    return lost


def _read_runs(location: Location, saved: LabelsManifest) -> pd.DataFrame:
    damaged = f"{location} is missing or damaged. Write the labels again (epilm labels ... --overwrite)."
    if not location.exists():
        raise CorpusError(damaged)
    data = location.read_bytes()
    if hashlib.sha256(data).hexdigest() != saved.sha256:
        raise CorpusError(damaged)
    return pq.read_table(pa.py_buffer(data), schema=SCHEMA).to_pandas()
