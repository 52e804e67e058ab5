"""The recipe of a corpus: which genome, which states and signals, how windows are cut, and what is held out."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.genome.states import StatesConfig
from epilm.runs import Recipe

_REGION = re.compile(r"^(?P<chrom>.+):(?P<start>[\d,]+)-(?P<end>[\d,]+)$")


class SequenceConfig(Config):
    """The DNA."""

    path: str | tuple[str, ...]
    """FASTA (plain, gzip, bgzip) or .2bit; several files are read as one genome."""
    sizes: str | None = None
    """A ``.sizes`` table (name, length): the genome is checked against it, and pieces learn their contig's length."""
    contigs: tuple[str, ...] | None = None
    """Contigs to take, under any name that means them (``chrII``, ``II``, ``2``); all of the file where absent."""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path


class SignalConfig(Config):
    """A bigWig kept in the corpus as one number a signal bin."""

    path: str
    cell_type: str | None = None
    """Cell type that the track was measured in; absent for tracks of the genome (mappability)."""
    statistic: Literal["mean", "max", "min"] = "mean"
    """What a bin holds of its bases."""
    nan_policy: Literal["keep", "zero"] = "keep"
    """What bins without coverage hold: NaN (``keep``) or 0."""
    missing_contigs: Literal["error", "no_data"] = "error"
    """A contig of the corpus that the track lacks: refuse, or take it as not covered (``nan_policy`` applies)."""


class CorpusRecipe(Recipe):
    """One corpus: two views of a genome (shuffled windows, contigs in order) with the states of every cell type."""

    assembly: str
    """Name of the assembly, recorded and compared: ``hg19``, ``sacCer3``."""
    genome: SequenceConfig
    """The DNA."""
    states: StatesConfig | None = None
    """Epigenetic states of every cell type; absent for a corpus of DNA alone."""
    signals: dict[str, SignalConfig] = Field(default_factory=dict)
    """Numeric tracks by name."""
    blacklist: str | None = None
    """BED of regions that no window may touch."""

    window_bp: int = Field(default=1000, ge=1)
    """Length of a window."""
    step_bp: int | None = Field(default=None, ge=1)
    """Distance between the starts of neighbouring windows; ``window_bp`` (no overlap) where absent."""
    bin_bp: int = Field(default=200, ge=1)
    """Length of an epigenome bin."""
    signal_bp: int | None = Field(default=None, ge=1)
    """Length of a signal bin, a divisor of ``bin_bp`` (1 keeps every base); ``bin_bp`` where absent. Finer signals are kept
    in the contigs view alone, for gathering: in the windows view each base would be there once a window."""
    chunk_bp: int = Field(default=100_000, ge=1)
    """Length of a row of the contigs view, a multiple of ``bin_bp``."""

    max_n_fraction: float = Field(default=0.1, ge=0, le=1)
    """Windows with a larger share of N are left out and counted."""
    max_no_state_fraction: float = Field(default=1.0, ge=0, le=1)
    """Windows with a larger share of (cell, bin) without a state are left out and counted; 1 keeps all."""

    held_out_contigs: tuple[str, ...] = ()
    """Contigs that no training window comes from."""
    held_out_regions: tuple[str, ...] = ()
    """``chrom:start-end`` (0-based half-open): windows inside are held out, windows across an edge are left out."""
    held_out_cell_types: tuple[str, ...] = ()
    """Cell types whose states training must not show; they stay in the corpus for evaluation."""

    rows_per_group: int = Field(default=256, ge=1)
    """Windows of a parquet row group: the unit in which training reads."""
    groups_per_file: int = Field(default=64, ge=1)
    """Most row groups of a file of the windows view; fewer where windows are so long that it would pass 256 MB."""

    @property
    def resolved_step_bp(self) -> int:
        return self.step_bp or self.window_bp

    @property
    def resolved_signal_bp(self) -> int:
        return self.signal_bp or self.bin_bp

    @property
    def rows_per_file(self) -> int:
        return self.rows_per_group * self.groups_per_file

    def identity(self) -> dict[str, Any]:
        """As of every recipe; ``signal_bp`` counts where it is given, so that corpora from before it stay what they are."""
        values = super().identity()
        if self.signal_bp is None:
            del values["signal_bp"]
        return values

    @model_validator(mode="after")
    def _check_sizes(self) -> CorpusRecipe:
        if self.bin_bp % self.resolved_signal_bp:
            near = max(n for n in range(1, self.resolved_signal_bp + 1) if self.bin_bp % n == 0)
            raise ValueError(
                f"signal_bp={self.signal_bp} does not divide bin_bp={self.bin_bp}: signals share the bins' edges. Try {near}."
            )
        if self.signal_bp is not None and not self.signals:
            raise ValueError(
                f"signal_bp={self.signal_bp} takes no effect without signals. Give signals, or leave it out."
            )
        if self.chunk_bp % self.bin_bp:
            down = self.chunk_bp // self.bin_bp * self.bin_bp or self.bin_bp
            raise ValueError(
                f"chunk_bp={self.chunk_bp} is not a multiple of bin_bp={self.bin_bp}: chunks hold whole bins. "
                f"Try {down}."
            )
        for region in self.held_out_regions:
            try:
                parse_region(region)
            except ValueError as error:
                raise ValueError(f"held_out_regions: {error}") from error
        return self

    @model_validator(mode="after")
    def _check_lists(self) -> CorpusRecipe:
        for key in ("held_out_contigs", "held_out_cell_types"):
            values = getattr(self, key)
            if len(set(values)) != len(values):
                raise ValueError(f"{key} names one twice: {', '.join(values)}.")
        if self.held_out_cell_types and self.states is None:
            raise ValueError("held_out_cell_types needs states: a corpus of DNA alone has no cell types.")
        return self


def parse_region(text: str) -> tuple[str, int, int]:
    """``chr22:20,800,000-21,000,000`` -> (name, start, end), 0-based half-open.

    Raises:
        ValueError: not of that form, or empty.
    """
    match = _REGION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a region. Write chrom:start-end (0-based half-open), e.g. chr22:0-1000000.")
    start, end = (int(match[key].replace(",", "")) for key in ("start", "end"))
    if end <= start:
        raise ValueError(f"{text!r} is empty: its end must be larger than its start.")
    return match["chrom"], start, end
