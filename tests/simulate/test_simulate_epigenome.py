"""The files of a run, and the truths that are planted in it, measured on the default recipe."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from epilm.config import load_recipe, parse_recipe
from epilm.errors import CheckpointError, RecipeError, RunExistsError
from epilm.evaluate.metrics import pearson
from epilm.simulate.dna import bound_sites
from epilm.simulate.epigenome import gene_table, make_contig, make_grammar, simulate
from epilm.simulate.expression import noiseless_expression
from epilm.simulate.grammar import OPEN_STATES, STATE_NAMES
from epilm.simulate.recipe import SimulateRecipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"name": "small", "contigs": {"a": 60_050, "b": 41_000}, "cell_types": ["x", "y"], "seed": 5}


@pytest.fixture(scope="module", params=[0, 11])
def world(request):
    """The default epigenome in memory, for two seeds: the recipe's promises hold for any."""
    recipe = SimulateRecipe(name="world", seed=request.param)
    grammar = make_grammar(recipe)
    contigs = {name: make_contig(recipe, grammar, i) for i, name in enumerate(recipe.contigs)}
    return recipe, grammar, contigs


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    recipe = parse_recipe(SimulateRecipe, {**SMALL, "storage": str(tmp_path_factory.mktemp("runs"))})
    return recipe, simulate(recipe)


def states_of(contigs):
    """[K, bins] of all contigs; the gaps left out."""
    return np.concatenate([c.layout.states[:, c.layout.gap_bins :] for c in contigs.values()], axis=1).astype(int)


def test_default_size(world):
    recipe, _, contigs = world
    assert len(contigs) == 6
    assert 2e6 <= sum(recipe.contigs.values()) <= 3e6
    assert len(recipe.cell_types) == 4
    genes = gene_table(contigs)
    assert len(genes) >= 600
    assert genes["gene_id"].is_unique
    assert genes.groupby("chrom").size().min() >= 60  # held-out contigs keep enough genes to score


def test_states_persist_and_one_is_common(world):
    states = states_of(world[2])
    assert 0.65 <= (states[:, 1:] == states[:, :-1]).mean() <= 0.75
    shares = np.bincount(states.ravel(), minlength=6) / states.size
    assert 0.30 <= shares.max() <= 0.40
    assert shares.min() >= 0.08


def class_by_dna(contig, grammar):
    """[B] most likely class of each whole bin from its bases alone, on either strand."""
    dna = contig.dna[: len(contig.dna) // 200 * 200].reshape(-1, 200).astype(int) % 4
    log_p = np.log(grammar.transitions.reshape(6, 64)).T
    both = []
    for strand in (dna, 3 - dna[:, ::-1]):
        triple = strand[:, :-2] * 16 + strand[:, 1:-1] * 4 + strand[:, 2:]
        counts = np.stack([np.bincount(row, minlength=64) for row in triple])
        both.append(counts @ log_p)
    return np.maximum(*both).argmax(axis=1)


def test_dna_and_neighbours_beat_copying_by_far(world):
    """A table over (class by DNA, left state, right state), fitted on four contigs and scored on the other two."""
    _, grammar, contigs = world
    rows = {}
    for name, contig in contigs.items():
        dna_class = class_by_dna(contig, grammar)
        num_bins, first = len(dna_class), contig.layout.gap_bins
        states = contig.layout.states[:, first:num_bins].astype(int)
        mid = np.broadcast_to(dna_class[first + 1 : -1], states[:, 1:-1].shape)
        rows[name] = np.stack([mid, states[:, :-2], states[:, 2:], states[:, 1:-1]]).reshape(4, -1)
    train = np.concatenate([rows[n] for n in list(rows)[:4]], axis=1)
    dna_class, left, right, truth = np.concatenate([rows[n] for n in list(rows)[4:]], axis=1)
    table = np.zeros((6, 6, 6, 6))
    np.add.at(table, tuple(train), 1)

    copying = (left == truth).mean()
    dna_only = (table.sum(axis=(1, 2))[dna_class].argmax(axis=1) == truth).mean()
    neighbours_only = (table.sum(axis=0)[left, right].argmax(axis=1) == truth).mean()
    everything = (table[dna_class, left, right].argmax(axis=1) == truth).mean()
    assert everything >= copying + 0.12
    assert everything >= dna_only + 0.12  # DNA does not tell which cell type has the locus open
    assert everything >= neighbours_only + 0.12


def test_kmers_are_predictable_from_class_but_not_from_frequency(world):
    """Non-overlapping 6-mers: the best guess by class and strand against the most frequent one."""
    _, grammar, contigs = world
    frequent, by_class = [], []
    ids = []
    for contig in contigs.values():
        dna = contig.dna[contig.layout.gap_bins * 200 :]
        ids.append(dna[: len(dna) // 6 * 6].reshape(-1, 6).astype(int) @ 4 ** np.arange(5, -1, -1))
    frequent = np.bincount(np.concatenate(ids)).max() / sum(map(len, ids))
    chain, pairs = grammar.transitions, grammar.dinucleotides
    for c in range(6):
        p = pairs[c].reshape(-1, 4, 4)
        for _ in range(4):
            p = (p[..., None] * chain[c]).reshape(-1, 4, 4)
        by_class.append(p.max())
    assert frequent < 0.015
    assert np.mean(by_class) > 3 * frequent
    entropy = -(pairs[:, :, None] * (chain * np.log2(chain)).reshape(6, 16, 4)).sum(axis=(1, 2))
    assert (entropy < 1.4).all()  # of 2 bits a base


def test_genome_is_strand_symmetric(world):
    """3-mers and their reverse complements are equally frequent, so '-' genes look like '+' genes."""
    contigs = world[2]
    dna = np.concatenate([c.dna[c.layout.gap_bins * 200 :] for c in contigs.values()]).astype(int)
    counts = np.bincount(dna[:-2] * 16 + dna[1:-1] * 4 + dna[2:], minlength=64).reshape(4, 4, 4)
    reverse = counts[::-1, ::-1, ::-1].transpose(2, 1, 0)
    assert pearson(counts.ravel(), reverse.ravel()) > 0.98


def stack(contigs, name):
    return np.concatenate([getattr(c, name) for c in contigs.values()], axis=1)


def test_expression_needs_the_cells_state_and_the_motif(world):
    _, grammar, contigs = world
    expression, noiseless = stack(contigs, "expression"), stack(contigs, "noiseless")
    promoter = stack(contigs, "promoter_state")
    carried = np.concatenate([c.carried for c in contigs.values()])
    assert 0.87 <= pearson(noiseless.ravel(), expression.ravel()) <= 0.93

    best_from_dna = np.broadcast_to(expression.mean(axis=0), expression.shape)  # knows each gene's own mean
    assert pearson(best_from_dna.ravel(), expression.ravel()) < 0.80
    motifs = np.broadcast_to(carried @ grammar.motif_effect, expression.shape)
    assert 0.1 < pearson(motifs.ravel(), expression.ravel()) < 0.4  # what a regression on k-mers can hope for
    state_only = pearson(grammar.state_effect[promoter].ravel(), expression.ravel())
    assert 0.7 < state_only < 0.87  # the motifs in open promoters are worth something on top
    assert (promoter != promoter[0]).any(axis=0).mean() > 0.5


def test_motif_acts_only_where_the_promoter_is_open(world):
    _, grammar, contigs = world
    expression, promoter = stack(contigs, "expression"), stack(contigs, "promoter_state")
    carried = np.concatenate([c.carried for c in contigs.values()])[:, 0]
    is_open = np.isin(promoter, OPEN_STATES)
    for openness, expected in ((True, grammar.motif_effect[0]), (False, 0.0)):
        groups = [expression[(is_open == openness) & (carried == has)] for has in (True, False)]
        error = np.sqrt(sum(g.var() / g.size for g in groups))
        # 4 standard errors, and what an unequal mix of states in the two groups can add
        assert abs(groups[0].mean() - groups[1].mean() - expected) < 4 * error


def test_motifs_lie_where_loci_can_open_and_are_bound_only_there(world):
    recipe, grammar, contigs = world
    consensus = grammar.motifs.argmax(axis=2)
    for contig in contigs.values():
        bound = bound_sites(contig.layout, contig.sites, recipe.bin_bp)
        states = contig.layout.states[:, contig.sites.start // recipe.bin_bp]
        assert np.isin(states[bound], OPEN_STATES).all()
        assert bound.any(axis=1).all()
        assert not bound.all()
        at = contig.dna[contig.sites.start[:, None] + np.arange(recipe.motif_bp)]
        at = np.where(contig.sites.forward[:, None], at, (3 - at)[:, ::-1])
        assert (at == consensus[contig.sites.tf]).mean() > 0.95
        starts = np.sort(contig.sites.start)
        assert np.diff(starts).min() >= recipe.motif_bp  # no site overwrites another


def test_contig_does_not_depend_on_the_others():
    alone = SimulateRecipe(name="r", contigs={"a": 60_050})
    both = SimulateRecipe(name="r", contigs={"a": 60_050, "b": 41_000})
    first = make_contig(alone, make_grammar(alone), 0)
    second = make_contig(both, make_grammar(both), 0)
    np.testing.assert_array_equal(first.dna, second.dna)
    np.testing.assert_array_equal(first.expression, second.expression)


def test_written_files_hold_the_simulation(written):
    recipe, result = written
    paths = result["paths"]
    contig = make_contig(recipe, make_grammar(recipe), 1)
    text = Path(paths["genome"]).read_text().split(">b\n")[1].replace("\n", "")
    assert text == np.frombuffer(b"ACGTN", dtype="S1")[contig.dna].tobytes().decode()
    assert text.startswith("N" * recipe.gap_bp)
    index = [line.split("\t") for line in Path(f"{paths['genome']}.fai").read_text().splitlines()]
    assert [(row[0], int(row[1])) for row in index] == list(recipe.contigs.items())
    raw = Path(paths["genome"]).read_bytes()
    assert raw[int(index[1][2]) - 3 : int(index[1][2])] == b">b\n"

    segments = pd.read_csv(paths["states"]["y"], sep="\t", names=["chrom", "start", "end", "state"])
    segments = segments[segments["chrom"] == "b"]
    bases = np.full(41_000, 255)
    for _, start, end, state in segments.itertuples(index=False):
        assert (bases[start:end] == 255).all()
        bases[start:end] = STATE_NAMES.index(state)
    np.testing.assert_array_equal(bases, np.repeat(contig.layout.states[1], 200)[:41_000])
    assert segments["end"].max() == 41_000


def test_bigwig_follows_the_states(written):
    recipe, result = written
    contig = make_contig(recipe, make_grammar(recipe), 0)
    with pyBigWig.open(result["paths"]["tracks"]["x"]["H3K4me3"]) as track:
        assert track.chroms() == recipe.contigs
        values = track.values("a", 0, 60_050, numpy=True)
    assert np.isnan(values[: recipe.gap_bp]).all()
    steps = values[: 60_050 // 50 * 50].reshape(-1, 50)
    assert ((steps == steps[:, :1]) | np.isnan(steps)).all()
    missing = np.isnan(steps[recipe.gap_bp // 50 :, 0]).mean()
    assert 0.005 < missing < 0.05
    states = np.repeat(contig.layout.states[0], 4)[: len(steps)]
    mean = {s: np.nanmean(steps[states == s]) for s in (0, 5)}
    assert mean[0] > 10 * mean[5]


def test_gene_and_expression_tables(written):
    recipe, result = written
    gtf = pd.read_csv(result["paths"]["genes"], sep="\t", header=None, quoting=3)
    assert (gtf[2] == "gene").all()
    assert (gtf[3] >= 1).all()
    assert (gtf[4] >= gtf[3]).all()
    assert (gtf[4] <= gtf[0].map(recipe.contigs)).all()
    ids = gtf[8].str.extract(r'^gene_id "([^"]+)"; gene_name "([^"]+)";$')
    assert ids.notna().all().all()
    assert set(gtf[6]) == {"+", "-"}
    expression = pd.read_csv(result["paths"]["expression"], sep="\t")
    assert list(expression.columns) == ["gene_id", "cell_type", "expression"]
    pairs = set(zip(expression["gene_id"], expression["cell_type"], strict=True))
    assert len(pairs) == len(expression) == 2 * result["num_genes"] == 2 * len(ids)
    assert {gene for gene, _ in pairs} == set(ids[0])


def test_truth_explains_the_written_expression(written):
    _, result = written
    truth = json.loads(Path(result["paths"]["truth"]).read_text())
    genes = truth["genes"]
    written_table = pd.read_csv(result["paths"]["expression"], sep="\t").pivot(
        index="gene_id", columns="cell_type", values="expression"
    )
    for cell in truth["cell_types"]:
        noiseless = noiseless_expression(
            genes["promoter_state"][cell], genes["carried"], truth["state_effect"], truth["motif_effect"]
        )
        np.testing.assert_allclose(noiseless, genes["noiseless"][cell], atol=1e-5)
        residual = written_table.loc[genes["gene_id"], cell].to_numpy() - noiseless
        assert residual.std() == pytest.approx(truth["noise_sd"], rel=0.5)  # 28 genes


def test_binding_lies_on_motifs_in_open_bins(written):
    recipe, result = written
    contig = make_contig(recipe, make_grammar(recipe), 0)
    bed = pd.read_csv(result["paths"]["binding"]["x"]["TF1"], sep="\t", header=None)
    mine = bed[bed[0] == "a"]
    assert len(mine)
    assert np.isin(contig.layout.states[0, mine[1] // 200], OPEN_STATES).all()
    assert ((mine[2] - mine[1]) == recipe.motif_bp).all()


def test_same_seed_same_bytes_and_another_differs(tmp_path, written):
    recipe, result = written
    again = simulate(recipe.model_copy(update={"storage": str(tmp_path)}))
    other = simulate(recipe.model_copy(update={"storage": str(tmp_path), "name": "other", "seed": 6}))
    for key in ("genome", "genes", "expression", "truth"):
        same = Path(again["paths"][key]).read_bytes()
        assert same == Path(result["paths"][key]).read_bytes()
        assert same != Path(other["paths"][key]).read_bytes()
    assert Path(again["paths"]["states"]["x"]).read_bytes() == Path(result["paths"]["states"]["x"]).read_bytes()


def test_run_folder_is_refused_resumed_and_overwritten(tmp_path):
    recipe = parse_recipe(SimulateRecipe, {**SMALL, "storage": str(tmp_path)})
    first = simulate(recipe)
    genome = Path(first["paths"]["genome"])
    before = genome.stat().st_mtime_ns
    with pytest.raises(RunExistsError):
        simulate(recipe)
    assert simulate(recipe, on_existing="resume") == first
    assert genome.stat().st_mtime_ns == before  # a finished run is not written again
    with pytest.raises(CheckpointError):
        simulate(recipe.model_copy(update={"seed": 6}), on_existing="resume")

    (tmp_path / "small" / "result.json").unlink()  # as after a kill
    genome.write_text("half")
    simulate(recipe, on_existing="resume")
    assert genome.stat().st_size > 100_000
    simulate(recipe.model_copy(update={"seed": 6}), on_existing="overwrite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contigs": {"a": 1_000}}, "contig a has 1000 bp"),
        ({"contigs": {}}, "contigs"),
        ({"contigs": {"a b": 90_000}}, "'a b'"),
        ({"track_step_bp": 30}, "does not divide bin_bp=200"),
        ({"gap_bp": 100}, "not a multiple"),
        ({"genes_per_mb": 2000}, "less than 12 bins"),
        ({"num_tfs": 40}, "do not fit"),
        ({"cell_types": ["x", "x"]}, "must differ"),
        ({"cell_types": ["x/y"]}, "file name"),
        ({"cell_typs": ["x"]}, "Did you mean 'cell_types'"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(SimulateRecipe, {**SMALL, **change})


def test_bucket_is_refused_before_any_work():
    with pytest.raises(RecipeError, match="local folder"):
        simulate(SimulateRecipe(name="x", storage="s3://bucket/runs"))


def test_shipped_recipes_are_valid():
    recipes = sorted((ROOT / "rayjobs" / "simulate").glob("*.yaml"))
    assert recipes
    for path in recipes:
        load_recipe(SimulateRecipe, path)
