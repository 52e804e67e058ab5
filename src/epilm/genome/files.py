"""Genome files at the edge: found, decompressed whole, checked against their name, cut into lines and columns."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from epilm.errors import GenomeError

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"
_BINARY = {
    "2bit": (b"\x43\x27\x41\x1a", b"\x1a\x41\x27\x43"),
    "bigWig": (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26"),
    "bigBed": (b"\xeb\xf2\x89\x87", b"\x87\x89\xf2\xeb"),
    "gzip": (_GZIP,),
    "xz": (_XZ,),
}
_BGZIP_FIELD = b"BC\x02\x00"
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_SUFFIXES = {
    ".2bit": "2bit", ".bw": "bigWig", ".bigwig": "bigWig", ".bb": "bigBed", ".bigbed": "bigBed",
    ".gz": "gzip", ".bgz": "gzip", ".xz": "xz",
    ".fa": "text", ".fasta": "text", ".fna": "text", ".fai": "text", ".bed": "text", ".gtf": "text", ".state": "text",
    ".sizes": "text",
}  # fmt: skip
_HEADER = re.compile(rb"(?:(?:#|track|browser)[^\n]*\n|[ \t]*\n)+")


def find(path: str | Path) -> Path:
    """The path of a local file.

    Raises:
        GenomeError: it is a URI, absent, a folder or empty.
    """
    if "://" in str(path):
        raise GenomeError(f"{path} is a URI. Genome files are read from local disk: copy it to the machine first.")
    path = Path(path).expanduser()
    if path.is_dir():
        raise GenomeError(f"{path} is a folder; give one file.")
    if not path.is_file():
        raise GenomeError(f"{path} does not exist. Check the path; relative paths count from the current folder.")
    if path.stat().st_size == 0:
        raise GenomeError(f"{path} is empty. Get it again.")
    return path


def content_kind(path: str | Path) -> str:
    """What a file is by its first bytes: ``2bit``, ``bigWig``, ``bigBed``, ``gzip``, ``xz``, ``binary`` or ``text``.

    Raises:
        GenomeError: the file is absent or empty, or its suffix claims something else.
    """
    path = find(path)
    with open(path, "rb") as stream:
        head = stream.read(512)
    kind = next((name for name, magics in _BINARY.items() if head.startswith(magics)), None)
    if kind is None:
        kind = "binary" if b"\0" in head else "text"
    claimed = _SUFFIXES.get(path.suffix.lower())
    if claimed is not None and claimed != kind:
        raise GenomeError(
            f"{path} is named like a {claimed} file, but its content is {kind} ({head[:24]!r}). "
            f"Rename it for what it is{', e.g. with .gz behind' if kind == 'gzip' else ''}, or get the right file."
        )
    return kind


def require_kind(path: str | Path, kind: str) -> Path:
    """The path, where the content is of the given kind (names as in :func:`content_kind`)."""
    got = content_kind(path)
    if got != kind:
        raise GenomeError(f"{path} is not a {kind} file, its content is {got}. Give a {kind} file.")
    return find(path)


def read_text(path: str | Path) -> bytes:
    r"""A text file whole, decompressed (gzip, bgzip, xz), with ``\n`` line ends (also where it has CR or CRLF).

    Raises:
        GenomeError: absent, empty, truncated or damaged, or not text.
    """
    kind = content_kind(path)
    path = find(path)
    try:
        data = path.read_bytes()
        if kind == "gzip":
            check_bgzip_end(path)
            data = gzip.decompress(data)
        elif kind == "xz":
            data = lzma.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise truncated(path, error) from error
    if kind not in ("gzip", "xz", "text") or b"\0" in data[:4096]:
        inside = f"{kind} of binary data" if kind in ("gzip", "xz") else kind
        raise GenomeError(f"{path} is not a text file, its content is {inside}. Give the text form of the file.")
    if not data.strip():
        raise GenomeError(f"{path} holds nothing but white space. Get it again.")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.removeprefix(b"\xef\xbb\xbf")


def check_bgzip_end(path: Path) -> None:
    """bgzip ends every file with an empty block; where it is missing the file was cut between two blocks.

    Raises:
        GenomeError: the closing block is missing. Plain gzip passes, it is checked while it is read.
    """
    with open(path, "rb") as stream:
        head = stream.read(16)
        stream.seek(max(path.stat().st_size - len(_BGZIP_END), 0))
        tail = stream.read()
    if head[12:16] == _BGZIP_FIELD and tail != _BGZIP_END:
        raise truncated(path, EOFError("the closing block of bgzip is missing"))


def truncated(path: str | Path, error: Exception) -> GenomeError:
    return GenomeError(
        f"{path} is truncated or damaged: {error}. Get it again; `gzip -t` (or `xz -t`) shows whether a copy is whole."
    )


def read_columns(
    path: str | Path,
    columns: Sequence[tuple[str, pa.DataType]],
    *,
    what: str,
    data: bytes | None = None,
) -> pa.Table:
    """The first columns of a headerless table, separated by tabs (or by blanks where no tab is in the first line).

    Lines at the top that are blank, comments, ``track`` or ``browser`` are left out. ``columns`` past the file's width
    are absent from the result.

    Args:
        columns: (name, type) of the first columns.
        what: what the file should be, for the message.
        data: the text where the caller has read it already.

    Raises:
        GenomeError: unreadable, ragged, or a value is not of its column's type.
    """
    data = read_text(path) if data is None else data
    header = _HEADER.match(data)
    skipped = data.count(b"\n", 0, header.end()) if header else 0
    if header:
        data = data[header.end() :]
    first = data.split(b"\n", 1)[0]
    delimiter = "\t" if b"\t" in first else " "
    if delimiter == " " and (b"  " in data or b" \n" in data or data.startswith(b" ")):
        data = re.sub(rb" +", b" ", re.sub(rb"^ +| +$", b"", data, flags=re.MULTILINE))
        first = data.split(b"\n", 1)[0]
    width = first.count(delimiter.encode()) + 1
    if not first.strip():
        raise GenomeError(f"{path} holds no lines of data. A {what} file has one row a line.")
    used = list(columns)[:width]
    names = [name for name, _ in used] + [f"_{i}" for i in range(len(used), width)]
    problems: list[str] = []

    def note(row: pacsv.InvalidRow) -> str:
        if row.text.startswith(("#", "track", "browser")):
            return "skip"
        line = 1 + skipped + data.count(b"\n", 0, max(data.find(row.text.encode()), 0))
        problems.append(f"line {line} has {row.actual_columns} columns instead of {width}: {row.text!r}")
        return "error"

    try:
        return pacsv.read_csv(
            io.BytesIO(data),
            read_options=pacsv.ReadOptions(column_names=names),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, quote_char=False, invalid_row_handler=note),
            convert_options=pacsv.ConvertOptions(
                column_types=dict(used),
                include_columns=[name for name, _ in used],
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        detail = problems[0] if problems else str(error)
        raise GenomeError(f"{path} is not a {what} file: {detail}. Its first line is {first[:80]!r}.") from error
