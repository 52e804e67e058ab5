"""Genes and regions from GTF, BED and SGD tables as data frames, 0-based half-open."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome import files

_BED = [
    ("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64()),
    ("name", pa.string()), ("score", pa.string()), ("strand", pa.string()),
]  # fmt: skip
_FILL = {"name": "", "score": "", "strand": "."}


def read_bed(path: str | Path) -> pd.DataFrame:
    """BED3 to BED6+ (plain or compressed) -> columns chrom, start, end, name, score (float, NaN where absent), strand.

    Raises:
        GenomeError: not BED, or an interval that ends before it starts.
    """
    table = files.read_columns(path, _BED, what="BED")
    if table.num_columns < 3:
        raise GenomeError(f"{path} is not BED: it has {table.num_columns} columns; chrom, start and end are needed.")
    frame = table.to_pandas()
    for name, value in _FILL.items():
        if name not in frame:
            frame[name] = value
    frame["score"] = pd.to_numeric(frame["score"], errors="coerce")
    strange = ~frame["strand"].isin(["+", "-", "."])
    frame.loc[strange, "strand"] = "."
    bad = frame.index[(frame["start"] < 0) | (frame["end"] < frame["start"])]
    if len(bad):
        row = frame.loc[bad[0]]
        raise GenomeError(
            f"{path}: {row['chrom']}:{row['start']}-{row['end']} (row {bad[0] + 1}) is not an interval. "
            "BED is 0-based: start <= end."
        )
    return frame


def read_blacklist(path: str | Path) -> pd.DataFrame:
    """Regions to leave out (BED3+) -> columns chrom, start, end."""
    return read_bed(path)[["chrom", "start", "end"]]
