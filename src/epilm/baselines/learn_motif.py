"""A motif from bound bins, found without a motif file. Deterministic and simple: a rival to beat, not a motif finder to publish.

Seeds are spaced dyads, two 3-mers at a fixed distance, ranked by how much more bound bins than unbound ones hold them (van
Helden, Rios and Collado-Vides 2000); they catch motifs with a soft middle, which no single 6-mer does. Each of the best is
widened and refined by expectation-maximisation with at most one site in a bin (the "zoops" model of MEME: Bailey and Elkan
1995), of which only the best-matching word of each bin is kept. The matrix that ranks the training bins best wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epilm.baselines.recipe import LearnMotifConfig
from epilm.evaluate.ranking import auprc, count_ranks
from epilm.genome.dna import BASE_N, decode_dna
from epilm.genome.motifs import Motif, best_scores, reverse_matrix, scan

_HALF = 3
_DYADS = 4 ** (2 * _HALF)
_MATCH = 0.85
"""Frequency of a seed's own base in the matrix that refinement begins with."""
_SEED_SITES = 20.0
"""Sites that it counts for against one of background."""
_STILL = 1e-3
"""Refinement ends when no frequency changes by more."""
_ROWS = 2048


@dataclass(frozen=True)
class LearnedMotif:
    """A motif, and how it came about."""

    motif: Motif
    background: np.ndarray
    """float64 [4], of the unbound bins, the same for both strands."""
    seed: str
    """The dyad, e.g. ``CGT....TGA``."""
    rounds: int
    training_auprc: float
    """Of the best match in each training bin: how well the matrix ranks what it was learned from."""
    num_bound: int


def learn_motif(
    name: str, bound: np.ndarray, unbound: np.ndarray, config: LearnMotifConfig, *, place: np.ndarray | None = None
) -> LearnedMotif:
    """Learn the motif that tells bound from unbound bins.

    Args:
        bound: uint8 [n, length_bp], n >= 1.
        unbound: uint8 [m, length_bp], m >= 1.
        place: int64 [n], position in the genome of each bound bin's first base: a site that several bins share counts
            once. All sites are distinct where absent.
    """
    background = base_frequencies(unbound)
    sites = np.arange(len(bound)) * bound.shape[1] if place is None else place
    labels = np.arange(len(bound) + len(unbound)) < len(bound)
    best: LearnedMotif | None = None
    for dyad, gap in enriched_dyads(bound, unbound, max_gap_bp=config.max_gap_bp, number=config.num_seeds):
        start = seed_matrix(dyad, gap, background, flank_bp=config.flank_bp)
        motif, rounds = refine(name, start, bound, sites, background, max_rounds=config.max_rounds)
        motif = trim(motif, background, min_information=config.min_information)
        matrix = motif.log_odds(background=background)
        scores = np.concatenate([best_scores(bound, matrix), best_scores(unbound, matrix)])
        found = float(auprc(count_ranks(np.nan_to_num(scores, nan=float(matrix.min(axis=1).sum())), labels)))
        if best is None or found > best.training_auprc:
            best = LearnedMotif(motif, background, dyad_text(dyad, gap), rounds, found, len(bound))
    assert best is not None
    return best


def base_frequencies(dna: np.ndarray) -> np.ndarray:
    """Frequencies of A C G T over both strands, float64 [4]; uniform where all is N."""
    counts = np.bincount(dna.ravel(), minlength=BASE_N + 1)[:BASE_N].astype(np.float64)
    both = counts + counts[::-1] + 1
    return both / both.sum()


def enriched_dyads(bound: np.ndarray, unbound: np.ndarray, *, max_gap_bp: int, number: int) -> list[tuple[int, int]]:
    """The (dyad, gap) that the most bound bins hold beyond expectation, by z-score, best first (ties: the lower gap, then id).

    A dyad is the number of its six bases (A0 C1 G2 T3, first base most significant), the lower one of its two strands.
    """
    length_bp = bound.shape[1]
    gaps = [gap for gap in range(max_gap_bp + 1) if 2 * _HALF + gap <= length_bp]
    canonical = _canonical_dyads()
    scores = np.full((len(gaps), _DYADS), -np.inf)
    for row, gap in enumerate(gaps):
        held, expected = (_bins_with(dna, gap, canonical) for dna in (bound, unbound))
        share = (expected + 1) / (len(unbound) + 2)
        z = (held - len(bound) * share) / np.sqrt(len(bound) * share * (1 - share))
        own = canonical == np.arange(_DYADS)
        scores[row, own] = z[own]
    order = np.argsort(-scores.ravel(), kind="stable")[:number]
    return [(int(i % _DYADS), gaps[int(i // _DYADS)]) for i in order if np.isfinite(scores.ravel()[i])]


def seed_matrix(dyad: int, gap: int, background: np.ndarray, *, flank_bp: int) -> np.ndarray:
    """Frequencies [flank + 3 + gap + 3 + flank, 4]: mostly the dyad's bases, background between and beside them."""
    digits = dyad // 4 ** np.arange(2 * _HALF - 1, -1, -1) % 4
    matrix = np.tile(background, (2 * flank_bp + 2 * _HALF + gap, 1))
    at = flank_bp + np.concatenate([np.arange(_HALF), _HALF + gap + np.arange(_HALF)])
    matrix[at] = (1 - _MATCH) / 3
    matrix[at, digits] = _MATCH
    return matrix


def refine(
    name: str, start: np.ndarray, bound: np.ndarray, place: np.ndarray, background: np.ndarray, *, max_rounds: int
) -> tuple[Motif, int]:
    """Align the best word of every bin until the matrix stands still -> (motif, rounds). No bin is shorter than ``start``."""
    motif = Motif(name, name, start, num_sites=_SEED_SITES)
    width, share, rounds = len(start), 0.5, 0
    change = 1.0
    while rounds < max_rounds and change >= _STILL:
        rounds += 1
        words, site, likelihood = best_words(bound, motif.log_odds(background=background))
        weight = share * likelihood / (1 - share + share * likelihood)
        share = float(np.clip(weight.mean(), 0.01, 0.99))
        weight = weight / _times_seen(place + site)
        counts = np.zeros((width, BASE_N))
        for base in range(BASE_N):
            counts[:, base] = weight @ (words == base)
        frequencies = (counts + background) / (counts.sum(axis=1, keepdims=True) + 1)
        change = float(np.abs(frequencies - motif.frequencies).max())
        motif = Motif(name, name, frequencies, num_sites=float(weight.sum()))
    return motif, rounds


def best_words(dna: np.ndarray, log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best-matching word of every row, on the motif's strand.

    Returns:
        words uint8 [n, width]; where they begin int64 [n]; and the mean over all words of both strands of how much likelier
        the motif makes them than the background, float64 [n] (0 where every word has an N).
    """
    width = len(log_odds)
    strands = [scan(dna, matrix, both_strands=False) for matrix in (log_odds, reverse_matrix(log_odds))]
    every = np.concatenate(strands, axis=1)
    num_words = strands[0].shape[1]
    likelihood = np.exp2(every.astype(np.float64)).mean(axis=1)
    best = every.argmax(axis=1)
    site, turned = best % num_words, best >= num_words
    words = dna[np.arange(len(dna))[:, None], site[:, None] + np.arange(width)]
    flipped = np.where(words < BASE_N, 3 - words, BASE_N)[:, ::-1]
    return np.where(turned[:, None], flipped, words).astype(np.uint8), site, likelihood


def trim(motif: Motif, background: np.ndarray, *, min_information: float) -> Motif:
    """Cut positions off both ends that tell less than ``min_information`` bits; at least six stay."""
    bits = information(motif.frequencies, background)
    first, last = 0, motif.width
    while last - first > 2 * _HALF and min(bits[first], bits[last - 1]) < min_information:
        if bits[first] <= bits[last - 1]:
            first += 1
        else:
            last -= 1
    return Motif(motif.name, motif.label, motif.frequencies[first:last], motif.num_sites)


def information(frequencies: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Bits that each position tells against the background, float64 [width]."""
    ratio = np.where(frequencies > 0, frequencies, 1) / background
    return (frequencies * np.log2(ratio)).sum(axis=1)


def consensus(motif: Motif) -> str:
    """The commonest base of each position; small where it has less than half."""
    letters = decode_dna(motif.frequencies.argmax(axis=1).astype(np.uint8))
    return "".join(
        letter if share >= 0.5 else letter.lower()
        for letter, share in zip(letters, motif.frequencies.max(axis=1), strict=True)
    )


def dyad_text(dyad: int, gap: int) -> str:
    letters = decode_dna((dyad // 4 ** np.arange(2 * _HALF - 1, -1, -1) % 4).astype(np.uint8))
    return letters[:_HALF] + "." * gap + letters[_HALF:]


def _canonical_dyads() -> np.ndarray:
    """int64 [4096]: the lower number of the dyad's two strands (the gap turns with them)."""
    ids = np.arange(_DYADS)
    digits = ids[:, None] // 4 ** np.arange(2 * _HALF) % 4  # last base first
    turned = ((3 - digits) * 4 ** np.arange(2 * _HALF - 1, -1, -1)).sum(axis=1)
    return np.minimum(ids, turned)


def _bins_with(dna: np.ndarray, gap: int, canonical: np.ndarray) -> np.ndarray:
    """How many rows hold each dyad at least once, on either strand: int64 [4096]."""
    lookup = np.append(canonical, _DYADS)
    counts = np.zeros(_DYADS + 1, np.int64)
    num_words = dna.shape[1] - 2 * _HALF - gap + 1
    for first in range(0, len(dna), _ROWS):
        block = dna[first : first + _ROWS].astype(np.int16)
        three = (block[:, :-2] * 4 + block[:, 1:-1]) * 4 + block[:, 2:]
        unknown = block >= BASE_N
        three[unknown[:, :-2] | unknown[:, 1:-1] | unknown[:, 2:]] = -1
        left, right = three[:, :num_words], three[:, _HALF + gap :]
        dyad = np.where((left < 0) | (right < 0), _DYADS, left.astype(np.int64) * 4**_HALF + right)
        held = np.zeros((len(block), _DYADS + 1), bool)
        held[np.arange(len(block))[:, None], lookup[dyad]] = True
        counts += held.sum(axis=0)
    return counts[:_DYADS]


def _times_seen(site: np.ndarray) -> np.ndarray:
    """How often each value occurs, int64 [n]."""
    _, inverse, counts = np.unique(site, return_inverse=True, return_counts=True)
    return counts[inverse]
