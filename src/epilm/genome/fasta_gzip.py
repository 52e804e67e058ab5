"""gzip and bgzip FASTA: streamed a sequence at a time, so that a genome never lies in memory whole.

bgzip files consist of small gzip members, so reading can begin near a sequence; plain gzip has to be read from its
start. Decompressed sequences are kept up to ``CACHE_BYTES`` a process, which holds small genomes whole; for a large one
``.2bit``, plain FASTA or bgzip serve random access better.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epilm.genome import files
from epilm.genome.fasta import FastaFile, FastaRecord, index_fasta, region_of

CACHE_BYTES = 512 << 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class _Place:
    """Where a sequence begins: the gzip member's offset in the file, and the bytes to pass over in its text."""

    member: int
    skip: int


class GzipFasta(FastaFile):
    """A compressed FASTA file; each process decompresses for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files.check_bgzip_end(path)
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._places: list[_Place] = []
        self.records: list[FastaRecord] = []
        for place, text in _records(path, _Place(0, 0)):
            for record in index_fasta(text, str(path)):  # one, or an error where the text is no FASTA
                self._remember(len(self.records), text)
                self.records.append(record)
                self._places.append(place)
        self.contigs = [region_of(record.header, record.length_bp, str(path)) for record in self.records]

    def _text(self, index: int) -> bytes:
        if index not in self._cache:
            _, text = next(_records(self.path, self._places[index]))
            self._remember(index, text)
        else:
            self._cache.move_to_end(index)
        return self._cache[index]

    def _remember(self, index: int, text: bytes) -> None:
        self._cache[index] = text
        self._cached_bytes += len(text)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cache": OrderedDict(), "_cached_bytes": 0}


def _inflate(path: Path, member: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset of the gzip member, bytes of it that came before, text) from a member's start to the file's end."""
    with open(path, "rb") as stream:
        stream.seek(member)
        data = stream.read(_READ_BYTES)
        while data:
            inflater, given = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
            while not inflater.eof:
                if not data:
                    raise files.truncated(path, EOFError("the compressed stream ends before its end marker"))
                try:
                    text = inflater.decompress(data)
                except zlib.error as error:
                    raise files.truncated(path, error) from error
                yield member, given, text
                given += len(text)
                data = b"" if inflater.eof else stream.read(_READ_BYTES)
            data = inflater.unused_data or stream.read(_READ_BYTES)
            member = stream.tell() - len(data)
            if data[:1] == b"\0" and not data.strip(b"\0"):  # some writers pad the file with zeros
                data = b""


def _records(path: Path, place: _Place) -> Iterator[tuple[_Place, bytes]]:
    """The text of each sequence with its header, from a place on."""
    parts: list[bytes] = []
    begin, skip, last = place, place.skip, b"\n"
    for member, given, text in _inflate(path, place.member):
        if skip >= len(text):
            skip -= len(text)
            continue
        at = skip
        skip = 0
        while True:
            found = _next_header(text, at, last)
            if found < 0 or (found == at and not parts):
                following = -1 if found < 0 else _next_header(text, found + 1, b"")
                if following < 0:
                    parts.append(text[at:])
                    break
                found = following
            parts.append(text[at:found])
            if any(part.strip() for part in parts):
                yield begin, b"".join(parts)
            parts, begin, at = [], _Place(member, given + found), found
        last = text[-1:] or last
    if any(part.strip() for part in parts):
        yield begin, b"".join(parts)


def _next_header(text: bytes, at: int, last: bytes) -> int:
    """Position of the next ``>`` at a line's start, or -1; ``last`` is the byte before ``text``."""
    while (found := text.find(b">", at)) >= 0:
        if (text[found - 1 : found] if found else last) in (b"\n", b"\r"):
            return found
        at = found + 1
    return -1
