"""Genome files to arrays: FASTA to codes, bigWig to bins."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from epilm.bench.measure import Case, Duel, Workbench
from epilm.bench.sequences import random_dna
from epilm.genome.bigwig import bin_track
from epilm.genome.sequence import open_sequence

BIN_BP = 200
LINE_BP = 60


def write_fasta(path: Path, contigs: dict[str, str]) -> None:
    """Plain FASTA in lines of 60, the usual width."""
    with path.open("w") as stream:
        for name, text in contigs.items():
            stream.write(f">{name}\n")
            stream.writelines(f"{text[i : i + LINE_BP]}\n" for i in range(0, len(text), LINE_BP))


def write_bigwig(path: Path, contig: str, length_bp: int, generator: np.random.Generator) -> None:
    """A dense track: intervals of 1 to 19 bp (mean 10), every tenth one missing."""
    import pyBigWig

    widths = generator.integers(1, 20, length_bp // 9)
    edges = np.concatenate([[0], np.cumsum(widths)])
    edges = np.append(edges[edges < length_bp], length_bp)
    kept = np.arange(len(edges) - 1) % 10 != 3
    values = generator.gamma(2.0, 2.0, len(edges) - 1)[kept]
    track = pyBigWig.open(str(path), "w")
    track.addHeader([(contig, length_bp)])
    starts, ends = edges[:-1][kept], edges[1:][kept]
    track.addEntries(np.full(len(starts), contig), starts.astype(np.int64), ends=ends.astype(np.int64), values=values)
    track.close()


def fasta_codes(bench: Workbench) -> Duel:
    """A whole FASTA of two contigs, opened, read and encoded as A0 C1 G2 T3 N4; index and page cache are warm."""
    from pyfaidx import Fasta

    length_bp = bench.scaled(10_000_000, 10_000)
    generator = np.random.default_rng(bench.seed)
    path = bench.folder / "genome.fa"
    write_fasta(
        path, {name: random_dna(generator, length_bp, gap_every=499_979, gap_bp=5_000) for name in ("chr1", "chr2")}
    )
    Fasta(str(path)).close()  # writes the .fai that both sides then use
    table = np.full(256, 4, np.uint8)
    table[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3]
    translation = table.tobytes()

    def ours() -> list[np.ndarray]:
        source = open_sequence(str(path))
        return [source.fetch(name, 0, length_bp) for name in ("chr1", "chr2")]

    def theirs() -> list[np.ndarray]:
        with Fasta(str(path), as_raw=True) as source:
            texts = [str(source[name][0:length_bp]) for name in ("chr1", "chr2")]
        return [np.frombuffer(text.encode().translate(translation), np.uint8) for text in texts]

    def compare(mine: list[np.ndarray], other: list[np.ndarray]) -> str:
        return "" if all(np.array_equal(a, b) for a, b in zip(mine, other, strict=True)) else "codes"

    return Duel(ours, theirs, 2 * length_bp, 2 * length_bp, compare, lambda: f"{2 * length_bp / 1e6:g} Mb, lines of 60")


def bigwig_bins(bench: Workbench) -> Duel:
    """Exact means of 200-bp bins over a dense track (an interval each 10 bp); bins without data are NaN."""
    import pyBigWig

    ours_bp = bench.scaled(50_000, 100) * BIN_BP
    theirs_bp = bench.scaled(1_000, 50) * BIN_BP
    path = bench.folder / "track.bw"
    write_bigwig(path, "chr1", ours_bp, np.random.default_rng(bench.seed))

    def ours() -> np.ndarray:
        return bin_track(str(path), "chr1", 0, ours_bp, BIN_BP)

    def theirs() -> np.ndarray:
        with pyBigWig.open(str(path)) as track:
            starts = range(0, theirs_bp, BIN_BP)
            return np.array([track.stats("chr1", s, s + BIN_BP, exact=True)[0] for s in starts], dtype=float)

    def compare(mine: np.ndarray, other: np.ndarray) -> str:
        same = np.allclose(mine[: len(other)], other, rtol=1e-5, equal_nan=True)
        return "" if same else "bin means"

    return Duel(ours, theirs, ours_bp, theirs_bp, compare, lambda: f"{ours_bp / 1e6:g} Mb, bins of {BIN_BP} bp")


CASES = (
    Case(
        name="bigwig_bins",
        about="exact means of 200-bp bins of a bigWig",
        peer="pyBigWig stats(exact=True) per bin",
        unit="Mbase/s",
        target=45,
        build=bigwig_bins,
        scale=1e6,
    ),
    Case(
        name="fasta_codes",
        about="a whole FASTA to base codes",
        peer="pyfaidx and bytes.translate",
        unit="Mbase/s",
        target=2,
        build=fasta_codes,
        scale=1e6,
        requires=("pyfaidx",),
    ),
)
