"""ENCODE-DREAM label files, ``chr start stop CELL...`` with U, A or B: read block by block, kept as runs of bins.

A file of 60 million bins and 13 cell types is 3 GB of text; what is kept of it are some ten thousand ranges.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.labels.codes import AMBIGUOUS, BOUND, LETTERS, UNBOUND
from epilm.labels.runs import Runs

PLACE = ("chr", "start", "stop")
BLOCK_BYTES = 1 << 21
"""Text parsed at a time; a process stays below 0.3 GB (blocks of 16 MB are no faster and take 0.8 GB)."""
_AXIS = 1 << 40
"""Steps between the contigs of a file on one axis, more than any contig has."""
_NO_CODE = 255
_CODE_OF = np.full(256, _NO_CODE, np.uint8)
_CODE_OF[[ord(letter) for letter in LETTERS.values()]] = list(LETTERS)


@dataclass(frozen=True)
class DreamRows:
    """What a label file says: runs of bins by their number on the file's own axis, ``contig * 2**40 + start / step_bp``."""

    contigs: tuple[str, ...]
    """Contigs in the file's order."""
    listed: Runs
    """All bins of the file."""
    bound: dict[str, Runs]
    """By cell type, in the file's order."""
    ambiguous: dict[str, Runs]

    def rows(self, runs: Runs, step_bp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs as (number of the contig, first base of the first bin, number of bins), int64 [r]."""
        contig = runs.start // _AXIS
        return contig, (runs.start - contig * _AXIS) * step_bp, runs.end - runs.start


def read_dream_header(path: str) -> tuple[str, ...]:
    """Cell types of a label file (plain, gzip, xz).

    Raises:
        GenomeError: no such file, damaged, or no label file.
    """
    with _opened(path) as stream:
        line = stream.readline(1 << 20)
    names = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    cells = tuple(names[3:])
    if tuple(name.lstrip("#") for name in names[:3]) != PLACE or not cells:
        raise GenomeError(
            f"{path} is not an ENCODE-DREAM label file: its first line is {line[:80]!r}. Needed are the columns chr, "
            "start, stop and one a cell type, separated by tabs, under a header."
        )
    if len({*cells, *PLACE}) != len(names) or "" in cells:
        raise GenomeError(f"{path}: the header names a cell type twice, or not at all: {', '.join(cells)}.")
    return cells


def read_dream(path: str, *, cell_types: tuple[str, ...], bin_bp: int, step_bp: int) -> DreamRows:
    """Read some cell types of a label file.

    Args:
        cell_types: columns to read, of :func:`read_dream_header`.

    Raises:
        GenomeError: damaged, malformed rows, another label than U, A or B, bins of another length or off the steps, a
            bin twice, or no rows.
    """
    reader = _Reader(path, cell_types, bin_bp, step_bp)
    try:
        for batch in _batches(path, read_dream_header(path), cell_types):
            reader.add(batch)
    except pa.ArrowInvalid as error:
        raise GenomeError(
            f"{path} has a malformed row after {reader.num_rows:,} good ones: {error}. Each row is a contig, start, "
            "stop and one of U, A or B a cell type, separated by tabs."
        ) from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise files.truncated(path, error if isinstance(error, Exception) else OSError(str(error))) from error
    return reader.finish()


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The text of a file as a stream, whatever it is packed in."""
    kind, found = files.content_kind(path), files.find(path)
    if kind not in ("text", "gzip", "xz"):
        raise GenomeError(f"{path} is not a text file, its content is {kind}. Give the text form of the file.")
    if kind == "gzip":
        files.check_bgzip_end(found)
    opener = {"text": open, "gzip": gzip.open, "xz": lzma.open}[kind]
    with opener(found, "rb") as stream:
        try:
            yield stream  # pyright: ignore[reportReturnType]
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
            raise files.truncated(path, error) from error


def _batches(path: str, cells: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    # Arrow's gzip is faster than Python's and runs beside the parser; xz it cannot read
    kind, found = files.content_kind(path), files.find(path)
    arrow = functools.partial(pa.input_stream, str(found), compression="gzip" if kind == "gzip" else None)
    opened: Callable[[], Any] = functools.partial(lzma.open, found, "rb") if kind == "xz" else arrow
    kinds: dict[str, pa.DataType] = {
        "chr": pa.dictionary(pa.int32(), pa.string()),
        "start": pa.int64(),
        "stop": pa.int64(),
    }
    with (
        opened() as source,
        pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(column_names=[*PLACE, *cells], skip_rows=1, block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pacsv.ConvertOptions(
                column_types=kinds | dict.fromkeys(wanted, pa.binary(1)),
                include_columns=[*PLACE, *wanted],
                null_values=[],
                strings_can_be_null=False,
            ),
        ) as blocks,
    ):
        yield from blocks


class _Reader:
    """Collects the runs of a file, block by block."""

    def __init__(self, path: str, cells: tuple[str, ...], bin_bp: int, step_bp: int) -> None:
        self.path, self.cells, self.bin_bp, self.step_bp = path, cells, bin_bp, step_bp
        self.num_rows = 0
        self._contigs: dict[str, int] = {}
        self._listed: list[Runs] = []
        self._labelled: dict[tuple[str, int], list[Runs]] = {
            (cell, code): [] for cell in cells for code in (BOUND, AMBIGUOUS)
        }

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        start = batch.column("start").to_numpy()
        self._check_bins(batch, start, batch.column("stop").to_numpy())
        names = batch.column("chr").dictionary.to_pylist()
        number = np.array([self._contigs.setdefault(name, len(self._contigs)) for name in names], np.int64)
        place = number[batch.column("chr").indices.to_numpy()] * _AXIS + start // self.step_bp
        self._listed.append(_runs_of(place))
        for cell in self.cells:
            letters = _bytes_of(batch.column(cell))
            sparse = np.flatnonzero(letters != ord(LETTERS[UNBOUND]))
            codes = _CODE_OF[letters[sparse]]
            if (codes == _NO_CODE).any():
                self._refuse_letter(batch, cell, int(sparse[np.argmax(codes == _NO_CODE)]))
            for code in (BOUND, AMBIGUOUS):
                self._labelled[cell, code].append(_runs_of(place[sparse[codes == code]]))
        self.num_rows += batch.num_rows

    def _check_bins(self, batch: pa.RecordBatch, start: np.ndarray, stop: np.ndarray) -> None:
        wrong = np.flatnonzero((stop - start != self.bin_bp) | (start % self.step_bp != 0) | (start < 0))
        if len(wrong):
            row = int(wrong[0])
            raise GenomeError(
                f"{self.path}: row {self.num_rows + row + 1} ({_shown(batch, row)}) is not a bin of bin_bp={self.bin_bp} "
                f"that starts at a multiple of step_bp={self.step_bp}. Set both to those of the file (0-based half-open)."
            )

    def _refuse_letter(self, batch: pa.RecordBatch, cell: str, row: int) -> None:
        got = batch.column(cell)[row].as_py()
        raise GenomeError(
            f"{self.path}: the label of {cell} at row {self.num_rows + row + 1} ({_shown(batch, row)}) is {got!r}. "
            "Allowed: U, A, B."
        )

    def finish(self) -> DreamRows:
        if not self.num_rows:
            raise GenomeError(f"{self.path} holds no rows below its header. Get it again.")
        listed = _joined(self._listed)
        if listed.size != self.num_rows:
            raise GenomeError(
                f"{self.path} lists {self.num_rows - listed.size:,} of its {self.num_rows:,} bins twice. One row a bin is "
                "needed."
            )
        bound, maybe = (
            {cell: _joined(self._labelled[cell, code]) for cell in self.cells} for code in (BOUND, AMBIGUOUS)
        )
        return DreamRows(tuple(self._contigs), listed, bound, maybe)


def _bytes_of(column: pa.Array) -> np.ndarray:
    """uint8 [n] of a column of single bytes."""
    buffer = column.buffers()[1]
    return np.frombuffer(buffer, np.uint8)[column.offset : column.offset + len(column)]


def _runs_of(place: np.ndarray) -> Runs:
    """Runs of bins that are mostly in order, without sorting them."""
    if not len(place):
        return Runs.empty()
    first = np.flatnonzero(np.diff(place, prepend=place[0] - 2) != 1)
    last = np.append(first[1:], len(place)) - 1
    return Runs(place[first], place[last] + 1)


def _joined(parts: list[Runs]) -> Runs:
    return Runs.empty().union(*parts)


def _shown(batch: pa.RecordBatch, row: int) -> str:
    chrom, start, stop = (batch.column(name)[row].as_py() for name in PLACE)
    return f"{chrom}:{start}-{stop}"
