"""The three kinds of task of a build: a part of ``contigs/``, its windows scattered by file, a file of ``windows/``.

Each task writes its shard, then a record with the shard's checksum. A task that finds its record and an intact shard
returns at once: that is all there is to restarting. Nothing depends on which worker runs a task, or when.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus import plan as planning
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.parts import Layout, keep_windows, read_part
from epilm.corpus.plan import ShufflePlan
from epilm.corpus.schema import WINDOWS, contig_schema, window_schema
from epilm.corpus.source import as_fixed_bytes
from epilm.corpus.tasks import Record
from epilm.errors import CorpusError
from epilm.storage import Location


@dataclass(frozen=True)
class WriteContigs:
    """Task i: part i of the contigs view, and the table of the windows that begin in it."""

    layout: Layout

    def __call__(self, index: int) -> Record:
        layout = self.layout
        record = layout.record("contigs", index)
        done = finished_record(layout.folder, record)
        if done is not None and layout.table(index).exists():
            return done
        part = layout.parts[index]
        dna, states, signals = read_part(layout, part)
        table, dropped = keep_windows(layout, part, dna, states)
        edges = planning.chunk_edges(part.start_bp, part.end_bp, layout.manifest.chunk_bp)
        columns: dict[str, Any] = {"chrom": [part.contig] * len(edges), "start": [start for start, _ in edges]}
        columns["dna"] = [dna[s - part.start_bp : e - part.start_bp].tobytes() for s, e in edges]
        spans = [(start - part.start_bp, end - part.start_bp) for start, end in edges]
        for name, values, width_bp in (
            ("states", states, layout.manifest.bin_bp),
            ("signals", signals, layout.manifest.signal_bp),
        ):
            if values is not None:
                bins = [(start // width_bp, -(-end // width_bp)) for start, end in spans]
                columns[name] = [np.ascontiguousarray(values[:, first:last]).tobytes() for first, last in bins]
        schema = contig_schema(num_cells=len(layout.manifest.cell_types), num_signals=len(layout.manifest.signals))
        shard = write_parquet(layout.folder, layout.part_path(part), pa.table(columns, schema=schema), rows_per_group=1)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **table)
        layout.table(index).write_bytes(buffer.getvalue())
        kept = [int((table["split"] == split).sum()) for split in range(len(planning.SPLITS))]
        counts = count_states(states, len(layout.manifest.state_names))
        return _finish(record, {**shard, "kept": kept, "dropped": dropped, "state_bins": counts})


def count_states(states: np.ndarray | None, num_states: int) -> list[list[int]]:
    """Bins in each state, for every cell type of uint8 [cells, bins]; bins without a state are not counted."""
    if states is None:
        return []
    return [np.bincount(cell, minlength=256)[:num_states].tolist() for cell in states]


@dataclass(frozen=True)
class ScatterWindows:
    """Task i: the windows of part i as raw rows, sorted by the file that they go to."""

    layout: Layout
    shuffle: ShufflePlan

    def __call__(self, index: int) -> Record:
        layout = self.layout
        record = layout.record("scatter", index)
        done = finished_record(layout.folder, record)
        if done is not None:
            return done
        part = layout.parts[index]
        with np.load(io.BytesIO(layout.table(index).read_bytes())) as stored:
            table = {name: stored[name] for name in stored.files}
        file_id, row = self.shuffle.destinations(index, table["split"])
        rows = np.empty(len(row), layout.row_dtype)
        rows["row"], rows["start"], rows["n_fraction"] = row, table["start"], table["n_fraction"]
        rows["contig"] = [contig.name for contig in layout.manifest.contigs].index(part.contig)
        files = [
            file for other, file in zip(layout.parts, layout.manifest.files, strict=True) if other.contig == part.contig
        ]
        contigs = [contig for contig in layout.manifest.contigs if contig.name == part.contig]
        mine = layout.manifest.model_copy(
            update={"contigs": tuple(contigs), "files": tuple(files), "signals": layout.manifest.window_signals}
        )
        reader = ContigReader(layout.folder, mine, planning.MAX_CHUNKS_PER_PART + 1)
        gathered = reader.gather(np.full(len(row), part.contig, object), table["start"], layout.manifest.window_bp)
        rows["dna"] = gathered.dna
        for name, values in (("states", gathered.states), ("signals", gathered.signals)):
            if values is not None:
                rows[name] = values.reshape(rows[name].shape)
        shard = write_shard(
            layout.folder, layout.bucket_path(index), rows[np.argsort(file_id, kind="stable")].tobytes()
        )
        return _finish(record, shard)


@dataclass(frozen=True)
class WriteWindows:
    """Task i: file i of the windows view, gathered from every part's scattered rows and put into its shuffled order."""

    layout: Layout
    files: tuple[tuple[int, int, int], ...]
    """(split, number, rows) of each file."""
    offsets: np.ndarray
    """int64 [num_parts, num_files + 1]: rows of a part that go to files before each file."""

    def __call__(self, index: int) -> Record:
        layout = self.layout
        record = layout.record("windows", index)
        done = finished_record(layout.folder, record)
        if done is not None:
            return done
        split, number, num_rows = self.files[index]
        rows = np.empty(num_rows, layout.row_dtype)
        filled = 0
        for part, (first, last) in enumerate(self.offsets[:, index : index + 2].tolist()):
            if last > first:
                piece = self._read(part, first, last)
                rows[piece["row"]] = piece
                filled += len(piece)
        assert filled == num_rows, f"{filled} rows for a file of {num_rows}"
        path = f"{WINDOWS}/{planning.SPLITS[split]}/part-{number:05d}.parquet"
        table = window_table(rows, layout.manifest)
        shard = write_parquet(layout.folder, path, table, rows_per_group=layout.recipe.rows_per_group)
        return _finish(record, {**shard, "split": planning.SPLITS[split]})

    def _read(self, part: int, first: int, last: int) -> np.ndarray:
        location, width = self.layout.folder / self.layout.bucket_path(part), self.layout.row_dtype.itemsize
        with location.fs.open_input_file(location.path) as stream:
            data = stream.read_at((last - first) * width, first * width)
        if len(data) != (last - first) * width:
            raise CorpusError(f"{location} was cut short while the build ran. Run it again with --resume.")
        return np.frombuffer(data, self.layout.row_dtype)


def window_table(rows: np.ndarray, manifest: CorpusManifest) -> pa.Table:
    """Rows of :func:`row_dtype` as a table of the windows view, in their order."""
    schema = window_schema(
        window_bp=manifest.window_bp,
        bin_bp=manifest.bin_bp,
        num_cells=len(manifest.cell_types),
        num_signals=len(manifest.window_signals),
    )
    names = pa.array([contig.name for contig in manifest.contigs], pa.string())
    columns = [names.take(pa.array(rows["contig"])), pa.array(rows["start"]), pa.array(rows["n_fraction"])]
    for name in schema.names[3:]:
        values = np.ascontiguousarray(rows[name])
        columns.append(as_fixed_bytes(values.view(np.uint8).reshape(len(rows), -1)))
    return pa.Table.from_arrays(columns, schema=schema)


def write_parquet(folder: Location, path: str, table: pa.Table, *, rows_per_group: int) -> Record:
    """Write a shard whole or not at all; return its record.

    No dictionary and no statistics on the byte columns: both only cost there. Page checksums let a reader notice a
    damaged row group while it trains.
    """
    buffer = pa.BufferOutputStream()
    positions = [name for name in table.column_names if name in ("chrom", "start", "n_fraction")]
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=["chrom"],  # pyright: ignore[reportArgumentType] (pyarrow takes columns too)
        write_statistics=positions,  # pyright: ignore[reportArgumentType]
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table, row_group_size=rows_per_group)
    groups = [min(rows_per_group, table.num_rows - first) for first in range(0, table.num_rows, rows_per_group)]
    return {
        **write_shard(folder, path, buffer.getvalue().to_pybytes()),
        "rows": table.num_rows,
        "row_group_rows": groups,
    }


def write_shard(folder: Location, path: str, data: bytes) -> Record:
    """Write ``folder/path`` whole or not at all; return ``{path, bytes, sha256}``."""
    place = folder / path
    Location(str(place).rsplit("/", 1)[0]).mkdir()
    place.write_bytes(data)
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def finished_record(folder: Location, record: Location) -> Record | None:
    """The record of a shard that an earlier run finished; None where there is none, or the shard is damaged since."""
    if not record.exists():
        return None
    found = record.read_json()
    shard = folder / found["path"]
    intact = shard.exists() and shard.size() == found["bytes"] and shard.sha256() == found["sha256"]
    return found if intact else None


def _finish(record: Location, found: Record) -> Record:
    Location(str(record).rsplit("/", 1)[0]).mkdir()
    record.write_text(json.dumps(found))
    return found
