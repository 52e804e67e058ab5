"""What a study refuses when it has seen the genes, and what it tells before anything starts."""

import gzip

import pytest

from epilm.config import parse_recipe
from epilm.errors import EpilmError, RecipeError
from epilm.expression.languages import told
from epilm.expression.plan import check_expression
from epilm.expression.recipe import ExpressionRecipe, LanguageModelTrain
from epilm.simulate.gene_recipe import SimulateGenesRecipe
from epilm.simulate.genes import simulate_genes
from epilm.storage import Location
from epilm.tasks.histone_lm import HistoneLanguageTask
from epilm.train.many import TrainJob


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genes")
    paths = simulate_genes(
        SimulateGenesRecipe(
            name="genes",
            storage=str(folder),
            num_genes={"train": 20, "validation": 8, "test": 8},
            marks=("H3K4me3", "H3K27me3"),
            num_bins=20,
        )
    )["paths"]
    data = {"kind": "deepdiff", "cells": paths["cells"], "columns": ["H3K4me3", "H3K27me3"], "num_bins": 20}
    return {
        "name": "study",
        "storage": str(folder),
        "data": data,
        "expression": {"kind": "counts", "files": paths["expression"]},
        "pair": ["A", "B"],
        "ray": {"num_cpus": 4},
    }


def check(settings, **changes):
    return check_expression(parse_recipe(ExpressionRecipe, settings | changes))


def test_what_was_found_is_told(settings, tmp_path):
    whole = check(settings)
    assert whole.notes[0] == "20 train, 8 validation, 8 test genes with 2 marks in 20 bins: H3K4me3, H3K27me3"
    assert not any("left out" in note for note in whole.notes)
    assert whole.notes[-1].endswith("tokens learnt from the training genes' words")
    data = Location(settings["expression"]["files"]["A"]).read_bytes()
    lines = gzip.decompress(data).decode().splitlines(keepends=True)
    (tmp_path / "a.csv").write_text("".join(lines[1:]))  # one gene less
    files = {**settings["expression"]["files"], "A": str(tmp_path / "a.csv")}
    fewer = check(settings, expression={"kind": "counts", "files": files})
    assert "left out 1: no expression in A" in fewer.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"thresholds": [1e5, 2e5]}}, r"every bin of the 20 training genes has the same word, 'll'"),
        ({"boost": {"num_actors": 2, "cpus_per_actor": 64}}, "wants 128 CPUs, the local Ray has"),
        ({"boost": {"gpus_per_actor": 1}}, "wants 1 GPUs, the local Ray has 0"),
        ({"boost": {"num_actors": 30, "cpus_per_actor": 0}}, "cpus_per_actor"),
        ({"importance_segments": 21}, "importance_segments=21: allowed are 1 to 20"),
    ],
)
def test_what_does_not_fit_the_genes_or_the_machine_is_refused(settings, changes, message):
    with pytest.raises(RecipeError, match=message):
        check(settings, **changes)


def test_boosters_need_no_room_where_no_arm_has_one(settings):
    ridge = {"ridge": {"kind": "levels", "regressor": "ridge"}}
    assert check(settings, arms=ridge, boost={"cpus_per_actor": 64}).recipe.boost.cpus_per_actor == 64


def test_a_language_model_that_diverged_ends_the_study_with_its_name():
    task = HistoneLanguageTask.__new__(HistoneLanguageTask)
    job = TrainJob("gpt2, seed 3", task, LanguageModelTrain(), Location("nowhere"), "x")
    with pytest.raises(EpilmError, match=r"gpt2, seed 3 diverged.*optimizer.lr \(0.001\).*--overwrite"):
        told(job, {"best": {"token_loss": None, "token_accuracy": 0.0}})
    assert told(job, {"best": {"token_loss": 4.9, "token_accuracy": 0.085}}).endswith("4.900 nats a token, 8.5% right")
