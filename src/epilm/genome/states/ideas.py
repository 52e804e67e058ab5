"""IDEAS ``.state`` tables: ``#ID CHR POSst POSed CELL... PosClass``, blank separated, one window a line.

The last column is the position class, not a cell. Windows can be missing (blacklisted); some are squeezed in off the
200-bp grid and overlap their neighbours by less than a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.states.binning import run_lengths
from epilm.genome.states.segments import dictionary_of
from epilm.genome.states.source import CellTable, squeeze_overlaps

_FIXED = ("#ID", "CHR", "POSst", "POSed")


def read_ideas(path: str, wanted: Sequence[str] | None) -> tuple[dict[str, CellTable], str]:
    """Read the cells of one table as run-length segments -> (cell type -> table, note on windows that were cut).

    Raises:
        GenomeError: unreadable, another header, an unknown cell, or windows that overlap by a whole window.
    """
    data = files.read_text(path)
    line, _, body = data.partition(b"\n")
    header = line.decode("utf-8", "replace").split()
    if len(header) < 6 or [h.lower() for h in header[1:4]] != [h.lower() for h in _FIXED[1:]]:
        raise GenomeError(
            f"{path} is not an IDEAS .state table: its header is {line[:80]!r}, expected "
            f"'{' '.join(_FIXED)} CELL... PosClass'."
        )
    cells = header[4:-1]
    unknown = [cell for cell in wanted or () if cell not in cells]
    if unknown or len(set(cells)) != len(cells):
        raise GenomeError(
            f"{path}: {'no cell type ' + repr(unknown[0]) if unknown else 'a cell type is named twice'}; "
            f"it has {', '.join(cells)}."
        )
    columns = [("id", pa.string()), ("chrom", pa.dictionary(pa.int32(), pa.string()))]
    columns += [("start", pa.int64()), ("end", pa.int64()), *((f"cell {cell}", pa.int16()) for cell in cells)]
    table = files.read_columns(path, columns, what="IDEAS .state", data=body)
    if table.num_columns != len(columns):
        raise GenomeError(f"{path}: rows have fewer columns than the header's {len(header)}. Get the file again.")
    names, contig = dictionary_of(table["chrom"])
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    order = np.lexsort((start, contig))
    contig, start, end = contig[order], start[order], end[order]
    bin_bp = max(int(np.median(end - start)), 1)
    end, note = squeeze_overlaps(contig, start, end, names, squeeze=True, source=path)
    result = {}
    for cell in wanted or cells:
        state = table[f"cell {cell}"].to_numpy()[order]
        result[cell] = _runs(path, names, contig, start, end, state, bin_bp)
    return result, note


def _runs(
    path: str, names: list[str], contig: np.ndarray, start: np.ndarray, end: np.ndarray, state: np.ndarray, bin_bp: int
) -> CellTable:
    """Join neighbouring windows of one state."""
    values, codes = np.unique(state, return_inverse=True)
    breaks = np.append(False, (contig[1:] != contig[:-1]) | (start[1:] != end[:-1]))
    first, last = run_lengths(np.cumsum(breaks) * values.size + codes)
    return CellTable(
        path=path,
        contigs=names,
        labels=[str(value) for value in values.tolist()],
        contig=contig[first],
        start=start[first],
        end=end[last - 1],
        label=codes[first],
        bin_bp=bin_bp,
    )
