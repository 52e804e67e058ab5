"""States of all cells by contig, held as segments in memory, whatever file they came from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig, match_contigs
from epilm.genome.states.binning import NO_STATE, Segments, bin_segments

MAX_STATES = 254


class StateSource(ABC):
    """States of a genome by cell type. Picklable.

    Attributes:
        cell_types: the order of the first axis of :meth:`read`.
        state_names: name of state 0, 1, ...
        source_paths: every file that was read.
        contig_names: path -> name in that file -> name in the reference.
        notes: what was mended in the files and is to be logged.
    """

    cell_types: tuple[str, ...]
    state_names: tuple[str, ...]
    source_paths: tuple[str, ...]
    contig_names: dict[str, dict[str, str]]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def read(self, contig: str, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
        """States uint8 [num_cells, ceil((end_bp - start_bp) / bin_bp)], 255 = no data; ``contig`` as in the reference.

        Raises:
            GenomeError: ``start_bp`` is not a multiple of ``bin_bp``.
        """


class SegmentSource(StateSource):
    """States held as segments (some 17 bytes each); contigs that no file covers are 255 throughout."""

    def __init__(
        self,
        segments: dict[str, Segments],
        *,
        cell_types: Sequence[str],
        state_names: Sequence[str],
        contig_names: dict[str, dict[str, str]],
        notes: Sequence[str] = (),
    ) -> None:
        self.cell_types, self.state_names = tuple(cell_types), tuple(state_names)
        self.source_paths, self.contig_names = tuple(contig_names), contig_names
        self.notes = tuple(notes)
        self._segments = segments

    def read(self, contig: str, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
        check_grid(start_bp, end_bp, bin_bp)
        segments = self._segments.get(contig)
        if segments is None:
            return np.full((len(self.cell_types), -(-(end_bp - start_bp) // bin_bp)), NO_STATE, np.uint8)
        return bin_segments(segments, start_bp, end_bp, bin_bp)


def check_grid(start_bp: int, end_bp: int, bin_bp: int) -> None:
    if bin_bp <= 0 or start_bp % bin_bp or start_bp < 0 or end_bp < start_bp:
        raise GenomeError(
            f"cannot cut {start_bp}-{end_bp} into bins of {bin_bp} bp: the start must be a multiple of the bin size."
        )


@dataclass
class CellTable:
    """Segments of one cell as read from one file: contig and state as indices into the names that the file uses."""

    path: str
    contigs: list[str]
    labels: list[str]
    contig: np.ndarray  # int [n]
    start: np.ndarray  # int64 [n]
    end: np.ndarray  # int64 [n]
    label: np.ndarray  # int [n]
    lengths: dict[str, int | None] = field(default_factory=dict)
    """Contig lengths where the format holds them (bigBed)."""
    bin_bp: int = 1
    """Width of the file's own bins; the last one may be padded past the contig's end."""


def natural_key(label: str) -> tuple[tuple[int, int, str], ...]:
    """Order with numbers as numbers: ``2_Weak`` before ``18_Quiescent``, ``E9`` before ``E10``."""
    parts = re.split(r"(\d+)", label)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def make_alphabet(found: Mapping[str, str], fixed: Sequence[str] | None) -> tuple[str, ...]:
    """State names in order. ``found``: label -> a file that has it.

    Raises:
        GenomeError: a label outside the fixed names, or more than 254 states.
    """
    if fixed is not None:
        unknown = sorted(set(found) - set(fixed), key=natural_key)
        if unknown:
            raise GenomeError(
                f"{found[unknown[0]]}: unknown state {unknown[0]!r} (unknown in all: {', '.join(unknown[:8])}). "
                f"Allowed by state_names: {', '.join(fixed)}. Add it, or leave state_names out to take the files' own."
            )
        names = tuple(fixed)
    else:
        names = tuple(sorted(found, key=natural_key))
    if len(names) > MAX_STATES:
        raise GenomeError(
            f"{len(names)} different states ({', '.join(names[:3])}, ...), at most {MAX_STATES} are allowed. "
            "Is the state label where the format has it (column 4 of a BED)?"
        )
    return names


def assemble(
    tables: Mapping[str, Sequence[CellTable]],
    *,
    reference: Mapping[str, Contig],
    state_names: Sequence[str] | None,
    bin_bp: int,
    squeeze: bool = False,
    required: Collection[str] = (),
) -> SegmentSource:
    """Match contigs, join the alphabets, check and sort the segments of every cell.

    Args:
        tables: cell type -> what was read of it.
        bin_bp: the corpus's bin; a segment may reach past the contig's end by less than this or than the file's own bin.
        squeeze: see :func:`squeeze_overlaps`.
        required: contigs that every cell must have.

    Raises:
        GenomeError: see :func:`epilm.genome.states.open_states`.
    """
    found: dict[str, str] = {}
    for table in (table for cell_tables in tables.values() for table in cell_tables):
        for label in table.labels:
            found.setdefault(label, table.path)
    names = make_alphabet(found, state_names)
    contig_names: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    cells = []
    for cell, cell_tables in tables.items():
        source = ", ".join(table.path for table in cell_tables)
        rows = _in_reference(cell_tables, reference, names, contig_names, cell=cell, required=required)
        rows = rows[:, np.lexsort((rows[1], rows[0]))]
        padding_bp = max(bin_bp, *(table.bin_bp for table in cell_tables))
        _check_reach(rows, reference, padding_bp=padding_bp, source=source)
        rows[2], note = squeeze_overlaps(rows[0], rows[1], rows[2], list(reference), squeeze=squeeze, source=source)
        notes += [note] if note else []
        cells.append(rows)
    segments = _by_contig(cells, list(reference))
    return SegmentSource(segments, cell_types=list(tables), state_names=names, contig_names=contig_names, notes=notes)


def _in_reference(
    cell_tables: Sequence[CellTable],
    reference: Mapping[str, Contig],
    names: Sequence[str],
    contig_names: dict[str, dict[str, str]],
    *,
    cell: str,
    required: Collection[str],
) -> np.ndarray:
    """One cell's rows int64 [4, n] of (index in the reference, start, end, state); notes the names in ``contig_names``."""
    lengths: dict[str, int | None] = {name: contig.length_bp for name, contig in reference.items()}
    order = {name: index for index, name in enumerate(reference)}
    code_of = {name: code for code, name in enumerate(names)}
    rows, covered = [], set()
    for table in cell_tables:
        known: dict[str, int | None] = {name: table.lengths.get(name) for name in table.contigs}
        matches = match_contigs(lengths, known, source=table.path)
        contig_names.setdefault(table.path, {}).update(matches)
        covered |= set(matches.values())
        target = np.array([order[matches[name]] if name in matches else -1 for name in table.contigs], np.int64)
        codes = np.array([code_of[label] for label in table.labels], np.int64)
        contig = target[table.contig]
        keep = contig >= 0
        rows.append(np.stack([contig[keep], table.start[keep], table.end[keep], codes[table.label[keep]]]))
    missing = [name for name in required if name not in covered]
    if missing:
        raise GenomeError(
            f"the states of {cell} ({', '.join(table.path for table in cell_tables)}) do not cover "
            f"{', '.join(missing[:8])}. Add the files of these contigs, or leave the contigs out."
        )
    return np.concatenate(rows, axis=1)


def _by_contig(cells: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, Segments]:
    """Rows of every cell, ordered by (contig, start), to one :class:`Segments` a contig."""
    edges = [np.searchsorted(rows[0], np.arange(len(names) + 1)) for rows in cells]
    result = {}
    for index, name in enumerate(names):
        parts = [rows[:, edge[index] : edge[index + 1]] for rows, edge in zip(cells, edges, strict=True)]
        first = np.cumsum([0, *(part.shape[1] for part in parts)])
        if first[-1]:
            _, start, end, state = np.concatenate(parts, axis=1)
            result[name] = Segments(first, start, end, state.astype(np.uint8))
    return result


def _check_reach(rows: np.ndarray, reference: Mapping[str, Contig], *, padding_bp: int, source: str) -> None:
    """Segments must have a length, and lie on the contig."""
    names = list(reference)
    wrong = np.flatnonzero((rows[2] <= rows[1]) | (rows[1] < 0))
    if wrong.size:
        contig, start, end, _ = rows[:, wrong[0]].tolist()
        raise GenomeError(
            f"{source}: the segment {names[contig]}:{start}-{end} is not an interval; start must be >= 0 and below end."
        )
    no_limit = np.iinfo(np.int64).max // 2
    limits = np.array([no_limit if c.length_bp is None else c.length_bp for c in reference.values()])
    past = np.flatnonzero(rows[2] >= limits[rows[0]] + padding_bp)
    if past.size:
        contig, start, end, _ = rows[:, past[0]].tolist()
        raise GenomeError(
            f"{source}: a segment reaches {names[contig]}:{end:,}, but the contig has {limits[contig]:,} bp. "
            "Use files of one assembly, or give genome.sizes where the sequence is only a piece of the contig."
        )


def squeeze_overlaps(
    contig: np.ndarray, start: np.ndarray, end: np.ndarray, names: Sequence[str], *, squeeze: bool, source: str
) -> tuple[np.ndarray, str]:
    """Refuse segments that overlap -> (their ends, a note where some were cut).

    With ``squeeze`` a segment may overlap the next by less than the shortest segment of the file; the later one is kept
    whole. IDEAS squeezes windows off the grid between its 200-bp windows, so its files need this.

    Args:
        contig, start, end: int [n], ordered by (contig, start).

    Raises:
        GenomeError: segments overlap (by more than that).
    """
    overlap = np.where(contig[1:] == contig[:-1], end[:-1] - start[1:], 0)
    limit = int((end - start).min()) if squeeze and start.size else 1
    bad = np.flatnonzero(overlap >= limit)
    if bad.size:
        i = int(bad[0])
        raise GenomeError(
            f"{source}: {bad.size} segments overlap the next, the first at {names[contig[i]]}:{start[i]}-{end[i]} and "
            f"{start[i + 1]}-{end[i + 1]}. A base has one state: remove one of the two, or take another file."
        )
    count = int((overlap > 0).sum())
    if not count:
        return end, ""
    end = end.copy()
    end[:-1] -= np.maximum(overlap, 0)
    return end, f"{source}: {count} windows overlap the next by less than a window; the later one was kept whole."
