"""The yeast genome and its tracks, genes and peaks: four namings of the same chromosomes, and what biology says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import py2bit
import pytest
from genome_files import expected_codes

from epilm.errors import GenomeError
from epilm.genome.annotation import read_bed, read_genes
from epilm.genome.bigwig import bigwig_contigs, bin_track
from epilm.genome.contigs import match_contigs
from epilm.genome.dna import decode_dna, reverse_complement
from epilm.genome.intervals import rename
from epilm.genome.sequence import SequenceSource, open_sequence, read_sizes
from epilm.genome.states import NO_STATE, TrackLevelStates, open_states

pytestmark = pytest.mark.real_data
TRACKED = {"II": "chrII", "IV": "chrIV", "XVI": "chrXVI"}


@pytest.fixture(scope="module")
def yeast(shared_data: Path) -> Path:
    return shared_data / "yeast"


@pytest.fixture(scope="module")
def genome(yeast: Path) -> SequenceSource:
    return open_sequence(yeast / "sacCer3.2bit")


def lengths(genome: SequenceSource) -> dict[str, int | None]:
    return {name: contig.length_bp for name, contig in genome.contigs.items()}


def test_the_sequence_is_that_of_py2bit(yeast: Path, genome: SequenceSource) -> None:
    assert lengths(genome) == read_sizes(yeast / "sacCer3.sizes")
    assert decode_dna(genome.fetch("chrI", 0, 30)) == "CCACACCACACCCACACACCCACACACCAC"
    peer = py2bit.open(str(yeast / "sacCer3.2bit"))
    for name, start, end in (("chrM", 0, 85779), ("chrIV", 1_000_003, 1_100_002), ("chrXVI", 948_001, 948_066)):
        assert genome.fetch(name, start, end).tolist() == expected_codes(peer.sequence(name, start, end))
    peer.close()


def test_open_reading_frames_begin_with_a_start_codon(yeast: Path, genome: SequenceSource) -> None:
    """SGD numbers the chromosomes 1 to 17 and counts from one; the names, both strands and the offset must all fit."""
    genes = read_genes(yeast / "annotation" / "SGD_features_170331.tab.gz")
    assert len(genes) == 6604
    matches = match_contigs(lengths(genome), dict.fromkeys(genes["chrom"].unique()), source="SGD")
    assert (matches["16"], matches["17"], matches["10"]) == ("chrXVI", "chrM", "chrX")
    placed = rename(genes, matches)
    assert set(genes["chrom"]) - set(matches) == {"2-micron"}  # the plasmid is not in the assembly
    assert len(genes) - len(placed) == 4
    starts = []
    for gene in placed.iloc[::5].itertuples():
        if gene.chrom != "chrM":  # its gene code has other start codons
            codes = genome.fetch(gene.chrom, gene.start, gene.end)
            starts.append(decode_dna((codes if gene.strand == "+" else reverse_complement(codes))[:3]))
    assert np.mean([codon == "ATG" for codon in starts]) > 0.99


def test_start_sites_lie_where_genes_begin(yeast: Path, genome: SequenceSource) -> None:
    """The start sites are Ensembl's (I ... Mito), the genes SGD's (1 ... 17)."""
    known = lengths(genome)
    tables = []
    for name in ("TSSs.bed", "SGD_features_170331.tab.gz"):
        table = read_genes(yeast / "annotation" / name)
        tables.append(rename(table, match_contigs(known, dict.fromkeys(table["chrom"].unique()), source=name)))
    both = tables[0].merge(tables[1], on="gene_id", suffixes=("", "_sgd"))
    assert len(tables[0]) == 6534
    assert len(both) > 6000
    assert (both["chrom"] == both["chrom_sgd"]).mean() > 0.999
    assert (both["strand"] == both["strand_sgd"]).mean() > 0.999
    assert ((both["tss"] - both["tss_sgd"]).abs() < 100).mean() > 0.9


def test_peaks_of_reb1_lie_on_its_motif(yeast: Path, genome: SequenceSource) -> None:
    """The peaks number the chromosomes chr1 to chr16."""
    peaks = read_bed(yeast / "peaks" / "Reb1_CX.bed.gz")
    matches = match_contigs(lengths(genome), dict.fromkeys(peaks["chrom"].unique()), source="Reb1")
    assert matches["chr16"] == "chrXVI"

    def share_with_motif(shift: int) -> float:
        texts = [
            decode_dna(genome.fetch(peak.chrom, peak.start + shift - 20, peak.end + shift + 20))
            for peak in rename(peaks, matches).itertuples()
        ]
        return float(np.mean(["TTACCCG" in text or "CGGGTAA" in text for text in texts]))

    assert share_with_motif(0) > 0.3
    assert share_with_motif(300) < 0.03


@pytest.mark.parametrize("name", ["MNase", "PolII", "Scc1", "RNA.fwd", "RNA.rev"])
def test_tracks_have_three_contigs_without_chr(yeast: Path, genome: SequenceSource, name: str) -> None:
    path = yeast / "tracks" / f"{name}.bw"
    assert match_contigs(lengths(genome), {**bigwig_contigs(path)}, source=name) == TRACKED
    with pytest.raises(GenomeError, match=r"no contig for chrI; it has II, IV, XVI"):
        match_contigs(lengths(genome), {**bigwig_contigs(path)}, source=name, required=["chrI"])
    fine = bin_track(path, "II", 0, 813_184, 25)
    coarse = bin_track(path, "II", 0, 813_184, 100)
    assert fine.size == 4 * coarse.size
    weights = np.full(fine.size, 25.0)
    weights[-1] = 9  # bases of the contig's last bin
    means = np.add.reduceat(fine * weights, np.arange(0, fine.size, 4)) / np.add.reduceat(
        weights, np.arange(0, fine.size, 4)
    )
    np.testing.assert_allclose(coarse, means, rtol=1e-5, atol=1e-6)
    assert coarse.size == 8132
    assert np.isfinite(coarse).all()


def test_states_of_three_tracks_know_nothing_of_the_held_out_contig(yeast: Path, genome: SequenceSource) -> None:
    tracks = {name: str(yeast / "tracks" / f"{name}.bw") for name in ("MNase", "PolII", "Scc1")}
    config = TrackLevelStates(tracks={"yeast": tracks})
    reference = {name: genome.contigs[name] for name in ("chrII", "chrIV", "chrXVI")}
    source = open_states(config, reference=reference, train_contigs=["chrII", "chrIV"], bin_bp=75)
    assert len(source.state_names) == 27
    states = {name: source.read(name, 0, contig.end_bp, 75)[0] for name, contig in reference.items()}
    taught = np.concatenate([states["chrII"], states["chrIV"]]).astype(int)
    assert (taught != NO_STATE).all()
    for place in (9, 3, 1):  # each track's levels hold a third of the training bins each
        np.testing.assert_allclose(np.bincount(taught // place % 3) / taught.size, 1 / 3, atol=0.01)
    held_out = np.bincount(states["chrXVI"] // 9 % 3) / states["chrXVI"].size
    assert np.abs(held_out - 1 / 3).max() > 1e-4
    with pytest.raises(GenomeError, match=r"has no data on the training contigs \(chrI\); it has II, IV, XVI"):
        open_states(config, reference=dict(genome.contigs), train_contigs=["chrI"], bin_bp=75)


def test_a_truncated_genome_is_refused(yeast: Path, tmp_path: Path) -> None:
    data = (yeast / "sacCer3.2bit").read_bytes()
    path = tmp_path / "sacCer3.2bit"
    for size in (1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(GenomeError, match=r"sacCer3\.2bit cannot be read as \.2bit, it is truncated"):
            open_sequence(path)
