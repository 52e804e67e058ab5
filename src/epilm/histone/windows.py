"""Values of a bigWig in bins that are aligned to genes' TSS, not to a grid of the genome.

A window has an even number of bins, half of them upstream. In the direction of transcription the TSS is the first base of
bin ``num_bins / 2``, on both strands: a window is ``[tss - half, tss + half)`` on ``+`` and its mirror image
``[tss + 1 - half, tss + 1 + half)`` on ``-``. Values come in the direction of transcription, bin 0 furthest upstream. (The
files that DeepDiff published are in the genome's order on both strands: their H3K36me3, a mark of gene bodies, lies in the
later bins of genes on ``+`` and in the earlier bins of genes on ``-``.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from epilm.errors import GenomeError
from epilm.genome.bigwig import bin_values
from epilm.histone.recipe import BinConfig, Missing

_GAP_BP = 2_000
"""Windows that lie closer than this are read in one go: a second read costs more than these bases."""
_STRETCH_BP = 1 << 22
"""Windows of one go begin in a stretch of this length: what is in memory at a time, besides a window."""
_BASES_AT_A_TIME = 1 << 20


def window_starts(tss: np.ndarray, plus: np.ndarray, window_bp: int) -> np.ndarray:
    """First base of each window, in the genome's order -> int64 [n]; below 0 where it leaves the contig.

    Args:
        tss: int [n], 0-based.
        plus: bool [n], whether the gene is on the plus strand.
    """
    return np.where(plus, tss, np.asarray(tss) + 1).astype(np.int64) - window_bp // 2


def group_windows(starts: np.ndarray, window_bp: int) -> list[tuple[int, int]]:
    """Cut sorted windows into runs [first, last) that are read in one go: neighbours that overlap, or nearly."""
    if not len(starts):
        return []
    apart = np.diff(starts) > window_bp + _GAP_BP
    edges = np.flatnonzero(apart | (np.diff(starts // _STRETCH_BP) > 0)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(starts)], strict=True))


def read_bases(track: Any, contig: str, start_bp: int, end_bp: int) -> np.ndarray:
    """Values of a stretch -> float32 [end_bp - start_bp]; NaN where the track has none or the contig has ended.

    Args:
        track: of :func:`epilm.genome.bigwig.open_big`.
    """
    values = np.full(end_bp - start_bp, np.nan, np.float32)
    first, last = max(start_bp, 0), min(end_bp, track.chroms(contig))
    if first < last:
        values[first - start_bp : last - start_bp] = track.values(contig, first, last, numpy=True)
    return values


def mark_values(
    track: Any, contig: str, starts: np.ndarray, plus: np.ndarray, config: BinConfig, *, source: str
) -> np.ndarray:
    """Bins of a track in each window, in the direction of transcription -> float32 [n, bins].

    What a window holds does not depend on which windows are read with it.

    Args:
        starts: int64 [n], rising; see :func:`window_starts`.
        plus: bool [n].
        source: names the track in messages.

    Raises:
        GenomeError: a base of a window is negative or infinite, or has no value where ``missing`` is ``error``.
    """
    binned = np.empty((len(starts), config.num_bins), np.float32)
    at_a_time = max(_BASES_AT_A_TIME // config.window_bp, 1)
    length_bp = track.chroms(contig)
    for first, last in group_windows(starts, config.window_bp):
        begin = int(starts[first])
        values = read_bases(track, contig, begin, int(starts[last - 1]) + config.window_bp)
        windows = np.lib.stride_tricks.sliding_window_view(values, config.window_bp)
        for low in range(first, last, at_a_time):
            high = min(low + at_a_time, last)
            bases = windows[starts[low:high] - begin]
            _check_bases(bases, starts[low:high], length_bp, config.missing, where=f"{source}: {contig}")
            binned[low:high] = bin_bases(bases, config)
    binned[~plus] = binned[~plus, ::-1]
    return binned


def bin_bases(bases: np.ndarray, config: BinConfig) -> np.ndarray:
    """Windows' bases -> bins, both in the genome's order; sums in double precision.

    Args:
        bases: float32 [n, window_bp], NaN where there is no value.

    Returns:
        float32 [n, bins], without NaN.
    """
    if config.missing != "skip":
        bases = np.nan_to_num(bases, nan=0.0)
    if config.statistic == "sum":
        binned = bases.reshape(-1, config.bin_bp).astype(np.float64).sum(axis=1).astype(np.float32)
    else:
        binned = bin_values(bases.reshape(-1), config.bin_bp, config.statistic)
    binned = np.nan_to_num(binned, nan=0.0)
    return (np.rint(binned) if config.round else binned).reshape(len(bases), config.num_bins)


def _check_bases(bases: np.ndarray, starts: np.ndarray, length_bp: int, missing: Missing, *, where: str) -> None:
    with np.errstate(invalid="ignore"):
        wrong = (bases < 0) | np.isinf(bases)
    if wrong.any():
        row, base = np.argwhere(wrong)[0].tolist()
        raise GenomeError(
            f"{where}:{starts[row] + base + 1:,} has the value {bases[row, base]:g}. Levels of a mark are finite and not "
            "negative: give counts, coverage, fold change or -log10 p, not a logarithm of a ratio."
        )
    if missing != "error":
        return
    place = starts[:, None] + np.arange(bases.shape[1])
    gaps = np.isnan(bases) & (place >= 0) & (place < length_bp)
    if gaps.any():
        row, base = np.argwhere(gaps)[0].tolist()
        raise GenomeError(
            f"{where}:{place[row, base] + 1:,} has no value, nor have {int(gaps.sum()) - 1:,} other bases of the windows "
            "beside it. Set missing to zero (the track leaves 0 out) or skip."
        )
