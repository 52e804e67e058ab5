"""Contig names of one assembly, matched by rule and checked by length."""

from __future__ import annotations

import pytest

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig, describe_matches, match_contigs, roman_to_int, with_sizes

ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI"]
YEAST_UCSC = [f"chr{r}" for r in ROMAN] + ["chrM"]
YEAST_ENSEMBL = [*ROMAN, "Mito"]
YEAST_NUMBERS = [f"chr{i}" for i in range(1, 17)]
YEAST_SGD = [str(i) for i in range(1, 18)]
HUMAN_UCSC = [f"chr{i}" for i in [*range(1, 23), "X", "Y", "M"]]
HUMAN_ENSEMBL = [str(i) for i in [*range(1, 23), "X", "Y", "MT"]]


def lengths(names: list[str]) -> dict[str, int | None]:
    """Every contig its own length, by its place in the list."""
    return {name: 1000 + i for i, name in enumerate(names)}


@pytest.mark.parametrize("reference", [YEAST_UCSC, YEAST_ENSEMBL, YEAST_SGD], ids=["ucsc", "ensembl", "sgd"])
@pytest.mark.parametrize("other", [YEAST_UCSC, YEAST_ENSEMBL, YEAST_SGD, YEAST_NUMBERS])
def test_every_naming_of_yeast_finds_every_other(reference: list[str], other: list[str]) -> None:
    matches = match_contigs(lengths(reference), lengths(other), source="track.bw")
    assert matches == dict(zip(other, reference, strict=False))


@pytest.mark.parametrize(("reference", "other"), [(HUMAN_UCSC, HUMAN_ENSEMBL), (HUMAN_ENSEMBL, HUMAN_UCSC)])
def test_human_names_match_and_x_stays_the_sex_chromosome(reference: list[str], other: list[str]) -> None:
    matches = match_contigs(lengths(reference), lengths(other), source="track.bw")
    assert matches == dict(zip(other, reference, strict=True))
    assert matches[other[22]] == reference[22]
    assert matches[other[9]] == reference[9]


@pytest.mark.parametrize(
    ("reference", "other", "expected"),
    [
        (["chrI", "chrV", "chrX"], ["I", "V", "X"], {"I": "chrI", "V": "chrV", "X": "chrX"}),  # worm: X is no ten
        (["2L", "2R", "4", "X"], ["chr2L", "chr2R", "chr4", "chrX"], None),
        (["Chr1", "Chr2", "ChrM", "ChrC"], ["1", "2", "Mt", "Pt"], None),
        (["chr1", "chr2"], ["chr01", "chr02"], None),
        (["chrII", "chrXVI"], ["chr2", "chr16"], None),
        (["chrII", "chrXVI"], ["II", "XVI"], None),
        (["chr22"], ["22"], None),
        (["CHR1"], ["Chromosome_1"], None),
    ],
)
def test_other_organisms(reference: list[str], other: list[str], expected: dict[str, str] | None) -> None:
    matches = match_contigs(lengths(reference), lengths(other), source="f")
    assert matches == (expected or dict(zip(other, reference, strict=True)))


def test_contigs_of_the_file_that_the_sequence_lacks_are_left_out() -> None:
    matches = match_contigs({"22": None}, {"chr1": 5, "chr22": 7, "chrUn_gl1": 9}, source="f")
    assert matches == {"chr22": "22"}
    assert describe_matches(matches) == "22=chr22"


def test_the_order_is_the_files() -> None:
    assert list(match_contigs({"chr1": None, "chr2": None}, {"2": None, "chr1": None}, source="f")) == ["2", "chr1"]


def test_an_exact_name_beats_an_alias() -> None:
    reference = {"chr1": 10, "1": 20}
    assert match_contigs(reference, {"1": 20, "chr1": 10}, source="f") == {"1": "1", "chr1": "chr1"}


def test_two_mitochondria_are_told_apart_by_length() -> None:
    """hg19 of UCSC has chrM (16,571 bp) and, in its later patches, chrMT (16,569 bp), which others call MT."""
    assert match_contigs({"chrM": 16571, "chrMT": 16569}, {"MT": 16569}, source="f") == {"MT": "chrMT"}
    assert match_contigs({"MT": 16569}, {"chrM": 16571, "chrMT": 16569}, source="f") == {"chrMT": "MT"}
    # by name where one side does not know them, as a file of genes
    assert match_contigs({"MT": None, "1": None}, {"chrM": 16571, "chrMT": 16569}, source="f") == {"chrMT": "MT"}
    assert match_contigs({"M": None}, {"chrM": 16571, "chrMT": 16569}, source="f") == {"chrM": "M"}


def test_two_names_of_one_contig_are_refused() -> None:
    with pytest.raises(GenomeError, match=r"'chr2' and '2' both mean 'chrII'.*Keep one"):
        match_contigs({"chrII": 10, "chrI": 9}, {"chr2": 10, "2": 10}, source="f.bw")
    with pytest.raises(GenomeError, match="'chr1' and '1' both mean 'chr1'"):  # none of its rows may be lost
        match_contigs({"chr1": 10}, {"1": None, "chr1": None}, source="f.bed")


def test_another_length_is_refused_with_both_lengths() -> None:
    with pytest.raises(GenomeError, match=r"f\.bw: contig 22 has 50,818,468 bp, but chr22 .* 51,304,566 bp.*assembly"):
        match_contigs({"chr22": 51304566}, {"22": 50818468}, source="f.bw")


def test_lengths_are_compared_only_where_both_are_known() -> None:
    assert match_contigs({"chr1": None}, {"1": 7}, source="f") == {"1": "chr1"}
    assert match_contigs({"chr1": 7}, {"1": None}, source="f") == {"1": "chr1"}


def test_nothing_in_common_shows_the_names_of_both() -> None:
    with pytest.raises(GenomeError, match=r"f\.bw: none of its contigs \(scaffold_1\).*\(chr1, chr2\).*one assembly"):
        match_contigs({"chr1": 5, "chr2": 6}, {"scaffold_1": 5}, source="f.bw")
    with pytest.raises(GenomeError, match="none of its contigs"):
        match_contigs({"chr1": 5}, {}, source="f.bw")


def test_x_alone_is_no_ten() -> None:
    """A track of the sex chromosome beside a piece of chromosome 10."""
    with pytest.raises(GenomeError, match="none of its contigs"):
        match_contigs({"chr10": None}, {"X": 5}, source="f.bw")
    assert match_contigs({"chr10": None}, {"X": 5, "IX": 4}, source="f.bw") == {"X": "chr10"}


def test_a_required_contig_that_is_missing_is_named() -> None:
    with pytest.raises(GenomeError, match=r"f\.bw: no contig for chrXVI; it has II.*leave them out"):
        match_contigs({"chrII": 5, "chrXVI": 6}, {"II": 5}, source="f.bw", required=["chrII", "chrXVI"])


def test_a_long_list_of_names_is_cut() -> None:
    with pytest.raises(GenomeError, match=r"a0, a1, a2, a3, a4, \.\.\. \(9 in all\)"):
        match_contigs({"chr1": None}, {f"a{i}": None for i in range(9)}, source="f")


def test_roman_numerals() -> None:
    def to_roman(number: int) -> str:
        values = [(40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
        text = ""
        for value, letters in values:
            text += letters * (number // value)
            number %= value
        return text

    assert [roman_to_int(to_roman(n)) for n in range(1, 50)] == list(range(1, 50))
    assert roman_to_int("xvi") == 16
    assert [roman_to_int(text) for text in ("", "IIII", "VX", "M", "XA", "IC", "2")] == [None] * 7


def test_sizes_complete_the_pieces_of_a_contig() -> None:
    contigs = {"22": Contig("22", None, 20_000_000, 21_000_000)}
    done = with_sizes(contigs, {"chr21": 5, "chr22": 51304566}, source="hg19.sizes")
    assert done == {"22": Contig("22", 51304566, 20_000_000, 21_000_000)}
    with pytest.raises(GenomeError, match=r"chr22 has 20,500,000 bp but the sequence of 22 reaches 21,000,000"):
        with_sizes(contigs, {"chr22": 20_500_000}, source="hg18.sizes")
    with pytest.raises(GenomeError, match="none of its contigs"):
        with_sizes(contigs, {"chr21": 9}, source="hg19.sizes")


def test_a_whole_contig_ends_at_its_length() -> None:
    assert Contig("1", 7).end_bp == 7
    assert Contig("1", None, 3, 9).end_bp == 9
