"""A real search of two tiny trials with early stop, and its confirmation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epilm.config import load_recipe, parse_recipe
from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.errors import RecipeError
from epilm.hashing import hash_u64
from epilm.runs import read_metrics
from epilm.storage import Location
from epilm.train.recipe import PretrainRecipe
from epilm.tune.check import check_tune
from epilm.tune.recipe import TuneRecipe
from epilm.tune.sweep import run_tune

pytestmark = pytest.mark.training

STEPS, BATCH, TOKENS = 8, 8, 98


@pytest.fixture(scope="module")
def corpus(ray_local, tmp_path_factory) -> str:
    """Windows of 100 bp of random DNA: 98 overlapping 3-mers; chr2 to choose by, chr3 for the test."""
    folder: Path = tmp_path_factory.mktemp("sweep-corpus")
    contigs = {"chr1": 6_000, "chr2": 2_000, "chr3": 2_000}
    bases = ["".join("ACGT"[x] for x in (hash_u64(i, range(n)) % 4)) for i, n in enumerate(contigs.values())]
    (folder / "toy.fa").write_text("".join(f">{name}\n{dna}\n" for name, dna in zip(contigs, bases, strict=True)))
    settings = {
        "name": "corpus",
        "storage": str(folder),
        "assembly": "toy",
        "genome": {"path": str(folder / "toy.fa")},
        "window_bp": TOKENS + 2,
        "held_out_contigs": ["chr2", "chr3"],
        "rows_per_group": 32,
    }
    build_corpus(CorpusRecipe.model_validate(settings))
    return str(folder / "corpus")


def search(corpus: str, storage: Path, *, mask: dict | None = None, **changes) -> TuneRecipe:
    """The recipe of a search of two trials over learning rate and policy."""
    settings = {
        "name": "sweep",
        "storage": os.path.relpath(storage),  # Tune runs trials in folders of their own
        "seed": 3,
        "base": {
            "name": "base",
            "task": {
                "corpus": corpus,
                "model": {"kind": "dbert", "hidden_size": 8, "num_layers": 1, "num_heads": 1, "dropout": 0.0},
                "tokens": {"k": 3, "stride": 1},
                "dna_mask": mask or {},
                "evaluation": {"max_windows": 8, "test_contigs": ["chr3"]},
            },
            "train": {"steps": STEPS, "global_batch": BATCH, "num_workers": 1, "threads_per_worker": 1},
        },
        "space": {
            "train.optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
            "task.dna_mask.policy": {"values": ["uniform", "span"]},
        },
        "budget_tokens": STEPS * BATCH * TOKENS,
        "evaluations": 2,
        "trials": 2,
        "max_concurrent": 2,
        "asha": {"grace": 1, "reduction_factor": 2},
        "confirm": {"seeds": 1, "baseline": {"task.dna_mask.policy": "uniform", "task.dna_mask.rate": 0.3}},
    }
    return parse_recipe(TuneRecipe, settings | changes)


@pytest.fixture(scope="module")
def sweep(corpus, tmp_path_factory):
    """(result, lines of progress, run folder)."""
    recipe = search(corpus, tmp_path_factory.mktemp("sweep-runs"))
    lines: list[str] = []
    result = run_tune(recipe, progress=lines.append)
    return result, lines, Location(recipe.storage) / recipe.name


def test_a_trial_that_pretraining_would_refuse_is_refused_before_the_first(corpus, tmp_path) -> None:
    """Each value alone is fine; it is the pair, the budget, or the baseline over the winner that is not."""
    table = str(tmp_path / "scores.parquet")
    words = ["".join("ACGT"[code >> s & 3] for s in (4, 2, 0)) for code in range(64)]
    pq.write_table(pa.table({"kmer": words, "count": [1000] * 64, "npmi": np.linspace(2, 1, 64)}), table)
    check_tune(search(corpus, tmp_path))
    centres = {"values": [0.02, 0.1]}
    pair = {"task.tokens.k": {"values": [3, 8]}, "task.dna_mask.span.centre_probability": centres}
    with pytest.raises(RecipeError, match=r"space, at .*\n?.*centre_probability"):
        check_tune(search(corpus, tmp_path, mask={"policy": "span"}, space=pair, budget_tokens=100_000))
    gems = {"policy": "cm-gems", "table": table, "cm_gems": {"window_steps": 4}}
    only_rate = {"train.optimizer.lr": {"low": 1e-4, "high": 1e-1}}
    with pytest.raises(RecipeError, match="can never move on"):
        check_tune(search(corpus, tmp_path, mask=gems, space=only_rate))
    large = {"seeds": 1, "baseline": {"train.global_batch": 48_000}}
    with pytest.raises(RecipeError, match="equal evaluations"):
        check_tune(search(corpus, tmp_path, confirm=large))
    with pytest.raises(RecipeError, match="Did you mean 'base_loss'"):
        check_tune(search(corpus, tmp_path, metric="held_out_contigs/base_los"))


def test_a_search_ends_with_its_best_trial(sweep):
    result, lines, folder = sweep
    trials = {trial["id"]: trial for trial in result["trials"]}
    assert sorted(trials) == ["t000", "t001"]
    finished = {id_: t for id_, t in trials.items() if t["status"] == "finished"}
    assert {t["status"] for t in trials.values()} <= {"finished", "stopped"}
    for trial in finished.values():
        assert [(e["index"], e["tokens"]) for e in trial["evaluations"]] == [(1, 3136), (2, 6272)]
    best = result["best"]
    assert best["value"] == min(t["value"] for t in finished.values())
    assert trials[best["id"]]["parameters"] == best["parameters"]
    assert 1.2 < best["value"] < 1.6, "random DNA: about ln 4"
    assert result["spent"]["tokens_without_stopping"] == 2 * 6272
    assert result["importance"] is None
    assert load_recipe(PretrainRecipe, f"{folder}/best.yaml").train.steps == STEPS
    assert sum("starts" in line for line in lines) == 4
    assert json.loads((folder / "result.json").read_text()) == result


def test_the_confirmation_reads_the_test_set_and_the_search_does_not(sweep):
    result, _, folder = sweep
    confirm = result["confirm"]
    assert [arm["name"] for arm in confirm["arms"]] == ["best", "baseline"]
    for arm in confirm["arms"]:
        (run,) = arm["runs"]
        assert run["seed"] == 4, "a seed that the search did not use"
        assert {"held_out_contigs/base_loss", "test_contigs/base_loss"} <= set(run["metrics"])
        sets = [r["set"] for r in read_metrics(folder / run["run"]) if r["kind"] == "eval"]
        assert sets.count("test_contigs") == 1
    for trial in result["trials"]:
        records = read_metrics(folder / trial["run"])
        assert {r["set"] for r in records if r["kind"] == "eval"} == {"held_out_contigs"}
    margin = next(m for m in confirm["margins"] if m["metric"] == "test_contigs/base_loss")
    values = {arm["name"]: arm["runs"][0]["metrics"]["test_contigs/base_loss"] for arm in confirm["arms"]}
    assert margin["mean"] == pytest.approx(values["best"] - values["baseline"])
