"""ENCODE-DREAM label files written: one a factor, contig by contig, whole or not at all."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from epilm.errors import RecipeError
from epilm.labels.codes import BOUND, LETTERS
from epilm.labels.dream import PLACE
from epilm.labels.label_set import LabelSet
from epilm.storage import Location, whole_file

ROWS = 500_000
"""Rows made at a time."""
_LEVEL = 4
"""Of gzip: text that repeats itself as this does gets no smaller above it, only slower."""


def check_writable_as_dream(labels: LabelSet) -> None:
    """Label files have one row for all cell types, so that all must be labelled at the same bins.

    Raises:
        RecipeError: a pair lacks labels of bins that another has.
    """
    partial = next(iter(labels.unlabelled), None)
    if partial is not None:
        raise RecipeError(
            f"write_tsv: {partial[1]} in {partial[0]} has no label at {labels.unlabelled[partial].size:,} bins that others "
            "have, which a label file cannot say. Set write_tsv=false, or keep labels of different bins in runs of their own."
        )


def write_dream(location: Location, labels: LabelSet, target: str) -> int:
    """Write the label file (gzip) of one factor: its measured cell types, all bins that are not excluded. Returns the rows.

    Raises:
        RecipeError: see :func:`check_writable_as_dream`.
        StorageError: the place cannot be written.
    """
    check_writable_as_dream(labels)
    cells = [cell for cell in labels.cell_types if labels.measured(cell, target)]
    num_rows = 0
    with (
        whole_file(location) as path,
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=_LEVEL, mtime=0) as stream,
    ):
        stream.write(("\t".join([*PLACE, *cells]) + "\n").encode())
        for contig in labels.grid.contigs:
            codes = np.stack([labels.dense(contig.name, cell, target) for cell in cells])
            listed = np.flatnonzero(codes[0] <= BOUND)
            for first in range(0, len(listed), ROWS):
                rows = listed[first : first + ROWS]
                start = contig.first_bp + rows * labels.grid.step_bp
                stream.write(_text(contig.name, start, labels.grid.bin_bp, cells, codes[:, rows]))
            num_rows += len(listed)
    return num_rows


def _text(chrom: str, start: np.ndarray, bin_bp: int, cells: list[str], codes: np.ndarray) -> bytes:
    letters = pa.array([LETTERS[code] for code in sorted(LETTERS)])
    columns = [pa.repeat(chrom, len(start)), pa.array(start), pa.array(start + bin_bp)]
    columns += [letters.take(pa.array(column)) for column in codes]
    sink = io.BytesIO()
    pacsv.write_csv(
        pa.table(columns, names=[*PLACE, *cells]),
        sink,
        pacsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"),
    )
    return sink.getvalue()
