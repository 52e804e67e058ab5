"""``ngrams.parquet`` and other tables of k-mer scores: written, read, checked.

One row an n-gram: ``ngram, n, count, naive_pmi, dp_pmi, npmi, rank``; scores are null where there are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from epilm.config import Config
from epilm.errors import CorpusError
from epilm.ngrams.pmi import NgramScores, rank_npmi
from epilm.runs import RESULT_FILE
from epilm.storage import Location
from epilm.tokens.vocab import MAX_K

NGRAMS_FILE = "ngrams.parquet"
SCHEMA = pa.schema(
    [
        pa.field("ngram", pa.string(), nullable=False),
        pa.field("n", pa.int8(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("naive_pmi", pa.float64()),
        pa.field("dp_pmi", pa.float64()),
        pa.field("npmi", pa.float64()),
        pa.field("rank", pa.int32()),
    ]
)
_CONTIGS_KEY = b"contigs"
_MAX_COUNT = 2.0**53
"""Counts are read as float64, which holds every whole number below this."""
_LETTERS = np.frombuffer(b"ACGT", np.uint8)
_CODE_OF = np.full(256, 255, np.uint8)
_CODE_OF[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2


class TableColumns(Config):
    """Names of the columns of a table made elsewhere; the defaults are those of the published GeneMask table."""

    kmer: str = "kmer"
    """The k-mer, as letters."""
    count: str = "count"
    """How often it occurs."""
    naive_pmi: str = "naive_pmi"
    """PMI against single bases; may be absent from the table."""
    dp_pmi: str = "dp_true_pmi"
    """PMI against the likeliest segmentation; may be absent from the table."""
    npmi: str = "npmi"
    """NPMI; empty where a k-mer has none."""
    rank: str = "rank"
    """1 = highest NPMI; computed from the NPMI where the table has no such column."""


OWN_COLUMNS = TableColumns(kmer="ngram", dp_pmi="dp_pmi")
"""The names in :data:`SCHEMA`."""


@dataclass(frozen=True)
class KmerScores:
    """The scores of one k; all arrays are indexed by k-mer code (A, C, G, T order; token id - 5)."""

    k: int
    count: np.ndarray
    """int64 ``[4**k]``."""
    npmi: np.ndarray
    """float64 ``[4**k]``, NaN where there is none (too rare, or absent from the table)."""
    rank: np.ndarray
    """int32 ``[4**k]``, 1 = highest NPMI, ties by code; all without NPMI share the last rank, number scored + 1."""
    fingerprint: str
    """Of the content, not of the path."""
    contigs: tuple[str, ...] | None = None
    """Contigs that were counted; None where the table does not tell."""


def read_scores(path: Location, k: int, *, columns: TableColumns | None = None) -> KmerScores:
    """The k-mer scores in a run folder of ``epilm npmi``, a parquet file or a csv/tsv file (plain or compressed).

    Args:
        columns: names of the table's columns, where they are neither ours nor the published ones.

    Raises:
        CorpusError: nothing is there, it is damaged or no table of scores, or it has no k-mers of this k (the message
            says which it has).
    """
    scores, contigs = read_table(path, columns=columns)
    if k not in scores or not scores[k].scored.any():
        there = ", ".join(str(n) for n, of_n in scores.items() if of_n.scored.any()) or "none"
        raise CorpusError(
            f"{path} has no NPMI of {k}-mers; it has those of k = {there}. Give the table of another count, or use a k "
            "that it has (tokens.k)."
        )
    found = scores[k]
    rank = np.where(found.scored, found.rank, np.count_nonzero(found.scored) + 1).astype(np.int32)
    digest = hashlib.sha256(f"{k}".encode())
    for values in (found.count.astype("<i8"), found.npmi.astype("<f8"), rank.astype("<i4")):
        digest.update(values.tobytes())
    return KmerScores(k, found.count, found.npmi, rank, digest.hexdigest()[:16], contigs)


def write_table(path: Location, scores: Sequence[NgramScores], *, contigs: Sequence[str] | None) -> None:
    """Write ``ngrams.parquet`` whole: every n-gram of each n, in the order of n and code."""
    columns = {
        "ngram": [word for of_n in scores for word in ngram_words(of_n.n)],
        "n": np.concatenate([np.full(4**of_n.n, of_n.n, np.int8) for of_n in scores]),
        "count": np.concatenate([of_n.count for of_n in scores]),
    }
    arrays = [pa.array(columns[name], SCHEMA.field(name).type) for name in ("ngram", "n", "count")]
    for name in ("naive_pmi", "dp_pmi", "npmi"):
        arrays.append(pa.array(np.concatenate([getattr(of_n, name) for of_n in scores]), from_pandas=True))
    rank = np.concatenate([of_n.rank for of_n in scores])
    arrays.append(pa.array(rank, pa.int32(), mask=rank == 0))
    metadata = {} if contigs is None else {_CONTIGS_KEY: json.dumps(list(contigs))}
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    path.write_bytes(sink.getvalue().to_pybytes())


def ngram_words(n: int) -> list[str]:
    """All n-grams as letters, by code."""
    codes = np.arange(4**n)[:, None] >> (2 * np.arange(n - 1, -1, -1)) & 3
    text = _LETTERS[codes].tobytes().decode()
    return [text[i : i + n] for i in range(0, len(text), n)]


def read_table(
    path: Location, *, columns: TableColumns | None = None
) -> tuple[dict[int, NgramScores], tuple[str, ...] | None]:
    """Everything in a table of scores: n -> scores, and the contigs counted (None where it does not tell).

    N-grams that the table lacks have count 0 and no scores.

    Raises:
        CorpusError: see :func:`read_scores`; also n-grams given twice, letters other than ACGT, and a rank column that
            contradicts the NPMI.
    """
    path = _table_file(path)
    table = _load(path)
    if columns is None:
        columns = OWN_COLUMNS if OWN_COLUMNS.kmer in table.column_names else TableColumns()
    _check_columns(path, table.column_names, columns)
    lengths, codes = _ngram_codes(path, table.column(columns.kmer))
    count = _numbers(path, table, columns.count)
    whole = (count >= 0) & (count < _MAX_COUNT) & (count == np.floor(count))  # false for NaN
    if not whole.all():
        row = int(np.argmin(whole))
        got = "nothing" if np.isnan(count[row]) else f"{count[row]:.17g}"
        raise CorpusError(
            f"{path}: column {columns.count!r} must hold whole numbers from 0 up to 2**53 - 1 in every row; row {row + 1} has "
            f"{got}. Mend or remove the row."
        )
    parts = {key: _numbers(path, table, getattr(columns, key)) for key in ("naive_pmi", "dp_pmi", "npmi", "rank")}
    if np.isinf(parts["npmi"]).any():
        raise CorpusError(f"{path}: column {columns.npmi!r} holds infinite values; leave k-mers without NPMI empty.")
    has_rank = columns.rank in table.column_names
    scores = {}
    for n in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == n)
        place = codes[rows]
        values = {key: _placed(n, place, column[rows], np.nan) for key, column in parts.items()}
        rank = _given_rank(path, values["npmi"], values["rank"]) if has_rank else rank_npmi(values["npmi"])
        counts = _placed(n, place, count[rows].astype(np.int64), 0)
        scores[n] = NgramScores(n, counts, values["naive_pmi"], values["dp_pmi"], values["npmi"], rank)
    return scores, _contigs(path, table.schema.metadata or {})


def _check_columns(path: Location, names: Sequence[str], columns: TableColumns) -> None:
    """The columns that are read are there, each once."""
    for key, name in columns.model_dump().items():
        if name not in names and key in ("kmer", "count", "npmi"):
            raise CorpusError(
                f"{path} has no column {name!r} ({key}); it has {', '.join(names[:12])}. "
                "Import it with `epilm npmi` and say what its columns are called (table.columns)."
            )
        if names.count(name) > 1:
            raise CorpusError(f"{path} has {names.count(name)} columns {name!r} ({key}). Rename or remove all but one.")


def _contigs(path: Location, metadata: Mapping[bytes, bytes]) -> tuple[str, ...] | None:
    """The contigs that were counted, a JSON list in the file's metadata."""
    if _CONTIGS_KEY not in metadata:
        return None
    try:
        contigs = json.loads(metadata[_CONTIGS_KEY])
    except ValueError:
        contigs = None
    if not isinstance(contigs, list) or not all(isinstance(name, str) for name in contigs):
        raise CorpusError(
            f"{path}: the contigs in its metadata are {metadata[_CONTIGS_KEY][:60]!r} instead of a JSON list of names. Make "
            "the table again with `epilm npmi`, or remove that entry."
        )
    return tuple(contigs)


def _table_file(path: Location) -> Location:
    if not path.exists():
        raise CorpusError(
            f"no table of k-mer scores at {path}. Give the folder of an `epilm npmi` run, or a parquet or csv file."
        )
    if not path.is_dir():
        return path
    if not (path / NGRAMS_FILE).exists():
        unfinished = "stage: npmi" in _recipe_text(path) and not (path / RESULT_FILE).exists()
        what = "is an unfinished `epilm npmi` run (run it again with --resume)" if unfinished else "holds no scores"
        raise CorpusError(f"{path} {what}: there is no {NGRAMS_FILE} in it. Give the folder of an `epilm npmi` run.")
    return path / NGRAMS_FILE


def _recipe_text(folder: Location) -> str:
    recipe = folder / "recipe.resolved.yaml"
    return recipe.read_text() if recipe.exists() else ""


def _load(path: Location) -> pa.Table:
    try:
        with path.fs.open_input_file(path.path) as stream:
            is_parquet = stream.read(4) == b"PAR1"
        if is_parquet:
            return pq.read_table(path.path, filesystem=path.fs, page_checksum_verification=True)
        with path.fs.open_input_stream(path.path, compression="detect") as stream:
            data = stream.read()
        delimiter = "\t" if b"\t" in data.split(b"\n", 1)[0] else ","
        return pacsv.read_csv(pa.BufferReader(data), parse_options=pacsv.ParseOptions(delimiter=delimiter))
    except (OSError, pa.ArrowException, UnicodeDecodeError, EOFError) as error:
        cause = " ".join(str(error).split())
        raise CorpusError(
            f"{path} cannot be read as a table, it is damaged or neither parquet nor csv: {cause}. Get or make it again."
        ) from error


def _ngram_codes(path: Location, column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Length and code of each row's n-gram -> int64 [rows] each; every n-gram once."""
    words = [str(word) for word in column.to_pylist()]
    lengths = np.array([len(word) for word in words], np.int64)
    if not words or lengths.max() > MAX_K or lengths.min() < 1:
        wrong = next((word for word in words if not 1 <= len(word) <= MAX_K), None)
        shown = "no rows" if wrong is None else f"{wrong[:40]!r}"
        raise CorpusError(f"{path} holds {shown}; a table of scores has k-mers of 1 to {MAX_K} letters, one a row.")
    ends = np.cumsum(lengths)
    letters = _CODE_OF[np.frombuffer("".join(words).encode("ascii", "replace"), np.uint8)]
    if (letters == 255).any():
        row = int(np.searchsorted(ends, int(np.argmax(letters == 255)), side="right"))
        raise CorpusError(f"{path}: row {row + 1} is {words[row]!r}; k-mers have the letters A, C, G and T alone.")
    codes = np.zeros(len(words), np.int64)
    for i in range(int(lengths.max())):
        inside = lengths > i
        codes[inside] = codes[inside] * 4 + letters[(ends - lengths)[inside] + i]
    keys, repeats = np.unique(lengths * 4**MAX_K + codes, return_counts=True)
    if (repeats > 1).any():
        twice = np.flatnonzero(lengths * 4**MAX_K + codes == keys[np.argmax(repeats > 1)])
        raise CorpusError(
            f"{path}: {words[twice[0]]!r} is in rows {twice[0] + 1} and {twice[1] + 1} "
            f"({int((repeats > 1).sum())} k-mers stand more than once). Keep one row a k-mer."
        )
    return lengths, codes


def _numbers(path: Location, table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, NaN where it is null or absent."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)):
        raise CorpusError(
            f"{path}: column {name!r} holds {column.type} instead of numbers. Is it the right one? Columns are named in "
            "table.columns."
        )
    return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)


def _placed(n: int, place: np.ndarray, values: np.ndarray, empty: float) -> np.ndarray:
    """Values at their codes in an array of all 4**n."""
    result = np.full(4**n, empty, values.dtype)
    result[place] = values
    return result


def _given_rank(path: Location, npmi: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The table's ranks of the n-grams with an NPMI, where they are 1, 2, ... from the highest NPMI down."""
    scored = np.flatnonzero(~np.isnan(npmi))
    by_rank = scored[np.argsort(rank[scored], kind="stable")]
    if not np.array_equal(rank[by_rank], np.arange(1, len(scored) + 1)) or (np.diff(npmi[by_rank]) > 0).any():
        raise CorpusError(
            f"{path}: its ranks are not 1, 2, ... {len(scored)} from the highest NPMI down. Remove the column (ranks are "
            "computed from the NPMI then), or name another one."
        )
    result = np.zeros(len(npmi), np.int32)
    result[by_rank] = np.arange(1, len(scored) + 1, dtype=np.int32)
    return result
