"""The settings of labels: where peaks or labels come from, and the rule that turns peaks into bins."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.runs import Recipe


class LabelsBase(Config):
    """What all kinds of labels have."""

    cell_types: dict[str, str | None] = {}
    """Name in the labels -> name in the corpus, where they differ; null leaves the cell type out."""
    targets: tuple[str, ...] | None = None
    """Factors to take, in this order; all where absent."""
    blacklist: str | None = None
    """BED of regions; bins that share a base with one are excluded."""

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        given = [name for name in self.cell_types.values() if name is not None]
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ValueError(f"cell_types gives {twice[0]!r} to two cell types of the labels. Leave one out with null.")
        if self.targets is not None and (not self.targets or len(set(self.targets)) != len(self.targets)):
            raise ValueError(f"targets={list(self.targets)} must name one factor or more, each once.")
        return self


class BinnedLabels(LabelsBase):
    """Labels whose bins the recipe decides."""

    bin_bp: int = Field(default=200, ge=1)
    """Bases of a bin."""
    step_bp: int = Field(default=50, ge=1)
    """Distance between the starts of neighbouring bins."""
    outside: Literal["error", "leave_out"] = "error"
    """Peaks or bins that start past the end of a contig: refuse them as of another assembly, or leave them out (where the
    corpus holds only the beginning of a contig)."""


class PeakLabels(BinnedLabels):
    """The rule of ENCODE-DREAM: bound where a conservative peak covers half of the bin or more, ambiguous where a relaxed
    peak touches it, else unbound. Without relaxed peaks nothing is ambiguous."""

    min_overlap_bp: int = Field(default=101, ge=1)
    """Bases that a bound bin shares with one conservative peak at least."""
    resize_bp: int | None = Field(default=None, ge=1)
    """Replace every peak by this many bases round its summit (column 10 of narrowPeak) or, where it has none, its middle;
    needed for peaks shorter than ``min_overlap_bp`` (ChIP-exo: 1 bp)."""
    missing_contigs: Literal["error", "no_peaks"] = "error"
    """A contig of the corpus without a single peak of a file: refuse (a file of some chromosomes would make the others
    unbound), or take it as unbound."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_overlap_bp > self.bin_bp:
            raise ValueError(
                f"min_overlap_bp={self.min_overlap_bp} exceeds bin_bp={self.bin_bp}: nothing could be bound. "
                f"Try {self.bin_bp // 2 + 1}."
            )
        if self.resize_bp is not None and self.resize_bp < self.min_overlap_bp:
            raise ValueError(
                f"resize_bp={self.resize_bp} is less than min_overlap_bp={self.min_overlap_bp}: nothing could be bound. "
                f"Try {self.bin_bp}."
            )
        return self


class PeakSets(Config):
    """The two sets of peaks of a (factor, cell type)."""

    conservative: str
    """BED or narrowPeak of the peaks that make bins bound (IDR, conservative)."""
    relaxed: str | None = None
    """BED or narrowPeak of the peaks that make bins ambiguous."""


class PeakFileLabels(PeakLabels):
    """Peaks in a file each."""

    kind: Literal["peaks"] = "peaks"
    files: dict[str, dict[str, str | PeakSets]] = Field(min_length=1)
    """``{FACTOR: {CELL: path}}`` or ``{FACTOR: {CELL: {conservative: path, relaxed: path}}}``; BED or narrowPeak, plain or
    gzip."""

    @model_validator(mode="after")
    def _some_cell(self) -> Self:
        bare = [target for target, cells in self.files.items() if not cells]
        if bare:
            raise ValueError(f"files.{bare[0]} names no cell type. Write {bare[0]}: {{CELL: path}}.")
        return self


class PeakTableLabels(PeakLabels):
    """All peaks in one table."""

    kind: Literal["peak_table"] = "peak_table"
    path: str
    """TSV without a header, plain or gzip: cell type, factor, set (``conservative`` or ``relaxed``), then the columns of
    BED or narrowPeak."""


class DreamLabels(BinnedLabels):
    """Label files of ENCODE-DREAM: the bins are given. Bins that a file leaves out have no label."""

    kind: Literal["dream"] = "dream"
    files: dict[str, str | tuple[str, ...]] = Field(min_length=1)
    """``{FACTOR: path}``, or several paths (training and test labels); TSV, plain or gzip, ``chr start stop CELL...``
    with U, A or B."""


class SavedLabels(LabelsBase):
    """A folder written by ``epilm labels``; its bins are those it was written with."""

    kind: Literal["labels"] = "labels"
    path: str
    """The folder or its URI."""


LabelsConfig = Annotated[PeakFileLabels | PeakTableLabels | DreamLabels | SavedLabels, Field(discriminator="kind")]


class LabelsRecipe(Recipe):
    """Labels of a corpus, written once as runs of bins."""

    corpus: str
    """Folder or URI of the corpus whose contigs, pieces and cell types the labels are for."""
    labels: LabelsConfig
    """Where they come from."""
    write_tsv: bool = False
    """Write an ENCODE-DREAM label file (``tsv/FACTOR.tsv.gz``) for every factor, too."""
