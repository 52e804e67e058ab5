"""Variants from VCF: one row an alternative allele, in the file's order, and a count of what is left out and why.

Read block by block, keeping five columns: a file with thousands of samples does not lie in memory. What an allele changes is
said in VCF's own shortest form (:func:`changed_span`): bases that both alleles share at their ends are cut, down to one.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from epilm.errors import GenomeError
from epilm.genome import files

COLUMNS = ("chrom", "pos", "id", "ref", "alt")
EXCLUSIONS = ("no_alternative", "symbolic", "star", "ambiguous", "same_as_reference")
"""Why an allele gives no row: ``.``; ``<DEL>`` and breakends; ``*`` (deleted by another record); a letter such as N; an
alternative that is the reference."""

_BLOCK_BYTES = 1 << 25
_TYPES = [(name, pa.int64() if name == "pos" else pa.string()) for name in COLUMNS]


@dataclass(frozen=True)
class VcfAlleles:
    """The usable alleles of a VCF file.

    ``table`` has the columns chrom (as in the file), pos (int64, 1-based as in the file), id (``.`` where none), ref, alt (upper
    case, A C G T only) and record (int64, number of the data line from 0).
    """

    table: pa.Table
    num_records: int
    excluded: dict[str, int]
    """Alleles left out, by the reasons of :data:`EXCLUSIONS`."""


def read_vcf(path: str | Path) -> VcfAlleles:
    """Read SNVs, insertions, deletions and other replacements of a VCF file (plain, gzip, bgzip, xz).

    The header may be missing, the rows may be in any order and the lines may end in CR LF; columns are separated by tabs, or by
    blanks where the first row has no tab. A row with several alternatives gives a row an allele.

    Raises:
        GenomeError: unreadable, truncated, not VCF (fewer than five columns, positions that are no numbers, alleles that
            are no DNA), or without a single record.
    """
    tables: list[pa.Table] = []
    excluded: dict[str, int] = dict.fromkeys(map(str, EXCLUSIONS), 0)
    num_records = 0
    for first_line, data in _data_blocks(path):
        try:
            raw = files.read_columns(path, _TYPES, what="VCF", data=data)
        except GenomeError as error:
            more = f" Its lines are counted from line {first_line} of the file." if first_line > 1 else ""
            raise GenomeError(f"{error}{more}") from error
        if raw.num_columns < len(COLUMNS):
            raise GenomeError(
                f"{path} is not VCF: it has {raw.num_columns} columns; CHROM, POS, ID, REF and ALT are needed, "
                "separated by tabs."
            )
        table = _alleles(raw.combine_chunks(), num_records, path)
        num_records += raw.num_rows
        tables.append(_usable(table, excluded, path))
    if not num_records:
        raise GenomeError(f"{path} holds no variants: no line follows its header. Get it again.")
    return VcfAlleles(pa.concat_tables(tables).combine_chunks(), num_records, excluded)


def changed_span(pos: np.ndarray, ref: pa.Array, alt: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The reference bases that alleles replace, 0-based half-open -> (start, end) int64 [n].

    Bases that both alleles share at the end, then at the beginning, are cut while each keeps one: a substitution is its bases,
    an insertion is the base before it, a deletion the base before it and what is deleted.
    """
    first, ref_bytes, ref_offset = np.asarray(pos, np.int64) - 1, *_flat(ref)
    alt_bytes, alt_offset = _flat(alt)
    ref_bp, alt_bp = np.diff(ref_offset), np.diff(alt_offset)
    room = np.minimum(ref_bp, alt_bp) - 1
    suffix = _run_of_equals(ref_bytes, ref_offset[1:] - 1, alt_bytes, alt_offset[1:] - 1, room, step=-1)
    prefix = _run_of_equals(ref_bytes, ref_offset[:-1], alt_bytes, alt_offset[:-1], room - suffix, step=1)
    return first + prefix, first + ref_bp - suffix


def lengths_bp(alleles: pa.Array) -> np.ndarray:
    """Bases of each allele -> int64 [n]."""
    return np.diff(_flat(alleles)[1])


def _data_blocks(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(number of the first line, text) of blocks of whole data lines, behind the header."""
    line, in_header = 1, True
    for text in _line_blocks(path):
        data = text
        if in_header:
            data = _behind_header(text, path)
            in_header = not data
        first = line + text.count(b"\n", 0, len(text) - len(data))
        line += text.count(b"\n")
        if data.strip():
            yield first, data


def _behind_header(text: bytes, path: str | Path) -> bytes:
    """The block without the comments and blank lines at its top; b"" where it holds nothing else."""
    at = 0
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        line = text[at:end].strip()
        if line and not line.startswith(b"#"):
            break
        if line.upper().startswith(b"#CHROM"):
            names = tuple(line.lstrip(b"#").decode("utf-8", "replace").lower().split())[:5]
            if names != COLUMNS:
                raise GenomeError(
                    f"{path} is not VCF: the columns of its header are {', '.join(names).upper()}, not CHROM, POS, ID, REF, ALT."
                )
        at = end
    return text[at:]


def _line_blocks(path: str | Path) -> Iterator[bytes]:
    """The decompressed text in blocks of whole lines, all line ends ``\\n``.

    Raises:
        GenomeError: absent, empty, binary (BCF), truncated or damaged.
    """
    kind, path = files.content_kind(path), files.find(path)
    openers = {"gzip": gzip.open, "xz": lzma.open, "text": open}
    if kind not in openers:
        raise GenomeError(f"{path} is not VCF, its content is {kind}. Give a VCF file, plain or gzip.")
    if kind == "gzip":
        files.check_bgzip_end(path)
    rest, first = b"", True
    try:
        with openers[kind](path, "rb") as stream:
            while chunk := stream.read(_BLOCK_BYTES):
                if first and b"\0" in chunk[:4096]:
                    raise GenomeError(f"{path} holds binary data, not VCF. BCF becomes VCF by `bcftools view`.")
                data = rest + (chunk.removeprefix(b"\xef\xbb\xbf") if first else chunk)
                first = False
                held = data.endswith(b"\r")  # perhaps half of a CR LF
                data = _newlines(data[: len(data) - held])
                cut = data.rfind(b"\n") + 1
                rest = data[cut:] + b"\r" * held
                if cut:
                    yield data[:cut]
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise files.truncated(path, error) from error
    if rest.strip():
        yield _newlines(rest).rstrip(b"\n") + b"\n"


def _newlines(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _alleles(raw: pa.Table, first_record: int, path: str | Path) -> pa.Table:
    """One row an alternative allele, upper case."""
    negative = pc.index(pc.less(raw["pos"], 0), True).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    if negative >= 0:
        raise GenomeError(
            f"{path}: record {first_record + negative + 1} has POS {raw['pos'][negative]}. VCF counts positions from 1."
        )
    alternatives = pc.split_pattern(pc.utf8_trim_whitespace(raw["alt"]), ",")  # pyright: ignore[reportAttributeAccessIssue]
    parent = pc.list_parent_indices(alternatives)  # pyright: ignore[reportAttributeAccessIssue]
    alt = pc.list_flatten(alternatives)  # pyright: ignore[reportAttributeAccessIssue]
    rows = raw.drop_columns(["alt"]).take(parent)
    upper = pc.utf8_upper  # pyright: ignore[reportAttributeAccessIssue]
    return (
        rows.set_column(rows.schema.get_field_index("ref"), "ref", upper(rows["ref"]))
        .append_column("alt", upper(alt))
        .append_column("record", pa.array(np.asarray(parent, np.int64) + first_record))
        .combine_chunks()
    )


def _usable(table: pa.Table, excluded: dict[str, int], path: str | Path) -> pa.Table:
    """The rows whose alleles are DNA and differ; the rest is added to ``excluded``."""
    ref, alt = table["ref"], table["alt"]

    def fits(column: pa.ChunkedArray, pattern: str) -> np.ndarray:
        return np.asarray(pc.match_substring_regex(column, pattern))  # pyright: ignore[reportAttributeAccessIssue]

    plain = r"^[ACGT]+$"
    known = fits(ref, plain) & fits(alt, plain)
    kinds = {
        "no_alternative": fits(alt, r"^\.?$"),
        "symbolic": fits(alt, r"[<>\[\]]|^\.[A-Z]|[A-Z]\.$"),
        "star": fits(alt, r"^\*$"),
        "ambiguous": fits(ref, r"^[ACGTUNRYKMSWBDHV]+$") & fits(alt, r"^[ACGTUNRYKMSWBDHV]+$") & ~known,
        "same_as_reference": known & np.asarray(pc.equal(ref, alt)),  # pyright: ignore[reportAttributeAccessIssue]
    }
    left = ~known
    for reason, mask in kinds.items():
        excluded[reason] += int(mask.sum())
        left &= ~mask
    if left.any():
        row = int(np.flatnonzero(left)[0])
        raise GenomeError(
            f"{path} is not VCF: record {table['record'][row].as_py() + 1} ({table['chrom'][row]}:{table['pos'][row]}) has "
            f"REF {str(ref[row])[:40]!r} and ALT {str(alt[row])[:40]!r}. Alleles are bases; an insertion or a deletion is "
            "given with the base before it."
        )
    return table.filter(pa.array(known & ~kinds["same_as_reference"]))


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(bytes uint8, offsets int64 [n + 1]) of a string column without nulls."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    text = array.buffers()[2]
    return np.frombuffer(text, np.uint8) if text is not None else np.zeros(0, np.uint8), offsets.astype(np.int64)


def _run_of_equals(
    ref: np.ndarray, ref_at: np.ndarray, alt: np.ndarray, alt_at: np.ndarray, room: np.ndarray, *, step: int
) -> np.ndarray:
    """How many bases from ``ref_at`` and ``alt_at`` on are equal, at most ``room`` -> int64 [n]; ragged, without padding."""
    result = np.zeros(len(room), np.int64)
    rows = np.flatnonzero(room > 0)
    if not len(rows):
        return result
    width = room[rows]
    first = np.cumsum(width) - width
    place = np.arange(int(width.sum())) - np.repeat(first, width)
    differs = ref[np.repeat(ref_at[rows], width) + step * place] != alt[np.repeat(alt_at[rows], width) + step * place]
    result[rows] = np.minimum.reduceat(np.where(differs, place, np.repeat(width, width)), first)
    return result
