"""bigWig to bins: the values of every base, reshaped. Exact, unlike ``stats()``, which from 400 bp on reads zoom levels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyBigWig

from epilm.errors import GenomeError
from epilm.genome import files

Statistic = Literal["mean", "max", "min"]
NanPolicy = Literal["keep", "zero"]
_BLOCK_BP = 1 << 19  # bases in memory at a time; 2 MB of float32 is read and binned a third faster than 16 MB
_CACHED = 1 << 17  # values averaged at a time
_HEADER_BYTES, _ZOOM_BYTES = 64, 24
_SUMMARY_AT, _SUMMARY = 44, "Qdddd"  # where its offset stands; bases, lowest, highest, sum, sum of squares


@contextmanager
def open_big(path: str | Path, kind: Literal["bigWig", "bigBed"]) -> Iterator[Any]:
    """A pyBigWig handle of a file that is whole and of the kind.

    Raises:
        GenomeError: absent, of another format, truncated or damaged (also where that shows while reading).
    """
    path = files.require_kind(path, kind)
    _check_whole(path)
    try:
        handle = pyBigWig.open(str(path))
        if handle is None:
            raise RuntimeError("its header or contig list cannot be read")
        try:
            yield handle
        finally:
            handle.close()
    except (RuntimeError, OverflowError) as error:
        raise GenomeError(f"{path} is truncated or damaged: {error}. Get the {kind} file again.") from error


def _check_whole(path: Path) -> None:
    """The index lies behind the data, and the zoom levels behind it: a file that ends before them was cut off."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        head = stream.read(_HEADER_BYTES)
        if len(head) == _HEADER_BYTES:
            order = "<" if head[0] in (0x26, 0xEB) else ">"
            zooms = struct.unpack_from(f"{order}H", head, 6)[0]
            offsets = list(struct.unpack_from(f"{order}3Q", head, 8))  # contig list, data, index
            levels = stream.read(_ZOOM_BYTES * zooms)
            if len(levels) == _ZOOM_BYTES * zooms:
                for at in range(0, len(levels), _ZOOM_BYTES):
                    offsets += struct.unpack_from(f"{order}2Q", levels, at + 8)  # the level's data and index
                if max(offsets) < size:
                    return
    raise GenomeError(f"{path} is truncated: its {size:,} bytes end before its index. Get it again.")


def bigwig_contigs(path: str | Path) -> dict[str, int]:
    """Contig name -> length in bp of a bigWig file, in the file's order."""
    with open_big(path, "bigWig") as track:
        return {str(name): int(length) for name, length in track.chroms().items()}


@dataclass(frozen=True)
class TrackSummary:
    """What a bigWig file says of all its values."""

    num_bases: int
    """Bases with a value."""
    lowest: float
    sum_of_squares: float
    """0 where all are 0. (The highest value stands there as well, but libBigWig misses one that comes first.)"""


def bigwig_summary(path: str | Path) -> TrackSummary | None:
    """The summary that stands in the file; None where it has none (it is optional).

    pyBigWig's ``header()`` cuts these values to whole numbers.
    """
    with open_big(path, "bigWig"), open(path, "rb") as stream:
        head = stream.read(_HEADER_BYTES)
        order = "<" if head[0] in (0x26, 0xEB) else ">"
        (at,) = struct.unpack_from(f"{order}Q", head, _SUMMARY_AT)
        stream.seek(at)
        summary = stream.read(struct.calcsize(_SUMMARY))
    if not at or len(summary) < struct.calcsize(_SUMMARY):
        return None
    num_bases, lowest, _, _, sum_of_squares = struct.unpack(order + _SUMMARY, summary)
    return TrackSummary(num_bases, lowest, sum_of_squares)


def bin_track(
    path: str | Path,
    contig: str,
    start_bp: int,
    end_bp: int,
    bin_bp: int,
    *,
    statistic: Statistic = "mean",
    nan_policy: NanPolicy = "keep",
) -> np.ndarray:
    """Bin a stretch of a track -> float32 [ceil((end_bp - start_bp) / bin_bp)].

    The statistic is over the bases with a value; the last bin may be shorter and is over its own bases. A bin without
    any value is NaN (``keep``) or 0 (``zero``).

    Args:
        contig: its name in the file.

    Raises:
        GenomeError: an unreadable file, an unknown contig, or a stretch that leaves the contig.
    """
    if bin_bp <= 0:
        raise GenomeError(f"bin_bp={bin_bp}: bins need at least 1 bp.")
    result = np.full(max(-(-(end_bp - start_bp) // bin_bp), 0), np.nan, np.float32)
    with open_big(path, "bigWig") as track:
        length_bp = track.chroms(contig)
        if length_bp is None:
            raise GenomeError(f"{path} has no contig {contig!r}; it has {', '.join(list(track.chroms())[:8])}.")
        if not 0 <= start_bp <= end_bp <= length_bp:
            raise GenomeError(f"{path}: {contig}:{start_bp}-{end_bp} is not within the contig's {length_bp:,} bp.")
        block_bp = max(_BLOCK_BP // bin_bp, 1) * bin_bp
        for at in range(start_bp, end_bp, block_bp):
            stop = min(at + block_bp, end_bp)
            values = np.asarray(track.values(contig, at, stop, numpy=True), np.float32)
            first = (at - start_bp) // bin_bp
            binned = bin_values(values, bin_bp, statistic)
            result[first : first + binned.size] = binned
    return np.nan_to_num(result, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf) if nan_policy == "zero" else result


def bin_values(values: np.ndarray, bin_bp: int, statistic: Statistic) -> np.ndarray:
    """Values of bases, NaN = none, float32 [num_bp] -> float32 [ceil(num_bp / bin_bp)]. Sums in double precision."""
    whole = values.size // bin_bp
    parts = [_reduce(values[: whole * bin_bp].reshape(whole, bin_bp), statistic)] if whole else []
    if values.size % bin_bp:
        parts.append(_reduce(values[None, whole * bin_bp :], statistic))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _reduce(rows: np.ndarray, statistic: Statistic) -> np.ndarray:
    if statistic == "mean":
        return _means(rows)
    if statistic == "max":
        return np.fmax.reduce(rows, axis=1)  # fmax and fmin pass over NaN, and give NaN where there is nothing else
    return np.fmin.reduce(rows, axis=1)


def _means(rows: np.ndarray) -> np.ndarray:
    """Mean over the values of each row, NaN where it has none; some rows at a time, so that the copies stay in cache."""
    means = np.full(len(rows), np.nan)
    step = max(_CACHED // rows.shape[1], 1)
    for at in range(0, len(rows), step):
        part = rows[at : at + step]
        wide, gaps = part.astype(np.float64), np.isnan(part)
        wide[gaps] = 0
        count = part.shape[1] - np.count_nonzero(gaps, axis=1)
        np.divide(wide.sum(axis=1), count, out=means[at : at + step], where=count > 0)
    return means.astype(np.float32)
