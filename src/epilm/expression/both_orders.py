"""Genes in both orders of their cell types.

The target changes its sign when the cell types change places. A regressor that learns from every gene in both orders, and
predicts half the difference of its predictions for the two, has that by construction and twice the training rows: it need
not learn from few genes what is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epilm.tasks.gene_table import Genes


def orders_of(genes: Genes, *, antisymmetric: bool) -> tuple[Genes, ...]:
    """The genes as they are and, for an antisymmetric regressor, with the cell types exchanged."""
    return (genes, genes.exchanged()) if antisymmetric else (genes,)


def combine(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """The predictions [n] of one order as they are, or half the difference of those of two."""
    given, *exchanged = predictions
    return (given - exchanged[0]) / 2 if exchanged else given
