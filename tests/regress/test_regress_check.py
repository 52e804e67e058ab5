"""What is wrong with the input is said by ``check_regress``, which reads files and starts nothing."""

import numpy as np
import pandas as pd
import pytest
from regress_toy import write_embeddings

from epilm.config import load_recipe, parse_recipe
from epilm.corpus.manifest import write_manifest
from epilm.errors import EpilmError, LeakError, RecipeError
from epilm.regress.boost import actor_bytes, fits_at_once
from epilm.regress.prepare import check_regress
from epilm.regress.recipe import Boost, RegressRecipe
from epilm.regress.run import run_regress
from epilm.storage import Location


@pytest.fixture
def expression(toy):
    return pd.read_csv(toy.paths["expression"], sep="\t")


def embeddings(toy, folder, **model):
    intervals = toy.intervals()
    return str(write_embeddings(folder, intervals, np.zeros((intervals.num_rows, 1, 2)), **model))


def test_a_checked_regression(toy):
    plan = check_regress(toy.recipe(features={"states": {"kind": "state_fractions"}, "k": {"kind": "kmers", "k": 2}}))
    assert {label: len(maker.columns) for label, maker in plan.makers.items()} == {
        "states": 7,
        "k": 16,
    }  # six states and "no data"
    assert sum(plan.num_rows.values()) == len(plan.rows) == toy.intervals().num_rows * 3
    assert set(plan.rows["chrom"][plan.rows["split"] == "test"]) == {"chr3"}


def test_missing_values_are_left_out_and_counted(toy, expression, tmp_path):
    expression.loc[::7, "expression"] = np.nan
    expression.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    plan = check_regress(toy.recipe(target={"path": str(tmp_path / "t.tsv"), "cell_type": "cell_type"}))
    assert plan.left_out["target_values_missing"] == expression["expression"].isna().sum()
    assert len(plan.rows) == expression["expression"].notna().sum()
    assert np.isfinite(plan.rows["target"]).all()


def test_the_target_is_joined_with_its_interval(toy, expression):
    rows = check_regress(toy.recipe()).rows
    joined = rows.merge(expression, left_on=["id", "cell_type"], right_on=["gene_id", "cell_type"])
    np.testing.assert_allclose(joined["target"], joined["expression"])
    assert len(joined) == len(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": "nowhere"}, "no corpus at"),
        ({"target": {"path": "nowhere.tsv"}}, r"nowhere\.tsv does not exist"),
        ({"cell_type": "kidney"}, "Leave cell_type out"),
        ({"features": {"e": {"kind": "embeddings", "path": "nowhere"}}}, "no embeddings at"),
        ({"block_bp": 10_000_000, "intervals": {"kind": "windows"}}, "no id of the target is an id of the intervals"),
        ({"boost": {"num_actors": 900}}, r"rows for boost\.num_actors=900: use fewer actors"),
    ],
)
def test_wrong_recipes(toy, changes, message):
    with pytest.raises(EpilmError, match=message):
        check_regress(toy.recipe(**changes))


def test_a_refused_run_leaves_no_folder(toy):
    with pytest.raises(RecipeError, match="does not exist"):
        run_regress(toy.recipe(name="refused", target={"path": "nowhere.tsv"}))
    with pytest.raises(RecipeError, match=r"wants 900 CPUs, the local Ray has"):
        run_regress(toy.recipe(name="refused", boost={"cpus_per_actor": 900}))
    assert not (toy.runs / "refused").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gene_id", "x", "no id of the target"),
        ("cell_type", "kidney", r"none of the target's cell types \(kidney\)"),
        ("expression", np.nan, r"none of the \d+ rows has a value"),
    ],
)
def test_wrong_columns(toy, expression, tmp_path, column, value, message):
    table = expression.drop_duplicates("gene_id").assign(**{column: value})
    if column == "gene_id":
        table[column] = [f"x{i}" for i in range(len(table))]
    table.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    with pytest.raises(RecipeError, match=message):
        check_regress(toy.recipe(target={"path": str(tmp_path / "t.tsv"), "cell_type": "cell_type"}))


def test_intervals_with_one_id_twice(toy, tmp_path):
    (tmp_path / "genes.bed").write_text("chr1\t5000\t6000\tg\t0\t+\nchr2\t5000\t6000\tg\t0\t+\n")
    with pytest.raises(EpilmError, match=r"'g'"):
        check_regress(toy.recipe(intervals={"kind": "promoters", "genes": str(tmp_path / "genes.bed")}))


def test_a_corpus_without_states_or_held_out_contigs(toy, tmp_path):
    bare = toy.manifest.model_copy(update={"cell_types": (), "state_names": ()})
    write_manifest(Location(str(tmp_path / "bare")).mkdir(), bare)
    with pytest.raises(RecipeError, match=r"features\.states: the corpus .*bare has no states"):
        check_regress(toy.recipe(corpus=str(tmp_path / "bare")))
    contigs = tuple(contig.model_copy(update={"split": "train"}) for contig in toy.manifest.contigs)
    write_manifest(Location(str(tmp_path / "all")).mkdir(), toy.manifest.model_copy(update={"contigs": contigs}))
    with pytest.raises(RecipeError, match="no row to test on: the corpus holds out no contig"):
        check_regress(toy.recipe(corpus=str(tmp_path / "all")))


def test_embeddings_of_a_model_that_saw_the_test_contigs(toy, tmp_path):
    path = embeddings(toy, tmp_path / "leaky", trained_contigs=["chr1", "chr3"])
    features = {"e": {"kind": "embeddings", "path": path}}
    with pytest.raises(
        LeakError, match=r"features\.e: .* was trained on chr1, chr3, on which .* test rows lie \(chr3\)"
    ):
        check_regress(toy.recipe(features=features))
    plan = check_regress(toy.recipe(features=features, allow_overlap=True))
    assert len(plan.leaks) == 1
    assert "chr3" in plan.leaks[0]
    honest = {"e": {"kind": "embeddings", "path": embeddings(toy, tmp_path / "honest")}}
    assert check_regress(toy.recipe(features=honest)).leaks == []


def test_rows_without_an_embedding_are_left_out_of_every_feature_set(toy, tmp_path):
    intervals = toy.intervals()
    kept = intervals.slice(5)
    path = write_embeddings(tmp_path / "some", kept, np.zeros((kept.num_rows, 1, 2)))
    features = {"e": {"kind": "embeddings", "path": str(path)}, "states": {"kind": "state_fractions"}}
    plan = check_regress(toy.recipe(features=features))
    assert plan.left_out["rows_without_embedding"] == {"e": 15}
    assert len(plan.rows) == 3 * kept.num_rows
    assert plan.rows["row"].tolist() == list(range(len(plan.rows)))
    only_train = intervals.slice(0, 20)
    path = write_embeddings(tmp_path / "few", only_train, np.zeros((20, 1, 2)))
    with pytest.raises(RecipeError, match="no test row has all the embeddings"):
        check_regress(toy.recipe(features={"e": {"kind": "embeddings", "path": str(path)}}))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"mean": {"kind": "kmers"}}, "label 'mean'"),
        ({"a/b": {"kind": "kmers"}}, "label 'a/b'"),
        ({"j": {"kind": "join", "of": ["k", "x"]}, "k": {"kind": "kmers"}}, r"j joins 'x'; allowed are .*\['k'\]"),
        ({"j": {"kind": "join", "of": ["k", "k"]}, "k": {"kind": "kmers"}}, "joins a feature set with itself"),
        ({"k": {"kind": "kmers", "k": 8}}, r"less than or equal to 7"),
        ({}, "at least 1"),
    ],
)
def test_feature_sets_that_no_recipe_may_have(toy, features, message):
    with pytest.raises(RecipeError, match=message):
        toy.recipe(features=features)


def test_fits_side_by_side_are_as_many_as_the_cluster_holds():
    config = parse_recipe(Boost, {"num_actors": 2, "cpus_per_actor": 3})
    assert fits_at_once(config, {"CPU": 19.0}) == 3
    assert fits_at_once(config, {"CPU": 1.0}) == 1
    gpus = config.model_copy(update={"gpus_per_actor": 1})
    assert fits_at_once(gpus, {"CPU": 64.0, "GPU": 5.0}) == 2


def test_wide_tables_in_many_bins_are_fitted_as_far_as_memory_reaches():
    """Four fits of 400 genes by 19,872 embeddings with xgboost's defaults were seen to fill 24 GB."""
    xgboosts_own = parse_recipe(Boost, {"max_bin": 256, "max_depth": 6})
    assert 5e9 < actor_bytes(xgboosts_own, 400, 19_872) < 7e9
    there = {"CPU": 4.0, "memory": 14e9}
    assert fits_at_once(xgboosts_own, there, 400, 19_872) == 2
    assert fits_at_once(xgboosts_own, there, 400, 1_000) == 4
    assert fits_at_once(xgboosts_own, {"CPU": 4.0, "memory": 1e9}, 400, 19_872) == 1
    assert fits_at_once(parse_recipe(Boost, {}), there, 400, 19_872) == 4, "64 bins and depth 4 are small"


def test_recipes_of_the_folder_are_valid():
    from pathlib import Path

    recipes = sorted((Path(__file__).parents[2] / "rayjobs" / "regress").glob("*.yaml"))
    assert recipes
    for path in recipes:
        load_recipe(RegressRecipe, path)
