"""Submission files of ENCODE-DREAM (``chr start stop probability``), read in blocks and rewritten as predictions.

Sixty million lines are 2 GB of text; what is held of them are the scores of the evaluated contigs, 4 bytes a bin.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from epilm.errors import CorpusError, GenomeError
from epilm.evaluate.predictions import (
    PredictedColumn,
    PredictedPart,
    Predictions,
    predictions_schema,
    write_predictions,
)
from epilm.genome import files
from epilm.genome.contigs import match_contigs
from epilm.labels.grid import BinGrid
from epilm.storage import Location

COLUMNS = ("chr", "start", "stop", "probability")
BLOCK_BYTES = 1 << 24


def check_submission_file(path: str, grid: BinGrid) -> bool:
    """Look at the first row; whether a header stands above it.

    Raises:
        GenomeError: no such file, or no text.
        CorpusError: not four columns, or a bin of another length.
    """
    kind, found = files.content_kind(path), files.find(path)
    if kind not in ("text", "gzip"):
        raise GenomeError(f"{path} is not a text file, its content is {kind}. Give TSV, plain or gzip.")
    try:
        with gzip.open(found, "rb") if kind == "gzip" else open(found, "rb") as stream:
            lines = [stream.readline(1 << 16).decode("utf-8", "replace").rstrip("\r\n") for _ in range(2)]
    except (OSError, EOFError) as error:
        raise files.truncated(path, error) from error
    header = not lines[0].split("\t")[1:2] or not lines[0].split("\t")[1].isdigit()
    row = lines[1] if header else lines[0]
    fields = row.split("\t")
    if len(fields) != len(COLUMNS) or not (fields[1].isdigit() and fields[2].isdigit()):
        raise CorpusError(
            f"{path} is not a submission of ENCODE-DREAM: its first row is {row[:80]!r}. Needed are {', '.join(COLUMNS)}, "
            "separated by tabs."
        )
    if int(fields[2]) - int(fields[1]) != grid.bin_bp:
        raise CorpusError(f"{path}: its first bin, {row!r}, is not of the labels' {grid.bin_bp} bp.")
    return header


def rewrite_submission(
    path: str, folder: Location, *, cell_type: str, target: str, assembly: str, grid: BinGrid, contigs: Sequence[str]
) -> Predictions:
    """Read the scores of some contigs and write them as a folder of predictions, one part a contig.

    Raises:
        CorpusError: malformed rows, bins off the labels' grid or twice, scores that are none of 0 to 1, or no row of
            these contigs.
    """
    scores = read_submission(path, grid, contigs)
    parts = []
    for number, (name, values) in enumerate(scores.items()):
        contig = grid.contig(name)
        start = contig.first_bp + np.arange(contig.num_bins, dtype=np.int64) * grid.step_bp
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"start": start, "p0": values}, schema=predictions_schema(1)), sink)
        data = sink.getvalue()
        part = f"part-{number:05d}.parquet"
        (folder.mkdir() / part).write_bytes(data)
        parts.append(
            PredictedPart(
                path=part,
                chrom=name,
                first_start=contig.first_bp,
                rows=contig.num_bins,
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
    predictions = Predictions(
        assembly=assembly,
        bin_bp=grid.bin_bp,
        step_bp=grid.step_bp,
        columns=(PredictedColumn(cell_type=cell_type, target=target),),
        parts=tuple(parts),
        contig_lengths={},
        predictor="dream",
    )
    write_predictions(folder, predictions)
    return predictions


def read_submission(path: str, grid: BinGrid, contigs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Scores of every bin of some contigs, float32 [num_bins of the contig]; NaN where the file has no row."""
    header = check_submission_file(path, grid)
    scores = {name: np.full(grid.contig(name).num_bins, np.nan, np.float32) for name in contigs}
    num_rows, num_kept, known = 0, 0, {}
    try:
        for batch in _batches(path, header):
            known = _names(path, batch, grid, known)
            num_kept += _keep(path, batch, num_rows, grid, known, scores)
            num_rows += batch.num_rows
    except pa.ArrowInvalid as error:
        raise CorpusError(
            f"{path} has a malformed row after {num_rows:,} good ones: {error}. Needed are {', '.join(COLUMNS)}."
        ) from error
    except (OSError, EOFError) as error:
        raise files.truncated(path, error) from error
    num_set = sum(int((~np.isnan(values)).sum()) for values in scores.values())
    if not num_kept:
        raise CorpusError(f"{path} has no row on {', '.join(contigs)}. Give the file of these contigs.")
    if num_set != num_kept:
        raise CorpusError(f"{path} lists {num_kept - num_set:,} bins twice. One row a bin is needed.")
    return scores


def _batches(path: str, header: bool) -> Iterator[pa.RecordBatch]:
    packed = "gzip" if files.content_kind(path) == "gzip" else None
    kinds = {"chr": pa.dictionary(pa.int32(), pa.string()), "start": pa.int64(), "stop": pa.int64()}
    with (
        pa.input_stream(str(files.find(path)), compression=packed) as source,
        pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(column_names=list(COLUMNS), skip_rows=int(header), block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=kinds | {"probability": pa.float32()}, null_values=[]),
        ) as blocks,
    ):
        yield from blocks


def _names(path: str, batch: pa.RecordBatch, grid: BinGrid, known: dict[str, str]) -> dict[str, str]:
    """Name in the file -> name in the grid, of all contigs met so far; "" for those that the grid lacks."""
    met = dict.fromkeys([*known, *batch.column("chr").dictionary.to_pylist()])
    if met.keys() == known.keys():
        return known
    ours: dict[str, int | None] = dict.fromkeys(grid.names.tolist())
    theirs: dict[str, int | None] = dict.fromkeys(met)
    try:
        return dict.fromkeys(met, "") | match_contigs(ours, theirs, source=path)
    except GenomeError:
        if any(known.values()):
            raise  # names that went well before do not now: two of them mean one contig
        return dict.fromkeys(met, "")  # none yet: later rows may have some


def _keep(
    path: str,
    batch: pa.RecordBatch,
    before: int,
    grid: BinGrid,
    known: dict[str, str],
    scores: dict[str, NDArray[np.float32]],
) -> int:
    """Put the batch's rows into the scores of their contigs; return how many."""
    names = [known[name] for name in batch.column("chr").dictionary.to_pylist()]
    place = {name: number for number, name in enumerate(grid.names.tolist()) if name in scores}
    contig = np.array([place.get(name, -1) for name in names], np.int64)[batch.column("chr").indices.to_numpy()]
    rows = np.flatnonzero(contig >= 0)
    contig = contig[rows]
    start, stop = (batch.column(name).to_numpy()[rows] for name in ("start", "stop"))
    value = batch.column("probability").to_numpy(zero_copy_only=False)[rows]
    index = grid.index_in(contig, start)
    wrong = (index < 0) | (stop - start != grid.bin_bp) | ~((value >= 0) & (value <= 1))
    if wrong.any():
        row = int(rows[np.argmax(wrong)])
        shown = "\t".join(str(column[row].as_py()) for column in batch.columns)
        raise CorpusError(
            f"{path}: row {before + row + 1} ({shown!r}) is not a bin of {grid.bin_bp} bp every {grid.step_bp} bp within its "
            "contig with a probability of 0 to 1."
        )
    for number in np.unique(contig):
        mine, of = contig == number, grid.contigs[number]
        scores[of.name][index[mine] - of.offset] = value[mine]
    return len(rows)
