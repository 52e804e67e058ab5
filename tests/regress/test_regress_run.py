"""Whole regressions on a local Ray, against the truth that was planted."""

import json

import numpy as np
import pandas as pd
import pytest
from regress_toy import write_embeddings

from epilm.errors import CheckpointError, CorpusError, RunExistsError
from epilm.regress.run import run_regress

pytestmark = pytest.mark.ray

DIM = 12
"""More than ten, so that the order of e0, e1, e10, e2 by name is not that of the columns."""


@pytest.fixture(scope="module")
def features(toy, tmp_path_factory):
    """State fractions, k-mers, and embeddings that hold the gene's mean expression in dimension 10 and noise elsewhere."""
    table = pd.read_csv(toy.paths["expression"], sep="\t")
    level = table.groupby("gene_id")["expression"].mean()
    intervals = toy.intervals()
    values = np.random.default_rng(0).normal(size=(intervals.num_rows, 1, DIM))
    values[:, 0, 10] = level.reindex(intervals.column("id").to_pylist())
    path = write_embeddings(tmp_path_factory.mktemp("embeddings") / "e", intervals, values)
    return {
        "states": {"kind": "state_fractions"},
        "kmers": {"kind": "kmers", "k": 3},
        "told": {"kind": "embeddings", "path": str(path)},
    }


@pytest.fixture(scope="module")
def whole(toy, features):
    """One uninterrupted run, its folder and its result."""
    result = run_regress(toy.recipe(name="whole", features=features))
    return toy.runs / "whole", result


def predictions(folder):
    return pd.read_parquet(folder / "predictions.parquet")


def test_known_truth_is_found(whole):
    """Expression needs the states of the cell; DNA alone, equal in all cells, cannot tell them apart."""
    _, result = whole
    pearson = {label: scored["pearson"]["value"] for label, scored in result["features"].items()}
    assert pearson["states"] > 0.65  # 0.9 is the ceiling that the simulation's noise sets
    assert pearson["states"] > pearson["kmers"] + 0.3
    assert pearson["told"] > 0.4  # one level a gene, the same in all its cells
    assert next(iter(result["features"]["told"]["top_gain"])) == "e10"
    assert result["features"]["states"]["r2"]["value"] > 0.4
    assert abs(result["features"]["mean"]["r2"]["value"]) < 0.05
    assert pearson["mean"] is None
    states = result["features"]["states"]["pearson"]
    assert states["low"] < states["value"] < states["high"]
    assert result["test_contigs"] == ["chr3"]
    assert result["overlap"] == []
    assert [(d["first"], d["second"]) for d in result["differences"]] == [
        ("states", "kmers"),
        ("states", "told"),
        ("kmers", "told"),
    ]


def test_the_folder_holds_what_the_result_says(whole):
    folder, result = whole
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    assert not (folder / "features").exists()
    rows = pd.read_parquet(folder / "rows.parquet")
    assert rows["split"].value_counts().to_dict() == result["num_rows"]
    scored = predictions(folder)
    assert set(scored["chrom"]) == {"chr3"}
    for label in ("states", "kmers", "told"):
        r = np.corrcoef(scored["target"], scored[label])[0, 1]
        assert r == pytest.approx(result["features"][label]["pearson"]["value"], abs=1e-4)


def test_a_killed_run_goes_on_without_fitting_again(toy, features, whole):
    """It stops after its first booster; the resumed run fits the others alone, and predicts what the whole run did."""
    recipe = toy.recipe(name="killed", features=features)

    def stop(message):
        if "rounds" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_regress(recipe, progress=stop)
    (done,) = (toy.runs / "killed" / "boosters").glob("*/*.json")
    written = done.stat().st_mtime_ns
    with pytest.raises(RunExistsError, match="--resume"):
        run_regress(recipe)
    with pytest.raises(CheckpointError, match="recipe fingerprint"):
        run_regress(toy.recipe(name="killed", features=features, seed=1), on_existing="resume")
    messages = []
    result = run_regress(recipe, on_existing="resume", progress=messages.append)
    assert "1 of 3 boosters are there already" in messages
    assert sum("rounds" in message for message in messages) == 2
    assert any("wrote 0 of 9 files" in message for message in messages)
    assert done.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(predictions(toy.runs / "killed"), predictions(whole[0]))
    for label, scored in whole[1]["features"].items():
        assert result["features"][label] == scored


def test_two_actors_and_two_seeds(toy):
    recipe = toy.recipe(name="two", num_seeds=2, rows_per_part=40, boost={"num_actors": 2, "max_rounds": 40})
    result = run_regress(recipe)
    scored = result["features"]["states"]
    assert scored["pearson"]["value"] > 0.6
    assert len(scored["seeds"]["pearson"]["values"]) == len(scored["rounds_by_seed"]) == 2
    assert scored["seeds"]["pearson"]["sd"] > 0
    assert len(predictions(toy.runs / "two")) == result["num_rows"]["test"]


def test_a_corrupted_shard_is_named(toy, tmp_path):
    import shutil

    corpus = tmp_path / "corpus"
    shutil.copytree(toy.corpus, corpus)
    for path in corpus.glob("contigs/**/*.parquet"):
        data = bytearray(path.read_bytes())
        data[200:2000] = bytes(1800)
        path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"^corrupted shard[^\0]*--resume\)\.$"):
        run_regress(toy.recipe(name="corrupted", corpus=str(corpus)))
