"""Marks in bins around genes, in one cell type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epilm.errors import RecipeError
from epilm.histone.files import unknown


@dataclass(frozen=True)
class GeneMarks:
    """n genes with their marks in one cell type."""

    genes: np.ndarray
    """str [n] ids, each once."""
    marks: tuple[str, ...]
    values: np.ndarray
    """float32 [n, bins, marks]."""

    def __post_init__(self) -> None:
        assert self.values.ndim == 3, self.values.shape
        assert self.values.shape[::2] == (len(self.genes), len(self.marks)), self.values.shape

    @property
    def num_bins(self) -> int:
        return self.values.shape[1]

    def with_marks(self, names: Sequence[str] | None) -> GeneMarks:
        """Only these marks, in this order; all where None.

        Raises:
            RecipeError: none is named, one is named twice, or one is not there.
        """
        if names is None or tuple(names) == self.marks:
            return self
        names = tuple(names)
        if not names:
            raise RecipeError(f"marks: name one at least of {', '.join(self.marks)}.")
        for name in names:
            if name not in self.marks:
                raise RecipeError(f"marks: {unknown('mark', name, self.marks)}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RecipeError(f"marks: {', '.join(twice)} is named twice. Name each mark once.")
        columns = [self.marks.index(name) for name in names]
        return GeneMarks(self.genes, names, np.ascontiguousarray(self.values[:, :, columns]))
