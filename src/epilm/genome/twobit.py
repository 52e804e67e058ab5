"""UCSC ``.2bit`` to base codes, mapped into memory; whole stretches at a time.

Read here and not by a library, because py2bit does not check the sizes that a file states: a truncated one ends the
process (SIGSEGV) instead of raising. Format: https://genome.ucsc.edu/FAQ/FAQformat.html#format7
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.dna import BASE_N

_SIGNATURE = 0x1A412743
_BLOCK = 1 << 16  # packed bytes decoded at a time; their codes stay in the cache
# packed byte -> the codes of its four bases, the first in the highest bits; T0 C1 A2 G3 there, A0 C1 G2 T3 here
_CODES = np.array([3, 1, 0, 2], np.uint8)[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3]
_QUADS = np.ascontiguousarray(_CODES).view(np.uint32).ravel()


@dataclass(frozen=True)
class _Record:
    """One sequence: where its packed bases begin, and its runs of N as sorted (start, end)."""

    offset: int
    gap_start: np.ndarray
    gap_end: np.ndarray


class TwoBit:
    """A ``.2bit`` file, version 0 or 1, of either byte order; picklable (each process maps it anew).

    Raises:
        GenomeError: the file is truncated, damaged or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        self._records: list[_Record] = []
        self.contigs: list[Contig] = []
        buffer = self._buffer()
        try:
            order, names, offsets = _read_index(buffer)
            for name, offset in zip(names, offsets, strict=True):
                record, length_bp = _read_record(buffer, order, offset)
                self._records.append(record)
                self.contigs.append(Contig(name, length_bp, 0, length_bp))
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise GenomeError(
                f"{path} cannot be read as .2bit, it is truncated or damaged: {error}. Get it again."
            ) from (error)

    def fetch(self, index: int, start: int, end: int) -> np.ndarray:
        """Codes uint8 [end - start] of sequence ``index``; lower-case masks are passed over."""
        record = self._records[index]
        first, last = start // 4, -(-end // 4)
        packed = np.frombuffer(self._buffer(), np.uint8, max(last - first, 0), record.offset + first)
        quads = np.empty(packed.size, np.uint32)
        for at in range(0, packed.size, _BLOCK):
            np.take(_QUADS, packed[at : at + _BLOCK], out=quads[at : at + _BLOCK])
        codes = quads.view(np.uint8)[start - 4 * first : end - 4 * first]
        low = int(np.searchsorted(record.gap_end, start, side="right"))
        high = int(np.searchsorted(record.gap_start, end, side="left"))
        for gap in range(low, high):  # assemblies have a few hundred gaps a contig
            codes[max(int(record.gap_start[gap]) - start, 0) : int(record.gap_end[gap]) - start] = BASE_N
        return codes

    def _buffer(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _read_index(buffer: mmap.mmap) -> tuple[str, list[str], list[int]]:
    """Byte order, and the name and file offset of every sequence."""
    order = "<" if struct.unpack_from("<I", buffer)[0] == _SIGNATURE else ">"
    _, version, count, _ = struct.unpack_from(f"{order}4I", buffer)
    if version > 1:
        raise ValueError(f"version {version} of the format is not known (0 and 1 are)")
    offset_format, names, offsets, at = f"{order}{'IQ'[version]}", [], [], 16
    for _ in range(count):
        size = buffer[at] if at < len(buffer) else 0
        at += 1
        (offset,) = struct.unpack_from(offset_format, buffer, at + size)
        names.append(buffer[at : at + size].decode())
        offsets.append(offset)
        at += size + struct.calcsize(offset_format)
    return order, names, offsets


def _read_record(buffer: mmap.mmap, order: str, at: int) -> tuple[_Record, int]:
    """One sequence and its length in bp."""
    (length_bp,) = struct.unpack_from(f"{order}I", buffer, at)
    (starts, sizes), at = _read_blocks(buffer, order, at + 4)
    (masked,) = struct.unpack_from(f"{order}I", buffer, at)
    offset = at + 4 + 8 * masked + 4  # the masks (two numbers each) and a reserved word
    needed = offset + -(-length_bp // 4)
    if needed > len(buffer):
        raise ValueError(f"it has {len(buffer):,} bytes, and {needed:,} are needed")
    gap_end = starts + sizes
    if (gap_end > length_bp).any() or (starts[1:] < gap_end[:-1]).any():
        raise ValueError("its runs of N overlap or leave the sequence")
    return _Record(offset, starts, gap_end), length_bp


def _read_blocks(buffer: mmap.mmap, order: str, at: int) -> tuple[np.ndarray, int]:
    """Starts and sizes int64 [2, n] of the blocks that begin at ``at``, and the position after them."""
    (count,) = struct.unpack_from(f"{order}I", buffer, at)
    values = np.frombuffer(buffer, np.dtype(f"{order}u4"), 2 * count, at + 4)
    return values.astype(np.int64).reshape(2, count), at + 4 + 8 * count
