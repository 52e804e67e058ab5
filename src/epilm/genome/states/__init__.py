"""Epigenome states from IDEAS tables, segment BED, bigBed, one-state-per-line files, or numeric tracks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.states.bigbed import read_bigbed
from epilm.genome.states.binning import NO_STATE
from epilm.genome.states.config import (
    BigBedStates,
    IdeasStates,
    LineStates,
    SegmentStates,
    StatesConfig,
    TrackLevelStates,
)
from epilm.genome.states.ideas import read_ideas
from epilm.genome.states.levels import LevelSource
from epilm.genome.states.lines import read_lines
from epilm.genome.states.segments import read_segments
from epilm.genome.states.source import CellTable, StateSource, assemble

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
    config: StatesConfig,
    *,
    reference: Mapping[str, Contig],
    train_contigs: Sequence[str],
    bin_bp: int,
    held_out: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    required: Collection[str] = (),
) -> StateSource:
    """Read the states of every cell once, whole; the source then serves any interval (``ray.put`` it for workers).

    Args:
        reference: the contigs of the sequence; the files' contigs are matched to them.
        train_contigs: the contigs that may teach anything (quantiles of track levels).
        bin_bp: the corpus's bin.
        held_out: training contig -> (start, end), sorted and disjoint, of its stretches that may teach nothing.
        required: contigs that every cell must have; others may be absent, and are without states there.

    Raises:
        GenomeError: a file is unreadable or of another format, has none of the contigs, another contig length, an
            unknown label, more than 254 labels, or overlapping segments.
    """
    absent = [name for name in (*train_contigs, *required) if name not in reference]
    if absent:
        raise GenomeError(f"contig {absent[0]!r} is not in the sequence, which has {', '.join(list(reference)[:8])}.")
    if isinstance(config, TrackLevelStates):
        return LevelSource(
            config,
            reference=reference,
            train_contigs=train_contigs,
            bin_bp=bin_bp,
            held_out=held_out,
            required=required,
        )
    tables: dict[str, list[CellTable]]
    notes: list[str] = []
    squeeze = isinstance(config, BigBedStates)
    if isinstance(config, SegmentStates):
        tables = {cell: [read_segments(path)] for cell, path in config.files.items()}
    elif isinstance(config, BigBedStates):
        tables = {cell: [read_bigbed(path)] for cell, path in config.files.items()}
    elif isinstance(config, LineStates):
        tables = {cell: read_lines(given, config.bin_bp) for cell, given in config.files.items()}
    else:
        tables, notes = _read_ideas_files(config)
    source = assemble(
        tables,
        reference=reference,
        state_names=config.state_names,
        bin_bp=bin_bp,
        squeeze=squeeze,
        required=required,
    )
    source.notes = (*notes, *source.notes)
    return source


def _read_ideas_files(config: IdeasStates) -> tuple[dict[str, list[CellTable]], list[str]]:
    paths = [config.path] if isinstance(config.path, str) else list(config.path)
    tables: dict[str, list[CellTable]] = {}
    notes = []
    for path in paths:
        cells, note = read_ideas(path, config.cell_types)
        if tables and set(cells) != set(tables):
            raise GenomeError(
                f"{path} has the cells {', '.join(cells)}, but {paths[0]} has {', '.join(tables)}. "
                "Name the cells that all of the files have in cell_types."
            )
        for cell, table in cells.items():
            tables.setdefault(cell, []).append(table)
        notes += [note] if note else []
    return tables, notes
