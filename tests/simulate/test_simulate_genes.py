"""Simulated genes: what their files hold, that expression is the stated function of the counts, and what models reach."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from epilm.config import load_recipe, parse_recipe
from epilm.errors import CheckpointError, RecipeError, RunExistsError
from epilm.histone.config import SPLITS, CountFiles, DeepDiffFiles
from epilm.histone.load import load_pairs
from epilm.simulate.gene_recipe import SimulateGenesRecipe, generating_function
from epilm.simulate.genes import draw_counts, draw_reads, gene_numbers, noise_sd_for, noiseless_target, simulate_genes

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "name": "small",
    "num_genes": {"train": 30, "validation": 12, "test": 9},
    "num_bins": 40,
    "cell_types": ["x", "y", "z"],
    "marks": ["H3K27me3", "DNase", "H3K4me3"],
    "seed": 3,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    recipe = parse_recipe(SimulateGenesRecipe, {**SMALL, "storage": str(tmp_path_factory.mktemp("runs"))})
    return recipe, simulate_genes(recipe)


@pytest.fixture(scope="module", params=[0, 7])
def world(request):
    """2,000 training genes of the default recipe in memory, for two seeds: the recipe's promises hold for any."""
    recipe = SimulateGenesRecipe(name="world", seed=request.param, num_genes={"train": 2000, "test": 700})
    function = generating_function(recipe)
    noise_sd = noise_sd_for(recipe)
    counts, target = {}, {}
    for split in ("train", "test"):
        counts[split] = draw_counts(recipe, split)
        log_reads = np.stack([function.log_reads_of(counts[split][cell]) for cell in "AB"])
        reads = draw_reads(recipe, split, log_reads, noise_sd)
        target[split] = np.log((reads[0] + 1) / (reads[1] + 1))
    return recipe, counts, target


def read_marks(path, num_bins):
    """(ids, symbols, bins of the first gene, counts [n, bins, marks]) by plain pandas."""
    table = pd.read_csv(path, header=None)
    parts = table[0].str.split("_", expand=True)
    counts = table.iloc[:, 1:].to_numpy().reshape(-1, num_bins, table.shape[1] - 1)
    return parts[0].to_numpy()[::num_bins], parts[1].to_numpy()[::num_bins], parts[2].astype(int).to_numpy(), counts


def slow_log_reads(counts, function):
    """The function of the docstrings, a gene and a mark at a time, from what truth.json says."""
    truth = function.to_json()
    marks = list(truth["marks"])
    total = []
    for gene in counts:
        value = truth["log_reads"]
        for column, mark in enumerate(marks):
            level = np.mean(
                [np.log(1 + gene[b, column]) for span in truth["marks"][mark]["spans"] for b in range(*span)]
            )
            rule = truth["silencing"]
            if rule and mark == rule["of"]:
                by = gene[:, marks.index(rule["by"])]
                silent = np.mean([np.log(1 + by[b]) for span in rule["spans"] for b in range(*span)])
                level /= 1 + np.exp((silent - rule["midpoint"]) / rule["width"])
            value += truth["marks"][mark]["weight"] * (level - truth["moderate"])
        total.append(value)
    return np.array(total)


def test_files_hold_what_was_drawn(written):
    recipe, result = written
    for split, size in SMALL["num_genes"].items():
        counts = draw_counts(recipe, split)
        for cell in recipe.cell_types:
            ids, symbols, bins, values = read_marks(result["paths"]["cells"][cell][split], 40)
            assert np.array_equal(values, counts[cell])
            assert len(ids) == size
            assert np.array_equal(bins, np.tile(np.arange(1, 41), size))
            assert [int(name.removeprefix("ENSG")) for name in ids] == gene_numbers(recipe, split).tolist()
            assert [int(name.removeprefix("GENE")) for name in symbols] == gene_numbers(recipe, split).tolist()


def test_first_line_reads_like_deepdiffs(written):
    recipe, result = written
    first = draw_counts(recipe, "train")["x"][0, 0]
    with gzip.open(result["paths"]["cells"]["x"]["train"], "rt") as lines:
        assert next(lines) == f"ENSG00000000001_GENE1_1,{first[0]},{first[1]},{first[2]}\n"
    with gzip.open(result["paths"]["expression"]["x"], "rt") as lines:
        assert next(lines).startswith("ENSG00000000001,")


def test_an_expression_recipe_reads_them(written):
    recipe, result = written
    data = DeepDiffFiles(
        kind="deepdiff", cells=result["paths"]["cells"], columns=recipe.marks, num_bins=recipe.num_bins
    )
    pair = load_pairs(data, CountFiles(kind="counts", files=result["paths"]["expression"]), ("z", "x"))
    assert {split: len(pair.rows(split)) for split in SPLITS} == SMALL["num_genes"]
    assert pair.marks == recipe.marks
    for split in SPLITS:
        counts = draw_counts(recipe, split)
        assert np.array_equal(pair.first[pair.rows(split)], counts["z"])
        assert np.array_equal(pair.second[pair.rows(split)], counts["x"])
    (ceiling,) = (row["test"] for row in result["ceiling"] if row["pair"] == ["x", "z"])
    noiseless = noiseless_target(pair.first, pair.second, recipe)
    test = pair.rows("test")
    assert pearsonr(noiseless[test], pair.target[test])[0] == pytest.approx(ceiling, abs=1e-4)


def test_expression_follows_from_the_files_alone(written):
    """Marks and reads as a user reads them, the noiseless log reads recomputed slowly: truth.json and the ceiling agree."""
    recipe, result = written
    truth = json.loads(Path(result["paths"]["truth"]).read_text())
    function = generating_function(recipe)
    assert truth["function"] == result["function"] == function.to_json()
    reads = {
        cell: pd.read_csv(path, header=None, index_col=0)[1] for cell, path in result["paths"]["expression"].items()
    }
    assert all(len(column) == 51 and (column >= 0).all() and column.index.is_unique for column in reads.values())
    for split in SMALL["num_genes"]:
        slow = {}
        for cell in recipe.cell_types:
            ids, _, _, counts = read_marks(result["paths"]["cells"][cell][split], 40)
            assert ids.tolist() == truth["genes"][split]["gene_id"]
            slow[cell] = slow_log_reads(counts, function)
            np.testing.assert_allclose(slow[cell], function.log_reads_of(counts), rtol=1e-12)
            np.testing.assert_allclose(slow[cell], truth["genes"][split]["log_reads"][cell], atol=1e-5)
        for row in result["ceiling"]:
            a, b = row["pair"]
            noiseless = np.log((np.exp(slow[a]) + 1) / (np.exp(slow[b]) + 1))
            noisy = np.log((reads[a][ids] + 1) / (reads[b][ids] + 1))
            assert row[split] == pytest.approx(pearsonr(noiseless, noisy)[0], abs=1e-4)
    assert [row["pair"] for row in result["ceiling"]] == [["x", "y"], ["x", "z"], ["y", "z"]]


def test_same_recipe_same_bytes_and_another_seed_other_data(written, tmp_path):
    recipe, result = written
    again = simulate_genes(recipe.model_copy(update={"storage": str(tmp_path), "name": "again"}))
    other = simulate_genes(recipe.model_copy(update={"storage": str(tmp_path), "name": "other", "seed": 4}))
    names = [path.name for path in Path(result["paths"]["folder"]).glob("*.gz")] + ["truth.json"]
    assert len(names) == 13
    for name in names:
        first, second, third = (Path(r["paths"]["folder"], name).read_bytes() for r in (result, again, other))
        assert first == second
        assert first != third


def test_a_splits_first_genes_stay_when_there_are_more():
    few = SimulateGenesRecipe(name="few", num_bins=20, num_genes={"train": 5, "test": 4})
    many = SimulateGenesRecipe(name="many", num_bins=20, num_genes={"train": 9, "test": 4}, cell_types=("A", "B", "C"))
    assert noise_sd_for(few) == noise_sd_for(many)
    function = generating_function(few)
    for split in ("train", "test"):
        small, large = draw_counts(few, split), draw_counts(many, split)
        for cell in "AB":
            assert np.array_equal(small[cell], large[cell][: len(small[cell])])
        assert np.array_equal(gene_numbers(few, split), gene_numbers(many, split)[: len(small["A"])])
        log_reads = [np.stack([function.log_reads_of(c) for c in counts.values()]) for counts in (small, large)]
        reads = [draw_reads(r, split, x, 0.8) for r, x in zip((few, many), log_reads, strict=True)]
        assert np.array_equal(reads[0], reads[1][:2, : reads[0].shape[1]])
    assert not np.array_equal(draw_counts(few, "train")["A"][:4], draw_counts(few, "test")["A"])


def test_marks_do_not_change_each_other():
    one = SimulateGenesRecipe(name="one", num_bins=20, marks=("H3K4me3",))
    two = SimulateGenesRecipe(name="two", num_bins=20, marks=("DNase", "H3K4me3"))
    assert np.array_equal(draw_counts(one, "test", 6)["B"][:, :, 0], draw_counts(two, "test", 6)["B"][:, :, 1])


def test_counts_are_spread_like_real_ones(world):
    """DeepDiff's own sample: 0.37 zeros, 0.26 ones, 0.37 more."""
    _, counts, _ = world
    values = np.stack([counts["train"][cell] for cell in "AB"])
    shares = np.bincount(np.minimum(values, 2).ravel()) / values.size
    np.testing.assert_allclose(shares, [0.40, 0.25, 0.35], atol=0.03)
    assert 0.97 < (values <= 10).mean() < 1
    assert values.max() > 30


def test_marks_lie_where_biology_has_them(world):
    recipe, counts, _ = world
    mean = {mark: counts["train"]["A"][:, :, column].mean(axis=0) for column, mark in enumerate(recipe.marks)}
    assert 98 <= mean["H3K4me3"].argmax() <= 101
    assert mean["H3K4me3"][97:103].mean() > 3 * mean["H3K4me3"][:60].mean()
    assert mean["H3K4me1"][[87, 88, 111, 112]].mean() > 1.5 * mean["H3K4me1"][[99, 100]].mean()
    assert mean["H3K36me3"][110:150].mean() > 2 * mean["H3K36me3"][:95].mean()
    assert mean["H3K27me3"][80:120].mean() > 2 * mean["H3K27me3"][:40].mean()
    assert mean["H3K9me3"].max() < 1.3 * mean["H3K9me3"].min()


def test_cell_types_differ_in_part(world):
    recipe, counts, target = world
    function = generating_function(recipe)
    first, second = (function.log_reads_of(counts["train"][cell]) for cell in "AB")
    assert 0.4 < pearsonr(first, second)[0] < 0.7
    assert 1.5 < target["train"].std() < 3.5
    assert abs(target["train"].mean()) < 0.3


@pytest.mark.parametrize(("shared", "low", "high"), [(0.0, -0.15, 0.15), (1.0, 0.85, 0.99)])
def test_shared_decides_how_alike_cell_types_are(shared, low, high):
    recipe = SimulateGenesRecipe(name="shared", shared=shared)
    function = generating_function(recipe)
    counts = draw_counts(recipe, "test", 400)
    assert low < pearsonr(*(function.log_reads_of(counts[cell]) for cell in "AB"))[0] < high


def test_ceiling_is_what_was_asked(world):
    recipe, counts, target = world
    noiseless = noiseless_target(counts["train"]["A"], counts["train"]["B"], recipe)
    assert pearsonr(noiseless, target["train"])[0] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(("ceiling_r", "within"), [(1.0, 1e-3), (0.98, 0.01), (0.5, 0.06)])
def test_other_ceilings(tmp_path, ceiling_r, within):
    recipe = SimulateGenesRecipe(
        name="c", storage=str(tmp_path), num_bins=20, num_genes={"train": 2000}, ceiling_r=ceiling_r
    )
    result = simulate_genes(recipe)
    assert result["ceiling"][0]["train"] == pytest.approx(ceiling_r, abs=within)
    assert (result["noise_sd"] == 0) == (ceiling_r == 1)


def test_function_reads_the_stated_bins_and_no_others(world):
    """One bin and mark changed at a time in one gene, all 1,000 of them."""
    recipe, counts, _ = world
    function = generating_function(recipe)
    gene = counts["train"]["A"][5]
    changed = np.repeat(gene[None], 1000, axis=0)
    changed.reshape(1000, 1000)[np.arange(1000), np.arange(1000)] += 3
    moved = np.abs(function.log_reads_of(changed) - function.log_reads_of(gene[None])).reshape(200, 5)
    assert np.array_equal(moved > 1e-9, function.read_bins())
    assert moved[~function.read_bins()].max() < 1e-12
    assert function.read_bins().sum(axis=0).tolist() == [24, 10, 80, 40, 60]


def test_polycomb_silences_the_promoter(world):
    """H3K4me3 raises expression, but not where H3K27me3 covers the promoter."""
    recipe, _, _ = world
    function = generating_function(recipe)
    counts = np.ones((4, 200, 5))
    peak, polycomb = recipe.marks.index("H3K4me3"), recipe.marks.index("H3K27me3")
    counts[[1, 3], 95:105, peak] = 15
    counts[2:, 95:105, polycomb] = 15
    none, active, silent, bivalent = function.log_reads_of(counts)
    assert active - none == pytest.approx(1.8 * np.log(8), rel=0.05)
    assert bivalent - silent < 0.02
    assert silent < none


def test_noiseless_target_changes_sign_with_the_order(world):
    recipe, counts, _ = world
    first, second = counts["test"]["A"], counts["test"]["B"]
    np.testing.assert_allclose(noiseless_target(first, second, recipe), -noiseless_target(second, first, recipe))
    assert not noiseless_target(first, first, recipe).any()
    with pytest.raises(RecipeError, match=r"\[genes, 200 bins, 5 marks\]"):
        noiseless_target(first[:, :, :3], second[:, :, :3], recipe)


def test_what_linear_models_reach(world):
    """Ridge on region means comes near the ceiling; the interaction keeps it below. With other genes' marks: nothing."""
    recipe, counts, target = world
    effects = generating_function(recipe).effects

    def features(split):
        levels = [
            np.log1p(counts[split][cell][:, effect.bins, column]).mean(axis=1)
            for cell in "AB"
            for column, effect in enumerate(effects)
        ]
        return np.stack(levels, axis=1)

    ceiling = pearsonr(noiseless_target(counts["test"]["A"], counts["test"]["B"], recipe), target["test"])[0]
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 5)))
    ridge.fit(features("train"), target["train"])
    reached = pearsonr(ridge.predict(features("test")), target["test"])[0]
    assert 0.85 * ceiling < reached < ceiling - 0.02
    others = np.random.default_rng(0).permutation(features("test"))
    assert abs(pearsonr(ridge.predict(others), target["test"])[0]) < 0.12


def test_other_marks_have_an_effect_of_their_own():
    recipe = SimulateGenesRecipe(name="own", marks=("H3K27ac", "H2AZ"), ceiling_r=1.0)
    function = generating_function(recipe)
    assert function.to_json()["silencing"] is None
    ac, variant = function.effects
    assert (ac.weight, ac.spans) != (variant.weight, variant.spans)
    assert all(0.7 <= abs(effect.weight) <= 1.3 for effect in function.effects)
    counts = draw_counts(recipe, "test", 300)["A"]
    for column, effect in enumerate(function.effects):
        inside = counts[:, effect.bins, column].mean()
        outside = np.delete(counts[:, :, column], effect.bins, axis=1).mean()
        assert inside > 1.5 * outside
        level = np.log1p(counts[:, effect.bins, column]).mean(axis=1)
        assert pearsonr(level, function.log_reads_of(counts))[0] * np.sign(effect.weight) > 0.3
    elsewhere = generating_function(recipe.model_copy(update={"seed": 1}))
    assert elsewhere.to_json()["marks"] != function.to_json()["marks"]


@pytest.mark.parametrize("num_bins", [20, 21, 33, 200, 401])
def test_regions_scale_with_the_bins(num_bins):
    function = generating_function(SimulateGenesRecipe(name="bins", num_bins=num_bins))
    for effect in function.effects:
        assert all(0 <= start < stop <= num_bins for start, stop in effect.spans)
        assert len(np.unique(effect.bins)) == len(effect.bins)
    (promoter,) = function.effects[1].spans
    assert promoter[0] + promoter[1] == num_bins


def test_depth_and_dispersion_scale_the_counts():
    base = SimulateGenesRecipe(name="base", num_bins=20)
    usual, deep, even = (
        draw_counts(base.model_copy(update=change), "test", 500)["A"]
        for change in ({}, {"depth": 4.0}, {"dispersion": 0.0})
    )
    assert deep.mean() / usual.mean() == pytest.approx(4, rel=0.05)
    assert even.mean() == pytest.approx(usual.mean(), rel=0.05)
    assert even.var() < 0.97 * usual.var()


def test_existing_runs(written):
    recipe, result = written
    with pytest.raises(RunExistsError):
        simulate_genes(recipe)
    assert simulate_genes(recipe, on_existing="resume") == result
    with pytest.raises(CheckpointError):
        simulate_genes(recipe.model_copy(update={"seed": 99}), on_existing="resume")
    again = simulate_genes(recipe, on_existing="overwrite")
    assert again["ceiling"] == result["ceiling"]


def test_an_unfinished_run_is_written_anew(tmp_path):
    recipe = parse_recipe(SimulateGenesRecipe, {**SMALL, "storage": str(tmp_path)})
    result = simulate_genes(recipe)
    Path(result["paths"]["folder"], "result.json").unlink()
    torn = Path(result["paths"]["cells"]["x"]["train"])
    whole = torn.read_bytes()
    torn.write_bytes(whole[:100])
    assert simulate_genes(recipe, on_existing="resume")["ceiling"] == result["ceiling"]
    assert torn.read_bytes() == whole


def test_remote_storage_is_refused():
    with pytest.raises(RecipeError, match="local folders only"):
        simulate_genes(SimulateGenesRecipe(name="far", storage="s3://bucket/runs"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell_types": ["a"]}, "cell_types"),
        ({"cell_types": ["a", "a"]}, "names must differ"),
        ({"cell_types": ["a", "b/c"]}, "letters, digits"),
        ({"marks": []}, "marks"),
        ({"marks": ["H3K4me3", "H3K4me3"]}, "names must differ"),
        ({"marks": ["H3K4me3,x"]}, "letters, digits"),
        ({"num_bins": 19}, "num_bins"),
        ({"num_genes": {"train": 1}}, "num_genes.train"),
        ({"num_genes": {"valid": 10}}, "num_genes.valid"),
        ({"ceiling_r": 1.1}, "ceiling_r"),
        ({"ceiling_r": 0.1}, "ceiling_r"),
        ({"depth": 0}, "depth"),
        ({"shared": -0.1}, "shared"),
        ({"noise": 1}, "noise: unknown setting"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(SimulateGenesRecipe, {"name": "bad", **change})


def test_example_recipe_is_valid():
    recipe = load_recipe(SimulateGenesRecipe, ROOT / "rayjobs" / "simulate-genes" / "histone.yaml")
    assert recipe.num_genes.model_dump() == {"train": 3000, "validation": 1000, "test": 1000}
