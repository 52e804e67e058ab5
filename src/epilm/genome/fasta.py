"""FASTA to base codes: plain files are mapped into memory and read in place, gzip by contig.

Every backend of :class:`~epilm.genome.sequence.SequenceSource` has ``contigs`` and ``fetch(name, start, end)`` with
positions relative to the first base that the file holds.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.contigs import Contig
from epilm.genome.dna import encode_into

_REGION = re.compile(r"^(?P<name>.+?):(?P<start>[\d,]+)-(?P<end>[\d,]+)(?:\([+.]\))?$")
_NEWLINE, _RETURN = 10, 13


@dataclass(frozen=True)
class FastaRecord:
    """Where one sequence lies in the (uncompressed) file. ``line_bp`` = 0: lines of uneven length."""

    header: str
    offset: int
    bytes: int
    length_bp: int
    line_bp: int
    line_bytes: int


def region_of(header: str, length_bp: int, source: str) -> Contig:
    """The contig that a header names: ``chrI``, ``1 dna:chromosome``, ``22:20000001-21000000``.

    A region in the header is 1-based and inclusive (samtools faidx) or 0-based and half-open (bedtools getfasta); the
    number of bases tells which.

    Raises:
        GenomeError: a region whose length is not the sequence's.
    """
    name = header.split()[0] if header.split() else ""
    if not name:
        raise GenomeError(f"{source}: a sequence has no name (a header line is '>' alone). Give every sequence a name.")
    match = _REGION.match(name)
    if match is None:
        return Contig(name, length_bp, 0, length_bp)
    start, end = (int(match[key].replace(",", "")) for key in ("start", "end"))
    if length_bp == end - start + 1 and start > 0:
        start -= 1
    elif length_bp != end - start:
        raise GenomeError(
            f"{source}: the header >{name} tells of {end - start + 1:,} bp, but {length_bp:,} bp follow. "
            "The file is truncated or was edited; get it again, or rename the header."
        )
    return Contig(match["name"], None, start, end)


def index_fasta(buffer: Any, source: str) -> list[FastaRecord]:
    """Find every sequence in the text of a FASTA file (``bytes`` or a memory map). Vectorised within a sequence."""
    starts = _header_starts(buffer)
    if not starts:
        raise GenomeError(f"{source} is not a FASTA file: no line begins with '>'.")
    if bytes(buffer[: starts[0]]).strip():
        raise GenomeError(f"{source} is not a FASTA file: it begins with {bytes(buffer[:24])!r}, not with '>'.")
    codes = np.frombuffer(buffer, np.uint8)
    newline = _NEWLINE if buffer.find(b"\n") >= 0 else _RETURN  # old Macintosh files have CR alone
    records = []
    for start, stop in zip(starts, [*starts[1:], len(codes)], strict=True):
        line_end = buffer.find(bytes([newline]), start, stop)
        line_end = stop if line_end < 0 else line_end
        header = bytes(buffer[start + 1 : line_end]).decode("utf-8", "replace").strip()
        records.append(_measure(codes, header, min(line_end + 1, stop), stop, newline))
    return records


def _header_starts(buffer: Any) -> list[int]:
    starts, position = [], buffer.find(b">")
    while position >= 0:
        if position == 0 or buffer[position - 1] in (_NEWLINE, _RETURN):
            starts.append(position)
        position = buffer.find(b">", position + 1)
    return starts


def _measure(codes: np.ndarray, header: str, offset: int, stop: int, newline: int) -> FastaRecord:
    """Line geometry of one sequence; verified over the whole sequence, so that reading in place is exact."""
    body = codes[offset:stop]
    while body.size and body[-1] in (_NEWLINE, _RETURN, 32):
        body = body[:-1]
    step = 1 << 26
    first = next(
        (i + int(np.argmax(b)) for i in range(0, body.size, step) if (b := body[i : i + step] == newline).any()), -1
    )
    if first < 0:
        return FastaRecord(header, offset, body.size, body.size, body.size, body.size + 1)
    line_bytes = first + 1
    line_bp = first - 1 if first and body[first - 1] == _RETURN else first
    breaks = -(-body.size // line_bytes) - 1
    found = sum(int(np.count_nonzero(body[i : i + step] < 33)) for i in range(0, body.size, step))
    even = found == breaks * (line_bytes - line_bp) and bool((body[first::line_bytes] == newline).all())
    if not even:
        return FastaRecord(header, offset, body.size, int(body.size - found), 0, 0)
    return FastaRecord(header, offset, body.size, body.size - found, line_bp, line_bytes)


def decode_record(buffer: Any, record: FastaRecord, start: int, end: int, source: str) -> np.ndarray:
    """Codes uint8 [end - start] of a part of one sequence."""
    raw = np.frombuffer(buffer, np.uint8)
    out = np.empty(end - start, np.uint8)
    if record.line_bp == 0:
        body = raw[record.offset : record.offset + record.bytes]
        encode_into(body[body > 32][start:end], out, source)
        return out
    row, last_row = start // record.line_bp, (end - 1) // record.line_bp if end > start else 0
    if end == start:
        return out
    base = record.offset
    if row == last_row:
        at = base + row * record.line_bytes + start % record.line_bp
        encode_into(raw[at : at + end - start], out, source)
        return out
    filled = 0
    if start % record.line_bp:
        at = base + row * record.line_bytes + start % record.line_bp
        filled = record.line_bp - start % record.line_bp
        encode_into(raw[at : at + filled], out[:filled], source)
        row += 1
    whole = end // record.line_bp - row
    # the last line may end without a line break, so the block of whole lines stops one line earlier
    if whole > 1:
        block = raw[base + row * record.line_bytes :][: (whole - 1) * record.line_bytes]
        lines = block.reshape(whole - 1, record.line_bytes)[:, : record.line_bp]
        taken = (whole - 1) * record.line_bp
        encode_into(lines, out[filled : filled + taken].reshape(lines.shape), source)
        filled, row = filled + taken, row + whole - 1
    while filled < out.size:  # at most two lines
        take = min(record.line_bp, out.size - filled)
        at = base + row * record.line_bytes
        encode_into(raw[at : at + take], out[filled : filled + take], source)
        filled, row = filled + take, row + 1
    return out


def read_fai(path: Path) -> list[FastaRecord] | None:
    """Records of the ``.fai`` beside a FASTA file; None where there is none or it is older than the file."""
    fai = Path(f"{path}.fai")
    if not fai.is_file() or fai.stat().st_mtime_ns < path.stat().st_mtime_ns:
        return None
    records = []
    for line in files.read_text(fai).decode().splitlines():
        fields = line.split("\t")
        if len(fields) < 5 or not all(field.isdecimal() for field in fields[1:5]):
            raise GenomeError(f"{fai} is not a FASTA index: line {line!r}. Delete it; it is not needed.")
        length_bp, offset, line_bp, line_bytes = map(int, fields[1:5])
        rows = -(-length_bp // line_bp) if line_bp else 0
        size = length_bp + max(rows - 1, 0) * (line_bytes - line_bp)
        records.append(FastaRecord(fields[0], offset, size, length_bp, line_bp, line_bytes))
    return records


class PlainFasta:
    """An uncompressed FASTA file, mapped into memory; picklable (each process maps it anew)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        records = read_fai(path)
        if records is not None and not self._fits(records):
            records = None  # the index is of an earlier file
        self.records = index_fasta(self._buffer(), str(path)) if records is None else records
        self.contigs = [region_of(record.header, record.length_bp, str(path)) for record in self.records]

    def fetch(self, index: int, start: int, end: int) -> np.ndarray:
        return decode_record(self._buffer(), self.records[index], start, end, str(self.path))

    def _buffer(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _fits(self, records: list[FastaRecord]) -> bool:
        """Whether a header of the right name ends where each record begins, and the file ends with the last."""
        buffer = self._buffer()
        for record in records:
            header = buffer[max(record.offset - len(record.header) - 4096, 0) : record.offset]
            named = header[header.rfind(b">") + 1 :].split()
            if not named or named[0].decode("utf-8", "replace") != record.header or header[-1:] not in (b"\n", b"\r"):
                return False
        if not records or bool(buffer[max(r.offset + r.bytes for r in records) :].strip()):
            return False
        return all(r.offset + r.bytes <= len(buffer) for r in records)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


class GzipFasta:
    """A gzip or bgzip FASTA file: decompressed whole, once a process, then read like a plain one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: bytes | None = None
        self.records = index_fasta(self._buffer(), str(path))
        self.contigs = [region_of(record.header, record.length_bp, str(path)) for record in self.records]

    def fetch(self, index: int, start: int, end: int) -> np.ndarray:
        return decode_record(self._buffer(), self.records[index], start, end, str(self.path))

    def _buffer(self) -> bytes:
        if self._data is None:
            self._data = files.read_text(self.path)
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None}
