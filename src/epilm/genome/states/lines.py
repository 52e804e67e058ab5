"""One state a line a bin: ChromHMM's ``statebyline``, with the header ``CELL<TAB>chr1`` and ``MaxState E``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.contigs import match_contigs
from epilm.genome.states.binning import run_lengths
from epilm.genome.states.segments import dictionary_of
from epilm.genome.states.source import CellTable


def read_lines(given: str | Sequence[str] | Mapping[str, str], bin_bp: int) -> list[CellTable]:
    """Read one cell: one file a contig, the contig named in the header or given with the path.

    Raises:
        GenomeError: unreadable, no contig known, or lines that hold more than a state.
    """
    return [_read_one(path, contig, bin_bp) for contig, path in _paths(given)]


def _paths(given: str | Sequence[str] | Mapping[str, str]) -> Iterator[tuple[str | None, str]]:
    if isinstance(given, str):
        yield None, given
    elif isinstance(given, Mapping):
        yield from given.items()
    else:
        yield from ((None, path) for path in given)


def _read_one(path: str, contig: str | None, bin_bp: int) -> CellTable:
    contig, data = _without_header(path, contig, files.read_text(path).rstrip(b"\n") + b"\n")
    states = data[:-1].split(b"\n") if b" " in data or b"\t" in data or b"\n\n" in data else []
    for row, state in enumerate(states):  # only where something is amiss: a line is a bin, none may be passed over
        if len(state.split()) != 1:
            raise GenomeError(
                f"{path}: row {row + 1} of the states is {state[:60]!r}; one state is expected on every line. "
                "Segments with coordinates are kind: segments."
            )
    column = files.read_columns(
        path, [("state", pa.dictionary(pa.int32(), pa.string()))], what="state-per-line", data=data
    )
    labels, codes = dictionary_of(column["state"])
    first, last = run_lengths(codes)
    return CellTable(
        path=path,
        contigs=[contig],
        labels=labels,
        contig=np.zeros(first.size, np.int64),
        start=first * bin_bp,
        end=last * bin_bp,
        label=codes[first],
        bin_bp=bin_bp,
    )


def _without_header(path: str, contig: str | None, data: bytes) -> tuple[str, bytes]:
    """The contig, and the text after the lines ``CELL<TAB>chr1`` and ``MaxState E`` where the file has them."""
    line, _, rest = data.partition(b"\n")
    text = line.decode("utf-8", "replace").strip()
    fields = text.split("\t") if "\t" in text else text.split()  # a cell's name may hold blanks
    if len(fields) == 2:
        named = fields[1].strip()
        if contig is not None and not _is_alias(contig, named):
            raise GenomeError(f"{path} is of contig {named!r} by its header, but was given as {contig!r}.")
        contig, data = named, rest
        line, _, rest = data.partition(b"\n")
    if line.lower().startswith(b"maxstate"):
        data = rest
    if contig is None:
        raise GenomeError(
            f"{path} does not name its contig: its first line is {line[:40]!r}, not 'CELL<tab>CONTIG'. "
            "Give it in the recipe, as files: {CELL: {CONTIG: PATH}}."
        )
    return contig, data


def _is_alias(name: str, other: str) -> bool:
    try:
        return bool(match_contigs({name: None}, {other: None}, source=""))
    except GenomeError:
        return False
