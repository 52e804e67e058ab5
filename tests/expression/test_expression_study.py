"""The whole study on a few simulated genes: every kind of arm, the published protocol, importances, resume."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import xgboost
from transformers import AutoModelForCausalLM

from epilm.config import parse_recipe
from epilm.errors import RunExistsError
from epilm.expression.recipe import ExpressionRecipe
from epilm.expression.run import run_expression
from epilm.expression.scores import pearson
from epilm.simulate.gene_recipe import SimulateGenesRecipe
from epilm.simulate.genes import simulate_genes
from epilm.storage import Location
from epilm.tasks.gene_table import GeneTable

pytestmark = [pytest.mark.ray, pytest.mark.training]

SMALL = {
    "hidden": 8,
    "layers": 1,
    "heads": 2,
    "context": 16,
    "train": {"steps": 3, "global_batch": 8, "micro_batch": 8},
}
TRAIN = {"steps": 4, "global_batch": 8, "micro_batch": 8, "eval_every_steps": 2, "optimizer": {"warmup_steps": 0}}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> ExpressionRecipe:
    folder = tmp_path_factory.mktemp("study")
    simulated = simulate_genes(
        SimulateGenesRecipe(
            name="genes",
            storage=str(folder),
            num_genes={"train": 40, "validation": 20, "test": 20},
            marks=("H3K4me3", "H3K27me3"),
            num_bins=20,
        )
    )["paths"]
    return parse_recipe(
        ExpressionRecipe,
        {
            "name": "study",
            "storage": str(folder),
            "data": {
                "kind": "deepdiff",
                "cells": simulated["cells"],
                "columns": ["H3K4me3", "H3K27me3"],
                "num_bins": 20,
            },
            "expression": {"kind": "counts", "files": simulated["expression"]},
            "pair": ["A", "B"],
            "words": {"vocab_size": 280},
            "models": {"gpt2": {"kind": "gpt2", **SMALL}, "roberta": {"kind": "roberta", **SMALL}},
            "arms": {
                "raw_tokens": {"kind": "tokens", "inputs": ["raw_c"]},
                "levels": {"kind": "levels", "inputs": ["raw_c"], "segments": 5, "antisymmetric": True},
                "static": {"kind": "static", "inputs": ["raw"]},
                "contextual": {"kind": "contextual", "model": "roberta", "inputs": ["raw_d"], "pooling": "mean"},
                "end_to_end": {
                    "kind": "end_to_end",
                    "inputs": ["raw"],
                    "head": {"segments": 4},
                    "train": TRAIN,
                    "antisymmetric": True,
                },
                "ridge": {"kind": "levels", "regressor": "ridge", "inputs": ["raw"]},
                "deepdiff": {"kind": "deepdiff", "inputs": ["raw_c"], "shape": {"aux": True}, "train": TRAIN},
            },
            "boost": {"max_rounds": 10, "early_stopping_rounds": 3},
            "seeds": [3, 4],
            "published": {
                "num_tokens": 22,
                "model": {"kind": "gpt2", "texts": ["cells"], "genes": ["train", "validation"], **SMALL},
            },
            "importance": {"end_to_end": "raw", "levels": "raw_c", "ridge": "raw", "deepdiff": "raw_c"},
            "importance_segments": 4,
            "num_bootstrap": 50,
            "max_concurrent": 1,
        },
    )


@pytest.fixture(scope="module")
def run(recipe, ray_local):
    messages: list[str] = []
    return run_expression(recipe, progress=messages.append), messages


@pytest.fixture
def folder(recipe) -> Location:
    return Location(recipe.storage) / recipe.name


def test_every_row_is_scored_from_its_seeds(run):
    result, _ = run
    rows = {row["arm"]: row for row in result["rows"]}
    assert list(rows) == ["raw_tokens", "levels", "static", "contextual", "end_to_end", "ridge", "deepdiff"]
    for arm, row in rows.items():
        assert row["seeds"] == ([3] if arm == "ridge" else [3, 4])
        assert len(row["test"]["values"]) == len(row["chosen"]) == len(row["seeds"])
    assert result["num_genes"] == {"train": 40, "validation": 20, "test": 20}
    assert {margin["second"]["arm"] for margin in result["margins"]} == {"deepdiff"}
    assert {row["arm"] for row in result["published"]["rows"]} == {"raw_tokens", "gpt2_static"}
    assert "rounds" in rows["static"]["chosen"][0]
    assert rows["end_to_end"]["chosen"][0]["step"] in (2, 4)


def test_the_best_row_is_chosen_on_validation(run):
    result, _ = run
    known = [row for row in result["rows"] if row["kind"] != "deepdiff" and row["validation"]["mean"] is not None]
    best = max(known, key=lambda row: row["validation"]["mean"])
    assert result["best"] == {"arm": best["arm"], "inputs": best["inputs"]}


def test_predictions_carry_gene_ids_in_the_datas_order(run, recipe, folder):
    result, _ = run
    table = pq.read_table((folder / "predictions.parquet").path).to_pandas()
    genes = pq.read_table((folder / "genes.parquet").path, columns=["gene_id", "split", "target"]).to_pandas()
    asked = genes[genes["split"] != "train"]
    for (arm, inputs, seed), part in table.groupby(["arm", "inputs", "seed"]):
        assert part["gene_id"].tolist() == asked["gene_id"].tolist(), (arm, inputs, seed)
        np.testing.assert_array_equal(part["target"], asked["target"])
    row = next(row for row in result["rows"] if row["arm"] == "ridge")
    part = table[(table["arm"] == "ridge") & (table["split"] == "test")]
    r = float(pearson(part["target"].to_numpy(), part["prediction"].to_numpy()))
    assert abs(row["test"]["values"][0] - r) < 1e-6


def test_predictions_from_both_orders_are_half_their_difference(run, recipe, folder):
    """From the kept boosters, in plain xgboost, on segments' means made here."""
    genes = GeneTable(folder / "genes.parquet", "again").genes
    first, second = (values.reshape(80, 5, 4, 2).mean(2).reshape(80, 10) for values in (genes.first, genes.second))
    table = pq.read_table((folder / "predictions.parquet").path).to_pandas()
    for seed in (3, 4):
        booster = xgboost.Booster(model_file=(folder / "boosters" / "levels" / "raw_c" / f"seed-{seed}.json").path)
        names = [
            f"{of}.s{s:02d}.{mark}" for of in ("first", "second") for s in range(5) for mark in recipe.data.columns
        ]
        assert sorted(names) == booster.feature_names
        given, exchanged = (
            booster.predict(xgboost.DMatrix(np.hstack(both)[:, np.argsort(names)], feature_names=booster.feature_names))
            for both in ((first, second), (second, first))
        )
        kept = table[(table["arm"] == "levels") & (table["seed"] == seed)]["prediction"].to_numpy()
        np.testing.assert_allclose(kept, ((given - exchanged) / 2)[genes.split != "train"], atol=1e-6)
        assert np.ptp(kept) > 0.01


def test_importances_are_maps_of_marks_and_bins(run):
    result, _ = run
    assert [entry["arm"] for entry in result["importance"]] == ["end_to_end", "levels", "ridge", "deepdiff"]
    for entry in result["importance"]:
        assert entry["edges"] == [0, 5, 10, 15, 20]
        assert np.shape(entry["values"]) == (2, 4)
        assert np.isfinite(entry["values"]).all()
    assert np.max(result["importance"][2]["values"]) > 0


def test_the_language_model_loads_in_transformers(run, folder):
    model = AutoModelForCausalLM.from_pretrained((folder / "models" / "gpt2" / "seed-3" / "model").path)
    assert model.config.n_embd == 8


def test_progress_tells_what_was_reached(run):
    _, messages = run
    assert any("training 1 of 8" in message for message in messages)
    assert any(message.lstrip("[ 0123456789.min]").startswith("deepdiff raw_c: validation r") for message in messages)


def test_a_study_goes_on_where_it_stopped(run, recipe, folder, ray_local):
    """Without its result, and without one row's predictions and one network's weights, it makes only these again."""
    before, _ = run
    (folder / "result.json").delete()
    (folder / "parts" / "end_to_end").delete()
    (folder / "networks" / "end_to_end" / "raw" / "seed-4").delete()
    with pytest.raises(RunExistsError):
        run_expression(recipe)
    kept = (folder / "networks" / "end_to_end" / "raw" / "seed-3" / "model" / "model.safetensors").sha256()
    messages: list[str] = []
    after = run_expression(recipe, on_existing="resume", progress=messages.append)
    same = ("rows", "margins", "importance", "published")
    assert json.dumps([rounded(after[k]) for k in same]) == json.dumps([rounded(before[k]) for k in same])
    assert (folder / "networks" / "end_to_end" / "raw" / "seed-3" / "model" / "model.safetensors").sha256() == kept
    assert not any("deepdiff raw_c: validation" in message for message in messages)


def rounded(value):
    """Without seconds, which differ."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items() if key != "seconds"}
    return [rounded(item) for item in value] if isinstance(value, list) else value
