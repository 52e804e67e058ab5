"""The folder of ``epilm gene-marks``: parquet parts of neighbouring genes, and ``gene_marks.json``, what they are.

A row is a gene: ``number`` (int64, its place among the genes that were kept, in the order of their file), ``gene_id``,
``chrom`` (as in the genes' file), ``tss`` (int64, 0-based), ``strand``, and a column ``values.<cell type>`` of fixed-size
binary: float32 little-endian [bins, marks], bin 0 furthest upstream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from epilm.config import Config, fingerprint
from epilm.corpus.manifest import SourceFile
from epilm.corpus.source import as_fixed_bytes, fixed_bytes
from epilm.errors import CorpusError
from epilm.histone.recipe import MarkStatistic, Missing
from epilm.storage import Location

GENE_MARKS_FILE = "gene_marks.json"
FORMAT_VERSION = 1
GENE_COLUMNS = ("gene_id", "chrom", "tss", "strand")
_VALUES = "values."
_MEND = "Count the marks again: epilm gene-marks RECIPE --resume."


class GeneMarksFile(Config):
    """A parquet part."""

    path: str
    rows: int
    bytes: int
    sha256: str


class GeneMarksManifest(Config):
    """``gene_marks.json``."""

    format_version: Literal[1] = FORMAT_VERSION
    cell_types: tuple[str, ...]
    marks: tuple[str, ...]
    bin_bp: int
    num_bins: int
    num_genes: int
    statistic: MarkStatistic
    missing: Missing
    round: bool
    off_contig: Literal["leave_out", "zero"]
    left_out: dict[str, int]
    """Reason -> genes that were left out for it."""
    files: tuple[GeneMarksFile, ...]
    sources: tuple[SourceFile, ...]
    """The genes' file and the tracks, with checksums; ``contig_names``: name in the track -> name in the genes' file."""

    def fingerprint(self) -> str:
        """Identity of the values: what they are and their checksums, not where they come from."""
        return fingerprint(self.model_dump(mode="json", exclude={"sources"}))


@dataclass(frozen=True)
class SavedGeneMarks:
    """n genes with their marks in any number of cell types; nothing is read before it is asked for."""

    folder: Location
    manifest: GeneMarksManifest

    @property
    def cell_types(self) -> tuple[str, ...]:
        return self.manifest.cell_types

    @property
    def marks(self) -> tuple[str, ...]:
        return self.manifest.marks

    @property
    def bin_bp(self) -> int:
        return self.manifest.bin_bp

    @property
    def num_bins(self) -> int:
        return self.manifest.num_bins

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Columns gene_id, chrom, tss, strand; n rows in the order of the genes' file.

        Raises:
            CorpusError: a part is damaged.
        """
        parts = [self._read(file, GENE_COLUMNS).to_pandas() for file in self.manifest.files]
        return pd.concat(parts).iloc[np.argsort(self._number)].reset_index(drop=True)

    def values(self, cell: str) -> np.ndarray:
        """Marks of a cell type -> float32 [n, bins, marks], genes as in :attr:`genes`.

        Raises:
            CorpusError: there is no such cell type, or a part is damaged.
        """
        if cell not in self.cell_types:
            raise CorpusError(f"{self.folder} has no cell type {cell!r}; it has {', '.join(self.cell_types)}.")
        marks = np.empty((self.manifest.num_genes, self.num_bins, len(self.marks)), np.float32)
        first = 0
        for file in self.manifest.files:
            stored = fixed_bytes(self._read(file, [_VALUES + cell]).column(0))
            marks[self._number[first : first + file.rows]] = stored.view("<f4").reshape(-1, *marks.shape[1:])
            first += file.rows
        return marks

    @cached_property
    def _number(self) -> np.ndarray:
        """int64 [n]: the gene of each row of the parts."""
        number = np.concatenate([self._read(file, ["number"])["number"].to_numpy() for file in self.manifest.files])
        if not np.array_equal(np.sort(number), np.arange(self.manifest.num_genes)):
            raise CorpusError(f"the parts of {self.folder} do not hold every gene once. {_MEND}")
        return number

    def _read(self, file: GeneMarksFile, columns: Sequence[str]) -> pa.Table:
        location = self.folder / file.path
        try:
            with pq.ParquetFile(location.path, filesystem=location.fs, page_checksum_verification=True) as part:
                table = part.read(columns=list(columns))
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{location} is damaged: {' '.join(str(error).split())}. {_MEND}") from error
        if table.num_rows != file.rows or table.column_names != list(columns):
            raise CorpusError(f"{location} is damaged: it is not the part that {GENE_MARKS_FILE} lists. {_MEND}")
        return table


def read_gene_marks(folder: Location) -> SavedGeneMarks:
    """Open the folder of a finished run of ``epilm gene-marks``.

    Raises:
        CorpusError: none lies there, it is unfinished, or a part is missing or of another size.
    """
    path = folder / GENE_MARKS_FILE
    if not path.exists():
        what = f"has no {GENE_MARKS_FILE} (unfinished? go on with --resume)" if folder.exists() else "does not exist"
        raise CorpusError(f"no marks of genes at {folder}: the folder {what}. Give that of an `epilm gene-marks` run.")
    try:
        manifest = GeneMarksManifest.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CorpusError(f"{path} is no description of marks of format {FORMAT_VERSION}: {error}") from error
    for file in manifest.files:
        location = folder / file.path
        if not location.exists():
            raise CorpusError(f"{location} is missing. {_MEND}")
        if location.size() != file.bytes:
            raise CorpusError(
                f"{location} is damaged: {location.size()} bytes, {GENE_MARKS_FILE} says {file.bytes}. {_MEND}"
            )
    return SavedGeneMarks(folder, manifest)


def part_table(genes: pd.DataFrame, values: dict[str, np.ndarray]) -> pa.Table:
    """Rows of a part.

    Args:
        genes: columns ``number`` and ``GENE_COLUMNS``, n rows.
        values: cell type -> float32 [n, bins, marks].
    """
    columns: dict[str, pa.Array] = {
        "number": pa.array(genes["number"], pa.int64()),
        "gene_id": pa.array(genes["gene_id"], pa.string()),
        "chrom": pa.array(genes["chrom"], pa.string()),
        "tss": pa.array(genes["tss"], pa.int64()),
        "strand": pa.array(genes["strand"], pa.string()),
    }
    for cell, marks in values.items():
        rows = np.ascontiguousarray(marks, "<f4").reshape(len(marks), marks.shape[1] * marks.shape[2])
        columns[_VALUES + cell] = as_fixed_bytes(rows.view(np.uint8))
    return pa.table(columns)


def write_part(location: Location, table: pa.Table) -> GeneMarksFile:
    """Write a part whole or not at all."""
    sink = pa.BufferOutputStream()
    plain = list(GENE_COLUMNS)  # no dictionary of values, no statistics of them: they are kilobytes each
    pq.write_table(
        table, sink, compression="zstd", use_dictionary=plain, write_statistics=plain, write_page_checksum=True  # pyright: ignore
    )  # fmt: skip
    data = sink.getvalue().to_pybytes()
    location.write_bytes(data)
    return _entry(location, data, table)


def read_part(location: Location, genes: pd.DataFrame, schema: pa.Schema) -> tuple[GeneMarksFile, pa.Table] | None:
    """A part that an earlier run has written; None where there is none, or it is damaged or of other genes."""
    if not location.exists():
        return None
    data = location.read_bytes()
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as part:
            table = part.read()
    except (OSError, pa.ArrowException):
        return None
    same = table.schema.equals(schema) and table["gene_id"].to_pylist() == genes["gene_id"].tolist()
    return (_entry(location, data, table), table) if same else None


def values_of(table: pa.Table, cell: str, num_marks: int) -> np.ndarray:
    """Marks of a part's genes in a cell type -> float32 [n, bins, marks], read-only."""
    stored = fixed_bytes(table[_VALUES + cell]).view("<f4")
    return stored.reshape(len(stored), -1, num_marks)


def _entry(location: Location, data: bytes, table: pa.Table) -> GeneMarksFile:
    digest = hashlib.sha256(data).hexdigest()
    return GeneMarksFile(path=location.name, rows=table.num_rows, bytes=len(data), sha256=digest)
