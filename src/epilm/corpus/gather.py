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

CACHED_CHUNKS = 64
"""10 MB at 100-kb chunks with 127 cells."""
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
    """float32 [n, num_tracks, num_bins]; None where the corpus keeps no signals."""


@dataclass(frozen=True)
class _Chunk:
    """One row of the contigs view, or a stretch put together from several."""

    dna: np.ndarray  # uint8 [bp]
    states: np.ndarray | None  # uint8 [cells, bins]
    signals: np.ndarray | None  # float32 [tracks, bins]


class ContigReader:
    """Gathers intervals from a corpus. Picklable: a worker's copy opens its own files and begins with an empty cache.

    Args:
        location: the corpus folder (path, URI or :class:`~epilm.storage.Location`).
        manifest: its manifest, where it was read already; only the contigs view of it is used.

    Raises:
        CorpusError: no finished corpus lies there.
    """

    def __init__(
        self,
        location: Location | str,
        manifest: CorpusManifest | None = None,
        cached_chunks: int = CACHED_CHUNKS,
    ) -> None:
        self.location = location if isinstance(location, Location) else Location(str(location))
        self.manifest = read_manifest(self.location) if manifest is None else manifest
        self.cached_chunks = cached_chunks
        self._contigs = {contig.name: contig for contig in self.manifest.contigs}
        self._places = _chunk_places(self.manifest)
        columns = contig_schema(num_cells=len(self.manifest.cell_types), num_signals=len(self.manifest.signals)).names
        self._columns = columns[2:]
        self._chunks: OrderedDict[tuple[str, int], _Chunk] = OrderedDict()
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()

    def __reduce__(self) -> tuple[type[ContigReader], tuple[Location, CorpusManifest, int]]:
        return type(self), (self.location, self.manifest, self.cached_chunks)

    def gather(self, chroms: Sequence[str] | np.ndarray, starts: np.ndarray, length_bp: int) -> GatheredIntervals:
        """Read n intervals [start, start + length_bp); each chunk is read once, however the intervals are ordered.

        Args:
            chroms: contig of each interval [n], by its name in the corpus.
            starts: first base of each interval [n]; it may lie before the contig or past its end.
            length_bp: their common length, at least 1.

        Raises:
            CorpusError: an unknown contig, or a chunk that cannot be read (the file is named).
        """
        manifest, starts = self.manifest, np.asarray(starts, dtype=np.int64)
        num, num_bins = len(starts), bins_per_window(length_bp, manifest.bin_bp)
        dna = np.empty((num, length_bp), np.uint8)
        states = np.empty((num, len(manifest.cell_types), num_bins), np.uint8) if manifest.cell_types else None
        signals = np.empty((num, len(manifest.signals), num_bins), np.float32) if manifest.signals else None
        for name, chunk, rows in self._by_chunk(np.asarray(chroms, dtype=object), starts):
            first_bp = chunk * manifest.chunk_bp
            stretch = self._stretch(name, chunk, length_bp)
            base = starts[rows] - first_bp
            dna[rows] = np.lib.stride_tricks.sliding_window_view(stretch.dna, length_bp)[base]
            for target, source in ((states, stretch.states), (signals, stretch.signals)):
                if target is not None and source is not None:
                    views = np.lib.stride_tricks.sliding_window_view(source, num_bins, axis=1)
                    target[rows] = views[:, base // manifest.bin_bp].swapaxes(0, 1)
        return GatheredIntervals(dna, states, (starts % manifest.bin_bp).astype(np.int16), signals)

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

    def _stretch(self, name: str, chunk: int, length_bp: int) -> _Chunk:
        """A chunk's whole grid cell and what intervals that start in it need beyond, padded outside the contig."""
        manifest, contig = self.manifest, self._contig(name)
        chunk_bp, bin_bp = manifest.chunk_bp, manifest.bin_bp
        first_bp = chunk * chunk_bp
        num_bins = chunk_bp // bin_bp + bins_per_window(length_bp, bin_bp)
        stretch = _Chunk(
            np.full(chunk_bp + length_bp, BASE_N, np.uint8),
            np.full((len(manifest.cell_types), num_bins), NO_STATE, np.uint8) if manifest.cell_types else None,
            np.full((len(manifest.signals), num_bins), np.nan, np.float32) if manifest.signals else None,
        )
        last = (first_bp + chunk_bp + length_bp - 1) // chunk_bp
        begin = contig.start_bp // bin_bp * bin_bp
        for index in range(max(chunk, begin // chunk_bp), min(last, (contig.end_bp - 1) // chunk_bp) + 1):
            piece = self._chunk(name, index)
            offset = max(index * chunk_bp, begin) - first_bp
            _paste(stretch.dna[None], piece.dna[None], offset)
            for target, source in ((stretch.states, piece.states), (stretch.signals, piece.signals)):
                if target is not None and source is not None:
                    _paste(target, source, offset // bin_bp)
        return stretch

    def _chunk(self, name: str, index: int) -> _Chunk:
        key = (name, index)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        chunk = self._chunks[key] = self._read(*self._places[key])
        while len(self._chunks) > self.cached_chunks:
            self._chunks.popitem(last=False)
        return chunk

    def _read(self, file: CorpusFile, row: int) -> _Chunk:
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
    """Copy ``source`` [rows, n] into ``target`` [rows, m] at a column offset, cutting what reaches past the end."""
    width = min(source.shape[1], target.shape[1] - offset)
    if width > 0:
        target[:, offset : offset + width] = source[:, :width]
