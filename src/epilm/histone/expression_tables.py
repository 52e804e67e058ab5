"""Expression of genes: read counts of one cell type a file, or a table of many cell types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from epilm.errors import RecipeError
from epilm.histone.config import ExpressionTable
from epilm.histone.files import delimiter_of, first_fields, read_columns, read_text, unknown

_GENE_HEADERS = {
    "", "gene", "geneid", "genename", "genesymbol", "symbol", "name", "id", "ensembl", "ensemblid", "ensemblgeneid",
    "targetid", "feature", "featureid",
}  # fmt: skip
_MISSING = {"", "na", "nan", "n/a", "null", "none", "."}


def read_counts(path: str | Path, *, id_version: str = "keep") -> pd.Series:
    """Read counts of one cell type: ``gene,count`` a line -> float64 by gene, in the file's order.

    A tab may stand for the comma. A first line whose first field is ``gene``, ``gene_id``, ``name`` or the like, or empty, and
    whose second is no number, is a header. The lines ``__no_feature`` and the like, with which htseq-count ends, are no genes.

    Raises:
        RecipeError: a gene twice or without a name; a count that is missing, no number, negative or a fraction; a header
            that is none of those.
    """
    data = read_text(path)
    delimiter = "\t" if "\t" in data.split(b"\n", 1)[0].decode() else ","
    fields = first_fields(data, delimiter)
    if len(fields) == 2 and np.isnan(_numbers([fields[1]])[0]) and fields[1].strip().lower() not in _MISSING:
        if "".join(filter(str.isalnum, fields[0].lower())) not in _GENE_HEADERS:
            raise RecipeError(
                f"{path}: the first line is {delimiter.join(fields)!r}, and {fields[1]!r} is no count. Is it a header? Call its "
                "first column `gene`, or delete the line; else mend the count."
            )
        data = data.partition(b"\n")[2]
        if not data.strip():
            raise RecipeError(f"{path} holds a header and no genes. Get it again.")
    types = {"gene": pa.string(), "count": pa.string()}
    width = "lines are `gene,count`; choose one column of a table by expression.kind: table"
    table = read_columns(data, path=path, types=types, delimiter=delimiter, width=width)
    table = table.filter(pa.array(~table["gene"].to_pandas().str.startswith("__")))
    counts = _values(path, table["gene"], table["count"], "the count", missing="refuse")
    fraction = counts != np.floor(counts)
    _refuse(
        path, table["gene"], counts, fraction, "the count", "is a fraction. For RPKM or TPM use a table (kind: table)"
    )
    return pd.Series(counts, index=_index(path, table["gene"].to_pylist(), id_version), name="count")


def read_table(config: ExpressionTable, *, cells: Sequence[str] | None = None) -> pd.DataFrame:
    """A table with a header -> float64, a row a gene, a column a cell type; NaN where the table has no value.

    Rows may end in one separator more than the header (Roadmap's RPKM does).

    Args:
        cells: cell types to read; all of ``config.columns`` where None.

    Raises:
        RecipeError: a column that is absent or there twice, a gene twice or without a name, values that are negative,
            infinite or not numbers.
    """
    path, delimiter = config.path, delimiter_of(config.path)
    data = read_text(path)
    header = first_fields(data, delimiter)
    data = data.partition(b"\n")[2].lstrip(b"\n")
    if not data.strip():
        raise RecipeError(f"{path} holds a header and no genes. Get it again.")
    if len(header) == 1:
        other = "a tab" if delimiter == "," else "a comma"
        raise RecipeError(
            f"{path}: the header {header[0][:80]!r} is one column. Files named .csv are separated by commas, all others by "
            f"tabs: rename the file if its separator is {other}."
        )
    chosen = {cell: config.columns[cell] for cell in cells or config.columns}
    places = {"gene": _place(path, header, config.id, "id")}
    places |= {cell: _place(path, header, column, f"columns.{cell}") for cell, column in chosen.items()}
    names = [str(place) for place in range(max(len(header), len(first_fields(data, delimiter))))]
    beyond = names[len(header) :]
    table = read_columns(
        data,
        path=path,
        types=dict.fromkeys(names, pa.string()),
        delimiter=delimiter,
        width=f"the header has {len(header)}" + (f", the first row {len(names)}" if beyond else ""),
        keep=[*dict.fromkeys(names[place] for place in places.values()), *beyond],
    )
    for name in beyond:
        filled = np.flatnonzero(table[name].to_numpy() != "")
        if len(filled):
            raise RecipeError(
                f"{path}: rows have more fields than the header's {len(header)} (value {table[name][filled[0]].as_py()!r} "
                "stands under no name). Give every column a name; R's write.table leaves out that of the first."
            )
    genes = table[names[places["gene"]]]
    index = _index(path, genes.to_pylist(), config.id_version)
    values = {
        cell: _values(path, genes, table[names[places[cell]]], column, missing="keep")
        for cell, column in chosen.items()
    }
    return pd.DataFrame(values, index=index)


def join_ids(ids: Sequence[str] | np.ndarray | pd.Series, id_version: str) -> np.ndarray:
    """Ids that are joined on, str [n]: as they are, or without an Ensembl version (``.9``; ``_PAR_Y`` behind it is kept)."""
    text = pd.Series(ids, dtype=object).astype(str)
    return (text.str.replace(r"\.\d+(?=$|_)", "", regex=True) if id_version == "strip" else text).to_numpy(dtype=str)


def _place(path: str, header: list[str], column: str, setting: str) -> int:
    if column not in header:
        raise RecipeError(f"expression.{setting}: in {path} {unknown('column', column, header)}")
    if header.count(column) > 1:
        raise RecipeError(
            f"expression.{setting}: {path} has {header.count(column)} columns {column!r}. Rename all but one."
        )
    return header.index(column)


def _index(path: str | Path, genes: list[str], id_version: str) -> pd.Index:
    named = pd.Series(genes, dtype=object).str.strip()
    empty = (named == "").to_numpy()
    if empty.any():
        raise RecipeError(f"{path}: {int(empty.sum())} rows have no gene. Name the gene in each, or delete them.")
    index = pd.Index(join_ids(named, id_version).astype(object), name="gene")
    twice = index.duplicated()
    if twice.any():
        versions = (
            " expression.id_version=strip made one id of several versions." if not named.duplicated().any() else ""
        )
        raise RecipeError(
            f"{path}: {int(twice.sum())} genes have a second row, e.g. {index[twice][0]}. A gene takes one: leave out "
            f"copies.{versions}"
        )
    return index


def _values(path: str | Path, genes: pa.ChunkedArray, texts: pa.ChunkedArray, what: str, *, missing: str) -> np.ndarray:
    """Non-negative finite numbers, float64; missing ones are NaN or refused."""
    text = texts.to_numpy()
    values = _numbers(text)
    absent = np.isnan(values) & pd.Series(text, dtype=object).str.strip().str.lower().isin(_MISSING).to_numpy()
    _refuse(path, genes, text, np.isnan(values) & ~absent, what, "is not a number")
    if missing == "refuse":
        _refuse(path, genes, text, absent, what, "is missing; leave the gene out if it was not measured")
    _refuse(path, genes, text, np.isinf(values), what, "is infinite")
    _refuse(path, genes, text, values < 0, what, "is negative; give expression itself, not its logarithm")
    return values


def _numbers(texts: Sequence[str] | np.ndarray) -> np.ndarray:
    return pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)


def _refuse(
    path: str | Path, genes: pa.ChunkedArray, values: np.ndarray, wrong: np.ndarray, what: str, why: str
) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        more = f" ({int(wrong.sum()) - 1} more such)" if wrong.sum() > 1 else ""
        raise RecipeError(f"{path}: {what} {str(values[first])!r} of gene {genes[first].as_py()} {why}{more}.")
