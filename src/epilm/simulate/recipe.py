"""Settings of the toy epigenome."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.runs import Recipe

DNASE = "DNase"
"""The track of accessibility, which has summits where factors are bound."""


class DnaseConfig(Config):
    """Summits of the track ``DNase``."""

    summit: float = Field(default=5.0, gt=1.0)
    """Mean height of a summit, as a multiple of the level of its bin."""
    reach_bp: int = Field(default=75, ge=1)
    """Bases from the centre of a bound site to the end of its summit, on either side."""
    decoys_per_open_bin: float = Field(default=0.1, ge=0.0, le=1.0)
    """Summits without a site: the share of the cell type's open bins that have one, at a random place."""


class SimulateRecipe(Recipe):
    """A genome with planted truth. The defaults make the demo's input: 2.5 Mb, four cell types, about 730 genes."""

    contigs: dict[str, int] = Field(
        default={
            "chr1": 601_234,
            "chr2": 500_300,
            "chr3": 452_117,
            "chr4": 400_050,
            "chr5": 300_777,
            "chr6": 250_000,
        },
        min_length=1,
    )
    """Name -> length in bp of every contig."""
    cell_types: tuple[str, ...] = Field(default=("blood", "heart", "liver", "brain"), min_length=1)
    """Names of the cell types; each gets its states, tracks, binding sites and expression."""
    bin_bp: int = Field(default=200, ge=50, le=10_000)
    """Size of an epigenome bin; states change only at bin borders."""
    gap_bp: int = Field(default=2_000, ge=0)
    """Unknown bases (N, without states or signal) at each contig's start, as at the telomeres of real assemblies."""
    mean_run_bins: float = Field(default=2.4, gt=1.0)
    """Mean length in bins of a stretch between two random borders of the shared backbone."""
    cell_specific_share: float = Field(default=0.65, ge=0.0, le=1.0)
    """Share of the loci whose state is drawn for each cell type on its own; the others are alike in all."""
    composition_strength: float = Field(default=0.8, ge=0.0, le=1.0)
    """How strongly a locus' class shapes its DNA: 0 = the same Markov chain everywhere, 1 = each class its own."""
    genes_per_mb: float = Field(default=280.0, gt=0.0)
    """Genes, each with one promoter, per million bases."""
    num_tfs: int = Field(default=3, ge=1, le=64)
    """Transcription factors with a motif each."""
    motif_bp: int = Field(default=10, ge=6, le=20)
    """Length of a motif."""
    tracks: tuple[str, ...] = ("H3K4me3", "H3K36me3", "H3K27me3")
    """Marks that get a bigWig in each cell type; each is emitted by the states at its own levels. ``DNase`` has summits
    at bound sites as well."""
    track_step_bp: int = Field(default=50, ge=1)
    """Resolution of the bigWigs; divides ``bin_bp``."""
    track_gap_share: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of the bigWig steps without data."""
    dnase: DnaseConfig = DnaseConfig()
    """Summits of the track ``DNase``, where ``tracks`` names it."""
    mappability: bool = False
    """Write ``mappability.bw``: 1 where a read can be placed, 0 in repeats, where ``DNase`` then has no reads."""
    repeat_share: float = Field(default=0.05, gt=0.0, le=0.5)
    """Share of the genome to which no read can be placed, with ``mappability``."""
    expression_r: float = Field(default=0.9, gt=0.0, le=1.0)
    """Pearson r between the noiseless and the written expression: the ceiling of any regression."""

    @field_validator("cell_types", "tracks")
    @classmethod
    def _unique_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("names must differ")
        for name in names:
            if not name or not all(c.isalnum() or c in "_-+" for c in name):
                raise ValueError(f"{name!r} becomes part of a file name: use letters, digits, '_', '-' and '+'")
        return names

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.bin_bp % self.track_step_bp:
            raise ValueError(f"track_step_bp={self.track_step_bp} does not divide bin_bp={self.bin_bp}")
        if DNASE in self.tracks and self.track_step_bp > self.dnase.reach_bp / 3:
            raise ValueError(
                f"track_step_bp={self.track_step_bp} is too coarse for the summits of {DNASE}, which reach "
                f"dnase.reach_bp={self.dnase.reach_bp}: at most a third of it. Try 10."
            )
        if self.gap_bp % self.bin_bp:
            raise ValueError(f"gap_bp={self.gap_bp} is not a multiple of bin_bp={self.bin_bp}")
        if self.num_tfs * self.motif_bp > self.bin_bp:
            raise ValueError(
                f"{self.num_tfs} motifs of {self.motif_bp} bp do not fit side by side into a bin of {self.bin_bp} bp"
            )
        if self.slot_bins < 12:
            most = 1e6 / (12 * self.bin_bp)
            raise ValueError(f"genes_per_mb={self.genes_per_mb:g} leaves less than 12 bins a gene; at most {most:g}")
        shortest = self.gap_bp + self.slot_bins * self.bin_bp
        for name, length_bp in self.contigs.items():
            if not name or any(c.isspace() or c in ">:" for c in name):
                raise ValueError(f"contig name {name!r}: no spaces, '>' or ':'")
            if not shortest <= length_bp < 2**31:
                raise ValueError(
                    f"contig {name} has {length_bp} bp; it takes {shortest} (gap_bp and one gene) to {2**31 - 1}"
                )
        return self

    @property
    def slot_bins(self) -> int:
        """Bins of the stretch that holds one gene."""
        return int(1e6 / self.genes_per_mb) // self.bin_bp
