"""Counts of all n-grams of n = 1 .. 6: one core against a Counter, and two Ray workers against one."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from epilm.bench.measure import Case, Duel, Workbench
from epilm.bench.sequences import random_dna
from epilm.genome.sequence import encode_dna
from epilm.ngrams.counts import Counts, count_ngrams
from epilm.ngrams.recipe import GenomeSource
from epilm.ngrams.sources import open_source, plan_tasks
from epilm.ngrams.workers import count_on_ray

MAX_N = 6
CONTIGS = 8
LINE_BP = 80


def ngram_counts(bench: Workbench) -> Duel:
    """Counts of the n-grams of all six lengths of a contig with assembly gaps, from text on both sides."""
    num_ours, num_theirs = bench.scaled(20_000_000, 600_000), bench.scaled(1_000_000, 600_000)
    text = random_dna(np.random.default_rng(bench.seed), num_ours, gap_every=499_979, gap_bp=5_000)
    part = text[:num_theirs]

    def ours(source: str = text) -> Counts:
        return count_ngrams(encode_dna(source), MAX_N)

    def theirs() -> list[Counter[str]]:
        return [Counter([part[i : i + n] for i in range(len(part) - n + 1)]) for n in range(1, MAX_N + 1)]

    def compare(_: Counts, other: list[Counter[str]]) -> str:
        for n, (mine, counter) in enumerate(zip(ours(part), other, strict=True), start=1):
            words = ("".join(letters) for letters in itertools.product("ACGT", repeat=n))
            if mine.tolist() != [counter[word] for word in words]:
                return f"counts of {n}-mers"
        return ""

    return Duel(ours, theirs, num_ours, num_theirs, compare, lambda: f"{num_ours / 1e6:g} Mb, n = 1 to {MAX_N}")


def ngram_workers(bench: Workbench) -> Duel:
    """A FASTA file of eight contigs, counted by two tasks at a time and by one: reading included, Ray's start not.

    Both sides are ours and do the same work, so the ratio is what the second worker adds.
    """
    from epilm.session import RayConfig, ray_session

    contig_bp = bench.scaled(40_000_000, 100_000) // LINE_BP * LINE_BP
    path = _write_fasta(bench.folder / "genome.fa", contig_bp, bench.seed)
    plan = open_source(GenomeSource(kind="genome", path=str(path)))
    tasks = plan_tasks(plan.regions, chunk_bp=max(contig_bp // 4, 1_000))
    session = ExitStack()
    session.enter_context(ray_session(RayConfig(num_cpus=2)))

    def count(num_workers: int) -> Counts:
        return count_on_ray(plan.reader, tasks, max_n=MAX_N, num_workers=num_workers, progress=lambda message: None)

    def compare(two: Counts, one: Counts) -> str:
        same = all(np.array_equal(a, b) for a, b in zip(two, one, strict=True))
        return "" if same and int(two[0].sum()) == plan.length_bp else "counts"

    def describe() -> str:
        return f"{plan.length_bp / 1e6:g} Mb of FASTA in {len(tasks)} tasks, n = 1 to {MAX_N}"

    work = plan.length_bp
    return Duel(lambda: count(2), lambda: count(1), work, work, compare, describe, least_s=0, close=session.close)


def _write_fasta(path: Path, contig_bp: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    letters = np.full((contig_bp // LINE_BP, LINE_BP + 1), ord("\n"), np.uint8)
    with path.open("wb") as stream:
        for i in range(CONTIGS):
            letters[:, :LINE_BP] = np.frombuffer(b"ACGT", np.uint8)[
                generator.integers(0, 4, (len(letters), LINE_BP), dtype=np.uint8)
            ]
            stream.write(f">chr{i + 1}\n".encode())
            stream.write(letters.data)
    return path


CASES = (
    Case(
        name="ngram_counts",
        about="counts of all n-grams of n = 1 to 6 of DNA text",
        peer="collections.Counter",
        unit="Mbase/s",
        target=50,
        build=ngram_counts,
        scale=1e6,
    ),
    Case(
        name="ngram_workers",
        about="n-gram counts of a FASTA file by two Ray workers",
        peer="one Ray worker",
        unit="Mbase/s",
        target=1.6,
        build=ngram_workers,
        clock="wall",
        scale=1e6,
        isolated=True,
    ),
)
