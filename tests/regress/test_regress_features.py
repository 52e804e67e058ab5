"""Features against slow references and the simulated files themselves."""

import gzip
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest

from epilm.corpus.gather import ContigReader
from epilm.genome.dna import encode_dna
from epilm.regress.features import JoinMaker, KmerMaker, StateMaker, kmer_counts, state_fractions
from epilm.storage import Location

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def slow_counts(text, k):
    words = ["".join(letters) for letters in itertools.product("ACGT", repeat=k)]
    return [sum(text[i : i + k] == word for i in range(len(text) - k + 1)) for word in words]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_kmer_counts_equal_a_slow_reference(k):
    rng = np.random.default_rng(k)
    texts = ["".join(rng.choice(list("ACGTN"), 40, p=[0.3, 0.2, 0.2, 0.2, 0.1])) for _ in range(20)]
    texts += ["N" * 40, "ACGT" * 10]
    dna = np.stack([encode_dna(text) for text in texts])
    np.testing.assert_array_equal(kmer_counts(dna, k), [slow_counts(text, k) for text in texts])


def test_kmer_counts_of_sequences_shorter_than_k():
    assert kmer_counts(np.zeros((2, 3), np.uint8), 4).sum() == 0
    assert kmer_counts(np.zeros((0, 30), np.uint8), 4).shape == (0, 256)


def test_state_fractions_literal():
    """Bins of 10 bp; an interval of 25 bp that begins 4 bp into bin 0: 6, 10 and 9 bases, and none of bin 3."""
    states = np.array([[0, 1, 255, 2], [1, 1, 0, 2]], np.uint8)
    got = state_fractions(states, np.array([4, 0]), length_bp=25, bin_bp=10, num_states=3)
    np.testing.assert_allclose(got, [[6 / 25, 10 / 25, 0, 9 / 25], [5 / 25, 20 / 25, 0, 0]], atol=1e-7)


@pytest.fixture(scope="module")
def reader(toy):
    return ContigReader(Location(str(toy.corpus)), toy.manifest)


@pytest.fixture(scope="module")
def rows(toy):
    """Promoters of both strands and other intervals of several lengths, in every cell type."""
    intervals = toy.intervals().to_pandas()
    other = pd.DataFrame(
        {
            "id": ["left", "right", "short", "any"],
            "chrom": ["chr1", "chr2", "chr3", "chr1"],
            "start": [-50, 199_850, 40_003, 60_123],
            "end": [150, 200_010, 40_005, 60_999],
            "strand": ["-", "+", "-", "."],
        }
    )
    table = pd.concat([intervals.groupby("strand").head(12), other], ignore_index=True)
    assert set(table["strand"]) == {"+", "-", "."}
    table = table.merge(pd.DataFrame({"cell_type": toy.manifest.cell_types}), how="cross")
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def genome(toy):
    with open(toy.paths["genome"]) as stream:
        records = stream.read().split(">")[1:]
    return {name: text.replace("\n", "") for name, _, text in (record.partition("\n") for record in records)}


def test_kmers_are_read_on_the_strand_of_the_interval(reader, rows, genome):
    maker = pickle.loads(pickle.dumps(KmerMaker(reader, 2)))
    assert maker.columns == [a + b for a in "ACGT" for b in "ACGT"]
    got = maker.read(rows)
    assert got.dtype == np.float32
    for row, counts in zip(rows.itertuples(), got, strict=True):
        text = genome[row.chrom][max(row.start, 0) : row.end]
        text = text.translate(COMPLEMENT)[::-1] if row.strand == "-" else text
        assert counts.tolist() == slow_counts(text, 2), row.id


def test_state_fractions_are_those_of_the_row_and_its_cell_type(toy, reader, rows):
    maker = pickle.loads(pickle.dumps(StateMaker(reader)))
    names = toy.manifest.state_names
    assert maker.columns == [*names, "no_data"]
    got = maker.read(rows)
    segments = {}
    for cell, path in toy.paths["states"].items():
        with gzip.open(path, "rt") as stream:
            segments[cell] = pd.read_csv(stream, sep="\t", names=["chrom", "start", "end", "state"])
    for row, fractions in zip(rows.itertuples(), got, strict=True):
        mine = segments[row.cell_type]
        mine = mine[mine["chrom"] == row.chrom]
        overlap = np.minimum(mine["end"], row.end) - np.maximum(mine["start"], row.start)
        covered = overlap.clip(lower=0).groupby(mine["state"]).sum().reindex(names, fill_value=0)
        expected = covered.to_numpy() / (row.end - row.start)
        np.testing.assert_allclose(fractions[:-1], expected, atol=1e-6, err_msg=row.id)
        assert fractions.sum() == pytest.approx(1, abs=1e-6)


def test_joined_features_are_side_by_side(reader, rows):
    makers = {"k": KmerMaker(reader, 1), "s": StateMaker(reader)}
    joined = JoinMaker(makers)
    assert joined.columns[:5] == ["k.A", "k.C", "k.G", "k.T", f"s.{makers['s'].columns[0]}"]
    np.testing.assert_array_equal(
        joined.read(rows), np.concatenate([maker.read(rows) for maker in makers.values()], axis=1)
    )
