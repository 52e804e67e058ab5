"""The bases: a Markov chain per class, and motifs where a locus can be open.

Codes: A0 C1 G2 T3 N4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epilm.simulate.grammar import OPEN_STATES, TSS, Grammar
from epilm.simulate.layout import Layout

BASE_N = 4


@dataclass(frozen=True)
class Sites:
    """Planted motif occurrences of one contig, in genome order. Sites lie within one bin and never overlap."""

    tf: NDArray[np.int64]
    start: NDArray[np.int64]
    forward: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tf)


def markov_bins(
    classes: NDArray[np.int64], grammar: Grammar, bin_bp: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """[B, bin_bp] bases, each bin a chain of its class that starts in the stationary distribution.

    Half of the bins are written on the '-' strand, so that the genome has strand symmetry, as real ones have
    (Chargaff's second rule): a model that reads '-' promoters reverse-complemented meets known composition.

    All bins advance together, so the time is ``bin_bp`` vector steps whatever the genome's size.
    """
    num_bins = len(classes)
    dna = np.empty((bin_bp, num_bins), dtype=np.uint8)  # position-major: each step writes one contiguous row
    bounds = np.cumsum(grammar.dinucleotides, axis=1)
    bounds[:, -1] = 1.0
    pair = (rng.random(num_bins)[:, None] >= bounds[classes]).sum(axis=1)
    dna[0], dna[1] = pair // 4, pair % 4
    # bounds of the first three bases; what lies above them is the fourth
    upper = np.cumsum(grammar.transitions, axis=3)[..., :3].reshape(-1, 3).astype(np.float32)
    context = classes * 16 + pair
    for position in range(2, bin_bp):
        u = rng.random(num_bins, dtype=np.float32)
        base = (u[:, None] >= upper[context]).sum(axis=1)
        dna[position] = base
        context = classes * 16 + (context % 4) * 4 + base
    dna = np.ascontiguousarray(dna.T)
    reverse = rng.random(num_bins) < 0.5
    dna[reverse] = 3 - dna[reverse, ::-1]
    return dna


def draw_sites(layout: Layout, grammar: Grammar, rng: np.random.Generator) -> tuple[Sites, NDArray[np.bool_]]:
    """Choose the motif sites of a contig, and which factors each gene's promoter carries.

    Returns:
        the sites, and [G, T] whether a gene's promoter carries a factor's motif. A promoter's sites lie in the TSS's
        bin and its two neighbours, one of each carried factor; the others are drawn a bin and factor at the class's
        rate.
    """
    motif_bp, num_tfs, bin_bp = grammar.motifs.shape[1], grammar.num_tfs, grammar.bin_bp
    carried = rng.random((len(layout.tss), num_tfs)) < grammar.motif_at_promoter
    gene, tf_promoter = np.nonzero(carried)
    bin_promoter = layout.tss[gene] // bin_bp + rng.integers(-1, 2, len(gene))

    elsewhere = (layout.classes != TSS) & (np.arange(layout.num_bins) >= layout.gap_bins)
    rate = grammar.motif_rate[layout.classes] * elsewhere
    rate[-1] = 0.0  # the last bin may be cut short
    bin_other, tf_other = np.nonzero(rng.random((layout.num_bins, num_tfs)) < rate[:, None])

    bins = np.concatenate([bin_promoter, bin_other])
    tf = np.concatenate([tf_promoter, tf_other])
    # each factor has its own lane in a bin, the lanes turned at random, so that sites never overlap
    lane_bp = bin_bp // num_tfs
    lane = (tf + rng.integers(num_tfs, size=layout.num_bins)[bins]) % num_tfs
    start = bins * bin_bp + lane * lane_bp + rng.integers(lane_bp - motif_bp + 1, size=len(bins))
    order = np.argsort(start, kind="stable")
    return Sites(tf=tf[order], start=start[order], forward=rng.random(len(bins)) < 0.5), carried


def plant(dna: NDArray[np.uint8], sites: Sites, grammar: Grammar, rng: np.random.Generator) -> None:
    """Write every site into a contig's bases, in place; '-' sites hold the reverse complement."""
    upper = np.cumsum(grammar.motifs, axis=2)[..., :3]  # [T, P, 3]
    u = rng.random((len(sites), grammar.motifs.shape[1]))
    bases = (u[..., None] >= upper[sites.tf]).sum(axis=2).astype(np.uint8)
    bases = np.where(sites.forward[:, None], bases, (3 - bases)[:, ::-1])
    dna[sites.start[:, None] + np.arange(bases.shape[1])] = bases


def make_dna(layout: Layout, sites: Sites, grammar: Grammar, rng: np.random.Generator) -> NDArray[np.uint8]:
    """[length_bp] codes of a contig: its chains, its motifs, and N in the gap at its start."""
    dna = markov_bins(layout.classes, grammar, grammar.bin_bp, rng).reshape(-1)[: layout.length_bp]
    plant(dna, sites, grammar, rng)
    dna[: layout.gap_bins * grammar.bin_bp] = BASE_N
    return dna


def bound_sites(layout: Layout, sites: Sites, bin_bp: int) -> NDArray[np.bool_]:
    """[K, sites] whether each site is bound in each cell type: only where its bin is open there."""
    return np.isin(layout.states[:, sites.start // bin_bp], OPEN_STATES)
