"""Settings of genes' histone marks: where the counts and the expression lie, how genes are split, and their words."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.corpus.recipe import parse_region

ROADMAP_MARKS = ("H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3")
"""The five core marks in the order of DeepDiff's files (the GeneGPT-2 paper prints H3K4me3 twice for the first two)."""

SPLITS = ("train", "validation", "test")


class SplitFiles(Config):
    """One cell type's csv files, by split."""

    train: str
    validation: str
    test: str
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Marks of these files' columns, where they differ from ``data.columns``."""


class DeepDiffFiles(Config):
    """DeepDiff's csv files (plain or compressed): ``<gene>_<symbol>_<bin>,count,...`` a line, a column a mark, bins from 1.

    A header, where a file has one, names its marks; all files need the same marks, in any order.
    """

    kind: Literal["deepdiff"]
    cells: dict[str, SplitFiles] = Field(min_length=2)
    """Cell type -> its files; the split is that of the files."""
    columns: tuple[str, ...] = Field(default=ROADMAP_MARKS, min_length=1)
    """Marks of the columns of files without a header, in their order."""
    num_bins: int = Field(default=200, ge=1)
    """Bins of a gene; a gene with more or fewer is an error."""
    bin_bp: int = Field(default=100, ge=1)
    """Bases of a bin: for the axis of the importances alone."""


class GeneSplit(Config):
    """Genes for validation and for the test by where they lie, since windows of neighbouring genes overlap.

    Where the tracks have few contigs, a contig's part may stand for one: ``chrom:start-end`` (0-based half-open). Training
    genes whose window overlaps that of a validation or test gene are then left out, as are validation genes beside the test.
    """

    validation_contigs: tuple[str, ...] = Field(min_length=1)
    test_contigs: tuple[str, ...] = Field(min_length=1)

    @field_validator("validation_contigs", "test_contigs")
    @classmethod
    def _regions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            if ":" in place:
                parse_region(place)
        return value

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = sorted(set(self.validation_contigs) & set(self.test_contigs))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be for validation and for the test.")
        return self


class GeneMarksFolder(Config):
    """A folder of ``epilm gene-marks``: levels of marks around genes, counted from bigWig files."""

    kind: Literal["gene-marks"]
    path: str
    split: GeneSplit


MarksData = Annotated[DeepDiffFiles | GeneMarksFolder, Field(discriminator="kind")]


class _Expression(Config):
    id_version: Literal["keep", "strip"] = "keep"
    """``strip`` drops the version of Ensembl ids (``.9``), here and in the ids of the marks."""


class CountFiles(_Expression):
    """A file of read counts a cell type: ``gene,count`` a line, separated by a comma or a tab; a header is passed over."""

    kind: Literal["counts"]
    files: dict[str, str] = Field(min_length=2)
    """Cell type -> file."""


class ExpressionTable(_Expression):
    """One table with a header: a row a gene, a column a cell type (RPKM or TPM, say)."""

    kind: Literal["table"]
    path: str
    """CSV (``.csv``) or tab-separated (any other ending), plain or compressed."""
    id: str = "gene_id"
    """Column with the genes' ids."""
    columns: dict[str, str] = Field(min_length=2)
    """Cell type -> column."""


ExpressionData = Annotated[CountFiles | ExpressionTable, Field(discriminator="kind")]


class WordsConfig(Config):
    """Words of a bin, a letter a mark (GeneGPT-2, section 5.2: 0 -> l, 1 -> m, 2 and more -> h)."""

    thresholds: tuple[float, ...] | None = (1.0, 2.0)
    """A level's number is how many of these a value reaches: (1, 2) gives three levels. null: by quantiles."""
    levels: int | None = Field(default=None, ge=2, le=26)
    """Levels of each mark by quantiles of the training genes' bins in both cell types; thresholds must then be null."""
    difference_thresholds: tuple[float, ...] | None = None
    """The same for the difference of two cell types; null: below 0, 0, above 0."""
    vocab_size: int = Field(default=1000, ge=257)
    """Most tokens of the byte-level BPE, the 256 bytes included."""
    min_frequency: int = Field(default=2, ge=1)
    """Occurrences from which a pair of tokens is merged."""

    @field_validator("thresholds", "difference_thresholds")
    @classmethod
    def _rising(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (
            not 1 <= len(value) <= 25 or not all(map(math.isfinite, value)) or any(b <= a for a, b in pairwise(value))
        ):
            raise ValueError("must hold 1 to 25 finite, rising numbers, e.g. [1, 2].")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.thresholds is None) == (self.levels is None):
            raise ValueError(
                "give thresholds, or thresholds: null and levels (by quantiles); not both and not neither."
            )
        return self
