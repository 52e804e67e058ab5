"""DeepDiff's csv files: ``<gene>_<symbol>_<bin>,count,...`` a line, a column a mark.

DeepDiff (Sekhon et al. 2018; the files of QData/DeepDiffChrome). A gene's id is what stands before the first
underscore, as in the published reader; unlike that, bins may come in any order, and nothing is taken on trust.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from epilm.errors import RecipeError
from epilm.histone.files import first_fields, read_columns, read_text
from epilm.histone.gene_marks import GeneMarks

_NAME = "^(?P<gene>.+)_(?P<bin>[0-9]{1,9})$"
_MOST = 2**24
_TOO_LARGE = "is larger than 16,777,216, up to which a float32 holds whole numbers"
_KEY = "<gene>_<symbol>_<bin>"
_LINE = f"Lines are `{_KEY},count,...` with bins from 1, e.g. `ENSG00000130749_ZC3H4_1,1,1,0,1,0`."


def read_deepdiff(path: str | Path, *, columns: Sequence[str], num_bins: int) -> GeneMarks:
    """One cell type's genes of one split; genes come in the order in which the file first names them.

    Args:
        path: plain, gzip, bzip2 or xz; a local path or a URI.
        columns: marks of the columns behind the first, in a file without a header; else the header names them.
        num_bins: bins of each gene; they are put in order.

    Raises:
        RecipeError: a header that does not name every column, lines that are not of the form, counts that are not whole
            numbers from 0, a gene without each of the bins 1..num_bins exactly once, a gene twice.
    """
    data = read_text(path)
    header = _header(data)
    if header is None:
        columns, named_by = tuple(columns), "data.columns"
    else:
        data, columns, named_by = data.partition(b"\n")[2], header, f"the header of {path}"
        if not data.strip():
            raise RecipeError(f"{path} holds a header and no genes. Get it again.")
    twice = [mark for mark, number in Counter(columns).items() if number > 1]
    if twice:
        raise RecipeError(f"{named_by}: {twice[0]!r} is named twice. Name the marks of the columns, each once.")
    if "" in columns:
        raise RecipeError(f"{named_by}: a column has no name. Name the mark of each.")
    names, counts = _read_lines(path, data, columns, named_by)
    genes, gene_of_line, bin_of_line = _split_names(path, names)
    places = _places(path, genes, gene_of_line, bin_of_line, num_bins)
    values = np.empty((len(genes) * num_bins, len(columns)), np.float32)
    for column, count in enumerate(counts):
        values[places, column] = count
    return GeneMarks(_ids(path, genes), columns, values.reshape(len(genes), num_bins, len(columns)))


def _header(data: bytes) -> tuple[str, ...] | None:
    """Marks of a first line whose first field names no bin and whose others are no numbers; None where it is a gene's."""
    first, *others = (field.strip().strip('"') for field in first_fields(data, ","))
    numbers = pd.to_numeric(pd.Series(others, dtype=object), errors="coerce")
    is_header = bool(others) and numbers.isna().all() and not re.match(_NAME, first)
    return tuple(others) if is_header else None


def _read_lines(
    path: str | Path, data: bytes, columns: tuple[str, ...], named_by: str
) -> tuple[pa.ChunkedArray, list[np.ndarray]]:
    """The first fields, and the counts of each column, checked."""
    width = f"a name and {len(columns)} marks, which are {named_by} ({', '.join(columns)}). Name the file's own columns"
    types = {_KEY: pa.string(), **dict.fromkeys(columns, pa.int64())}
    try:
        if re.search(rb",0[xX]", data):  # Arrow takes 0x10 for 16
            raise pa.ArrowInvalid("a hexadecimal number")
        table = read_columns(data, path=path, types=types, delimiter=",", width=width)
    except pa.ArrowInvalid:  # some count is not an integer: 3.0 is one, too
        texts = read_columns(data, path=path, types=dict.fromkeys(types, pa.string()), delimiter=",", width=width)
        return texts[_KEY], [_counts_of_text(path, mark, texts) for mark in columns]
    counts = [table[mark].to_numpy() for mark in columns]
    for mark, count in zip(columns, counts, strict=True):
        _refuse(path, mark, table[_KEY], count < 0, count, "is negative")
        _refuse(path, mark, table[_KEY], count > _MOST, count, _TOO_LARGE)
    return table[_KEY], counts


def _counts_of_text(path: str | Path, mark: str, table: pa.Table) -> np.ndarray:
    texts = table[mark].to_numpy()
    values = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
    _refuse(path, mark, table[_KEY], ~np.isfinite(values), texts, "is missing or not a number")
    _refuse(path, mark, table[_KEY], values < 0, texts, "is negative")
    _refuse(path, mark, table[_KEY], values != np.floor(values), texts, "is a fraction")
    _refuse(path, mark, table[_KEY], values > _MOST, texts, _TOO_LARGE)
    return values


def _refuse(
    path: str | Path, mark: str, names: pa.ChunkedArray, wrong: np.ndarray, values: np.ndarray, why: str
) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        more = f" ({int(wrong.sum()) - 1} more such counts)" if wrong.sum() > 1 else ""
        raise RecipeError(
            f"{path}: the count {str(values[first])!r} of {mark} in {names[first].as_py()} {why}{more}. Counts are whole "
            "numbers from 0: count the reads again, or leave out the gene in all cell types."
        )


def _split_names(path: str | Path, names: pa.ChunkedArray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the genes (with their symbols), and for each line the number of its gene and of its bin."""
    parts = pc.call_function("extract_regex", [names], pc.ExtractRegexOptions(_NAME))
    if parts.null_count:
        first = int(np.flatnonzero(parts.is_null().to_numpy())[0])
        raise RecipeError(
            f"{path}: a line begins with {names[first].as_py()!r}, which names no gene and bin ({parts.null_count} such "
            f"lines). {_LINE}"
        )
    gene, bin_ = parts.flatten()
    encoded = gene.combine_chunks().dictionary_encode()
    bins = bin_.cast(pa.int64()).to_numpy()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(), bins


def _places(path: str | Path, genes: list[str], gene: np.ndarray, bin_: np.ndarray, num_bins: int) -> np.ndarray:
    """Row of each line among [genes x num_bins], where every gene has each bin once."""
    lines = np.bincount(gene, minlength=len(genes))
    outside = (bin_ < 1) | (bin_ > num_bins)
    if not outside.any() and (lines == num_bins).all():
        places = gene.astype(np.int64) * num_bins + bin_ - 1
        repeated = np.bincount(places, minlength=len(genes) * num_bins) > 1
        if not repeated.any():
            return places
        bad = np.unique(np.flatnonzero(repeated) // num_bins)
    else:
        bad = np.union1d(np.flatnonzero(lines != num_bins), gene[outside])
    first = int(bad[0])
    more = f" ({len(bad) - 1} more genes are wrong)" if len(bad) > 1 else ""
    raise RecipeError(
        f"{path}: gene {genes[first]} {_wrong_bins(bin_[gene == first], num_bins)}{more}. {_mend(lines, num_bins)}"
    )


def _wrong_bins(bins: np.ndarray, num_bins: int) -> str:
    numbers, times = np.unique(bins, return_counts=True)
    if len(times) and (times == 2).all() and len(numbers) == num_bins:
        return "is in the file twice"
    absent = np.setdiff1d(np.arange(1, num_bins + 1), numbers)
    outside = numbers[(numbers < 1) | (numbers > num_bins)]
    said = [f"has {len(bins)} lines, not data.num_bins={num_bins}"] if len(bins) != num_bins else []
    said += [f"lacks {_some(absent)}"] if len(absent) else []
    said += [f"has {_some(outside)}, outside 1 to {num_bins}"] if len(outside) else []
    said += [f"has {_some(numbers[times > 1])} more than once"] if (times > 1).any() else []
    return "; ".join(said)


def _mend(lines: np.ndarray, num_bins: int) -> str:
    alike = bool((lines == lines[0]).all())
    if alike and lines[0] == num_bins:
        return f"A gene needs the bins 1 to {num_bins}, each once: number the lines from 1, one a bin."
    same = f" (all genes have {lines[0]} lines: data.num_bins={lines[0]}?)" if alike else ""
    return (
        f"A gene needs the bins 1 to data.num_bins, each once: set data.num_bins to what the files have{same}, or make the "
        "gene's lines anew, or leave it out in all cell types."
    )


def _some(bins: np.ndarray) -> str:
    shown = ", ".join(map(str, bins[:5].tolist()))
    return f"bin{'s' if len(bins) > 1 else ''} {shown}{' ...' if len(bins) > 5 else ''}"


def _ids(path: str | Path, genes: list[str]) -> np.ndarray:
    """Before the first underscore; each must be there once."""
    ids = pd.Series([gene.split("_", 1)[0] for gene in genes], dtype=object)
    empty = np.flatnonzero(ids == "")
    if len(empty):
        raise RecipeError(f"{path}: {genes[empty[0]]!r} begins with an underscore, not a gene. {_LINE}")
    again = ids.duplicated()
    if again.any():
        twice = ids[again].iloc[0]
        named = [gene for gene, of in zip(genes, ids, strict=True) if of == twice]
        raise RecipeError(
            f"{path}: gene {twice} is there under {len(named)} names ({', '.join(named[:3])}{', ...' if len(named) > 3 else ''}"
            "). An id ends at the first underscore and may occur once: use ids without underscores, and leave out copies."
        )
    return ids.to_numpy(dtype=str)
