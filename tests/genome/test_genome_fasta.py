"""FASTA as it comes: line lengths, line ends, indices, regions in headers; against plain reading and pyfaidx."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from genome_files import expected_codes, fasta, random_letters, write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfaidx import Fasta

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.dna import decode_dna
from epilm.genome.fasta import decode_record, index_fasta, region_of
from epilm.genome.sequence import open_sequence


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("last_newline", [True, False])
@pytest.mark.parametrize("line_bp", [1, 7, 60, 1000])
@pytest.mark.parametrize("length_bp", [1, 59, 60, 61, 120, 137])
def test_any_stretch_of_any_layout(
    tmp_path: Path, newline: str, last_newline: bool, line_bp: int, length_bp: int
) -> None:
    sequences = {
        "chrI first one": random_letters(length_bp, length_bp, "ACGTacgtNRYk"),
        "chrII": random_letters(1, 2 * length_bp, "ACGTU"),
    }
    path = write(tmp_path / "x.fa", fasta(sequences, line_bp=line_bp, newline=newline, last_newline=last_newline))
    source = open_sequence(path)
    assert {name: contig.length_bp for name, contig in source.contigs.items()} == {
        "chrI": length_bp,
        "chrII": 2 * length_bp,
    }
    for name, text in zip(source.contigs, sequences.values(), strict=True):
        codes = expected_codes(text)
        for start in {0, 1, line_bp - 1, line_bp, length_bp // 2, len(text)}:
            for end in {start, start + 1, start + line_bp, start + 2 * line_bp + 1, len(text) - 1, len(text)}:
                if 0 <= start <= end <= len(text):
                    assert source.fetch(name, start, end).tolist() == codes[start:end], (name, start, end)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.text("ACGTNacgtnRY", max_size=12), min_size=1, max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    data=st.data(),
)
def test_lines_of_uneven_length_are_put_together(lines: list[str], newline: str, data: st.DataObject) -> None:
    text = "".join(lines)
    buffer = (newline.join([">one", *lines, ">two", "ACGT"])).encode()
    first, second = index_fasta(buffer, "x.fa")
    assert (first.header, first.length_bp, second.length_bp) == ("one", len(text), 4)
    end = data.draw(st.integers(0, len(text)))
    start = data.draw(st.integers(0, end))
    if first.line_bp:
        assert decode_record(buffer, first, start, end, "x.fa").tolist() == expected_codes(text[start:end])
    assert decode_record(buffer, second, 1, 3, "x.fa").tolist() == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        "ACG\nACGTT\nA\n",
        "AC\nGT\nACG\n",
        "AC\r\nGT\r\nACGT\r\n",
        "ACGT\n\nACGT\nAC\n",
        "ACGT\r\nA GTA\nAC\n",
        "ACGT ACGTA\n",
        "\nACGTACG\n",
        "ACGTACG\n\n\n",
    ],
    ids=[
        "ragged",
        "a last line one longer",
        "a last line two longer",
        "blank line",
        "mixed line ends",
        "blanks",
        "blank first",
        "blank last",
    ],
)
def test_odd_bodies(tmp_path: Path, body: str) -> None:
    source = open_sequence(write(tmp_path / "x.fa", f">a\n{body}>b\nTTT\n".encode()))
    text = "".join(body.split())
    assert source.contigs["a"].length_bp == len(text)
    assert source.fetch("a", 0, len(text)).tolist() == expected_codes(text)
    assert source.fetch("a", 2, 5).tolist() == expected_codes(text[2:5])
    assert source.fetch("b", 0, 3).tolist() == [3, 3, 3]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_index_that_pyfaidx_wrote_serves_the_same(tmp_path: Path, newline: str) -> None:
    sequences = {
        f"chr{i} note": random_letters(i, n, "ACGTacgtNn") for i, n in enumerate((1, 60, 61, 1000, 119), start=1)
    }
    path = write(tmp_path / "x.fa", fasta(sequences, newline=newline))
    plain = open_sequence(path)
    with Fasta(str(path), as_raw=True) as peer:
        indexed = open_sequence(path)
        assert (tmp_path / "x.fa.fai").is_file()
        assert indexed.contigs == plain.contigs
        for name, contig in indexed.contigs.items():
            for start, end in ((0, contig.end_bp), (contig.end_bp // 3, contig.end_bp // 2)):
                expected = expected_codes(str(peer[name][start:end]))
                assert indexed.fetch(name, start, end).tolist() == expected
                assert plain.fetch(name, start, end).tolist() == expected


def test_a_region_of_a_header_is_found_with_and_without_an_index(tmp_path: Path) -> None:
    text = random_letters(3, 100)
    path = write(tmp_path / "x.fa", fasta({"hg19_dna range=chr22:20000001-20000100 5'pad=0 3'pad=0 strand=+": text}))
    expected = {"chr22": Contig("chr22", None, 20_000_000, 20_000_100)}
    assert open_sequence(path).contigs == expected
    Fasta(str(path)).close()
    source = open_sequence(path)
    assert source.contigs == expected
    assert decode_dna(source.fetch("chr22", 20_000_010, 20_000_020)) == text[10:20]


@pytest.mark.parametrize(
    ("header", "length_bp", "expected"),
    [
        ("chrI", 7, Contig("chrI", 7, 0, 7)),
        ("1 dna:chromosome chromosome:GRCh37:1:1:249250621:1 REF", 7, Contig("1", 7, 0, 7)),
        ("22:20000001-21000000", 1_000_000, Contig("22", None, 20_000_000, 21_000_000)),
        ("chr22:20,000,001-21,000,000 x", 1_000_000, Contig("chr22", None, 20_000_000, 21_000_000)),
        ("chr1:100-200", 100, Contig("chr1", None, 100, 200)),  # bedtools: 0-based
        ("chr1:100-200", 101, Contig("chr1", None, 99, 200)),  # samtools: 1-based
        ("chr1:0-50", 50, Contig("chr1", None, 0, 50)),
        ("chr1:5-60(+)", 55, Contig("chr1", None, 5, 60)),
        ("hg19_dna range=chr2:11-20 5'pad=0 3'pad=0 strand=+ x=none", 10, Contig("chr2", None, 10, 20)),
        ("chromosome:GRCh37:22:11:20:1", 10, Contig("22", None, 10, 20)),
        ("HLA-A*01:01:01:01", 9, Contig("HLA-A*01:01:01:01", 9, 0, 9)),
        ("gi|330443391|ref|NC_001133.9|", 9, Contig("gi|330443391|ref|NC_001133.9|", 9, 0, 9)),
    ],
)
def test_headers(header: str, length_bp: int, expected: Contig) -> None:
    assert region_of(header, length_bp, "x.fa") == expected


@pytest.mark.parametrize(
    ("header", "length_bp", "message"),
    [
        ("22:20000001-21000000", 999_998, r"tells of 1,000,000 bp, but 999,998 bp follow\. .*truncated"),
        ("chr1:0-50", 51, "tells of 51 bp, but 51"),
        ("", 5, r"no name.*Give every sequence a name"),
        ("chr1:5-60(-)", 55, r"reverse strand.*Get the forward strand"),
        ("hg19_dna range=chr2:11-20 5'pad=0 3'pad=0 strand=-", 10, "reverse strand"),
        ("chromosome:GRCh37:22:11:20:-1", 10, "reverse strand"),
    ],
)
def test_headers_that_cannot_be_placed(header: str, length_bp: int, message: str) -> None:
    with pytest.raises(GenomeError, match=rf"x\.fa: .*({message})"):
        region_of(header, length_bp, "x.fa")


def test_coordinates_are_those_of_the_whole_contig(tmp_path: Path) -> None:
    text = random_letters(8, 300)
    source = open_sequence(write(tmp_path / "x.fa", fasta({"22:1001-1300": text}, line_bp=70)))
    assert decode_dna(source.fetch("22", 1000, 1300)) == text
    assert decode_dna(source.fetch("22", 1069, 1141)) == text[69:141]
    for start, end in ((999, 1010), (1290, 1301), (0, 10), (1010, 1009)):
        with pytest.raises(GenomeError, match=r"outside of what the file holds: 1,000-1,300"):
            source.fetch("22", start, end)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"chr1\t0\t100\tE1\n", "no line begins with '>'"),
        (b"@read\nACGT\n>\nIIII\n", "begins with"),
        (b">chr1\nACGT\n>chr1\nGG\n", "contig 'chr1' is twice in"),
        (b">chr1\n>chr2\nGG\n", "'chr1' has no bases"),
        (b">\nGG\n", "no name"),
        (b"", "empty"),
        (b">chr1\nAC\0GT\n", "binary"),
    ],
)
def test_what_is_no_fasta(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(GenomeError, match=message):
        open_sequence(write(tmp_path / "x.fa", data))


def test_a_protein_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    source = open_sequence(write(tmp_path / "x.fa", b">p\nMEEPQSDPSV\n"))
    with pytest.raises(GenomeError, match=r"x\.fa is not a DNA file: its sequence holds 'EPQ'"):
        source.fetch("p", 0, 10)


def test_an_unknown_contig_names_those_there_are(tmp_path: Path) -> None:
    source = open_sequence(write(tmp_path / "x.fa", b">a\nAC\n>b\nGG\n"))
    with pytest.raises(GenomeError, match=r"no contig 'c' in .*x\.fa; it has a, b"):
        source.fetch("c", 0, 1)


def test_several_files_are_one_genome_and_a_name_in_two_is_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.fa", b">a\nAC\n"), write(tmp_path / "2.fa", b">b\nGG\n")
    source = open_sequence([one, two])
    assert source.fetch("a", 0, 2).tolist() == [0, 1]
    assert source.fetch("b", 0, 2).tolist() == [2, 2]
    with pytest.raises(GenomeError, match=r"contig 'a' is in .*1\.fa and in .*3\.fa"):
        open_sequence([one, write(tmp_path / "3.fa", b">a\nGG\n")])
    with pytest.raises(GenomeError, match="no sequence file given"):
        open_sequence([])


def index_of(path: Path) -> Path:
    Fasta(str(path)).close()
    return Path(f"{path}.fai")


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    sequences = {"chr1": random_letters(1, 200), "chr2": random_letters(2, 100)}
    path = write(tmp_path / "x.fa", fasta(sequences))
    index_of(path)
    whole = path.read_bytes()
    changed = [
        whole[:250],
        whole.replace(b">chr2", b"A\n>chr2"),
        whole + b">chr3\nACGT\n",
        whole.replace(b">chr2", b">chrX"),
        fasta(sequences, line_bp=50),
    ]
    for data in changed:
        path.write_bytes(data)
        with pytest.raises(GenomeError, match=r"\.fai .*(Delete|get both again)"):
            open_sequence(path)
    write_text(Path(f"{path}.fai"), "chr1 200\n")
    with pytest.raises(GenomeError, match=r"x\.fa\.fai is not a FASTA index: line 'chr1 200'"):
        open_sequence(path)


def test_an_index_in_another_order_is_as_good(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", fasta({"chr1": random_letters(1, 200), "chr2": random_letters(2, 100)}))
    plain = open_sequence(path)
    lines = index_of(path).read_text().splitlines()
    write_text(Path(f"{path}.fai"), "\n".join(reversed(lines)) + "\n")
    source = open_sequence(path)
    assert list(source.contigs) == ["chr2", "chr1"]
    for name in ("chr1", "chr2"):
        np.testing.assert_array_equal(source.fetch(name, 3, 99), plain.fetch(name, 3, 99))


@pytest.mark.parametrize("body", ["ACGT\nACGT\nA\n", "ACG\nACGTT\nA\n"], ids=["even", "uneven"])
def test_a_source_travels_without_what_it_has_open(tmp_path: Path, body: str) -> None:
    source = open_sequence(write(tmp_path / "x.fa", f">a\n{body}".encode()))
    before = source.fetch("a", 0, 9)
    packed = pickle.dumps(source)
    assert len(packed) < 2000
    np.testing.assert_array_equal(pickle.loads(packed).fetch("a", 0, 9), before)
