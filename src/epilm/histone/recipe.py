"""The recipe of ``epilm gene-marks``: which genes, which tracks, and how the bases of a bin become a value."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.runs import Recipe

Missing = Literal["zero", "skip", "error"]
MarkStatistic = Literal["sum", "mean", "max"]


class BinConfig(Config):
    """What a bin holds of a track's bases."""

    bin_bp: int = Field(default=100, ge=1)
    """Length of a bin."""
    num_bins: int = Field(default=200, ge=2)
    """Bins of a gene, half of them upstream of its TSS; even."""
    statistic: MarkStatistic = "sum"
    """Of a bin's bases. ``sum`` of a track of reads' 5' ends counts reads; ``mean`` suits coverage and fold change, as does
    ``max``."""
    missing: Missing = "zero"
    """Bases without a value: count them as 0 (tracks that leave 0 out), skip them (``mean`` over the others; 0 where a bin has
    none), or refuse them."""
    round: bool = False
    """Round values to whole numbers."""

    @property
    def window_bp(self) -> int:
        return self.bin_bp * self.num_bins

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.num_bins % 2:
            raise ValueError(f"num_bins={self.num_bins} is odd: half of them lie upstream. Try {self.num_bins + 1}.")
        if self.missing == "skip" and self.statistic != "mean":
            raise ValueError(f"missing: skip makes no difference to a {self.statistic}. Use zero, or statistic: mean.")
        return self


class GeneMarksRecipe(Recipe, BinConfig):
    """``epilm gene-marks``: bigWig tracks of marks -> values in bins around every gene's TSS, for any number of cell types."""

    genes: str
    """GTF, BED6 or SGD table of genes; the TSS is the first transcribed base."""
    anchor: Literal["start", "centre"] | None = None
    """Where a row's TSS is: at its ``start`` in the direction of transcription, or in its ``centre`` (a BED of windows around
    TSSs). Absent: at the start, but rows that look like windows, all of one width, are refused."""
    id: Literal["gene_id", "gene_name"] = "gene_id"
    """What expression names genes by. By ``gene_name`` (of a GTF or SGD table) genes without a name, or with that of another
    gene, are left out and counted."""
    feature: str | None = None
    """Rows to take of a GTF (``gene``) or SGD table (``ORF``)."""
    id_version: Literal["keep", "strip"] = "keep"
    """``strip`` drops the version of Ensembl ids (``.9``), in the genes and in ``gene_list``."""
    gene_list: str | tuple[str, ...] | None = None
    """Ids of the genes to take, or a file with one at the start of each line; all where absent."""
    tracks: dict[str, dict[str, str]] = Field(min_length=1)
    """Cell type -> mark -> bigWig; every cell type has the same marks, in the order of the first."""
    off_contig: Literal["leave_out", "zero"] = "leave_out"
    """Genes whose window leaves the contig: leave them out and count them, or take the bases outside as 0."""
    genes_per_task: int = Field(default=256, ge=1)
    """Neighbouring genes of a task and of a file: it holds 4 bytes x bins x marks x cell types of each in memory."""

    @property
    def cell_types(self) -> tuple[str, ...]:
        return tuple(self.tracks)

    @property
    def marks(self) -> tuple[str, ...]:
        return tuple(next(iter(self.tracks.values())))

    @field_validator("tracks")
    @classmethod
    def _same_marks(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        first, marks = next(iter(value.items()))
        if not marks:
            raise ValueError(f"{first} has no mark. Give `mark: file.bw` under every cell type.")
        for cell, files in value.items():
            lacking = [mark for mark in marks if mark not in files]
            unknown = [mark for mark in files if mark not in marks]
            if lacking or unknown:
                what = f"lacks {', '.join(lacking)}" if lacking else f"has {', '.join(unknown)}"
                than = f"which {first} has" if lacking else f"which {first} lacks"
                raise ValueError(
                    f"{cell} {what}, {than}. Every cell type needs the same marks; {first} has {', '.join(marks)}."
                )
        given = [(path, cell, mark) for cell, files in value.items() for mark, path in files.items()]
        for number, (path, cell, mark) in enumerate(given):
            for other, other_cell, other_mark in given[:number]:
                if path == other:
                    raise ValueError(
                        f"{other_cell}.{other_mark} and {cell}.{mark} are one file, {path}. Give each its own."
                    )
        return value
