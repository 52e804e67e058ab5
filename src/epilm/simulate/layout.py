"""Where things lie on a contig: stretches and their classes, genes and promoters, and the states in each cell type.

Axes: B bins of the contig, R stretches, K cell types, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epilm.simulate.grammar import TSS, Grammar
from epilm.simulate.recipe import SimulateRecipe

NO_STATE = 255


@dataclass(frozen=True)
class Layout:
    """One contig without its DNA."""

    length_bp: int
    gap_bins: int
    stretch: NDArray[np.int64]
    """[B] number of the stretch a bin belongs to, from 0."""
    classes: NDArray[np.int64]
    """[B] class of a bin."""
    states: NDArray[np.uint8]
    """[K, B] state of a bin in a cell type; 255 in the gap."""
    tss: NDArray[np.int64]
    """[G] first transcribed base of each gene, 0-based, ascending."""
    end: NDArray[np.int64]
    """[G] last base of each gene's body, 0-based; left of the TSS on the '-' strand."""
    forward: NDArray[np.bool_]
    """[G] whether a gene lies on the '+' strand."""

    @property
    def num_bins(self) -> int:
        return len(self.classes)


def make_layout(recipe: SimulateRecipe, grammar: Grammar, length_bp: int, rng: np.random.Generator) -> Layout:
    """Draw one contig's layout.

    The contig is cut into slots of one gene each; the backbone between promoters is a Markov chain over bins: with
    probability 1/``mean_run_bins`` a new stretch begins, whose class is drawn from the backbone's distribution.
    """
    bin_bp = recipe.bin_bp
    num_bins = -(-length_bp // bin_bp)
    gap_bins = recipe.gap_bp // bin_bp
    tss, end, forward, first, last = _genes(recipe, length_bp, gap_bins, rng)

    border = rng.random(num_bins) < 1 / recipe.mean_run_bins
    in_promoter = _cover(first, last, num_bins)
    border &= ~in_promoter
    border[first] = True
    border[last[last < num_bins]] = True  # `last` is one past the promoter
    border[0] = border[min(gap_bins, num_bins - 1)] = True
    stretch = np.cumsum(border) - 1
    drawn = rng.choice(len(grammar.backbone), size=stretch[-1] + 1, p=grammar.backbone)
    classes = np.where(in_promoter, TSS, drawn[stretch])

    class_of = np.empty(stretch[-1] + 1, dtype=np.int64)
    class_of[stretch] = classes
    states = _realise(class_of, recipe, grammar, rng)[:, stretch]
    states[:, :gap_bins] = NO_STATE
    return Layout(
        length_bp=length_bp,
        gap_bins=gap_bins,
        stretch=stretch,
        classes=classes,
        states=states,
        tss=tss,
        end=end,
        forward=forward,
    )


def _genes(recipe: SimulateRecipe, length_bp: int, gap_bins: int, rng: np.random.Generator):
    """One gene a slot: TSS, end of the body, strand, and its promoter's bins [first, last).

    The TSS lies in the slot's second quarter ('+') or third ('-'), its body stays within the slot.
    """
    slot, bin_bp = recipe.slot_bins, recipe.bin_bp
    num_genes = (length_bp // bin_bp - gap_bins) // slot
    slot_start = (gap_bins + slot * np.arange(num_genes)) * bin_bp
    slot_bp = slot * bin_bp
    forward = rng.random(num_genes) < 0.5
    offset = rng.integers(slot_bp // 4, slot_bp // 2, size=num_genes)
    body = (rng.uniform(0.6, 1.0, num_genes) * (slot_bp - offset - 1)).astype(np.int64)
    tss = slot_start + np.where(forward, offset, slot_bp - 1 - offset)
    end = tss + np.where(forward, body, -body)
    tss_bin = tss // bin_bp
    first = tss_bin - rng.integers(1, 3, num_genes)  # 3 to 5 bins, the TSS never in an outer one
    last = tss_bin + 1 + rng.integers(1, 3, num_genes)
    return tss, end, forward, first, last


def _cover(first: NDArray[np.int64], last: NDArray[np.int64], num_bins: int) -> NDArray[np.bool_]:
    """[B] whether a bin lies in one of the disjoint intervals [first, last)."""
    change = np.zeros(num_bins + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    return np.cumsum(change)[:num_bins] > 0


def _realise(
    class_of: NDArray[np.int64], recipe: SimulateRecipe, grammar: Grammar, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """[K, R] state of each stretch: one draw for all cell types, or one for each at cell-type-specific loci."""
    num_cells, num_stretches = len(recipe.cell_types), len(class_of)
    u = rng.random((num_cells, num_stretches))
    alike = rng.random(num_stretches) >= recipe.cell_specific_share
    u[:, alike] = u[0, alike]
    upper = np.cumsum(grammar.realised, axis=1)[class_of]  # [R, S]
    upper[:, -1] = 1.0  # rounding must not leave a u above every bound
    return (u[:, :, None] >= upper[None]).sum(axis=2).astype(np.uint8)
