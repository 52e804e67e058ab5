"""Genes in two cell types: marks, expression and the target, joined by id."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from epilm.histone.config import SPLITS


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
    bin_bp: int | None = None
    """Bases of a bin, where the data say."""
    oriented: bool = False
    """Whether bins are known to come in the direction of transcription; DeepDiff's own files follow the genome."""

    def __post_init__(self) -> None:
        n = len(self.genes)
        assert self.first.shape == self.second.shape, (self.first.shape, self.second.shape)
        assert self.first.shape[::2] == (n, len(self.marks)), self.first.shape
        assert self.split.shape == self.target.shape == (n,), (self.split.shape, self.target.shape)
        assert self.expression.shape == (n, 2), self.expression.shape

    @property
    def num_bins(self) -> int:
        return self.first.shape[1]

    @property
    def num_genes(self) -> dict[str, int]:
        """Split -> its genes."""
        return {split: int((self.split == split).sum()) for split in SPLITS}

    def rows(self, split: str) -> np.ndarray:
        """Indices of a split's genes, in order."""
        return np.flatnonzero(self.split == split)


def log_fold_change(expression: np.ndarray) -> np.ndarray:
    """ln((first + 1) / (second + 1)) of [n, 2] (GeneGPT-2, section 5.1); DeepDiff's is log2 and of the opposite sign."""
    return np.log((expression[:, 0] + 1.0) / (expression[:, 1] + 1.0))


def fingerprint_of(pairs: PairedGenes) -> str:
    """SHA-256 (16 hex digits) of the genes, splits, marks, cell types, values and expression, in their order.

    What was left out on the way does not count.
    """
    digest = hashlib.sha256()
    said = {"genes": pairs.genes.tolist(), "split": pairs.split.tolist(), "marks": pairs.marks, "cells": pairs.cells}
    digest.update(json.dumps({**said, "shape": pairs.first.shape}).encode())
    for array, dtype in ((pairs.first, "<f4"), (pairs.second, "<f4"), (pairs.expression, "<f8")):
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()[:16]
