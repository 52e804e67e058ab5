"""Intervals of interest on a corpus: promoters of genes, the rows of a BED file, or the corpus's own windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from epilm.config import Config
from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError
from epilm.genome.annotation import read_bed, read_genes
from epilm.genome.contigs import match_contigs
from epilm.genome.intervals import rename
from epilm.storage import Location

INTERVAL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("chrom", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("strand", pa.string(), nullable=False),
    ]
)


class PromoterIntervals(Config):
    """A stretch round the transcription start of every gene, along the gene's strand."""

    kind: Literal["promoters"] = "promoters"
    genes: str
    """GTF, BED6 or SGD table."""
    upstream_bp: int = Field(default=500, ge=0)
    """Bases before the start, seen along the gene's strand."""
    downstream_bp: int = Field(default=500, ge=0)
    """Bases from the start on, seen along the gene's strand."""
    feature: str | None = None
    """Type of the rows to take (``ORF`` of an SGD table, ``gene`` of a GTF); the format's usual one where absent."""


class BedIntervals(Config):
    """The rows of a BED file; the name column is the id where it tells the rows apart."""

    kind: Literal["bed"] = "bed"
    path: str
    """BED3 to BED6 (plain or gzip)."""


class WindowIntervals(Config):
    """The windows that the corpus holds, in genome order."""

    kind: Literal["windows"] = "windows"
    split: Literal["train", "held_out"] = "held_out"
    """Which of them."""


IntervalsConfig = Annotated[PromoterIntervals | BedIntervals | WindowIntervals, Field(discriminator="kind")]


def load_intervals(
    config: PromoterIntervals | BedIntervals | WindowIntervals,
    manifest: CorpusManifest,
    *,
    corpus: Location | None = None,
) -> pa.Table:
    """Intervals in the corpus's contig names: id, chrom, start, end, strand (``+``, ``-`` or ``.``), 0-based half-open.

    Intervals may reach past the end of a contig (readers pad), but those wholly outside of what the corpus holds are
    left out and counted: in the schema's metadata, ``unknown_contig`` (contigs that the corpus lacks) and ``outside``
    (before or after the contig, or the piece of it).

    Args:
        corpus: the corpus's folder; only ``windows`` needs it.

    Raises:
        GenomeError: the file is not what it should be.
        CorpusError: none of the intervals lies in the corpus, or two have one id.
    """
    if isinstance(config, WindowIntervals):
        if corpus is None:
            raise CorpusError("intervals of kind `windows` are read from the corpus: give its folder.")
        return _to_table(_windows(config.split, manifest, corpus), {"unknown_contig": 0, "outside": 0})
    if isinstance(config, PromoterIntervals):
        path, frame = config.genes, _promoters(config)
    else:
        path, frame = config.path, _bed(config)
    if not len(frame):
        raise CorpusError(f"{path} holds no intervals (feature: {getattr(config, 'feature', None) or 'any'}).")
    _check_ids(frame, path)
    kept, skipped = _within(frame, manifest, path)
    return _to_table(kept, skipped)


def _promoters(config: PromoterIntervals) -> pd.DataFrame:
    if config.upstream_bp + config.downstream_bp == 0:
        raise CorpusError("promoters of no length: give upstream_bp or downstream_bp a value above 0.")
    genes = read_genes(config.genes, feature=config.feature)
    if not isinstance(genes, pd.DataFrame):
        genes = genes.to_pandas()
    tss = genes["tss"].to_numpy(np.int64)
    reverse = genes["strand"].to_numpy() == "-"
    # the base at `tss` is the first downstream one, on either strand
    start = np.where(reverse, tss + 1 - config.downstream_bp, tss - config.upstream_bp)
    end = start + config.upstream_bp + config.downstream_bp
    return pd.DataFrame(
        {"id": genes["gene_id"], "chrom": genes["chrom"], "start": start, "end": end, "strand": genes["strand"]}
    )


def _bed(config: BedIntervals) -> pd.DataFrame:
    bed = read_bed(config.path)
    empty = np.flatnonzero((bed["end"] <= bed["start"]).to_numpy())
    if len(empty):
        row = bed.iloc[int(empty[0])]
        raise CorpusError(
            f"{config.path}: row {int(empty[0]) + 1} ({row['chrom']}:{row['start']}-{row['end']}) is empty "
            f"({len(empty)} such rows). Intervals need end > start."
        )
    place = bed["chrom"].astype(str) + ":" + bed["start"].astype(str) + "-" + bed["end"].astype(str)
    named = bed["name"].astype(str)
    usable = bool((named != "").all() and (named != ".").all() and named.is_unique)
    ids = named if usable else place
    return pd.DataFrame(
        {"id": ids, "chrom": bed["chrom"], "start": bed["start"], "end": bed["end"], "strand": bed["strand"]}
    )


def _windows(split: str, manifest: CorpusManifest, corpus: Location) -> pd.DataFrame:
    tables = []
    for file in manifest.select("windows", split):
        location = corpus / file.path
        tables.append(pq.read_table(location.path, filesystem=location.fs, columns=["chrom", "start"]))
    if not tables:
        raise CorpusError(f"the corpus {corpus} has no {split} windows; choose another split.")
    frame = pa.concat_tables(tables).to_pandas()
    order = {contig.name: number for number, contig in enumerate(manifest.contigs)}
    frame = frame.sort_values(["chrom", "start"], key=lambda c: c.map(order) if c.name == "chrom" else c)
    frame = frame.reset_index(drop=True)
    frame["end"] = frame["start"] + manifest.window_bp
    frame["id"] = frame["chrom"].astype(str) + ":" + frame["start"].astype(str) + "-" + frame["end"].astype(str)
    return frame.assign(strand=".")


def _within(frame: pd.DataFrame, manifest: CorpusManifest, path: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows on the corpus, in its names, and how many were left out for which reason."""
    corpus_names: Mapping[str, None] = dict.fromkeys(contig.name for contig in manifest.contigs)
    theirs: Mapping[str, None] = dict.fromkeys(frame["chrom"].astype(str).unique())
    try:
        names = match_contigs(corpus_names, theirs, source=path)
    except ValueError as error:
        raise CorpusError(f"none of the intervals lies in the corpus {manifest.name}: {error}") from error
    known = rename(frame.assign(chrom=frame["chrom"].astype(str)), names)
    first = known["chrom"].map({contig.name: contig.start_bp for contig in manifest.contigs})
    last = known["chrom"].map({contig.name: contig.end_bp for contig in manifest.contigs})
    kept = known[(known["end"] > first) & (known["start"] < last)]
    if not len(kept):
        raise CorpusError(
            f"none of the {len(frame)} intervals of {path} lies in what the corpus {manifest.name} holds: "
            + ", ".join(f"{c.name}:{c.start_bp}-{c.end_bp}" for c in manifest.contigs[:5])
            + ". Use a file of the same assembly."
        )
    skipped = {"unknown_contig": len(frame) - len(known), "outside": len(known) - len(kept)}
    return kept.reset_index(drop=True), skipped


def _check_ids(frame: pd.DataFrame, path: str) -> None:
    repeated = frame["id"][frame["id"].duplicated()]
    if len(repeated):
        raise CorpusError(
            f"{path}: {repeated.nunique()} ids appear twice, e.g. {repeated.iloc[0]!r}. An id names one interval."
        )


def _to_table(frame: pd.DataFrame, skipped: Mapping[str, int]) -> pa.Table:
    columns = [pa.array(frame[field.name].to_numpy(), field.type) for field in INTERVAL_SCHEMA]
    metadata = {key: str(count) for key, count in skipped.items()}
    return pa.Table.from_arrays(columns, schema=INTERVAL_SCHEMA.with_metadata(metadata))
