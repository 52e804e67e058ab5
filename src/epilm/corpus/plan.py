"""How a corpus is cut, as pure arithmetic: contigs into parts and chunks, windows out of them, their shuffled order.

Everything here is a function of the recipe and of the genome, never of the number of workers, so that a build gives the
same bytes on a laptop and on a cluster, uninterrupted or resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from epilm.corpus.manifest import CorpusContig, CorpusRegion
from epilm.genome.intervals import covered_bp

SPLITS = ("train", "held_out")
TRAIN, HELD_OUT = 0, 1

KEPT = 0
DROP_REASONS = ("straddles_split", "n_fraction", "blacklist", "no_state")
"""Why a window is left out; code 1, 2, ... in this order, and the first that applies counts."""

PART_BYTES = 96 << 20
"""Most bytes that a task holds of one part, chunks and windows together, before copies."""
MAX_CHUNKS_PER_PART = 256

Regions = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Contig -> sorted, disjoint (start, end) int64 arrays."""

_NO_REGIONS = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def by_contig(regions: Sequence[CorpusRegion]) -> Regions:
    """Regions of a manifest (sorted and disjoint within a contig) as arrays."""
    names = dict.fromkeys(region.chrom for region in regions)
    mine = {name: [region for region in regions if region.chrom == name] for name in names}
    return {name: (np.array([r.start for r in rs]), np.array([r.end for r in rs])) for name, rs in mine.items()}


@dataclass(frozen=True)
class Part:
    """A run of chunks of one contig: one file of ``contigs/``, one task of the build."""

    contig: str
    number: int
    """0, 1, ... within the contig."""
    start_bp: int
    """A multiple of ``bin_bp``; up to ``bin_bp - 1`` bases before the first base of a contig's piece."""
    end_bp: int


def chunks_per_part(*, chunk_bp: int, window_bp: int, step_bp: int, row_bytes: int, chunk_bytes: int) -> int:
    """Chunks of a part such that its chunks and windows stay within ``PART_BYTES``, whatever step and cells are."""
    windows = -(-chunk_bp // step_bp)
    return max(1, min(MAX_CHUNKS_PER_PART, PART_BYTES // (chunk_bytes + windows * row_bytes)))


def layout_parts(contigs: Sequence[CorpusContig], *, chunk_bp: int, bin_bp: int, num_chunks: int) -> tuple[Part, ...]:
    """Cut every contig into parts of ``num_chunks`` chunks.

    Chunk edges are multiples of ``chunk_bp`` in the contig's own coordinates, so that a piece of a contig is cut as the
    whole contig is.
    """
    part_bp = chunk_bp * num_chunks
    parts = []
    for contig in contigs:
        first = contig.start_bp // bin_bp * bin_bp
        edges = np.arange(first // chunk_bp * chunk_bp + part_bp, contig.end_bp, part_bp).tolist()
        starts, ends = [first, *edges], [*edges, contig.end_bp]
        parts += [Part(contig.name, i, start, end) for i, (start, end) in enumerate(zip(starts, ends, strict=True))]
    return tuple(parts)


def chunk_edges(start_bp: int, end_bp: int, chunk_bp: int) -> list[tuple[int, int]]:
    """(start, end) of the chunks of a part; all but the first and the last are ``chunk_bp`` long."""
    inner = np.arange(start_bp // chunk_bp * chunk_bp + chunk_bp, end_bp, chunk_bp).tolist()
    return list(zip([start_bp, *inner], [*inner, end_bp], strict=True))


def window_starts(start_bp: int, end_bp: int, contig: CorpusContig, *, window_bp: int, step_bp: int) -> np.ndarray:
    """Starts (int64) of the windows that begin in [start_bp, end_bp) and lie wholly in what the contig's file holds.

    Starts are multiples of ``step_bp`` in the contig's coordinates.
    """
    first = max(start_bp, contig.start_bp)
    last = min(end_bp - 1, contig.end_bp - window_bp)
    return np.arange(-(-first // step_bp) * step_bp, last + 1, step_bp, dtype=np.int64)


def fraction_within(flags: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean of ``flags`` [num] over [first, last) of each window -> float32 [n]; sums are exact integers."""
    total = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
    return ((total[last] - total[first]) / (last - first)).astype(np.float32)


def assign_split(starts: np.ndarray, window_bp: int, contig: CorpusContig, held_out: Regions) -> np.ndarray:
    """Split of each window -> int8 [n]: TRAIN, HELD_OUT, or -1 where a window straddles a held-out region's edge."""
    if contig.split == "held_out":
        return np.full(len(starts), HELD_OUT, np.int8)
    covered = covered_bp(starts, starts + window_bp, *held_out.get(contig.name, _NO_REGIONS))
    return np.where(covered == 0, TRAIN, np.where(covered == window_bp, HELD_OUT, -1)).astype(np.int8)


def touches(starts: np.ndarray, window_bp: int, contig: str, regions: Regions) -> np.ndarray:
    """Whether each window shares a base with a region -> bool [n]."""
    return covered_bp(starts, starts + window_bp, *regions.get(contig, _NO_REGIONS)) > 0


def drop_reason(*tests: np.ndarray) -> np.ndarray:
    """Code of the first test (in the order of ``DROP_REASONS``) that each window fails, else ``KEPT`` -> int8 [n]."""
    assert len(tests) == len(DROP_REASONS)
    failed = np.stack(tests)
    return np.where(failed.any(axis=0), failed.argmax(axis=0) + 1, KEPT).astype(np.int8)


@lru_cache(maxsize=len(SPLITS))
def _permutation(seed: int, split: int, num: int) -> np.ndarray:
    seeds = np.random.SeedSequence(entropy=seed, spawn_key=(split,))
    positions = np.random.Generator(np.random.Philox(seeds)).permutation(num)
    positions.flags.writeable = False
    return positions


@dataclass(frozen=True)
class ShufflePlan:
    """Where every kept window goes: a seeded permutation of each split, cut into files.

    Windows are numbered through all parts in genome order, separately in each split. The permutation is computed once
    in every process that needs it (3 million windows take 0.1 s), so that nothing large is shipped.
    """

    seed: int
    rows_per_file: int
    kept: np.ndarray
    """int64 [num_parts, num_splits]: kept windows of each part."""

    def num_files(self, split: int) -> int:
        return -(-int(self.kept[:, split].sum()) // self.rows_per_file)

    @property
    def files(self) -> tuple[tuple[int, int, int], ...]:
        """(split, number, rows) of every windows file; its index here is the file's id."""
        files = []
        for split in range(len(SPLITS)):
            total = int(self.kept[:, split].sum())
            for number in range(self.num_files(split)):
                files.append((split, number, min(self.rows_per_file, total - number * self.rows_per_file)))
        return tuple(files)

    def permutation(self, split: int) -> np.ndarray:
        """Shuffled position of each window of a split -> int64 [num_windows]."""
        return _permutation(self.seed, split, int(self.kept[:, split].sum()))

    def destinations(self, part: int, window_split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """File id and row in the file of the windows of a part, given their splits (int8 [n]) in genome order."""
        file_id = np.empty(len(window_split), np.int64)
        row = np.empty(len(window_split), np.int64)
        base = 0
        for split in range(len(SPLITS)):
            mine = window_split == split
            assert mine.sum() == self.kept[part, split]
            first = int(self.kept[:part, split].sum())
            position = self.permutation(split)[first : first + int(self.kept[part, split])]
            file_id[mine] = base + position // self.rows_per_file
            row[mine] = position % self.rows_per_file
            base += self.num_files(split)
        return file_id, row

    def bucket_offsets(self) -> np.ndarray:
        """int64 [num_parts, num_files + 1]: where each file's rows begin among the rows of a part sorted by file."""
        counts = [np.zeros((len(self.kept), 0), np.int64)]
        for split in range(len(SPLITS)):
            file_of = self.permutation(split) // self.rows_per_file
            part_of = np.repeat(np.arange(len(self.kept)), self.kept[:, split])
            num_files = self.num_files(split)
            pairs = np.bincount(part_of * num_files + file_of, minlength=len(self.kept) * num_files)
            counts.append(pairs.reshape(len(self.kept), num_files))
        counted = np.concatenate(counts, axis=1)
        return np.concatenate([np.zeros((len(counted), 1), np.int64), np.cumsum(counted, axis=1)], axis=1)
