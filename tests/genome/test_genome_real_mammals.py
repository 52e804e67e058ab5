"""hg19 and mm10: pieces with and without an offset, ChromHMM and IDEAS states in four formats, genes, blacklist."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from genome_files import expected_codes

from epilm.errors import GenomeError
from epilm.genome.annotation import read_blacklist, read_genes
from epilm.genome.contigs import Contig, match_contigs, with_sizes
from epilm.genome.dna import BASE_N
from epilm.genome.intervals import overlap_bp, rename
from epilm.genome.sequence import open_sequence, read_sizes
from epilm.genome.states import (
    NO_STATE,
    BigBedStates,
    IdeasStates,
    LineStates,
    SegmentStates,
    StateSource,
    open_states,
)

pytestmark = pytest.mark.real_data
CHR1_BP, CHR22_BP = 249_250_621, 51_304_566


@pytest.fixture(scope="module")
def hg19(shared_data: Path) -> Path:
    return shared_data / "hg19"


def test_a_piece_with_an_offset_is_placed_where_its_header_says(hg19: Path) -> None:
    path = hg19 / "chr22_20-21M.fa.gz"
    source = open_sequence(path)
    assert source.contigs == {"22": Contig("22", None, 20_000_000, 21_000_000)}
    codes = source.fetch("22", 20_000_000, 21_000_000)
    text = "".join(gzip.decompress(path.read_bytes()).decode().splitlines()[1:])
    assert codes.tolist() == expected_codes(text)
    gap = np.flatnonzero(codes == BASE_N) + 20_000_000
    assert (gap[0], gap[-1] + 1, gap.size) == (20_509_431, 20_609_431, 100_000)  # hg19's gap of 100 kb
    np.testing.assert_array_equal(source.fetch("22", 20_300_007, 20_300_107), codes[300_007:300_107])
    with pytest.raises(GenomeError, match="outside of what the file holds: 20,000,000-21,000,000"):
        source.fetch("22", 0, 1000)
    whole = with_sizes(source.contigs, {"chr22": CHR22_BP}, source="hg19.sizes")
    assert whole["22"] == Contig("22", CHR22_BP, 20_000_000, 21_000_000)


def test_blacklisted_gaps_hold_no_bases(hg19: Path) -> None:
    """chr1's first Mb is named ``1`` and has no offset; the list is of ``chr1``."""
    source = open_sequence(hg19 / "chr1_0-1M.fa.gz")
    assert source.contigs == {"1": Contig("1", 1_000_000, 0, 1_000_000)}
    table = read_blacklist(hg19 / "blacklist.bed.gz")
    assert len(table) == 1709
    matches = match_contigs({"1": None}, dict.fromkeys(table["chrom"].unique()), source="blacklist")
    assert matches == {"chr1": "1"}
    listed = rename(table, matches)
    gaps = [(0, 10_000), (177_417, 227_417), (267_719, 317_719)]
    for start, end in gaps:
        assert (source.fetch("1", start, end) == BASE_N).all()
        assert (source.fetch("1", end, end + 100) != BASE_N).all()
    start, end = np.array(gaps[:2]).T
    assert overlap_bp(["1", "1"], start, end, listed).tolist() == (end - start).tolist()
    assert overlap_bp(["1"], np.array([100_000]), np.array([101_000]), listed).tolist() == [0]


def tissue_states(hg19: Path, reference: dict[str, Contig], **options: object) -> StateSource:
    files = {path.name.split(".")[0]: str(path) for path in sorted((hg19 / "states_chr22").glob("*.bed.gz"))}
    return open_states(
        SegmentStates.model_validate({"files": files, **options}), reference=reference, train_contigs=(), bin_bp=200
    )


def test_thirteen_states_whose_numbers_run_past_thirteen(hg19: Path) -> None:
    source = tissue_states(hg19, {"22": Contig("22", None, 20_000_000, 21_000_000)})
    assert source.cell_types == ("Adipose", "Islets", "Liver", "SkeletalMuscle")
    assert len(source.state_names) == 13
    assert source.state_names[:3] == ("1_Active_TSS", "2_Weak_TSS", "3_Flanking_TSS")
    assert source.state_names[-1] == "18_Quiescent/low_signal"
    states = source.read("22", 20_000_000, 21_000_000, 200)
    assert states.shape == (4, 5000)
    for cell, name in enumerate(source.cell_types):
        text = gzip.decompress((hg19 / "states_chr22" / f"{name}.bed.gz").read_bytes()).decode()
        segments = [line.split("\t")[:4] for line in text.splitlines()]
        expected = np.full(5000, NO_STATE)
        for _, start, end, label in segments:  # ChromHMM's borders lie on the grid of 200 bp
            low, high = ((int(edge) - 20_000_000) // 200 for edge in (start, end))
            expected[max(low, 0) : max(high, 0)] = source.state_names.index(label)
        np.testing.assert_array_equal(states[cell], expected)


def test_states_of_another_assembly_or_alphabet(hg19: Path) -> None:
    with pytest.raises(GenomeError, match=r"a segment reaches chr22:.*, but the contig has 40,000,000 bp"):
        tissue_states(hg19, {"chr22": Contig("chr22", 40_000_000)})
    with pytest.raises(GenomeError, match=r"none of its contigs \(chr22\) is in the sequence \(chr21\)"):
        tissue_states(hg19, {"chr21": Contig("chr21", 48_129_895)})
    with pytest.raises(GenomeError, match=r"unknown state '2_Weak_TSS' .*Allowed by state_names: 1_Active_TSS"):
        tissue_states(hg19, {"22": Contig("22", CHR22_BP)}, state_names=["1_Active_TSS"])


def test_one_state_a_line(hg19: Path) -> None:
    paths = {path.name.split("_")[0]: str(path) for path in sorted((hg19 / "states_18_chr1").glob("*.txt.gz"))}
    config = LineStates.model_validate({"files": paths})
    source = open_states(config, reference={"1": Contig("1", CHR1_BP)}, train_contigs=(), bin_bp=200, required=["1"])
    assert source.state_names == tuple(str(i) for i in range(1, 19))
    bins = source.read("1", 0, CHR1_BP, 200)
    assert bins.shape == (2, -(-CHR1_BP // 200))
    for cell, path in enumerate(paths.values()):
        head, states, *lines = gzip.decompress(Path(path).read_bytes()).decode().split("\n")
        assert (head.split("\t")[1], states) == ("chr1", "MaxState E")
        expected = np.array([int(line) - 1 for line in lines if line], np.uint8)
        assert bins.shape[1] - expected.size == 1  # the last bin is cut by the end, and has no line
        np.testing.assert_array_equal(bins[cell, :-1], expected)
        assert bins[cell, -1] == NO_STATE


def test_a_table_of_ideas_and_its_bigbed_agree(shared_data: Path) -> None:
    folder = shared_data / "ideas_mm10"
    reference = {name: Contig(name, length_bp) for name, length_bp in read_sizes(folder / "mm10.genome").items()}
    length_bp = reference["chr2"].end_bp
    text = gzip.decompress((folder / "test_IDEAS.chr2.state.gz").read_bytes()).decode().splitlines()

    table = open_states(
        IdeasStates(path=str(folder / "test_IDEAS.chr2.state.gz")), reference=reference, train_contigs=(), bin_bp=200
    )
    assert table.cell_types == tuple(text[0].split()[4:6])  # the last column is no cell
    assert table.cell_types == ("ERY_ad", "MEP")
    assert table.state_names == ("0", "1", "2")
    bins = table.read("chr2", 0, length_bp, 200)

    squeezed = 0
    covered = np.zeros(bins.shape[1], bool)
    for line in text[1:]:
        _, _, start, _, *states, _ = line.split()
        if int(start) % 200 == 0:
            column = bins[:, int(start) // 200]
            squeezed += column.tolist() != [int(state) for state in states]
        covered[(int(start) + 100) // 200] = True
    assert squeezed <= 9  # windows off the grid take the place of the one that they overlap
    assert any("9 windows overlap the next" in note for note in table.notes)
    assert (bins[:, ~covered] == NO_STATE).all()

    paths = {"ERY_ad": str(folder / "test_IDEAS.1.bb")}
    track = open_states(BigBedStates(files=paths), reference=reference, train_contigs=(), bin_bp=200)
    np.testing.assert_array_equal(track.read("chr2", 0, length_bp, 200)[0], bins[0])
    assert (track.read("chr2", 0, length_bp, 200)[0] != bins[1]).any()  # the other cell differs
    assert (track.read("chr1", 0, reference["chr1"].end_bp, 200) != NO_STATE).any()


def test_ideas_of_another_assembly(shared_data: Path) -> None:
    path = str(shared_data / "ideas_mm10" / "test_IDEAS.1.bb")
    with pytest.raises(GenomeError, match=r"contig chr2 has 182,113,224 bp, but chr2 of the sequence has 181,748,087"):
        open_states(
            BigBedStates(files={"a": path}),
            reference={"chr2": Contig("chr2", 181_748_087)},  # mm9
            train_contigs=(),
            bin_bp=200,
        )


def test_genes_of_gencode(hg19: Path) -> None:
    path = hg19 / "expression" / "gencode_10_genes.gtf.gz"
    genes = read_genes(path)
    text = gzip.decompress(path.read_bytes()).decode().splitlines()
    rows = [line.split("\t") for line in text if not line.startswith("#")]
    rows = [row for row in rows if row[2] == "gene"]
    assert len(genes) == len(rows)
    for gene, row in list(zip(genes.itertuples(), rows, strict=True))[::500]:
        assert (gene.chrom, gene.start, gene.end, gene.strand) == (row[0], int(row[3]) - 1, int(row[4]), row[6])
        assert gene.tss == (int(row[3]) - 1 if row[6] == "+" else int(row[4]) - 1)
        assert f'gene_id "{gene.gene_id}"' in row[8]
        assert f'gene_name "{gene.gene_name}"' in row[8]
    assert Counter(genes["strand"]).keys() == {"+", "-"}
    ensembl = [str(i) for i in (*range(1, 23), "X", "Y", "MT")]
    matches = match_contigs(dict.fromkeys(ensembl), dict.fromkeys(genes["chrom"].unique()), source="genes")
    assert {theirs: ours for theirs, ours in matches.items() if theirs in ("chr1", "chrX", "chrM")} == {
        "chr1": "1",
        "chrX": "X",
        "chrM": "MT",
    }


def test_promoter_windows_are_genes_of_20_kb(hg19: Path) -> None:
    genes = read_genes(hg19 / "promoters" / "hg19_promoters_cage_corrected_withChr.bed.gz")
    assert len(genes) == 18_362
    width = genes["end"] - genes["start"]
    assert width.median() == 20_000
    assert width.between(19_990, 20_010).mean() > 0.99
    assert genes["gene_id"].str.match(r"ENSG\d{11}$").all()


@pytest.mark.parametrize("name", ["chr22_20-21M.fa.gz", "states_chr22/Liver.bed.gz", "blacklist.bed.gz"])
def test_a_truncated_copy_is_refused(hg19: Path, tmp_path: Path, name: str) -> None:
    data = (hg19 / name).read_bytes()
    path = tmp_path / Path(name).name
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(GenomeError, match=rf"{path.name} is truncated or damaged"):
        open_sequence(path) if "fa" in name else read_blacklist(path)
