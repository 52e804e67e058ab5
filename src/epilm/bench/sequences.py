"""k-mer tokens and k-mer counts from DNA text."""

from __future__ import annotations

import itertools
import os
from collections import Counter

import numpy as np

from epilm.bench.measure import Case, Duel, Workbench
from epilm.genome.sequence import encode_dna
from epilm.tokens.counts import count_kmers
from epilm.tokens.kmers import kmer_tokens

K = 6


def random_dna(generator: np.random.Generator, length_bp: int, *, gap_every: int, gap_bp: int = 1) -> str:
    """Uniform ACGT with a run of ``gap_bp`` N in every ``gap_every`` bases, as text; assemblies have theirs in runs."""
    codes = generator.integers(0, 4, length_bp, dtype=np.uint8)
    codes[np.arange(length_bp) % gap_every >= gap_every - gap_bp] = 4
    return np.frombuffer(b"ACGTN", np.uint8)[codes].tobytes().decode()


def tokenise_kmers(bench: Workbench) -> Duel:
    """Overlapping 6-mers of 515-bp sequences (510 tokens), from Python strings to an id matrix, on both sides.

    The peer gets the k-mer text that it needs from a join of slices, the quickest way in Python, and its
    ``encode_batch_fast``.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread on both sides
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    length_bp, num_ours, num_theirs = 515, bench.scaled(10_000, 40), bench.scaled(400, 20)
    generator = np.random.default_rng(bench.seed)
    text = random_dna(generator, length_bp * num_ours, gap_every=20 * length_bp - 7)
    sequences = [text[i : i + length_bp] for i in range(0, len(text), length_bp)]

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["".join(letters) for letters in itertools.product("ACGT", repeat=K)]
    vocabulary = {word: i for i, word in enumerate(specials + words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()

    def ours() -> np.ndarray:
        codes = encode_dna("".join(sequences)).reshape(len(sequences), length_bp)
        return kmer_tokens(codes, k=K, stride=1)

    def theirs() -> np.ndarray:
        texts = [" ".join([s[i : i + K] for i in range(length_bp - K + 1)]) for s in sequences[:num_theirs]]
        return np.array([encoding.ids for encoding in tokenizer.encode_batch_fast(texts)])

    def compare(mine: np.ndarray, other: np.ndarray) -> str:
        return "" if np.array_equal(mine[:num_theirs], other) else "token ids"

    return Duel(
        ours,
        theirs,
        num_ours,
        num_theirs,
        compare,
        lambda: f"{num_ours:,} sequences of {length_bp} bp, k={K}, stride 1",
    )


def kmer_counts(bench: Workbench) -> Duel:
    """Counts of all 6-mers of a contig with assembly gaps, from text on both sides."""
    num_ours, num_theirs = bench.scaled(20_000_000, 600_000), bench.scaled(1_000_000, 600_000)
    generator = np.random.default_rng(bench.seed)
    text = random_dna(generator, num_ours, gap_every=499_979, gap_bp=5_000)
    part = text[:num_theirs]

    def ours(source: str = text) -> np.ndarray:
        return count_kmers(encode_dna(source), K)

    def theirs() -> Counter[str]:
        return Counter([part[i : i + K] for i in range(len(part) - K + 1)])

    def compare(_: np.ndarray, other: Counter[str]) -> str:
        small = ours(part)
        words = ("".join(letters) for letters in itertools.product("ACGT", repeat=K))
        return "" if small.tolist() == [other[word] for word in words] else "counts"

    return Duel(ours, theirs, num_ours, num_theirs, compare, lambda: f"{num_ours / 1e6:g} Mb, k={K}")


CASES = (
    Case(
        name="tokenise_kmers",
        about="DNA text to overlapping 6-mer ids",
        peer="Hugging Face tokenizers (WordLevel on k-mer text)",
        unit="Mbase/s",
        target=70,
        build=tokenise_kmers,
        scale=1e6 / 515,
        requires=("tokenizers",),
    ),
    Case(
        name="kmer_counts",
        about="counts of all 6-mers of DNA text",
        peer="collections.Counter",
        unit="Mbase/s",
        target=40,
        build=kmer_counts,
        scale=1e6,
    ),
)
