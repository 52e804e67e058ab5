"""The genome's sequence as base codes, from FASTA (plain, gzip, bgzip) or ``.2bit``, one file or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.contigs import Contig
from epilm.genome.dna import decode_dna, encode_dna, reverse_complement
from epilm.genome.fasta import PlainFasta
from epilm.genome.fasta_gzip import GzipFasta
from epilm.genome.twobit import TwoBit

__all__ = ["SequenceSource", "decode_dna", "encode_dna", "open_sequence", "read_sizes", "reverse_complement"]


class SequenceSource:
    """Contigs by name over one or several files. Picklable; files are opened where they are read."""

    def __init__(self, backends: Sequence[PlainFasta | GzipFasta | TwoBit]) -> None:
        self.paths = tuple(str(backend.path) for backend in backends)
        self._backends = tuple(backends)
        self._place: dict[str, tuple[int, int]] = {}
        self.contigs: dict[str, Contig] = {}
        for b, backend in enumerate(self._backends):
            for i, contig in enumerate(backend.contigs):
                if contig.name in self.contigs:
                    first = self.paths[self._place[contig.name][0]]
                    where = f"twice in {first}" if first == str(backend.path) else f"in {first} and in {backend.path}"
                    raise GenomeError(f"contig {contig.name!r} is {where}. Keep one sequence for each contig name.")
                if contig.end_bp == contig.start_bp:
                    raise GenomeError(
                        f"{backend.path}: contig {contig.name!r} has no bases. Remove it or get the file again."
                    )
                self.contigs[contig.name], self._place[contig.name] = contig, (b, i)

    def fetch(self, contig: str, start_bp: int, end_bp: int) -> np.ndarray:
        """Codes uint8 [end_bp - start_bp]: A0 C1 G2 T3 N4, in coordinates of the whole contig.

        Raises:
            GenomeError: an unknown contig, or a stretch outside what the file holds of it.
        """
        known = self.contigs.get(contig)
        if known is None:
            raise GenomeError(
                f"no contig {contig!r} in {', '.join(self.paths)}; it has {', '.join(list(self.contigs)[:8])}."
            )
        if not known.start_bp <= start_bp <= end_bp <= known.end_bp:
            raise GenomeError(
                f"{contig}:{start_bp:,}-{end_bp:,} is outside of what the file holds: {known.start_bp:,}-{known.end_bp:,}."
            )
        backend, index = self._place[contig]
        return self._backends[backend].fetch(index, start_bp - known.start_bp, end_bp - known.start_bp)


def open_sequence(paths: str | Path | Sequence[str | Path]) -> SequenceSource:
    """Open sequence files; the content decides the format, and must agree with the name.

    Raises:
        GenomeError: absent, empty, truncated, of another format than named, or one contig name twice.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise GenomeError("no sequence file given. Give the path of a FASTA or .2bit file.")
    return SequenceSource([_open_one(files.find(path)) for path in paths])


def _open_one(path: Path) -> PlainFasta | GzipFasta | TwoBit:
    kind = files.content_kind(path)
    if kind == "2bit":
        return TwoBit(path)
    if kind == "gzip":
        return GzipFasta(path)
    if kind == "text":
        return PlainFasta(path)
    raise GenomeError(
        f"{path} is not a sequence file, its content is {kind}. Allowed: FASTA (plain, gzip, bgzip), .2bit."
    )


def read_sizes(path: str | Path) -> dict[str, int]:
    """Contig lengths from a ``.sizes``/``.genome``/``.fai`` table (name, length, ...).

    Raises:
        GenomeError: not such a table, or a name twice.
    """
    table = files.read_columns(path, [("name", pa.string()), ("length", pa.int64())], what="contig sizes")
    if table.num_columns < 2:
        raise GenomeError(f"{path} is not a table of contig sizes: it has one column; name and length are needed.")
    sizes = dict(zip(table["name"].to_pylist(), table["length"].to_pylist(), strict=True))
    if len(sizes) != table.num_rows:
        raise GenomeError(f"{path} names a contig twice. Keep one length for each contig.")
    empty = next((name for name, length_bp in sizes.items() if length_bp <= 0), None)
    if empty is not None:
        raise GenomeError(f"{path}: contig {empty!r} has {sizes[empty]} bp; a length is at least 1. Get it again.")
    return sizes
