"""Text tables of genes at the edge: decompressed by content, with one kind of line end, cut into columns."""

from __future__ import annotations

import bz2
import csv
import difflib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from epilm.errors import RecipeError
from epilm.genome.files import check_bgzip_end
from epilm.storage import Location

_OPENERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\x00": lzma.decompress,
}
_COMPRESSED = (".gz", ".bgz", ".bz2", ".xz")


def read_text(path: str | Path) -> bytes:
    r"""A text file whole: plain, gzip, bzip2 or xz by its first bytes; line ends (CR, CRLF) become ``\n``.

    Raises:
        RecipeError: absent, a folder, empty, truncated or damaged, or not text.
    """
    location = Location(str(path))
    if not location.exists():
        raise RecipeError(f"{location} does not exist. Check the path; relative paths count from the current folder.")
    if location.is_dir():
        raise RecipeError(f"{location} is a folder; give one file.")
    data = location.read_bytes()
    opener = next((opener for magic, opener in _OPENERS.items() if data.startswith(magic)), None)
    if opener is gzip.decompress and location.is_local:
        check_bgzip_end(Path(location.path))
    try:
        data = opener(data) if opener else data
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise RecipeError(f"{location} is truncated or damaged: {error}. Get it again.") from error
    if b"\0" in data[:4096]:
        raise RecipeError(f"{location} is not a text file, it begins with {data[:16]!r}. Give plain UTF-8 text.")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{location} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    if not data.strip():
        raise RecipeError(f"{location} is empty. Get it again.")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\n")


def delimiter_of(path: str | Path) -> str:
    """A comma for ``.csv``, a tab for any other ending; endings of compressed files do not count."""
    name = str(path).lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return "," if name.endswith(".csv") else "\t"


def first_fields(data: bytes, delimiter: str) -> list[str]:
    """The first line's fields, without quotes."""
    return next(csv.reader([data.split(b"\n", 1)[0].decode()], delimiter=delimiter))


def read_columns(
    data: bytes,
    *,
    path: str | Path,
    types: dict[str, pa.DataType],
    delimiter: str,
    width: str,
    keep: Sequence[str] = (),
) -> pa.Table:
    """Lines without a header as columns; nothing counts as missing, an empty field is an empty string.

    Quotes count as such only where every line closes those that it opens: a lone one, as in a description, is text.

    Args:
        types: the names and types of all columns, in order.
        width: what decides how many there are, for the message about a line with more or fewer.
        keep: columns to return; all where empty.

    Raises:
        RecipeError: a line has more or fewer fields.
        pa.ArrowInvalid: a value is not of its column's type.
    """
    wrong: list[pacsv.InvalidRow] = []

    def note(row: pacsv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    quoted = b'"' in data and not any(line.count(b'"') % 2 for line in data.split(b"\n"))
    try:
        return pacsv.read_csv(
            io.BytesIO(data),
            read_options=pacsv.ReadOptions(column_names=list(types)),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, invalid_row_handler=note
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=types, include_columns=list(keep), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if wrong:
            raise RecipeError(
                f"{path}: the line {wrong[0].text[:80]!r} has {wrong[0].actual_columns} fields separated by "
                f"{'commas' if delimiter == ',' else 'tabs'}, not {len(types)}: {width}."
            ) from error
        raise


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The beginning of a message: a name that is not among the known ones, the nearest of them, and all."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
    return f"there is no {what} {name!r}.{hint} There are: {shown}."
