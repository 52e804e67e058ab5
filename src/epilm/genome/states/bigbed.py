"""bigBed segmentations (IDEAS tracks, ENCODE ChromHMM): the state is the name column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome.bigwig import open_big
from epilm.genome.states.source import CellTable


def read_bigbed(path: str) -> CellTable:
    """Read one cell's segments, all contigs.

    Raises:
        GenomeError: unreadable, not bigBed, or without a name column.
    """
    lengths: dict[str, int | None] = {}
    contig, start, end = [], [], []
    labels: list[str] = []
    with open_big(path, "bigBed") as track:
        for name, length in track.chroms().items():
            entries = track.entries(name, 0, length) or ()
            contig.append(np.full(len(entries), len(lengths)))
            start.append(np.fromiter((entry[0] for entry in entries), np.int64, len(entries)))
            end.append(np.fromiter((entry[1] for entry in entries), np.int64, len(entries)))
            labels += [entry[2].partition("\t")[0] for entry in entries]
            lengths[name] = int(length)
    if not labels or not all(labels):
        raise GenomeError(f"{path} has {'no entries' if not labels else 'no name column'}; the name must be the state.")
    encoded = pa.array(labels).dictionary_encode()
    return CellTable(
        path=path,
        contigs=list(lengths),
        labels=encoded.dictionary.to_pylist(),
        contig=np.concatenate(contig),
        start=np.concatenate(start),
        end=np.concatenate(end),
        label=encoded.indices.to_numpy(),
        lengths=lengths,
    )
