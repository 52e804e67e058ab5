"""Peaks as data frames: BED, narrowPeak and the output of IDR, a file each or many in one table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.contigs import match_contigs
from epilm.genome.intervals import rename

_BED3 = [("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
_REST = [(name, pa.string()) for name in ("name", "score", "strand", "signal", "p", "q", "summit")]
_TABLE = [("cell_type", pa.string()), ("target", pa.string()), ("set", pa.string())]
_NARROW_PEAK = 10
"""Columns of narrowPeak; the last is the summit, counted from the peak's start."""
_IDR = 20
"""Columns of what IDR writes for two replicates: those of narrowPeak, then its own."""
SETS = ("conservative", "relaxed")


def read_peaks(path: str | Path) -> pd.DataFrame:
    """BED, narrowPeak or IDR output (plain or compressed) -> columns chrom, start, end, summit (-1 where it has none).

    Column 10 is a summit in files of 10 or 20 columns alone: BED12 has the number of blocks there.

    Raises:
        GenomeError: not such a file, or a peak without a base.
    """
    data = files.read_text(path)
    width = _width(data)
    summits = width in (_NARROW_PEAK, _IDR)
    table = files.read_columns(path, _BED3 + (_REST if summits else []), what="BED or narrowPeak", data=data)
    if width < 3:
        raise GenomeError(f"{path} is not BED: it has {width} column(s); chrom, start and end are needed.")
    frame = table.to_pandas()
    frame["summit"] = _summits(frame, path) if summits else np.int64(-1)
    return _checked(frame[["chrom", "start", "end", "summit"]], path)


def read_peak_table(path: str | Path) -> pd.DataFrame:
    """A table of peaks of many (cell type, factor) -> columns cell_type, target, set, chrom, start, end, summit.

    Rows may differ in their columns behind those of narrowPeak (the relaxed sets of ENCODE-DREAM come from IDR).

    Raises:
        GenomeError: not such a table, a set of another name, or a peak without a base.
    """
    data = files.read_text(path)
    widest = len(_TABLE) + _NARROW_PEAK
    data = re.sub(rb"^((?:[^\t\n]*\t){%d}[^\t\n]*)\t[^\n]*" % (widest - 1), rb"\1", data, flags=re.MULTILINE)
    table = files.read_columns(path, _TABLE + _BED3 + _REST, what="peak table", data=data)
    if table.num_columns < len(_TABLE + _BED3):
        raise GenomeError(
            f"{path} is not a table of peaks: it has {table.num_columns} column(s). Cell type, factor, set "
            "(conservative or relaxed), chrom, start and end are needed."
        )
    frame = table.to_pandas()
    wrong = frame.index[~frame["set"].isin(SETS)]
    if len(wrong):
        raise GenomeError(
            f"{path}: the set of row {wrong[0] + 1} is {frame['set'][wrong[0]]!r}. Allowed: {', '.join(SETS)}."
        )
    unnamed = frame.index[(frame["cell_type"] == "") | (frame["target"] == "")]
    if len(unnamed):
        raise GenomeError(f"{path}: row {unnamed[0] + 1} names no cell type or no factor. Both are needed.")
    frame["summit"] = _summits(frame, path) if "summit" in frame else np.int64(-1)
    return _checked(frame[["cell_type", "target", "set", "chrom", "start", "end", "summit"]], path)


def _width(data: bytes) -> int:
    """Columns of the first row that is no comment."""
    for line in data.split(b"\n", 200)[:200]:
        if line.strip() and not line.startswith((b"#", b"track", b"browser")):
            return len(line.split(b"\t")) if b"\t" in line else len(line.split())
    return 0


def _summits(frame: pd.DataFrame, path: str | Path) -> np.ndarray:
    numbers = pd.to_numeric(frame["summit"], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.floor(numbers)))
    if len(wrong):
        raise GenomeError(
            f"{path}: the summit of row {wrong[0] + 1} is {frame['summit'].iloc[wrong[0]]!r}. In narrowPeak column 10 "
            "is a whole number, -1 where there is no summit."
        )
    return numbers.astype(np.int64)


def _checked(frame: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    bad = frame.index[(frame["start"] < 0) | (frame["end"] <= frame["start"])]
    if len(bad):
        row = frame.loc[bad[0]]
        raise GenomeError(
            f"{path}: {row['chrom']}:{row['start']}-{row['end']} (row {bad[0] + 1}) is not a peak. "
            "BED is 0-based half-open: 0 <= start < end."
        )
    length = frame["end"] - frame["start"]
    off = frame.index[frame["summit"] > length]
    if len(off):
        row = frame.loc[off[0]]
        raise GenomeError(
            f"{path}: the summit of {row['chrom']}:{row['start']}-{row['end']} (row {off[0] + 1}) is {row['summit']}, "
            "outside of the peak. In narrowPeak column 10 counts from the peak's start."
        )
    # ENCODE-DREAM has peaks trimmed so that their summit is the base behind the last
    return frame.assign(summit=np.minimum(frame["summit"], length - 1))


def place_regions(
    frame: pd.DataFrame, manifest: CorpusManifest, *, source: str, outside: Literal["error", "leave_out"] = "leave_out"
) -> tuple[pd.DataFrame, dict[str, str], str]:
    """Regions (chrom, start, end) in the names of a corpus.

    Args:
        source: the file's name, for messages.
        outside: see :func:`refuse_past_end`.

    Returns:
        The rows on contigs of the corpus with ``contig``, the contig's number there (regions outside of what the corpus
        holds of a contig among them: they cover no bin, but may do so once resized); name in the file -> name in the
        corpus; and how many regions do not lie on the corpus, in words ("" for none).

    Raises:
        GenomeError: no contig has a name that the corpus knows, or a region lies past the end of its contig.
    """
    reference: dict[str, int | None] = {contig.name: None for contig in manifest.contigs}
    theirs: dict[str, int | None] = dict.fromkeys(frame["chrom"].unique())
    names = match_contigs(reference, theirs, source=source)
    placed = rename(frame, names)
    contig = pd.Index(list(reference)).get_indexer(pd.Index(placed["chrom"].to_numpy(object)))
    begins, ends = (np.array([getattr(c, key) for c in manifest.contigs], np.int64) for key in ("start_bp", "end_bp"))
    start, end = placed["start"].to_numpy(np.int64), placed["end"].to_numpy(np.int64)
    past = start >= ends[contig]
    if outside == "error":
        refuse_past_end(placed[past], manifest, source=source)
    elsewhere, off = len(frame) - len(placed), int(np.count_nonzero(past | (end <= begins[contig])))
    words = [f"{elsewhere:,} are on contigs that the corpus lacks"] if elsewhere else []
    words += [f"{off:,} outside of what it holds of a contig"] if off else []
    return placed.assign(contig=contig), names, f"{source}: of {len(frame):,}, {' and '.join(words)}" if words else ""


def refuse_past_end(rows: pd.DataFrame, manifest: CorpusManifest, *, source: str) -> None:
    """Refuse rows (chrom in the corpus' names, start, end) past the end of a contig.

    A contig of which the corpus is known to hold a piece (``start_bp`` above 0) is of another length, so that what lies
    past the piece tells nothing.

    Raises:
        GenomeError: naming the first.
    """
    whole = {contig.name: contig.end_bp for contig in manifest.contigs if contig.start_bp == 0}
    wrong = rows[rows["chrom"].isin(list(whole))]
    if len(wrong):
        row = wrong.iloc[0]
        more = f" (the first of {len(wrong):,})" if len(wrong) > 1 else ""
        raise GenomeError(
            f"{source}: {row['chrom']}:{row['start']}-{row['end']}{more} lies past the end of {row['chrom']}, which has "
            f"{whole[row['chrom']]:,} bp in the corpus ({manifest.assembly}). Use labels of the same assembly; where the "
            "corpus holds only the beginning of the contig, set outside: leave_out."
        )
