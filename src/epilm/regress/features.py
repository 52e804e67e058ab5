"""Feature sets of intervals: k-mer counts, state fractions, embeddings, and several side by side.

The maths is pure (:func:`kmer_counts`, :func:`state_fractions`); a *maker* is what a Ray task carries: it names its
columns, which need no data, and reads the features of any slice of the rows table (see :mod:`epilm.regress.rows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from epilm.corpus.gather import ContigReader
from epilm.genome.dna import decode_dna, reverse_complement
from epilm.tokens.kmers_numpy import kmer_tokens
from epilm.tokens.vocab import NUM_SPECIAL


class Maker(Protocol):
    """Reads the features of rows; picklable."""

    @property
    def columns(self) -> list[str]:
        """Unique names of the D features."""
        ...

    def read(self, rows: pd.DataFrame) -> np.ndarray:
        """Features of n rows -> float32 [n, D]."""
        ...


def kmer_counts(dna: np.ndarray, k: int) -> np.ndarray:
    """Overlapping k-mers of n sequences -> float32 [n, 4^k], column = sum of base_i 4^(k-1-i) (A0 C1 G2 T3).

    Args:
        dna: uint8 [n, length_bp], N = 4; a k-mer with an N is not counted. Shorter than k: all zero.
    """
    num, length_bp = dna.shape
    width = 4**k
    if length_bp < k or num == 0:
        return np.zeros((num, width), np.float32)
    # a column for the specials, to which every k-mer with an N goes, is dropped after the count
    ids = kmer_tokens(dna, k=k, stride=1).astype(np.int64)
    column = np.where(ids >= NUM_SPECIAL, ids - NUM_SPECIAL, width)
    column += np.arange(num, dtype=np.int64)[:, None] * (width + 1)
    counts = np.bincount(column.ravel(), minlength=num * (width + 1)).reshape(num, width + 1)
    return counts[:, :width].astype(np.float32)


def state_fractions(
    states: np.ndarray, phase_bp: np.ndarray, *, length_bp: int, bin_bp: int, num_states: int
) -> np.ndarray:
    """Share of an interval's bases in each state -> float32 [n, num_states + 1]; the last column is "no data".

    Args:
        states: uint8 [n, bins] of one cell type; bin j covers bases ``j * bin_bp - phase`` on. 255 = no data.
        phase_bp: [n], bases from the start of bin 0 to the interval's start.
    """
    num, num_bins = states.shape
    edges = np.arange(num_bins + 1) * bin_bp - np.asarray(phase_bp, np.int64)[:, None]
    weights = np.diff(np.clip(edges, 0, length_bp), axis=1)  # [n, bins] bases of the interval in each bin
    column = np.minimum(states, num_states).astype(np.int64)
    column += np.arange(num, dtype=np.int64)[:, None] * (num_states + 1)
    covered = np.bincount(column.ravel(), weights=weights.ravel(), minlength=num * (num_states + 1))
    return (covered.reshape(num, num_states + 1) / length_bp).astype(np.float32)


@dataclass(frozen=True)
class KmerMaker:
    """Counts of the k-mers on the interval's own strand."""

    reader: ContigReader
    k: int

    @property
    def columns(self) -> list[str]:
        digits = np.arange(4**self.k)[:, None] // 4 ** np.arange(self.k - 1, -1, -1) % 4
        letters = decode_dna(digits.astype(np.uint8).ravel())
        return [letters[i : i + self.k] for i in range(0, len(letters), self.k)]

    def read(self, rows: pd.DataFrame) -> np.ndarray:
        unique, row_of = unique_intervals(rows)  # the cell types of a locus share its DNA
        result = np.empty((len(unique), 4**self.k), np.float32)
        for length_bp, index in by_length(unique):
            part = unique.iloc[index]
            dna = self.reader.gather(part["chrom"].to_numpy(object), part["start"].to_numpy(), length_bp).dna
            minus = (part["strand"] == "-").to_numpy()
            dna[minus] = reverse_complement(dna[minus])
            result[index] = kmer_counts(dna, self.k)
        return result[row_of]


@dataclass(frozen=True)
class StateMaker:
    """State fractions in the row's cell type; the strand does not matter to them."""

    reader: ContigReader

    @property
    def columns(self) -> list[str]:
        return [*self.reader.manifest.state_names, "no_data"]

    def read(self, rows: pd.DataFrame) -> np.ndarray:
        manifest = self.reader.manifest
        unique, row_of = unique_intervals(rows)
        cell_of = {name: position for position, name in enumerate(manifest.cell_types)}
        cells = rows["cell_type"].map(cell_of).to_numpy()
        result = np.empty((len(rows), len(self.columns)), np.float32)
        for length_bp, index in by_length(unique):
            part = unique.iloc[index]
            gathered = self.reader.gather(part["chrom"].to_numpy(object), part["start"].to_numpy(), length_bp)
            assert gathered.states is not None  # checked before any worker starts
            place = np.full(len(unique), -1)
            place[index] = np.arange(len(index))
            mine = np.flatnonzero(place[row_of] >= 0)
            source = place[row_of[mine]]
            result[mine] = state_fractions(
                gathered.states[source, cells[mine]],
                gathered.phase[source],
                length_bp=length_bp,
                bin_bp=manifest.bin_bp,
                num_states=len(manifest.state_names),
            )
        return result


@dataclass(frozen=True)
class JoinMaker:
    """Feature sets side by side; their columns get the label in front."""

    makers: Mapping[str, Maker]

    @property
    def columns(self) -> list[str]:
        return [f"{label}.{column}" for label, maker in self.makers.items() for column in maker.columns]

    def read(self, rows: pd.DataFrame) -> np.ndarray:
        return np.concatenate([maker.read(rows) for maker in self.makers.values()], axis=1)


def unique_intervals(rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct (chrom, start, end, strand) of the rows, and which of them each row is -> int64 [n]."""
    keys = ["chrom", "start", "end", "strand"]
    row_of = rows.groupby(keys, sort=False).ngroup().to_numpy()
    first = np.unique(row_of, return_index=True)[1]
    return rows[keys].iloc[first].reset_index(drop=True), row_of


def by_length(intervals: pd.DataFrame) -> Iterator[tuple[int, np.ndarray]]:
    """(length_bp, positions) of the intervals of each length: a gather reads one length at a time."""
    lengths = (intervals["end"] - intervals["start"]).to_numpy()
    for length_bp in np.unique(lengths):
        yield int(length_bp), np.flatnonzero(lengths == length_bp)
