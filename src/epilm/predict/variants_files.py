"""Tables of variants and of mutagenesis on disk: parts in parquet, one table of all of them, and the ends of the ranking.
Files appear whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from epilm.predict.parts import Part
from epilm.storage import Location, whole_file

TSV_FILE = "variants.tsv.gz"
NUM_STRONGEST = 10
_COMPRESSION_LEVEL = 4  # of gzip: half the time of 6, for 5 % more bytes


def write_table(target: Location, table: pa.Table) -> str:
    """Write a parquet file; return its SHA-256."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue()
    target.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_table(source: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file, one chunk a column."""
    return pq.read_table(source.path, filesystem=source.fs, columns=columns).combine_chunks()


def write_part_table(folder: Location, part: Part, table: pa.Table) -> dict[str, object]:
    """Write a part whole; return its entry in the run's list of files."""
    assert table.num_rows == part.rows
    return {"path": part.path, "rows": part.rows, "sha256": write_table(folder / part.path, table)}


def write_tsv(target: Location, parts: Sequence[Location]) -> None:
    """All parts as one table with a header, part by part: memory does not grow with their number."""

    with (
        whole_file(target) as path,
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, raw, mtime=0) as stream,
    ):
        options = pacsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        for number, part in enumerate(parts):
            table = _printable(read_table(part))
            if number == 0:
                stream.write("\t".join(table.column_names).encode() + b"\n")
            pacsv.write_csv(table, stream, options)


def strongest(parts: Sequence[Location], targets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Per factor the rows with the largest absolute change of log-odds, largest first; the earlier of equals."""
    kept: dict[str, pa.Table] = {}
    for part in parts:
        table = read_table(part)
        column = "max_log_odds_change" if "max_log_odds_change" in table.column_names else "log_odds_change"
        names = table["target"].to_numpy()
        for target in targets:
            found = table.filter(pa.array(names == target))
            found = pa.concat_tables([kept[target], found]) if target in kept else found
            size = np.nan_to_num(np.abs(found[column].to_numpy()), nan=-1.0)
            kept[target] = found.take(pa.array(np.argsort(-size, kind="stable")[:NUM_STRONGEST]))
    shown = ("chrom", "pos", "id", "ref", "alt", "cell_type", "probability_ref", "probability_alt", "log_odds_change")
    return {target: list(_records(table, shown)) for target, table in kept.items()}


def _records(table: pa.Table, shown: Sequence[str]) -> Iterator[dict[str, Any]]:
    extra = [name for name in ("max_log_odds_change", "max_bin_start") if name in table.column_names]
    for row in table.select([*shown, *extra]).to_pylist():
        yield {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def _printable(table: pa.Table) -> pa.Table:
    """Numbers with six digits, as text (more are noise of the arithmetic, and NaN stays ``nan``); names without quotes."""
    columns = {}
    for name in table.column_names:
        values = table[name]
        if pa.types.is_floating(values.type):
            columns[name] = pa.array(np.char.mod("%.6g", values.to_numpy()))
        elif pa.types.is_string(values.type):
            columns[name] = pc.replace_substring(values, '"', "'")  # pyright: ignore[reportAttributeAccessIssue]
        else:
            columns[name] = values
    return pa.table(columns)
