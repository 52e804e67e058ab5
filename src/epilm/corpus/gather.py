"""Any intervals out of the contigs view: DNA, states of every cell type and signals, whatever their place and length.

Fine-tuning, embedding and the writing of windows all come through here, so that a locus has one reading.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, read_manifest
from epilm.corpus.schema import BASE_N, NO_STATE, bins_per_window, contig_schema
from epilm.errors import CorpusError
from epilm.storage import Location

CACHE_BYTES = 256 << 20
"""Of uncompressed chunks that a reader keeps: about 50 Mb of a genome with ten tracks every 10 bp. From a corpus that
fits, batches of 64 intervals at random places are gathered 14 times as fast as where their chunks are read anew."""
CACHED_FILES = 32


@dataclass(frozen=True)
class GatheredIntervals:
    """n intervals of one length; what lies outside a contig is N, ``NO_STATE`` and NaN."""

    dna: np.ndarray
    """uint8 [n, length_bp], codes A0 C1 G2 T3 N4."""
    states: np.ndarray | None
    """uint8 [n, num_cells, num_bins]; None for a corpus of DNA alone."""
    phase: np.ndarray
    """int16 [n]: bases from the start of the first bin to the interval's start."""
    signals: np.ndarray | None = None
    """float32 [n, num_tracks, num_signal_bins]; None where the corpus keeps no signals."""
    signal_phase: np.ndarray | None = None
    """int16 [n]: bases from the start of the first signal bin to the interval's start; None without signals."""


@dataclass(frozen=True)
class _Chunk:
    """One row of the contigs view, or a stretch put together from several."""

    first_bp: int  # a multiple of bin_bp
    dna: np.ndarray  # uint8 [bp]
    states: np.ndarray | None  # uint8 [cells, bins]
    signals: np.ndarray | None  # float32 [tracks, signal bins]


class ContigReader:
    """Gathers intervals from a corpus. Picklable: a worker's copy opens its own files and begins with an empty cache.

    Args:
        location: the corpus folder (path, URI or :class:`~epilm.storage.Location`).
        manifest: its manifest, where it was read already; only the contigs view of it is used.
        cached_chunks: chunks kept in memory; as many as ``CACHE_BYTES`` hold where absent.

    Raises:
        CorpusError: no finished corpus lies there.
    """

    def __init__(
        self,
        location: Location | str,
        manifest: CorpusManifest | None = None,
        cached_chunks: int | None = None,
    ) -> None:
        self.location = location if isinstance(location, Location) else Location(str(location))
        self.manifest = read_manifest(self.location) if manifest is None else manifest
        self.cached_chunks = cached_chunks or max(2, CACHE_BYTES // self.manifest.chunk_bytes)
        self._contigs = {contig.name: contig for contig in self.manifest.contigs}
        self._places = _chunk_places(self.manifest)
        columns = contig_schema(num_cells=len(self.manifest.cell_types), num_signals=len(self.manifest.signals)).names
        self._columns = columns[2:]
        self._chunks: OrderedDict[tuple[str, int], _Chunk] = OrderedDict()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def __reduce__(self) -> tuple[type[ContigReader], tuple[Location, CorpusManifest, int]]:
        return type(self), (self.location, self.manifest, self.cached_chunks)

    def gather(
        self,
        chroms: Sequence[str] | np.ndarray,
        starts: np.ndarray,
        length_bp: int,
        *,
        cells: np.ndarray | None = None,
        tracks: np.ndarray | None = None,
    ) -> GatheredIntervals:
        """Read n intervals [start, start + length_bp); each chunk is read once, however the intervals are ordered.

        Args:
            chroms: contig of each interval [n], by its name in the corpus.
            starts: first base of each interval [n]; it may lie before the contig or past its end.
            length_bp: their common length, at least 1.
            cells: int64 [n, c], the cell types of each interval (indices into ``manifest.cell_types``) that ``states``
                has in place of all.
            tracks: int64 [n, t], likewise the signals (indices into ``manifest.signals``): a sample of one cell type
                need not carry the tracks of the others.

        Raises:
            CorpusError: an unknown contig, or a chunk that cannot be read (the file is named).
        """
        manifest, starts = self.manifest, np.asarray(starts, dtype=np.int64)
        found = _empty(manifest, starts, length_bp, cells, tracks)
        for name, chunk, rows in self._by_chunk(np.asarray(chroms, dtype=object), starts):
            piece = self._chunk(name, chunk) if (name, chunk) in self._places else None
            # a chunk's copy takes longer than the rows do, so that only rows across an edge are read from one
            within = np.zeros(len(rows), bool) if piece is None else _within(piece, found, starts[rows], manifest)
            across = rows[~within]
            if piece is not None and len(across) < len(rows):
                _fill(found, piece, rows[within], starts, manifest, cells, tracks)
            if len(across):
                stretch = self._stretch(name, int(starts[across].min()), int(starts[across].max()), length_bp)
                _fill(found, stretch, across, starts, manifest, cells, tracks)
        return found

    def _by_chunk(self, chroms: np.ndarray, starts: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
        """(contig, chunk, rows) with rows the intervals that start in that chunk, in genome order."""
        if len(chroms) != len(starts):
            raise CorpusError(f"{len(chroms)} contig names for {len(starts)} starts: give one for each interval.")
        names, codes = np.unique(chroms.astype(str), return_inverse=True)
        for name in names:
            self._contig(str(name))
        chunks = starts // self.manifest.chunk_bp
        order = np.lexsort((chunks, codes))
        changes = np.flatnonzero(np.diff(codes[order]) | np.diff(chunks[order])) + 1
        for rows in np.split(order, changes) if len(order) else []:
            yield str(names[codes[rows[0]]]), int(chunks[rows[0]]), rows

    def _stretch(self, name: str, first_start: int, last_start: int, length_bp: int) -> _Chunk:
        """What intervals that start from ``first_start`` to ``last_start`` need, padded outside the contig."""
        manifest, contig = self.manifest, self._contig(name)
        chunk_bp, bin_bp, signal_bp = manifest.chunk_bp, manifest.bin_bp, manifest.signal_bp
        first_bp = first_start // bin_bp * bin_bp
        num_bins = (last_start - first_bp) // bin_bp + bins_per_window(length_bp, bin_bp)
        end_bp = first_bp + num_bins * bin_bp
        num_signal_bins = num_bins * bin_bp // signal_bp
        stretch = _Chunk(
            first_bp,
            np.full(end_bp - first_bp, BASE_N, np.uint8),
            np.full((len(manifest.cell_types), num_bins), NO_STATE, np.uint8) if manifest.cell_types else None,
            np.full((len(manifest.signals), num_signal_bins), np.nan, np.float32) if manifest.signals else None,
        )
        begin = max(first_bp, contig.start_bp)
        for index in range(begin // chunk_bp, -(-min(end_bp, contig.end_bp) // chunk_bp)):
            piece = self._chunk(name, index)
            offset = piece.first_bp - first_bp
            _paste(stretch.dna[None], piece.dna[None], offset)
            for target, source, width_bp in (
                (stretch.states, piece.states, bin_bp),
                (stretch.signals, piece.signals, signal_bp),
            ):
                if target is not None and source is not None:
                    _paste(target, source, offset // width_bp)
        return stretch

    def _chunk(self, name: str, index: int) -> _Chunk:
        key = (name, index)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        contig = self._contig(name)
        first_bp = max(index * self.manifest.chunk_bp, contig.start_bp // self.manifest.bin_bp * self.manifest.bin_bp)
        chunk = self._chunks[key] = self._read(*self._places[key], first_bp)
        while len(self._chunks) > self.cached_chunks:
            self._chunks.popitem(last=False)
        return chunk

    def _read(self, file: CorpusFile, row: int, first_bp: int) -> _Chunk:
        group, first = 0, 0
        while row >= first + file.row_group_rows[group]:
            first += file.row_group_rows[group]
            group += 1
        try:
            table = self._open(file.path).read_row_group(group, columns=self._columns, use_threads=False)
            values = {key: table.column(key)[row - first].as_buffer() for key in self._columns}
            states = np.frombuffer(values["states"], np.uint8) if self.manifest.cell_types else None
            signals = np.frombuffer(values["signals"], "<f4") if self.manifest.signals else None
            return _Chunk(
                first_bp,
                np.frombuffer(values["dna"], np.uint8),
                None if states is None else states.reshape(len(self.manifest.cell_types), -1),
                None if signals is None else signals.reshape(len(self.manifest.signals), -1),
            )
        except (OSError, pa.ArrowException, KeyError, IndexError, ValueError) as error:
            raise CorpusError(
                f"corrupted shard {self.location / file.path}, row {row}: {error}. Check the corpus with "
                f"`epilm validate {self.location}` and rebuild it (epilm corpus RECIPE --resume)."
            ) from error

    def _open(self, path: str) -> pq.ParquetFile:
        if path not in self._files:
            location = self.location / path
            self._files[path] = pq.ParquetFile(
                location.path, filesystem=location.fs, page_checksum_verification=True, pre_buffer=True
            )
        self._files.move_to_end(path)
        while len(self._files) > CACHED_FILES:
            self._files.popitem(last=False)[1].close()
        return self._files[path]

    def _contig(self, name: str) -> CorpusContig:
        if name not in self._contigs:
            known = list(self._contigs)
            raise CorpusError(
                f"contig {name!r} is not in the corpus {self.location}; it has {', '.join(known[:8])}"
                f"{f', ... ({len(known)} in all)' if len(known) > 8 else ''}. Use the corpus's own names."
            )
        return self._contigs[name]


def _chunk_places(manifest: CorpusManifest) -> dict[tuple[str, int], tuple[CorpusFile, int]]:
    """(contig, chunk index) -> (file, row in the file); contigs and their chunks lie in the manifest's order."""
    places: dict[tuple[str, int], tuple[CorpusFile, int]] = {}
    files = iter(manifest.select("contigs"))
    for contig in manifest.contigs:
        index, last = contig.start_bp // manifest.chunk_bp, (contig.end_bp - 1) // manifest.chunk_bp
        while index <= last:
            file = next(files, None)
            if file is None:
                raise CorpusError(f"the manifest of {manifest.name} lists no file for {contig.name}, chunk {index}.")
            for row in range(file.rows):
                places[contig.name, index + row] = (file, row)
            index += file.rows
    return places


def _paste(target: np.ndarray, source: np.ndarray, offset: int) -> None:
    """Copy ``source`` [rows, n] into ``target`` [rows, m] at a column offset, cutting what reaches past either end."""
    skipped = max(0, -offset)
    width = min(source.shape[1] - skipped, target.shape[1] - offset - skipped)
    if width > 0:
        target[:, offset + skipped : offset + skipped + width] = source[:, skipped : skipped + width]


def _empty(
    manifest: CorpusManifest,
    starts: np.ndarray,
    length_bp: int,
    cells: np.ndarray | None,
    tracks: np.ndarray | None,
) -> GatheredIntervals:
    """Arrays of the right shapes, to be filled; the phases are there."""
    num, states, signals = len(starts), None, None
    if manifest.cell_types:
        width = len(manifest.cell_types) if cells is None else cells.shape[1]
        states = np.empty((num, width, bins_per_window(length_bp, manifest.bin_bp)), np.uint8)
    if manifest.signals:
        width = len(manifest.signals) if tracks is None else tracks.shape[1]
        signals = np.empty((num, width, bins_per_window(length_bp, manifest.signal_bp)), np.float32)
    return GatheredIntervals(
        dna=np.empty((num, length_bp), np.uint8),
        states=states,
        phase=(starts % manifest.bin_bp).astype(np.int16),
        signals=signals,
        signal_phase=None if signals is None else (starts % manifest.signal_bp).astype(np.int16),
    )


def _within(piece: _Chunk, found: GatheredIntervals, starts: np.ndarray, manifest: CorpusManifest) -> np.ndarray:
    """Whether a chunk holds all bases and bins of intervals that start at ``starts`` [n] -> bool [n]."""
    room = len(piece.dna) - found.dna.shape[1]
    for target, source, width_bp in (
        (found.states, piece.states, manifest.bin_bp),
        (found.signals, piece.signals, manifest.signal_bp),
    ):
        if target is not None and source is not None:
            room = min(room, (source.shape[1] - target.shape[2] + 1) * width_bp - 1)
    return (starts >= piece.first_bp) & (starts <= piece.first_bp + room)


def _fill(
    found: GatheredIntervals,
    piece: _Chunk,
    rows: np.ndarray,
    starts: np.ndarray,
    manifest: CorpusManifest,
    cells: np.ndarray | None,
    tracks: np.ndarray | None,
) -> None:
    """Copy intervals that lie within a chunk into their rows."""
    base = starts[rows] - piece.first_bp
    found.dna[rows] = _windows(piece.dna, found.dna.shape[1])[base]
    for target, source, chosen, width_bp in (
        (found.states, piece.states, cells, manifest.bin_bp),
        (found.signals, piece.signals, tracks, manifest.signal_bp),
    ):
        if target is not None and source is not None:
            views = _windows(source, target.shape[2]).swapaxes(0, 1)  # [place, channel, bin]
            place = base // width_bp
            target[rows] = views[place] if chosen is None else views[place[:, None], chosen[rows]]


def _windows(values: np.ndarray, length: int) -> np.ndarray:
    """Every stretch of ``length`` along the last axis [..., n] -> [..., n - length + 1, length], without a copy.

    numpy's ``sliding_window_view`` does the same with checks that take longer than a chunk's few rows.
    """
    num = values.shape[-1] - length + 1
    shape, strides = (*values.shape[:-1], num, length), (*values.strides, values.strides[-1])
    return np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
