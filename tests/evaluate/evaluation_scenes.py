"""A toy genome with labels and submissions, small enough to score by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.manifest import CorpusContig, CorpusManifest, CorpusRegion, write_manifest
from epilm.evaluate.predictions import (
    PredictedColumn,
    PredictedPart,
    Predictions,
    predictions_schema,
    write_predictions,
)
from epilm.labels.grid import BinGrid
from epilm.models.provenance import Provenance
from epilm.storage import Location

CELLS = ("HepG2", "K562")
TARGETS = ("CTCF", "MAX")
CONTIGS = {"chr1": 60_000, "chr2": 90_000, "chr3": 47_030}


def write_corpus(folder: Path, *, held_out_regions: Sequence[CorpusRegion] = ()) -> CorpusManifest:
    """A corpus of three contigs without data; chr2 and chr3 are held out."""
    contigs = [CorpusContig(name=n, end_bp=e, split="train" if n == "chr1" else "held_out") for n, e in CONTIGS.items()]
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=tuple(contigs),
        window_bp=1000,
        step_bp=500,
        bin_bp=200,
        chunk_bp=10_000,
        max_n_fraction=0.5,
        cell_types=CELLS,
        held_out_regions=tuple(held_out_regions),
        files=(),
    )
    write_manifest(Location(str(folder.mkdir(parents=True) or folder)), manifest)
    return manifest


def write_peaks(folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Settings of labels from conservative and relaxed peaks of every pair, but for MAX in K562."""
    rng = np.random.default_rng(seed)
    files: dict[str, Any] = {}
    for target in TARGETS:
        for cell in CELLS:
            if (target, cell) == ("MAX", "K562"):
                continue
            paths = {}
            for kind, num in (("conservative", 12), ("relaxed", 20)):
                lines = []
                for name, length in CONTIGS.items():
                    start = np.sort(rng.integers(0, length - 500, num))
                    lines += [f"{name}\t{s}\t{s + 300}\n" for s in start]
                path = folder / f"{target}.{cell}.{kind}.bed"
                path.write_text("".join(lines))
                paths[kind] = str(path)
            files.setdefault(target, {})[cell] = paths
    blacklist = folder / "blacklist.bed"
    blacklist.write_text("chr2\t30000\t31000\nchr3\t0\t2000\n")
    return {"kind": "peaks", "files": files, "blacklist": str(blacklist)}


def provenance(**changes: Any) -> Provenance:
    """A model trained on chr1 with the states of K562."""
    given = {
        "assembly": "toy1",
        "trained_contigs": ("chr1",),
        "trained_cell_types": ("K562",),
        "corpus_fingerprint": None,
        "window_bp": 1000,
        "bin_bp": 200,
        "k": 6,
        "stride": 1,
        "step": 1,
        "seed": 0,
        "recipe_fingerprint": None,
    }
    return Provenance.model_validate(given | changes)


def write_scores(
    folder: Path,
    grid: BinGrid,
    scores: Mapping[tuple[str, str], np.ndarray],
    *,
    contigs: Sequence[str] = ("chr2", "chr3"),
    rows_per_part: int = 700,
    **changes: Any,
) -> str:
    """A folder of predictions of some contigs from scores over the whole grid, float32 [num_bins] a pair."""
    folder.mkdir(parents=True)
    parts = []
    for name in contigs:
        contig = grid.contig(name)
        for low in range(0, contig.num_bins, rows_per_part):
            high = min(low + rows_per_part, contig.num_bins)
            place = slice(contig.offset + low, contig.offset + high)
            columns = {f"p{i}": values[place] for i, values in enumerate(scores.values())}
            start = contig.first_bp + grid.step_bp * np.arange(low, high)
            path = f"{name}-{low}.parquet"
            pq.write_table(
                pa.table({"start": start, **columns}, schema=predictions_schema(len(columns))), folder / path
            )
            parts.append(PredictedPart(path=path, chrom=name, first_start=int(start[0]), rows=high - low, sha256=""))
    given = {
        "assembly": "toy1",
        "bin_bp": grid.bin_bp,
        "step_bp": grid.step_bp,
        "columns": tuple(PredictedColumn(cell_type=cell, target=target) for cell, target in scores),
        "parts": tuple(parts),
        "contig_lengths": {name: CONTIGS[name] for name in contigs},
        "predictor": "model",
        "provenance": provenance(),
    }
    write_predictions(Location(str(folder)), Predictions.model_validate(given | changes))
    return str(folder)


def write_submission(path: Path, grid: BinGrid, scores: np.ndarray, contigs: Sequence[str] = ("chr2", "chr3")) -> str:
    """An ENCODE-DREAM submission file, gzip by its suffix."""
    import gzip

    lines = []
    for name in contigs:
        contig = grid.contig(name)
        for i in range(contig.num_bins):
            start = contig.first_bp + i * grid.step_bp
            score = scores[contig.offset + i]
            if not np.isnan(score):
                lines.append(f"{name}\t{start}\t{start + grid.bin_bp}\t{score:.9g}\n")
    text = "".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)
