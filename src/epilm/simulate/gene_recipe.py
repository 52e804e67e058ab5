"""Settings of simulated genes, and the function from their histone marks to their expression that the settings fix.

Places are written in units of 1/200 of the window from the TSS (100 bp at the default of 200 bins), so that every number of
bins sees the same biology.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator
from scipy.special import expit

from epilm.config import Config
from epilm.errors import RecipeError
from epilm.histone.config import ROADMAP_MARKS
from epilm.runs import Recipe

Floats = NDArray[np.float64]

UNITS = 200
_MODERATE = 0.9  # mean log1p count of a region in a gene of reads_per_gene reads

_EFFECTS: dict[str, tuple[float, tuple[tuple[int, int], ...]]] = {
    "H3K4me3": (1.8, ((-5, 5),)),
    "H3K4me1": (0.8, ((-18, -6), (6, 18))),
    "H3K36me3": (1.2, ((10, 70),)),
    "H3K27me3": (-0.6, ((-20, 20),)),
    "H3K9me3": (-1.0, ((-40, 40),)),
}
"""Mark -> weight and region. H3K4me1's other peaks, far from the TSS, have no effect: a model has to tell them apart."""
_SILENCING_MIDPOINT = 1.4
_SILENCING_WIDTH = 0.2


class NumGenes(Config):
    """Genes of each split."""

    train: int = Field(default=3000, ge=2, lt=1_000_000)
    validation: int = Field(default=1000, ge=2, lt=1_000_000)
    test: int = Field(default=1000, ge=2, lt=1_000_000)


class SimulateGenesRecipe(Recipe):
    """Counts of marks around genes, and read counts that follow from them. The defaults make 5,000 genes, two cell types."""

    num_genes: NumGenes = NumGenes()
    """Genes by split. A split's first genes stay what they are however many follow, here and in other splits."""
    cell_types: tuple[str, ...] = Field(default=("A", "B"), min_length=2)
    """Names of the cell types; each gets a file of marks a split and a file of expression."""
    marks: tuple[str, ...] = Field(default=ROADMAP_MARKS, min_length=1)
    """Columns of the files. The five of Roadmap have their known shapes and effects; any other name gets a peak at a place
    of its own, and an effect of either sign, both drawn from the seed."""
    num_bins: int = Field(default=200, ge=20, le=10_000)
    """Bins of a gene; the TSS is in the middle, the gene runs towards the later bins. Shapes and regions scale with it."""
    depth: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False)
    """Scale of the bin counts: at 1 about 40 % of them are 0, 25 % are 1, and most others below 10."""
    dispersion: float = Field(default=0.1, ge=0, le=10)
    """Of the bin counts, negative binomial: variance = mean + dispersion x mean squared; 0: Poisson."""
    shared: float = Field(default=0.6, ge=0, le=1)
    """Share of the variance of a gene's activity that all cell types have in common; 0: cell types do not resemble each
    other, 1: they differ by the counts' noise alone."""
    reads_per_gene: float = Field(default=1000.0, ge=10, le=1e6)
    """Library size: read counts of a gene with moderate marks."""
    ceiling_r: float = Field(default=0.9, ge=0.3, le=1)
    """Pearson r between the target without noise, ln((E1 + 1) / (E2 + 1)) of two cell types, and the written one: what the
    best regression can reach. At 1 the rounding to whole reads alone remains."""

    @field_validator("cell_types", "marks")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("names must differ.")
        for name in names:
            if not name or not all(c.isascii() and (c.isalnum() or c in "_-+") for c in name):
                raise ValueError(f"{name!r} is no name of a column or file: use letters, digits, '_', '-' and '+'.")
        return names


@dataclass(frozen=True)
class Effect:
    """What one mark adds to log expression: weight x (mean of log1p(count) over its region - ``_MODERATE``)."""

    mark: str
    weight: float
    spans: tuple[tuple[int, int], ...]
    """Bins [start, stop), 0-based."""

    @property
    def bins(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(start, stop) for start, stop in self.spans])


@dataclass(frozen=True)
class GeneratingFunction:
    """From the counts that are written to the expression without noise."""

    effects: tuple[Effect, ...]
    """One a mark, in the recipe's order."""
    silencing: bool
    """H3K27me3 in H3K4me3's region takes that mark's effect away:
    x 1 / (1 + exp((mean log1p count - midpoint) / width))."""
    log_reads: float
    """Log reads of a gene whose regions all are moderate."""
    num_bins: int

    @property
    def marks(self) -> list[str]:
        return [effect.mark for effect in self.effects]

    def log_reads_of(self, counts: ArrayLike) -> Floats:
        """Log of the expected reads: counts [n, bins, marks] of one cell type -> [n]; other axes may stand before.

        Raises:
            RecipeError: the counts have other numbers of bins and marks.
        """
        counts = np.asarray(counts)
        if counts.ndim < 2 or counts.shape[-2:] != (self.num_bins, len(self.effects)):
            raise RecipeError(
                f"counts of shape {counts.shape} are not [genes, {self.num_bins} bins, {len(self.effects)} marks]; the marks "
                f"are {', '.join(self.marks)}."
            )
        total = np.full(counts.shape[:-2], self.log_reads)
        for column, effect in enumerate(self.effects):
            level = _mean_log1p(counts[..., column], effect.bins)
            if self.silencing and effect.mark == "H3K4me3":
                silent = _mean_log1p(counts[..., self.marks.index("H3K27me3")], effect.bins)
                level = level * expit((_SILENCING_MIDPOINT - silent) / _SILENCING_WIDTH)
            total += effect.weight * (level - _MODERATE)
        return total

    def read_bins(self) -> NDArray[np.bool_]:
        """[bins, marks] where a count changes the expression."""
        read = np.zeros((self.num_bins, len(self.effects)), dtype=bool)
        for column, effect in enumerate(self.effects):
            read[effect.bins, column] = True
        if self.silencing:
            read[:, self.marks.index("H3K27me3")] |= read[:, self.marks.index("H3K4me3")]
        return read

    def to_json(self) -> dict[str, Any]:
        silencing = {
            "of": "H3K4me3",
            "by": "H3K27me3",
            "spans": [list(span) for effect in self.effects if effect.mark == "H3K4me3" for span in effect.spans],
            "midpoint": _SILENCING_MIDPOINT,
            "width": _SILENCING_WIDTH,
        }
        return {
            "bins": "0-based, [start, stop)",
            "log_reads": self.log_reads,
            "moderate": _MODERATE,
            "marks": {
                effect.mark: {"weight": effect.weight, "spans": [list(span) for span in effect.spans]}
                for effect in self.effects
            },
            "silencing": silencing if self.silencing else None,
        }


def generating_function(recipe: SimulateGenesRecipe) -> GeneratingFunction:
    """The function that a recipe's seed, marks, bins and library size fix."""
    effects = []
    for mark in recipe.marks:
        weight, spans = _EFFECTS.get(mark) or generic_effect(recipe, mark)
        effects.append(Effect(mark, weight, tuple(_to_bins(span, recipe.num_bins) for span in spans)))
    return GeneratingFunction(
        effects=tuple(effects),
        silencing={"H3K4me3", "H3K27me3"} <= set(recipe.marks),
        log_reads=float(np.log(recipe.reads_per_gene)),
        num_bins=recipe.num_bins,
    )


def generic_effect(recipe: SimulateGenesRecipe, mark: str) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Weight and region of a mark that biology has not fixed here."""
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(1, zlib.crc32(mark.encode()))))
    half, centre = int(rng.integers(5, 20)), int(rng.integers(-70, 71))
    weight = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.7, 1.3))
    return round(weight, 2), ((centre - half, centre + half),)


def _mean_log1p(counts: NDArray[Any], bins: NDArray[np.int64]) -> Floats:
    """[..., bins] -> [...] over some bins."""
    return np.log1p(counts[..., bins].astype(np.float64)).mean(axis=-1)


def _to_bins(span: tuple[int, int], num_bins: int) -> tuple[int, int]:
    """Units from the TSS -> bins [start, stop), every bin that the span touches."""
    start = (span[0] + UNITS // 2) * num_bins // UNITS
    stop = -(-(span[1] + UNITS // 2) * num_bins // UNITS)
    return start, stop
