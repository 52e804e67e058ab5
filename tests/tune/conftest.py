"""Recipes and plans over the manifest of a corpus that has no files: what the pure parts need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epilm.config import parse_recipe
from epilm.corpus.manifest import CorpusContig, CorpusManifest, write_manifest
from epilm.storage import Location
from epilm.tune.plan import SweepPlan, make_maker
from epilm.tune.recipe import TuneRecipe

WINDOW_BP = 105


def base_settings(corpus: str = "runs/none", **task: Any) -> dict[str, Any]:
    """100 tokens a window (k=6, stride 1), 8 windows a step, a tenth of warm-up."""
    return {
        "name": "base",
        "task": {
            "corpus": corpus,
            "model": {"kind": "dbert", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
            "tokens": {"k": 6, "stride": 1},
            "evaluation": {"max_windows": 16},
        }
        | task,
        "train": {"steps": 100, "global_batch": 8, "num_workers": 1, "optimizer": {"warmup_steps": 10}},
    }


def tune_settings(**changes: Any) -> dict[str, Any]:
    """80 steps of 800 tokens in four parts."""
    return {
        "name": "sweep",
        "base": base_settings(),
        "space": {"train.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "budget_tokens": 64_000,
        "evaluations": 4,
        "trials": 4,
    } | changes


@pytest.fixture
def empty_corpus(tmp_path: Path) -> str:
    folder = Location(str(tmp_path)) / "corpus"
    folder.mkdir()
    contigs = (
        CorpusContig(name="chr1", end_bp=10_000, split="train"),
        CorpusContig(name="chr2", end_bp=10_000, split="held_out"),
        CorpusContig(name="chr3", end_bp=10_000, split="held_out"),
    )
    manifest = CorpusManifest(
        name="corpus",
        assembly="toy",
        contigs=contigs,
        window_bp=WINDOW_BP,
        step_bp=WINDOW_BP,
        bin_bp=200,
        chunk_bp=10_000,
        max_n_fraction=0.1,
        files=(),
    )
    write_manifest(folder, manifest)
    return str(folder)


@pytest.fixture
def make_sweep(empty_corpus: str, tmp_path: Path) -> Callable[..., tuple[TuneRecipe, SweepPlan]]:
    """A search's recipe and plan, with changes to the recipe and to its base's task."""

    def make(task: dict[str, Any] | None = None, **changes: Any) -> tuple[TuneRecipe, SweepPlan]:
        settings = tune_settings(base=base_settings(empty_corpus, **(task or {})), storage=str(tmp_path / "runs"))
        recipe = parse_recipe(TuneRecipe, settings | changes)
        return recipe, SweepPlan(make_maker(recipe), recipe.metric, recipe.seed)

    return make
