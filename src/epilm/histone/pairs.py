"""Genes in two cell types: marks, expression and the target, joined by id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairedGenes:
    """n genes with their marks in two cell types; arrays are aligned, and their order never changes."""

    genes: np.ndarray
    """str [n] ids."""
    split: np.ndarray
    """str [n], of ``SPLITS``."""
    marks: tuple[str, ...]
    cells: tuple[str, str]
    first: np.ndarray
    """[n, bins, marks] float32 values (counts) of the first cell type."""
    second: np.ndarray
    expression: np.ndarray
    """float64 [n, 2]."""
    target: np.ndarray
    """float64 [n], ln((first + 1) / (second + 1))."""
    left_out: dict[str, int]
    """Reason -> genes that were left out for it."""

    @property
    def num_bins(self) -> int:
        return self.first.shape[1]

    def rows(self, split: str) -> np.ndarray:
        """Indices of a split's genes, in order."""
        return np.flatnonzero(self.split == split)
