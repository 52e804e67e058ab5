"""FASTA to base codes: plain files are mapped into memory and read in place.

Every backend of :class:`~epilm.genome.sequence.SequenceSource` has ``contigs`` and ``fetch(index, start, end)`` with
positions relative to the first base that the file holds.
"""

from __future__ import annotations

import mmap
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.contigs import Contig
from epilm.genome.dna import encode_into

_REGION = re.compile(r"^(?P<name>.+?):(?P<start>[\d,]+)-(?P<end>[\d,]+)(?:\((?P<strand>[+.-])\))?$")
_UCSC_RANGE = re.compile(r"\srange=(?P<region>\S+:[\d,]+-[\d,]+)\b(?:.*\sstrand=(?P<strand>[+-]))?")
_ENSEMBL_PLACE = re.compile(
    r"^(?:chromosome|primary_assembly):[^:]+:(?P<name>[^:]+):(?P<start>\d+):(?P<end>\d+):(?P<strand>-?1)$"
)
_NEWLINE, _RETURN, _BLANK = 10, 13, 32


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
    number of bases tells which. UCSC's ``hg19_dna range=chr22:20000001-21000000`` and Ensembl's
    ``chromosome:GRCh37:22:20000001:21000000:1`` are 1-based.

    Raises:
        GenomeError: a region whose length is not the sequence's, or one of the reverse strand.
    """
    name = header.split()[0] if header.split() else ""
    if not name:
        raise GenomeError(f"{source}: a sequence has no name (a header line is '>' alone). Give every sequence a name.")
    ucsc = _UCSC_RANGE.search(header)
    match = _REGION.match(ucsc["region"] if ucsc else name) or _ENSEMBL_PLACE.match(name)
    if match is None:
        return Contig(name, length_bp, 0, length_bp)
    if (ucsc or match)["strand"] in ("-", "-1"):
        raise GenomeError(
            f"{source}: the header >{header[:80]} is of the reverse strand, whose positions run backwards. "
            "Get the forward strand of the region."
        )
    start, end = (int(match[key].replace(",", "")) for key in ("start", "end"))
    if length_bp == end - start + 1 and start > 0:
        start -= 1
    elif length_bp != end - start:
        raise GenomeError(
            f"{source}: the header >{header[:80]} tells of {end - start + 1:,} bp, but {length_bp:,} bp follow. "
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
        records.append(_measure(buffer, codes, header, min(line_end + 1, stop), stop, newline))
    return records


def _header_starts(buffer: Any) -> list[int]:
    starts, position = [], buffer.find(b">")
    while position >= 0:
        if position == 0 or buffer[position - 1] in (_NEWLINE, _RETURN):
            starts.append(position)
        position = buffer.find(b">", position + 1)
    return starts


def _measure(buffer: Any, codes: np.ndarray, header: str, offset: int, stop: int, newline: int) -> FastaRecord:
    """Line geometry of one sequence; verified over the whole sequence, so that reading in place is exact."""
    body = codes[offset:stop]
    while body.size and body[-1] in (_NEWLINE, _RETURN, _BLANK):
        body = body[:-1]
    first = buffer.find(bytes([newline]), offset, offset + body.size) - offset if body.size else -1
    first = max(first, -1)
    step = 1 << 20
    found = sum(int(np.count_nonzero(body[i : i + step] <= _BLANK)) for i in range(0, body.size, step))
    if first < 0 and not found:
        return FastaRecord(header, offset, body.size, body.size, body.size, body.size + 1)
    line_bytes = first + 1
    line_bp = first - 1 if first > 0 and body[first - 1] == _RETURN else first
    breaks = -(-body.size // line_bytes) - 1 if first > 0 else -1
    even = (
        found == breaks * (line_bytes - line_bp)
        and body.size - breaks * line_bytes <= line_bp  # the last line may be one longer, in the place of a line break
        and all(bool((body[column::line_bytes][:breaks] <= _BLANK).all()) for column in range(line_bp, line_bytes))
    )
    if not even:
        return FastaRecord(header, offset, body.size, int(body.size - found), 0, 0)
    return FastaRecord(header, offset, body.size, body.size - found, line_bp, line_bytes)


def decode_record(buffer: Any, record: FastaRecord, start: int, end: int, source: str) -> np.ndarray:
    """Codes uint8 [end - start] of a part of a sequence whose lines are even."""
    raw = np.frombuffer(buffer, np.uint8)
    out = np.empty(end - start, np.uint8)

    def one_line(position: int, stop: int) -> None:
        row, column = divmod(position, record.line_bp)
        at = record.offset + row * record.line_bytes + column
        encode_into(raw[at : at + stop - position], out[position - start : stop - start], source)

    # the whole lines in one go, as a view of (line, base); the file's last line may have no line break, so the lines
    # that are taken whole end one before the last
    first = min(-(-start // record.line_bp) * record.line_bp, end)
    last = max((end // record.line_bp - 1) * record.line_bp, first)
    one_line(start, first)
    if last > first:
        lines = (last - first) // record.line_bp
        at = record.offset + first // record.line_bp * record.line_bytes
        block = raw[at : at + lines * record.line_bytes].reshape(lines, record.line_bytes)[:, : record.line_bp]
        encode_into(block, out[first - start : last - start].reshape(block.shape), source)
    while last < end:  # at most two lines
        stop = min((last // record.line_bp + 1) * record.line_bp, end)
        one_line(last, stop)
        last = stop
    return out


def read_fai(path: Path) -> list[FastaRecord] | None:
    """Records of the ``.fai`` beside a FASTA file; None where there is none.

    Raises:
        GenomeError: it is not an index.
    """
    fai = Path(f"{path}.fai")
    if not fai.is_file():
        return None
    records = []
    for line in files.read_text(fai).decode("utf-8", "replace").splitlines():
        fields = line.split("\t")
        if len(fields) < 5 or not all(field.isdecimal() for field in fields[1:5]):
            raise GenomeError(f"{fai} is not a FASTA index: line {line!r}. Delete it; it is not needed.")
        length_bp, offset, line_bp, line_bytes = map(int, fields[1:5])
        breaks = max(-(-length_bp // line_bp) - 1, 0) if line_bp else 0
        size = length_bp + breaks * (line_bytes - line_bp)
        records.append(FastaRecord(fields[0], offset, size, length_bp, line_bp, line_bytes))
    return records


class FastaFile(ABC):
    """Sequences of one file. Picklable: what is open or cached stays behind, and each process opens the file anew."""

    path: Path
    records: list[FastaRecord]
    contigs: list[Contig]
    _compact: tuple[int, np.ndarray] | None = None

    @abstractmethod
    def _text(self, index: int) -> Any:
        """The buffer that the record's offset counts in."""

    def fetch(self, index: int, start: int, end: int) -> np.ndarray:
        """Codes uint8 [end - start] of sequence ``index``, counted from the first base of the file's piece."""
        record, text = self.records[index], self._text(index)
        if record.line_bp:
            return decode_record(text, record, start, end, str(self.path))
        if self._compact is None or self._compact[0] != index:  # lines of uneven length: put together once
            body = np.frombuffer(text, np.uint8)[record.offset : record.offset + record.bytes]
            self._compact = (index, body[body > _BLANK])
        out = np.empty(end - start, np.uint8)
        encode_into(self._compact[1][start:end], out, str(self.path))
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compact": None}


class PlainFasta(FastaFile):
    """An uncompressed FASTA file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        records = read_fai(path)
        self.records = index_fasta(self._buffer(), str(path)) if records is None else self._with_headers(records)
        self.contigs = [region_of(record.header, record.length_bp, str(path)) for record in self.records]

    def _text(self, index: int) -> mmap.mmap:
        return self._buffer()

    def _buffer(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _with_headers(self, records: list[FastaRecord]) -> list[FastaRecord]:
        """The index's records, checked against the file, with the whole header lines (an index keeps the first word).

        The header before each record must have its name, its first line must break where the index says, and the next
        header or the end must follow.
        """
        buffer, complete = self._buffer(), []
        for record in records:
            begin = buffer.rfind(b">", 0, record.offset)
            header = buffer[begin + 1 : record.offset].decode("utf-8", "replace").strip() if begin >= 0 else ""
            stop = record.offset + record.bytes
            line_end = record.offset + record.line_bp
            line_break = buffer[line_end : line_end + record.line_bytes - record.line_bp]
            follows = buffer[stop : stop + 3].lstrip(b"\r\n")[:1]
            broken = record.length_bp > record.line_bp and line_break.strip(b"\r\n")
            if header.split()[:1] != [record.header] or stop > len(buffer) or broken or follows not in (b">", b""):
                raise GenomeError(
                    f"{self.path}.fai does not fit {self.path} at {record.header!r}: one of them is truncated or of "
                    "another version. Delete the .fai if the FASTA is right (it is not needed), or get both again."
                )
            complete.append(replace(record, header=header))
        last = max((record.offset + record.bytes for record in records), default=0)
        if buffer[last:].strip():
            raise GenomeError(
                f"{self.path}.fai ends before {self.path} does. Delete the .fai (it is not needed), or get both again."
            )
        return complete

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_map": None}
