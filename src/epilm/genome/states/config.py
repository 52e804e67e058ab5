"""Settings of the epigenome states of a corpus: one class a file format, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config


class _Alphabet(Config):
    state_names: tuple[str, ...] | None = None
    """Fixes the alphabet and its order; a label outside of it is an error. Without it: every label of the files, in
    natural order."""

    @field_validator("state_names")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and (not names or len(set(names)) != len(names)):
            raise ValueError("state_names must name each state once, and at least one")
        return names


class IdeasStates(_Alphabet):
    """IDEAS ``.state`` tables: ``#ID CHR POSst POSed CELL... PosClass``; all cells in one file, one file or several."""

    kind: Literal["ideas"] = "ideas"
    path: str | tuple[str, ...]
    """The table, or one table for each chromosome."""
    cell_types: tuple[str, ...] | None = None
    """Cells to take, in this order; all of them without it."""


class SegmentStates(_Alphabet):
    """Segment BED files (ChromHMM and others), one a cell; the state's label is column 4."""

    kind: Literal["segments"] = "segments"
    files: dict[str, str] = Field(min_length=1)
    """Cell type -> path (plain or gzip)."""


class BigBedStates(_Alphabet):
    """bigBed files, one a cell; the state's label is the name column."""

    kind: Literal["bigbed"] = "bigbed"
    files: dict[str, str] = Field(min_length=1)
    """Cell type -> path."""


class LineStates(_Alphabet):
    """One state a line a bin (ChromHMM ``statebyline``); the contig is in the header or given."""

    kind: Literal["lines"] = "lines"
    files: dict[str, str | tuple[str, ...] | dict[str, str]] = Field(min_length=1)
    """Cell type -> path, paths (one for each contig, named in its header), or contig -> path."""
    bin_bp: int = Field(default=200, gt=0)
    """Bases of one line."""


class TrackLevelStates(Config):
    """States from numeric tracks, for genomes without a segmentation: levels crossed into words.

    Each track's bins are cut at quantiles of the training contigs (over the bins with data, outside of held-out
    regions), and the levels of all tracks together make the state: 3 tracks x (low, mid, high) = 27 states. A bin
    without data in any of the tracks has no state.
    """

    kind: Literal["levels"] = "levels"
    tracks: dict[str, dict[str, str]] = Field(min_length=1)
    """Cell type -> track name -> bigWig; every cell has the same tracks."""
    quantiles: tuple[float, ...] = (1 / 3, 2 / 3)
    """Where the levels are cut, ascending, between 0 and 1."""
    level_names: tuple[str, ...] | None = None
    """One more than quantiles; (low, high), (low, mid, high), or q0, q1, ... without it."""

    @field_validator("quantiles")
    @classmethod
    def _ascending(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        if not quantiles or any(not 0 < q < 1 for q in quantiles) or list(quantiles) != sorted(set(quantiles)):
            raise ValueError("quantiles must be between 0 and 1, ascending, e.g. [0.33, 0.67]")
        return quantiles

    @field_validator("tracks")
    @classmethod
    def _same_tracks(cls, tracks: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        first = next(iter(tracks.values()))
        for cell, mine in tracks.items():
            if not mine or set(mine) != set(first):
                raise ValueError(
                    f"{cell} has the tracks {sorted(mine)}, another cell has {sorted(first)}; give each the same"
                )
        return tracks

    @model_validator(mode="after")
    def _a_name_a_level(self) -> Self:
        if len(self.levels) != len(self.quantiles) + 1 or len(set(self.levels)) != len(self.levels):
            raise ValueError(
                f"level_names={list(self.levels)}: {len(self.quantiles)} quantiles make {len(self.quantiles) + 1} levels, "
                "and each needs a name of its own"
            )
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        if self.level_names is not None:
            return self.level_names
        usual = {1: ("low", "high"), 2: ("low", "mid", "high")}
        return usual.get(len(self.quantiles), tuple(f"q{i}" for i in range(len(self.quantiles) + 1)))


StatesConfig = Annotated[
    IdeasStates | SegmentStates | BigBedStates | LineStates | TrackLevelStates, Field(discriminator="kind")
]
