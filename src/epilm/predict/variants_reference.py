"""Whether the reference alleles of variants are what the corpus has there, and what it looks like where they are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError
from epilm.genome.dna import BASE_N, decode_dna, encode_dna
from epilm.storage import Location

_BATCH_BASES = 1 << 24
_HINT_ROWS = 10_000


@dataclass(frozen=True)
class ReferenceCheck:
    """Of n variants: both bool [n]."""

    differs: np.ndarray
    """The corpus has another base."""
    unknown: np.ndarray
    """The corpus has no known base at one of the allele's places, and no other one."""


def dna_reader(corpus: Location, manifest: CorpusManifest) -> ContigReader:
    """A reader of the corpus' DNA alone: states of a hundred cell types and signals are not read from disk."""
    return ContigReader(corpus, manifest.model_copy(update={"cell_types": (), "signals": ()}))


def check_reference(reader: ContigReader, chrom: np.ndarray, start: np.ndarray, ref: pa.ChunkedArray) -> ReferenceCheck:
    """Compare reference alleles with the corpus; alleles of like length are read together.

    Args:
        chrom, start: contig (the corpus' names) and first base of each allele, 0-based [n].
        ref: the alleles, letters A C G T.
    """
    codes, at, width = _flat_codes(ref)
    differs, unknown = np.zeros(len(at), bool), np.zeros(len(at), bool)
    size_class = np.ceil(np.log2(np.maximum(width, 1))).astype(np.int64)
    for size in np.unique(size_class):
        of_size = np.flatnonzero(size_class == size)
        longest = int(width[of_size].max())
        step = max(1, _BATCH_BASES // longest)
        for rows in (of_size[first : first + step] for first in range(0, len(of_size), step)):
            genome = reader.gather(chrom[rows], start[rows], longest).dna
            inside = np.arange(longest) < width[rows, None]
            place = np.where(inside, at[rows, None] + np.arange(longest), 0)
            no_base = (genome == BASE_N) & inside
            other = (genome != codes[place]) & inside & ~no_base
            differs[rows] = other.any(axis=1)
            unknown[rows] = no_base.any(axis=1) & ~differs[rows]
    return ReferenceCheck(differs=differs, unknown=unknown)


def mismatch_error(
    reader: ContigReader, table: pa.Table, differs: np.ndarray, *, vcf: str, assembly: str
) -> CorpusError:
    """The error for alleles that do not match, naming the first, with the cause that the others suggest.

    Args:
        table: columns record, chrom, pos, ref of all variants.
    """
    rows = np.flatnonzero(differs)
    first = table.slice(int(rows[0]), 1).to_pylist()[0]
    bases = len(first["ref"])
    here = reader.gather(np.array([first["chrom"]], object), np.array([first["pos"] - 1]), bases).dna[0]
    return CorpusError(
        f"{vcf}: {len(rows):,} of {len(differs):,} reference alleles are not what the corpus ({assembly}) has there. The first "
        f"is record {first['record'] + 1}, {first['chrom']}:{first['pos']}: REF {first['ref'][:30]}, the corpus has "
        f"{decode_dna(here)[:30]}. {_cause(reader, table.take(pa.array(rows[:_HINT_ROWS])))} Leave such variants out with "
        "on_mismatch=skip."
    )


def _cause(reader: ContigReader, wrong: pa.Table) -> str:
    """What most of the wrong alleles would fit: a position counted from 0, the other strand, or neither."""
    chrom = wrong["chrom"].to_numpy()
    start = wrong["pos"].to_numpy() - 1
    if 2 * (~check_reference(reader, chrom, start + 1, wrong["ref"]).differs).sum() > len(start):
        return "Most fit one base further: are the positions counted from 0? VCF counts from 1."
    if 2 * (~check_reference(reader, chrom, start, _complements(wrong["ref"])).differs).sum() > len(start):
        return "Most fit the other strand: VCF gives the alleles of the forward strand."
    return "Is the file of another assembly?"


def _complements(alleles: pa.ChunkedArray) -> pa.ChunkedArray:
    codes, at, width = _flat_codes(alleles)
    text = decode_dna(3 - codes)
    return pa.chunked_array([[text[a : a + w][::-1] for a, w in zip(at.tolist(), width.tolist(), strict=True)]])


def _flat_codes(alleles: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes of all alleles, where each begins, how long each is)."""
    texts = alleles.to_pylist()
    width = np.fromiter(map(len, texts), np.int64, len(texts))
    return encode_dna("".join(texts)), np.cumsum(width) - width, width
