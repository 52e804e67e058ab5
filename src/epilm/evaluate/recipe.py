"""The recipe of ``epilm evaluate``."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.corpus.recipe import parse_region
from epilm.labels.recipe import LabelsConfig
from epilm.runs import Recipe

BASE_RATE = "base_rate"
"""The row of a constant score, which every table has; no submission may take its name."""


class DreamSubmission(Config):
    """Submission files of ENCODE-DREAM: TSV, plain or gzip, ``chr start stop probability``."""

    dream: dict[str, dict[str, str]] = Field(min_length=1)
    """``{CELL: {FACTOR: path}}``, by the names of the labels."""


class BootstrapConfig(Config):
    """Intervals by resampling stretches of the genome, drawn by the run's seed."""

    num: int = Field(default=1000, ge=0, le=100_000)
    """Resamples; 0 leaves intervals out."""
    block_bp: int = Field(default=1_000_000, ge=1)
    """Bases of a stretch that is drawn as a whole; longer than what neighbouring bins share, and short enough for ten or
    more of them."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage of the intervals."""


class AllowOverlap(Config):
    """What models may have seen; the result says who has."""

    contigs: tuple[str, ...] = ()
    """Evaluated contigs that a model may have been trained on, or chosen on."""
    cell_types: tuple[str, ...] = ()
    """Cell types of ``held_out_cell_types`` that a model may have been trained on."""


class EvaluateRecipe(Recipe):
    """Scores of predictions over all bins of some contigs, as ENCODE-DREAM scores them."""

    corpus: str
    """Folder or URI of the corpus whose contigs and cell types the labels are for."""
    labels: LabelsConfig
    """The truth. Ambiguous, excluded and unlabelled bins are left out."""
    submissions: dict[str, str | DreamSubmission] = Field(min_length=1)
    """Name -> folder of predictions (``epilm predict``, ``epilm baseline``), or ``{dream: {CELL: {FACTOR: path}}}``. A bin
    without a prediction scores 0 and is counted."""
    contigs: tuple[str, ...] | None = None
    """Contigs to score on; the held-out contigs and regions of the corpus where both this and ``regions`` are absent."""
    regions: tuple[str, ...] | None = None
    """Parts of contigs to score on instead, ``chrom:start-end`` (0-based half-open); bins that lie in them wholly."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to score on; all of the labels where absent."""
    targets: tuple[str, ...] | None = None
    """Factors to score; all of the labels where absent."""
    held_out_cell_types: tuple[str, ...] = ()
    """Cell types that no model may have seen, on any contig: those of a test across cell types."""
    allow_overlap: AllowOverlap = AllowOverlap()
    """What models may have seen nonetheless."""
    baseline: str | None = None
    """Submission (or ``base_rate``) to which the differences of all others are given, with paired intervals."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """Intervals of the metrics and of the differences."""
    dream_rank: bool = True
    """Rank the submissions as the challenge does, in ten samples of 90 % of the bins."""
    bins_per_task: int = Field(default=5_000_000, ge=1)
    """Bins that a Ray task reads and counts: decides its memory (some 100 MB by default), not the figures."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if BASE_RATE in self.submissions:
            raise ValueError(f"submissions: {BASE_RATE!r} is the row of a constant score. Choose another name.")
        if self.baseline is not None and self.baseline not in (*self.submissions, BASE_RATE):
            names = ", ".join((*self.submissions, BASE_RATE))
            raise ValueError(f"baseline={self.baseline!r} is no submission. Allowed: {names}.")
        if self.contigs is not None and self.regions is not None:
            raise ValueError("contigs and regions both say where to score. Give one of them.")
        for name, given in (("contigs", self.contigs), ("regions", self.regions), ("cell_types", self.cell_types)):
            if given is not None and (not given or len(set(given)) != len(given)):
                raise ValueError(
                    f"{name}={list(given)} must name one or more, each once. Leave it out for the default."
                )
        for region in self.regions or ():
            parse_region(region)
        unused = sorted(set(self.allow_overlap.cell_types) - set(self.held_out_cell_types))
        if unused:
            raise ValueError(
                f"allow_overlap.cell_types names {unused[0]!r}, which held_out_cell_types does not, so that it allows nothing."
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The figures do not depend on how the bins are cut into tasks."""
        return {key: value for key, value in super().identity().items() if key != "bins_per_task"}
