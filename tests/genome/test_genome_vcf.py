"""VCF to alleles: what counts as usable, the changed bases, and files as people really have them."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pyarrow as pa
import pytest
from genome_files import bgzip, write_text

from epilm.errors import GenomeError
from epilm.genome import vcf
from epilm.genome.vcf import changed_span, lengths_bp, read_vcf

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def rows(*records: str) -> str:
    return "".join(f"{record}\t.\t.\t.\n" for record in records)


def alleles(path) -> list[tuple]:
    table = read_vcf(path).table
    return [tuple(row[name] for name in ("chrom", "pos", "id", "ref", "alt", "record")) for row in table.to_pylist()]


def test_one_row_an_allele_in_the_files_order(tmp_path):
    path = write_text(
        tmp_path / "a.vcf", HEADER + rows("chr2\t9\trs1\tA\tC,gt", "chr1\t5\t.\tat\tA", "chr1\t1\t.\tACG\tTTT")
    )
    assert alleles(path) == [
        ("chr2", 9, "rs1", "A", "C", 0),
        ("chr2", 9, "rs1", "A", "GT", 0),
        ("chr1", 5, ".", "AT", "A", 1),
        ("chr1", 1, ".", "ACG", "TTT", 2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace("\n", "\r\n") + "1\t5\trs\tA\tC\t.\t.\tX=1\r\n1\t6\trs\tG\tT\t.\t.\tX\r\n",
        HEADER.replace("\n", "\r") + "1\t5\trs\tA\tC\t.\t.\t.\r1\t6\trs\tG\tT\t.\t.\t.\r",
        "1\t5\trs\tA\tC\n1\t6\trs\tG\tT",
        "\n\n" + HEADER + "1\t5\trs\tA\tC\t.\t.\t.\n1\t6\trs\tG\tT\t.\t.\t.\n\n",
        "#CHROM POS ID REF ALT\n1 5 rs  A C\n1  6 rs G T \n",
        "\ufeff" + HEADER + rows("1\t5\trs\tA\tC", "1\t6\trs\tG\tT"),
    ],
    ids=["crlf", "cr", "no_header", "blank_lines", "blanks", "byte_order_mark"],
)
def test_files_as_people_have_them(tmp_path, text):
    path = write_text(tmp_path / "a.vcf", text.encode())
    assert alleles(path) == [("1", 5, "rs", "A", "C", 0), ("1", 6, "rs", "G", "T", 1)]


@pytest.mark.parametrize("pack", [gzip.compress, bgzip, lambda data: data], ids=["gzip", "bgzip", "plain"])
def test_blocks_give_what_the_whole_file_gives(tmp_path, monkeypatch, pack):
    generator = random.Random(1)
    records = [
        f"chr{generator.randint(1, 3)}\t{generator.randint(1, 999)}\trs{i}\tA\tC,G\t.\t.\t.\t0|1\t1|1"
        for i in range(300)
    ]
    data = (HEADER.rstrip("\n") + "\tFORMAT\ts1\ts2\n" + "\r\n".join(records) + "\r\n").encode()
    data = data.replace(b"INFO\tFORMAT\ts1\ts2", b"INFO\ts1\ts2")
    path = tmp_path / ("a.vcf.gz" if pack is not None and pack(b"x")[:2] == b"\x1f\x8b" else "a.vcf")
    path.write_bytes(pack(data))
    whole = alleles(path)
    assert len(whole) == 600
    for size in (101, 1000):
        monkeypatch.setattr(vcf, "_BLOCK_BYTES", size)
        assert alleles(path) == whole


def test_what_is_no_sequence_is_counted(tmp_path):
    text = HEADER + rows(
        "1\t1\t.\tA\t.",
        "1\t2\t.\tA\t<DEL>,C",
        "1\t3\t.\tA\tA[2:5[,.A,A.",
        "1\t4\t.\tA\t*,G",
        "1\t5\t.\tN\tC",
        "1\t6\t.\tA\tR",
        "1\t7\t.\tA\ta",
        "1\t8\t.\tA\t",
    )
    found = read_vcf(write_text(tmp_path / "a.vcf", text))
    assert found.excluded == {"no_alternative": 2, "symbolic": 4, "star": 1, "ambiguous": 2, "same_as_reference": 1}
    assert found.num_records == 8
    assert found.table["pos"].to_pylist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "holds no variants"),
        (HEADER.replace("REF", "OTHER") + rows("1\t1\t.\tA\tC"), "columns of its header are CHROM, POS, ID, OTHER"),
        (HEADER + "chr1\t100\t200\n", "has 3 columns; CHROM, POS, ID, REF and ALT"),
        ("chr1\t100\t200\tpeak\t7\t+\n", "REF 'PEAK' and ALT '7'"),
        (HEADER + rows("1\t7\t.\tA\t-"), r"record 1 \(1:7\).*with the base before it"),
        (HEADER + rows("1\tx\t.\tA\tC"), "not a VCF file"),
        (HEADER + rows("1\t-4\t.\tA\tC"), "POS -4"),
        (HEADER + rows("1\t4\t.\tA\tC") + "1\t5\t.\tA\n", "4 columns instead of 8"),
    ],
)
def test_what_is_no_vcf_is_refused(tmp_path, text, message):
    with pytest.raises(GenomeError, match=message):
        read_vcf(write_text(tmp_path / "a.vcf", text))


def test_a_fault_in_a_later_block_names_its_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(vcf, "_BLOCK_BYTES", 64)
    text = HEADER + rows(*(f"1\t{i}\t.\tA\tC" for i in range(1, 40))) + rows("1\tx\t.\tA\tC")
    with pytest.raises(GenomeError, match=r"lines are counted from line (3\d|4\d) of the file"):
        read_vcf(write_text(tmp_path / "a.vcf", text))


def test_truncated_and_binary_files_are_refused(tmp_path):
    whole = gzip.compress((HEADER + rows("1\t1\t.\tA\tC")).encode())
    (tmp_path / "cut.vcf.gz").write_bytes(whole[:-9])
    with pytest.raises(GenomeError, match="truncated or damaged"):
        read_vcf(tmp_path / "cut.vcf.gz")
    (tmp_path / "cut.bgz.gz").write_bytes(bgzip((HEADER + rows("1\t1\t.\tA\tC")).encode())[:-28])
    with pytest.raises(GenomeError, match="closing block"):
        read_vcf(tmp_path / "cut.bgz.gz")
    (tmp_path / "a.bcf").write_bytes(gzip.compress(b"BCF\2\2" + b"\0" * 50))
    (tmp_path / "a.bcf").rename(tmp_path / "a.gz")
    with pytest.raises(GenomeError, match="bcftools view"):
        read_vcf(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("pos", "ref", "alt", "span"),
    [
        (10, "A", "C", (9, 10)),
        (10, "A", "ATT", (9, 10)),  # an insertion: the base before it
        (10, "ACG", "A", (9, 12)),  # a deletion: that base and what goes
        (10, "ACG", "ATG", (10, 11)),  # an SNV that a neighbour's record made long
        (10, "CAAA", "CAA", (9, 11)),  # in a run, as far left as the record allows
        (1, "GT", "T", (0, 2)),  # at the contig's start the base behind stands for the one before
        (10, "ACG", "TTT", (9, 12)),
        (10, "GATTACA", "GACA", (9, 13)),
    ],
)
def test_changed_span_literally(pos, ref, alt, span):
    start, end = changed_span(np.array([pos]), pa.array([ref]), pa.array([alt]))
    assert (int(start[0]), int(end[0])) == span


def slow_span(pos: int, ref: str, alt: str) -> tuple[int, int]:
    start, end = pos - 1, pos - 1 + len(ref)
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt, end = ref[:-1], alt[:-1], end - 1
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    return start, end


def test_changed_span_equals_the_cutting_of_single_bases():
    generator = random.Random(3)
    word = lambda: "".join(generator.choices("AC", k=generator.randint(1, 9)))
    cases = [(generator.randint(1, 99), word(), word()) for _ in range(2000)]
    pos, ref, alt = zip(*cases, strict=True)
    tables = pa.table({"ref": list(ref), "alt": list(alt)})
    got = changed_span(np.array(pos), tables["ref"], tables["alt"])
    assert list(zip(*(column.tolist() for column in got), strict=True)) == [slow_span(*case) for case in cases]
    part = tables.slice(700, 5)  # offsets into a longer buffer
    got = changed_span(np.array(pos[700:705]), part["ref"], part["alt"])
    assert list(zip(*(column.tolist() for column in got), strict=True)) == [slow_span(*c) for c in cases[700:705]]
    assert lengths_bp(part["ref"]).tolist() == [len(text) for text in ref[700:705]]
