"""Files found, named for what they are, decompressed whole, and cut into columns."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from genome_files import bgzip, write_bigwig, write_text

from epilm.errors import GenomeError
from epilm.genome.files import content_kind, find, read_columns, read_text, require_kind
from epilm.genome.sequence import open_sequence, read_sizes

BED4 = [("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("name", pa.string())]


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    track = write_bigwig(tmp_path / "x.bw", {"a": 9}, [("a", 0, 3, 1)])
    assert content_kind(track) == "bigWig"
    assert content_kind(write_text(tmp_path / "x.bed.gz", "a\t1\t2\n")) == "gzip"
    assert content_kind(write_text(tmp_path / "x.txt.xz", lzma.compress(b"a"))) == "xz"
    assert content_kind(write_text(tmp_path / "x.tsv", "a\n")) == "text"
    assert content_kind(write_text(tmp_path / "x", b"a\0b")) == "binary"
    assert require_kind(track, "bigWig") == Path(track)
    with pytest.raises(GenomeError, match=r"x\.bw is not a bigBed file, its content is bigWig"):
        require_kind(track, "bigBed")


@pytest.mark.parametrize(
    ("name", "data", "claimed", "got"),
    [
        ("x.bw", b"chr1\t0\t9\t1.0\n", "bigWig", "text"),
        ("x.bigWig", bytes.fromhex("ebf28987") + bytes(90), "bigWig", "bigBed"),
        ("x.bb", b"chr1\t0\t9\tE1\n", "bigBed", "text"),
        ("x.gz", b"chr1\t0\t9\n", "gzip", "text"),
        ("x.xz", gzip.compress(b"x"), "xz", "gzip"),
        ("x.bed", gzip.compress(b"x"), "text", "gzip"),
        ("x.fa", gzip.compress(b">a\nAC\n"), "text", "gzip"),
        ("x.2bit", b"\x89PNG\r\n\x1a\n\0", "2bit", "binary"),
        ("x.gtf", b"a\0b", "text", "binary"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, data: bytes, claimed: str, got: str) -> None:
    path = write_text(tmp_path / "raw", data)
    path = Path(path).rename(tmp_path / name)
    with pytest.raises(GenomeError, match=rf"named like a {claimed} file, but its content is {got} .*Rename it"):
        content_kind(path)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "absent.fa", "does not exist. Check the path"),
        (tmp_path, "is a folder; give one file"),
        ("s3://bucket/x.fa", "is a URI.*copy it"),
        (write_text(tmp_path / "x.fa", ""), "is empty. Get it again"),
    ]:
        with pytest.raises(GenomeError, match=message):
            find(path)
    with pytest.raises(GenomeError, match="nothing but white space"):
        read_text(write_text(tmp_path / "y.bed", "\n \n"))
    with pytest.raises(GenomeError, match="nothing but white space"):
        read_text(write_text(tmp_path / "y.bed.gz", ""))


@pytest.mark.parametrize("compress", [gzip.compress, lambda d: bgzip(d, 50), lzma.compress], ids=["gz", "bgz", "xz"])
def test_truncated_at_any_place(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = compress(b"".join(b"chr1\t%d\t%d\n" % (i, i + 7) for i in range(0, 2000, 7)))
    path = tmp_path / ("x.xz" if data[:1] == b"\xfd" else "x.bed.gz")
    path.write_bytes(data)
    assert read_text(path).count(b"\n") == 286
    for size in [*range(17, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(GenomeError, match=r"is truncated or damaged: .*Get it again"):
            read_text(path)


def test_text_has_one_kind_of_line_end(tmp_path: Path) -> None:
    for text in ("a\nb\n", "a\r\nb\r\n", "a\rb\r", "\ufeffa\nb\n"):
        assert read_text(write_text(tmp_path / "x.txt", text)) == b"a\nb\n"
    with pytest.raises(GenomeError, match="is not a text file, its content is gzip of binary data"):
        read_text(write_text(tmp_path / "x.bed.gz", gzip.compress(b"inside\0")))
    with pytest.raises(GenomeError, match="is not a text file, its content is binary"):
        read_text(write_text(tmp_path / "x.txt", "utf-16".encode("utf-16")))


@pytest.mark.parametrize(
    "text",
    [
        "chr1\t0\t10\tE1\nchr2\t5\t9\tE2\n",
        "chr1\t0\t10\tE1\nchr2\t5\t9\tE2",
        "chr1 0 10 E1\nchr2 5 9 E2\n",
        "  chr1   0 10  E1 \nchr2  5  9   E2\n",
        '#header\nbrowser position chr1\ntrack name="x y"\n\nchr1\t0\t10\tE1\n\n#note\nchr2\t5\t9\tE2\n',
        'track name="a"\nchr1\t0\t10\tE1\ntrack name="b"\nchr2\t5\t9\tE2\n',
        "chr1\t0\t10\tE1\r\nchr2\t5\t9\tE2\r\n",
    ],
    ids=["tabs", "no last newline", "blanks", "many blanks", "headers", "two tracks", "crlf"],
)
def test_columns(tmp_path: Path, text: str) -> None:
    table = read_columns(write_text(tmp_path / "x.bed", text), BED4, what="BED")
    assert table.to_pylist() == [
        {"chrom": "chr1", "start": 0, "end": 10, "name": "E1"},
        {"chrom": "chr2", "start": 5, "end": 9, "name": "E2"},
    ]


def test_columns_that_are_too_many_or_too_few(tmp_path: Path) -> None:
    wide = read_columns(write_text(tmp_path / "w.bed", 'c\t1\t2\t"E\t0\t.\n'), BED4, what="BED")
    assert wide.to_pylist() == [{"chrom": "c", "start": 1, "end": 2, "name": '"E'}]
    narrow = read_columns(write_text(tmp_path / "n.bed", "c\t1\t2\n"), BED4, what="BED")
    assert narrow.column_names == ["chrom", "start", "end"]
    missing = read_columns(write_text(tmp_path / "m.bed", "NA\t1\t2\t\n"), BED4, what="BED")
    assert missing.to_pylist() == [{"chrom": "NA", "start": 1, "end": 2, "name": ""}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chrom\tstart\tend\tname\nchr1\t0\t1\tE\n", r"x\.txt is not a BED file: .*Its first line is b'chrom"),
        ("#a\ntrack x\nchr1\t0\t1\tE\nchr1\t2\tE\n", r"line 4 has 3 columns instead of 4: 'chr1\\t2\\tE'"),
        ("chr1\t0\t\tE\n", "is not a BED file"),
        ("chr1\t0\t1.5\tE\n", "is not a BED file"),
        ("#only\n", "holds no lines of data"),
        ("just a sentence\n", "is not a BED file"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GenomeError, match=message):
        read_columns(write_text(tmp_path / "x.txt", text), BED4, what="BED")


def test_sizes(tmp_path: Path) -> None:
    assert read_sizes(write_text(tmp_path / "a.sizes", "chrI\t230218\nchrM\t85779\n")) == {
        "chrI": 230218,
        "chrM": 85779,
    }
    assert read_sizes(write_text(tmp_path / "b.fai", "chrI\t230218\t6\t60\t61\n")) == {"chrI": 230218}
    for text, message in [
        ("chrI\n", "it has one column"),
        ("chrI\t5\nchrI\t6\n", "names a contig twice"),
        ("chrI\t0\n", "'chrI' has 0 bp"),
        ("chrI\tlong\n", "is not a contig sizes file"),
    ]:
        with pytest.raises(GenomeError, match=message):
            read_sizes(write_text(tmp_path / "c.sizes", text))


def test_a_sequence_that_is_a_track(tmp_path: Path) -> None:
    track = write_bigwig(tmp_path / "x.bw", {"a": 9}, [("a", 0, 3, 1)])
    with pytest.raises(GenomeError, match=r"x\.bw is not a sequence file, its content is bigWig. Allowed: FASTA"):
        open_sequence(track)
