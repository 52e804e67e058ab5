"""The readers of ``genome/`` find in the written files what was simulated."""

import numpy as np
import pytest

from epilm.config import parse_recipe
from epilm.genome.annotation import read_bed, read_genes
from epilm.genome.bigwig import bigwig_contigs, bin_track
from epilm.genome.sequence import open_sequence
from epilm.genome.states import SegmentStates, open_states
from epilm.simulate.epigenome import gene_table, make_contig, make_grammar, simulate
from epilm.simulate.grammar import STATE_NAMES
from epilm.simulate.recipe import SimulateRecipe


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    raw = {"name": "r", "contigs": {"a": 60_050, "b": 41_000}, "cell_types": ["x", "y"], "seed": 5}
    recipe = parse_recipe(SimulateRecipe, {**raw, "storage": str(tmp_path_factory.mktemp("runs"))})
    paths = simulate(recipe)["paths"]
    grammar = make_grammar(recipe)
    return recipe, paths, {name: make_contig(recipe, grammar, i) for i, name in enumerate(recipe.contigs)}


def test_sequence(world):
    recipe, paths, contigs = world
    source = open_sequence(paths["genome"])
    assert {name: contig.length_bp for name, contig in source.contigs.items()} == recipe.contigs
    for name, length_bp in recipe.contigs.items():
        np.testing.assert_array_equal(source.fetch(name, 0, length_bp), contigs[name].dna)


def test_states(world):
    recipe, paths, contigs = world
    reference = open_sequence(paths["genome"]).contigs
    source = open_states(
        SegmentStates(files=paths["states"], state_names=STATE_NAMES),
        reference=reference,
        train_contigs=["a"],
        bin_bp=200,
    )
    assert source.cell_types == recipe.cell_types
    assert source.state_names == STATE_NAMES
    for name, length_bp in recipe.contigs.items():
        np.testing.assert_array_equal(source.read(name, 0, length_bp, 200), contigs[name].layout.states)


def test_labels_sort_into_the_simulations_order(world):
    _, paths, _ = world
    reference = open_sequence(paths["genome"]).contigs
    source = open_states(
        SegmentStates(files=paths["states"]), reference=reference, train_contigs=["a"], bin_bp=200
    )  # fmt: skip
    assert source.state_names == STATE_NAMES


def test_tracks(world):
    recipe, paths, contigs = world
    path = paths["tracks"]["y"]["H3K36me3"]
    assert bigwig_contigs(path) == recipe.contigs
    binned = bin_track(path, "a", 0, 60_050, 200)
    assert binned.dtype == np.float32
    states = contigs["a"].layout.states[1]
    assert np.isnan(binned[: recipe.gap_bp // 200]).all()
    in_tx = np.nanmean(binned[states == STATE_NAMES.index("3_Tx")])
    assert in_tx > 10 * np.nanmean(binned[states == STATE_NAMES.index("1_TssA")])


def test_genes_and_binding(world):
    _, paths, contigs = world
    genes = read_genes(paths["genes"])
    truth = gene_table(contigs)
    for column in ("gene_id", "chrom", "tss", "strand"):
        np.testing.assert_array_equal(genes[column], truth[column])
    sites = read_bed(paths["binding"]["x"]["TF2"])
    assert len(sites)
    assert set(sites["strand"]) <= {"+", "-"}
    assert (sites["end"] - sites["start"] == 10).all()
