"""The policies written out row by row with sets, as the papers tell them; and random rows to try them on."""

import math

import numpy as np
import torch

from epilm.masking.contract import MaskInput
from epilm.ngrams.table import KmerScores
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL, PAD


def tokens_sharing(bases: set[int], ids: list[int], k: int, stride: int) -> set[int]:
    """Real tokens that hold one of the bases."""
    return {t for t, token in enumerate(ids) if token >= NUM_SPECIAL and bases & set(range(t * stride, t * stride + k))}


def span_row(centres: list[int], k: int) -> set[int]:
    return {c + k // 2 for c in centres}


def genemask_row(centres: list[int], rank: dict[int, int], tie: list[int], k: int) -> set[int]:
    """Hidden bases; ``rank`` holds the real k-mers of the row alone."""
    around = [0, *range(-((k - 1) // 2), 0), *range(1, k // 2 + 1)]
    best = {c: min((c + o for o in around if c + o in rank), key=lambda at: rank[at]) for c in centres}
    half = math.ceil(len(centres) / 2)
    if half < 5:
        half = len(centres)
    kept = sorted(centres, key=lambda c: (rank[best[c]], tie[c]))[:half]
    return span_row(centres, k) | {best[c] + i for c in kept for i in range(k)}


def global_row(key: dict[int, int], ids: list[int], rate: float, u_last: float, k: int, stride: int) -> set[int]:
    """Masked tokens: k-mers of equal keys go in together, the last ones by the draw."""
    target = rate * sum(token >= NUM_SPECIAL for token in ids)
    bases: set[int] = set()
    masked: set[int] = set()
    for value in sorted(set(key.values())):
        bases |= {at + i for at in key if key[at] == value for i in range(k)}
        more = tokens_sharing(bases, ids, k, stride)
        if len(more) >= target:
            return more if u_last < (target - len(masked)) / (len(more) - len(masked)) else masked
        masked = more
    return masked


def shown_rows(ids, mask, choice, drawn, *, vocab_size: int, mask_frac: float, random_frac: float):
    """80/10/10 a token at a time: the rows that are shown, and the labels; all arguments are tensors ``[B, L]``."""
    shown, labels = ids.tolist(), [[IGNORE] * ids.shape[1] for _ in ids]
    for row, column in mask.nonzero().tolist():
        labels[row][column] = shown[row][column]
        u = choice[row, column].item()
        if u < torch.tensor(mask_frac):
            shown[row][column] = MASK
        elif u < torch.tensor(mask_frac + random_frac):
            shown[row][column] = NUM_SPECIAL + int(drawn[row, column].item() * (vocab_size - NUM_SPECIAL))
    return torch.tensor(shown), torch.tensor(labels)


def scores_of(rank: np.ndarray, k: int) -> KmerScores:
    """Scores with the given ranks; those at the last rank have none."""
    npmi = np.where(rank == rank.max(), np.nan, 1.0 / rank)
    return KmerScores(k, np.full(4**k, 200), npmi, rank.astype(np.int32), "made")


def random_scores(k: int, seed: int = 0) -> KmerScores:
    """A random order, a fifth of the k-mers unknown."""
    order = np.random.default_rng(seed).permutation(4**k) + 1
    return scores_of(np.minimum(order, 4**k * 4 // 5 + 1), k)


def random_rows(k: int, stride: int, *, num_rows: int = 60, length_bp: int = 150, seed: int = 0) -> MaskInput:
    """Rows with N, with padding, with repeats (equal ranks), of few bases, and of none at all."""
    rng = np.random.default_rng([seed, k, stride])
    dna = rng.integers(0, 4, (num_rows, length_bp))
    dna[::4] = rng.integers(0, 2, (len(dna[::4]), length_bp)) * 3
    dna[1] = 0
    dna[2, 40:60], dna[2, 100] = 4, 4
    dna[rng.random(dna.shape) < 0.004] = 4
    length = np.where(np.arange(num_rows) % 3, length_bp, rng.integers(k, length_bp, num_rows))
    length[[3, 6, 9, 12]] = [k, k + 1, 2 * k, 0]
    return padded_input(dna.astype(np.uint8), length, k, stride)


def padded_input(dna: np.ndarray, length: np.ndarray, k: int, stride: int, *, seed: int = 11) -> MaskInput:
    """Rows cut to ``length`` bases each, padded to the full width."""

    def tokens(step: int) -> torch.Tensor:
        ids = tokenize_kmers(torch.from_numpy(dna), k=k, stride=step)
        end = torch.arange(ids.shape[1]) * step + k
        return torch.where(end[None, :] <= torch.from_numpy(length)[:, None], ids, PAD)

    kmer_ids = tokens(1)
    ids = kmer_ids if stride == 1 else tokens(stride)
    return MaskInput(ids, kmer_ids, torch.arange(len(dna)) * 7 + 100, seed, k, stride)
