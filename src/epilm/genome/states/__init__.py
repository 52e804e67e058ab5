"""Epigenome states from IDEAS tables, segment BED, bigBed, one-state-per-line files, or numeric tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epilm.genome.contigs import Contig
from epilm.genome.states.binning import NO_STATE
from epilm.genome.states.config import (
    BigBedStates,
    IdeasStates,
    LineStates,
    SegmentStates,
    StatesConfig,
    TrackLevelStates,
)
from epilm.genome.states.segments import read_segments
from epilm.genome.states.source import StateSource, assemble

__all__ = [
    "NO_STATE",
    "BigBedStates",
    "IdeasStates",
    "LineStates",
    "SegmentStates",
    "StateSource",
    "StatesConfig",
    "TrackLevelStates",
    "open_states",
]


def open_states(
    config: StatesConfig, *, reference: Mapping[str, Contig], train_contigs: Sequence[str], bin_bp: int
) -> StateSource:
    """Read the states of every cell once, whole; the source then serves any interval (``ray.put`` it for workers).

    Args:
        reference: the contigs of the sequence; the files' contigs are matched to them.
        train_contigs: the contigs that may teach anything (quantiles of track levels).
        bin_bp: the corpus's bin.

    Raises:
        GenomeError: a file is unreadable or of another format, has none of the contigs, another contig length, an unknown
            label, more than 254 labels, or overlapping segments.
    """
    if isinstance(config, SegmentStates):
        tables = {cell: [read_segments(path)] for cell, path in config.files.items()}
        return assemble(tables, reference=reference, state_names=config.state_names, bin_bp=bin_bp)
    raise NotImplementedError(config.kind)
