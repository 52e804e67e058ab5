"""Windows on the alternative haplotype, and the bins in which a variant is looked at. Pure numpy.

Shapes: N = (variant, window) pairs, V = variants, L = bases of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from epilm.genome.dna import encode_dna


@dataclass(frozen=True)
class Alleles:
    """What each of n variants puts in the place of what; all arrays int64 [n] unless said."""

    start: np.ndarray
    """First base of the reference allele, 0-based."""
    ref_bp: np.ndarray
    alt_bp: np.ndarray
    alt_at: np.ndarray
    """Where the alternative allele begins in ``codes``."""
    codes: np.ndarray
    """uint8, the alternative alleles of all variants one behind the other, A0 C1 G2 T3."""

    @classmethod
    def of(cls, start: np.ndarray, ref_bp: np.ndarray, alt: pa.ChunkedArray | pa.Array) -> Alleles:
        """From the column of alternative alleles, letters A C G T."""
        texts = alt.to_pylist()
        alt_bp = np.fromiter(map(len, texts), np.int64, len(texts))
        return cls(
            start=np.asarray(start, np.int64),
            ref_bp=np.asarray(ref_bp, np.int64),
            alt_bp=alt_bp,
            alt_at=np.cumsum(alt_bp) - alt_bp,
            codes=encode_dna("".join(texts)),
        )

    def take(self, rows: np.ndarray) -> Alleles:
        return Alleles(self.start[rows], self.ref_bp[rows], self.alt_bp[rows], self.alt_at[rows], self.codes)

    @property
    def margins_bp(self) -> tuple[int, int]:
        """Bases that :func:`alternative_dna` needs before and behind a window: what insertions push out, deletions pull in."""
        grown = self.alt_bp - self.ref_bp
        return int(max(grown.max(initial=0), 0)), int(max((-grown).max(initial=0), 0))


def alternative_dna(dna: np.ndarray, window_start: np.ndarray, alleles: Alleles) -> np.ndarray:
    """The windows as they are on a haplotype with the alternative allele -> uint8 [N, L].

    A window keeps its place left of the variant. Right of an insertion everything moves on, and what reaches past the window
    is cut; right of a deletion the genome moves in from behind the window. So base ``i`` is base ``window_start + i`` of the
    haplotype, whose bases before the variant are numbered as in the reference.

    Args:
        dna: uint8 [N, before + L + behind], the reference with ``alleles.margins_bp`` bases round each window.
        window_start: int64 [N], first base of each window; it may lie behind the variant's start.
        alleles: one for each window.
    """
    before, behind = alleles.margins_bp
    place = np.arange(dna.shape[1] - before - behind)
    past = (window_start - alleles.start)[:, None] + place  # bases behind the allele's first
    inside = (past >= 0) & (past < alleles.alt_bp[:, None])
    moved = np.where(past >= alleles.alt_bp[:, None], (alleles.ref_bp - alleles.alt_bp)[:, None], 0)
    result = np.take_along_axis(dna, place + before + moved, axis=1)
    row, column = np.nonzero(inside)
    result[row, column] = alleles.codes[alleles.alt_at[row] + past[row, column]]
    return result


@dataclass(frozen=True)
class VariantBins:
    """The bins of V variants, ascending within a variant."""

    offsets: np.ndarray
    """int64 [V + 1]: bins ``offsets[v]`` to ``offsets[v + 1]`` are variant ``v``'s."""
    start: np.ndarray
    """int64 [N], first base of each bin."""
    nearest: np.ndarray
    """int64 [V]: which of ``start`` is the bin whose centre is nearest to the variant's middle."""

    @property
    def variant(self) -> np.ndarray:
        """Variant of each bin, int64 [N]."""
        return np.repeat(np.arange(len(self.nearest)), np.diff(self.offsets))


def variant_bins(
    start: np.ndarray,
    end: np.ndarray,
    first_bin: np.ndarray,
    last_bin: np.ndarray,
    *,
    bin_bp: int,
    step_bp: int,
    every: bool,
) -> VariantBins:
    """The bins that share a base with each variant (``every``), or the nearest one alone.

    The nearest bin is always among them: behind a contig's last whole bin it may be one beside the variant. Of two that are
    equally near the left one is taken.

    Args:
        start, end: the changed reference bases, 0-based half-open, int64 [V].
        first_bin, last_bin: starts of the contig's first and last bin, multiples of ``step_bp``, int64 [V].
    """
    twice = start + end - bin_bp - step_bp  # half-steps are integers in units of half a base
    nearest = np.clip(-(-twice // (2 * step_bp)) * step_bp, first_bin, last_bin)
    low = high = nearest
    if every:
        low = np.minimum(nearest, np.maximum(((start - bin_bp) // step_bp + 1) * step_bp, first_bin))
        high = np.maximum(nearest, np.minimum((end - 1) // step_bp * step_bp, last_bin))
    count = (high - low) // step_bp + 1
    offsets = np.concatenate([[0], np.cumsum(count)])
    ordinal = np.arange(offsets[-1]) - np.repeat(offsets[:-1], count)
    return VariantBins(
        offsets=offsets,
        start=np.repeat(low, count) + ordinal * step_bp,
        nearest=offsets[:-1] + (nearest - low) // step_bp,
    )


def largest_change(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Row of ``values`` [N, ...] whose absolute value is largest among each variant's bins -> int64 [V, ...].

    NaN is passed over; the first bin where all are NaN, and the first of equals.
    """
    size = np.nan_to_num(np.abs(values), nan=-1.0)
    most = np.maximum.reduceat(size, offsets[:-1], axis=0)
    row = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    found = np.where(size == np.repeat(most, np.diff(offsets), axis=0), row, len(values))
    return np.minimum.reduceat(found, offsets[:-1], axis=0)
