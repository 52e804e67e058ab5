"""Peaks as users have them: BED, narrowPeak, IDR output, tables; and what is wrong with some of them."""

from __future__ import annotations

import gzip

import pytest

from epilm.errors import GenomeError
from epilm.labels.peaks import place_regions, read_peak_table, read_peaks

NARROW = "chr1\t{}\t{}\tp\t0\t.\t5.0\t-1\t2.0\t{}"
IDR = NARROW + "\t5.0" * 10


def write(folder, text, name="peaks.bed"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["peaks.bed", "peaks.narrowPeak.gz"])
def test_summits_are_read_where_column_10_is_one(tmp_path, name):
    narrow = read_peaks(write(tmp_path, NARROW.format(100, 300, 40) + "\n" + NARROW.format(5, 9, -1) + "\n", name))
    assert narrow.to_numpy().tolist() == [["chr1", 100, 300, 40], ["chr1", 5, 9, -1]]
    assert read_peaks(write(tmp_path, IDR.format(100, 300, 40) + "\n"))["summit"].tolist() == [40]
    assert read_peaks(write(tmp_path, NARROW.format(100, 300, 200)))["summit"].tolist() == [
        199
    ]  # ENCODE-DREAM has such
    blocks = "chr1\t100\t300\tp\t0\t.\t100\t300\t0\t2\t10,20\t0,180\n"  # BED12: column 10 counts blocks
    assert read_peaks(write(tmp_path, blocks))["summit"].tolist() == [-1]
    assert read_peaks(write(tmp_path, "# peaks\nchr1 100 300\n"))["summit"].tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "nothing but white space"),
        ("# only a comment\n", "no lines of data"),
        ("chr1\t100\n", "chrom, start and end are needed"),
        ("chr1\t100\tx\n", "is not a BED"),
        ("chr1\t100\t200\nchr1\t5\n", "line 2 has 2 columns instead of 3"),
        ("chr1\t100\t200\nchr1\t50\t50\n", r"chr1:50-50 \(row 2\) is not a peak"),
        ("chr1\t-5\t50\n", "is not a peak"),
        (NARROW.format(100, 300, "x"), "summit of row 1 is 'x'"),
        (NARROW.format(100, 300, 201), "is 201, outside of the peak"),
        (NARROW.format(100, 300, 1.5), "is a whole number"),
    ],
)
def test_malformed_peaks(tmp_path, text, message):
    with pytest.raises(GenomeError, match=message):
        read_peaks(write(tmp_path, text))


def test_a_truncated_file(tmp_path):
    path = tmp_path / "cut.bed.gz"
    path.write_bytes(gzip.compress(b"".join(b"chr1\t%d\t%d\n" % (i * 7919, i * 7919 + 200) for i in range(999)))[:900])
    with pytest.raises(GenomeError, match="truncated or damaged"):
        read_peaks(path)


def test_rows_of_a_table_may_differ_behind_narrowpeak(tmp_path):
    rows = ["K562\tCTCF\tconservative\t" + NARROW.format(100, 300, 40), "A\tMYC\trelaxed\t" + IDR.format(7, 9, 1)]
    table = read_peak_table(write(tmp_path, "\n".join(rows) + "\n"))
    assert table.to_numpy().tolist() == [
        ["K562", "CTCF", "conservative", "chr1", 100, 300, 40],
        ["A", "MYC", "relaxed", "chr1", 7, 9, 1],
    ]
    short = read_peak_table(write(tmp_path, "K562\tCTCF\trelaxed\tchr1\t5\t9\n"))
    assert short["summit"].tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("K562\tCTCF\tidr\tchr1\t5\t9\n", "set of row 1 is 'idr'. Allowed: conservative, relaxed"),
        ("chr1\t5\t9\n", "is not a peak table|is not a table of peaks"),
        ("K562\t\trelaxed\tchr1\t5\t9\n", "row 1 names no cell type or no factor"),
        ("K562\tCTCF\trelaxed\tchr1\t5\t9\nK562\tCTCF\trelaxed\tchr1\t7\n", "line 2 has 5 columns"),
    ],
)
def test_malformed_tables(tmp_path, text, message):
    with pytest.raises(GenomeError, match=message):
        read_peak_table(write(tmp_path, text))


def test_regions_in_the_names_of_a_corpus(tmp_path, make_manifest):
    manifest = make_manifest({"I": (0, 1000), "IV": (300, 900)})
    path = write(tmp_path, "chr4\t100\t200\nchr1\t900\t1300\nchr9\t5\t9\nchr4\t950\t960\nchr4\t350\t360\n")
    placed, names, note = place_regions(read_peaks(path), manifest, source="p.bed", outside="error")
    assert names == {"chr4": "IV", "chr1": "I"}
    assert placed[["chrom", "contig", "start"]].to_numpy().tolist() == [
        ["IV", 1, 100], ["I", 0, 900], ["IV", 1, 950], ["IV", 1, 350],
    ]  # fmt: skip
    assert note == "p.bed: of 5, 1 are on contigs that the corpus lacks and 2 outside of what it holds of a contig"


def test_peaks_past_the_end_are_of_another_assembly(tmp_path, make_manifest):
    peaks = read_peaks(write(tmp_path, "chr1\t100\t200\nchr1\t1000\t1200\nchr1\t4000\t4200\n"))
    manifest = make_manifest({"chr1": (0, 1000)}, assembly="hg19")
    with pytest.raises(
        GenomeError, match=r"chr1:1000-1200 \(the first of 2\) lies past the end .* 1,000 bp .*\(hg19\)"
    ):
        place_regions(peaks, manifest, source="p.bed", outside="error")
    assert len(place_regions(peaks, manifest, source="p.bed")[0]) == 3
    # a piece that starts inside: its end is not the contig's
    assert len(place_regions(peaks, make_manifest({"chr1": (50, 1000)}), source="p.bed", outside="error")[0]) == 3
    with pytest.raises(GenomeError, match=r"none of its contigs \(chr1\) is in the sequence \(chr2\)"):
        place_regions(peaks, make_manifest({"chr2": (0, 1000)}), source="p.bed", outside="error")
