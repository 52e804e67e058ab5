"""Sample sources: position -> row of bytes. What the stream and the training loop know of data.

A source is a small picklable description; every process opens its own files. Rows stay bytes until they are on the
device: tokenising in the data tasks would ship 2.5 times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.manifest import CorpusFile, CorpusManifest
from epilm.corpus.order import Order, Samples
from epilm.corpus.schema import WINDOWS
from epilm.errors import CorpusError
from epilm.storage import Location


class SampleSource(Protocol):
    """Anything that a run can stream."""

    @property
    def samples_per_pass(self) -> int:
        """Samples after which every locus was shown once."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether every worker holds all rows anyway, so that it reads its own positions and no data task is needed."""
        ...

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as shipped; decides how many rows a read task takes."""
        ...

    def read(self, positions: np.ndarray) -> pa.Table:
        """Rows at global positions, in that order, with an int64 column ``position``. Together the int64 columns
        identify what was read: the ledger of a run is a digest of them (:mod:`epilm.train.ledger`)."""
        ...


@dataclass(frozen=True)
class WindowSource:
    """(locus, cell type) samples of a corpus split, in the exact order of :class:`~epilm.corpus.order.Order`.

    Args:
        cells: indices of the cell types shown, into ``manifest.cell_types``; empty = DNA alone.
    """

    corpus: Location
    manifest: CorpusManifest
    split: str
    cells: tuple[int, ...]
    seed: int

    @cached_property
    def files(self) -> tuple[CorpusFile, ...]:
        return self.manifest.select("windows", self.split)

    @cached_property
    def order(self) -> Order:
        rows = tuple(r for f in self.files for r in f.row_group_rows)
        return Order(unit_rows=rows, num_cells=max(1, len(self.cells)), seed=self.seed)

    @property
    def samples_per_pass(self) -> int:
        return self.order.num_loci

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def row_bytes(self) -> int:
        return self.manifest.window_bp + (self.manifest.bins_per_window if self.cells else 0) + 28

    def read(self, positions: np.ndarray) -> pa.Table:
        """Rows at global positions: ``position, locus, cell, phase, dna[, states]``."""
        return self.gather(self.order.locate(positions))

    def gather(self, samples: Samples) -> pa.Table:
        """Rows of located samples; one read per row group, whatever the number of rows."""
        num, window_bp = len(samples.position), self.manifest.window_bp
        dna = np.empty((num, window_bp), dtype=np.uint8)
        start = np.empty(num, dtype=np.int64)
        states = np.empty((num, self.manifest.bins_per_window), dtype=np.uint8) if self.cells else None
        cell = np.asarray(self.cells, dtype=np.int64)[samples.cell] if self.cells else np.full(num, -1, dtype=np.int64)
        columns_read = ["start", "dna", "states"] if self.cells else ["start", "dna"]
        by_unit = np.argsort(samples.unit, kind="stable")
        units, firsts = np.unique(samples.unit[by_unit], return_index=True)
        for unit, chosen in zip(units, np.split(by_unit, firsts[1:]), strict=True):
            group = self._row_group(int(unit), columns_read)
            rows = samples.row[chosen]
            dna[chosen] = fixed_bytes(group.column("dna"))[rows]
            start[chosen] = group.column("start").to_numpy()[rows]
            if states is not None:
                all_cells = fixed_bytes(group.column("states"))
                all_cells = all_cells.reshape(len(all_cells), len(self.manifest.cell_types), -1)
                states[chosen] = all_cells[rows, cell[chosen]]
        columns = {
            "position": pa.array(samples.position),
            "locus": pa.array(samples.locus),
            "cell": pa.array(cell),
            "phase": pa.array((start % self.manifest.bin_bp).astype(np.int32)),
            "dna": as_fixed_bytes(dna),
        }
        if states is not None:
            columns["states"] = as_fixed_bytes(states)
        return pa.table(columns)

    def find_loci(self, contigs: Sequence[str], *, at_most: int) -> np.ndarray:
        """The first loci that lie on these contigs, int64 [n]; reads their names alone, and no more than it needs."""
        found, first = [], 0
        for unit, rows in enumerate(self.order.unit_rows):
            if sum(map(len, found)) >= at_most:
                break
            names = self._row_group(unit, ["chrom"]).column("chrom")
            found.append(first + np.flatnonzero(np.isin(names.to_numpy(), list(contigs))))
            first += rows
        return np.concatenate([*found, np.empty(0, dtype=np.int64)])[:at_most]

    @cached_property
    def _unit_place(self) -> list[tuple[int, int]]:
        return [(i, g) for i, f in enumerate(self.files) for g in range(len(f.row_group_rows))]

    def _row_group(self, unit: int, columns: list[str]) -> pa.Table:
        file_index, group = self._unit_place[unit]
        file = self.files[file_index]
        try:
            shard = _open_parquet(self.corpus, file.path, file.sha256)
            table = shard.read_row_group(group, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            _open_parquet.cache_clear()  # the file may be mended while this process lives
            cause = " ".join(str(error).split())  # in one line, as Ray passes it on
            raise CorpusError(
                f"corrupted shard {self.corpus / file.path}, row group {group}: {cause}. "
                f"Check the corpus with `epilm validate {self.corpus}` and rebuild it (epilm corpus ... --resume)."
            ) from error
        if table.num_rows != file.row_group_rows[group]:
            raise CorpusError(
                f"corrupted shard {self.corpus / file.path}: row group {group} has {table.num_rows} rows, "
                f"the manifest says {file.row_group_rows[group]}."
            )
        return table


@lru_cache(maxsize=256)
def _open_parquet(corpus: Location, path: str, sha256: str) -> pq.ParquetFile:
    """An open shard; a footer is parsed once a process, pages are checked against their checksums.

    ``sha256`` keeps a corpus that is rebuilt in its place apart from what was there before.
    """
    del sha256
    location = corpus / path
    return pq.ParquetFile(location.path, filesystem=location.fs, page_checksum_verification=True, pre_buffer=True)


def check_shards(corpus: Location, manifest: CorpusManifest, view: str = WINDOWS) -> None:
    """Every file of a view is there with the size that the manifest gives: cheap, before any worker starts.

    Raises:
        CorpusError: naming the first shards that are missing or of another size.
    """
    faults = []
    for file in manifest.select(view):
        info = corpus.fs.get_file_info((corpus / file.path).path)
        if info.size is None or not info.is_file:
            faults.append(f"{file.path} is missing")
        elif info.size != file.bytes:
            faults.append(f"{file.path} has {info.size} bytes, the manifest says {file.bytes}")
    if faults:
        shown = "; ".join(faults[:3])
        raise CorpusError(
            f"corpus {corpus}: {shown} ({len(faults)} of its shards). Rebuild it: epilm corpus RECIPE --resume."
        )


def fixed_bytes(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A fixed-size binary column as uint8 [rows, width], without a copy where it is one chunk; read-only."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    width = array.type.byte_width
    buffer = array.buffers()[1]
    return np.frombuffer(buffer, np.uint8, len(array) * width, array.offset * width).reshape(len(array), width)


def as_fixed_bytes(values: np.ndarray) -> pa.Array:
    """uint8 [rows, width] as a fixed-size binary array, without a copy."""
    values = np.ascontiguousarray(values)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(values.shape[1]), len(values), [None, pa.py_buffer(values)])
