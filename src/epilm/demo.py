"""``epilm demo``: the whole way on a simulated epigenome whose truth is known, in minutes on two cores.

simulate -> corpus -> pretrain EBERT and DBERT -> embed promoters -> regress expression -> report. Every stage runs as it
would from its own recipe; the recipes are in the stages' folders (``recipe.resolved.yaml``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pydantic import Field

from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.predict.embed import run_embed
from epilm.predict.recipe import EmbedRecipe
from epilm.regress.recipe import RegressRecipe
from epilm.regress.run import run_regress
from epilm.report import build_report
from epilm.runs import OnExisting, Recipe, Run, open_run, read_metrics
from epilm.session import ray_session
from epilm.simulate.epigenome import simulate
from epilm.simulate.recipe import SimulateRecipe
from epilm.storage import Location
from epilm.train.pretrain import MODEL_FOLDER, pretrain
from epilm.train.recipe import PretrainRecipe

Progress = Callable[[str], None]

MODELS = ("ebert", "dbert")


class DemoRecipe(Recipe):
    """Sizes of the demo; the defaults take minutes on two cores."""

    name: str = "demo"
    simulation: SimulateRecipe = SimulateRecipe(name="simulate")
    """The toy epigenome; its seed and place are the demo's."""
    held_out_contigs: tuple[str, ...] = ("chr5", "chr6")
    """What no model is trained on: where states are predicted and expression is scored."""
    held_out_cell_type: str = "brain"
    """The cell type that no model is shown."""
    steps: int = Field(default=300, ge=1)
    """Optimizer steps of each model."""
    global_batch: int = Field(default=64, ge=1)
    num_seeds: int = Field(default=2, ge=1)
    """Boosters behind each regression."""


def run_demo(
    recipe: DemoRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run every stage into ``<storage>/<name>/<stage>`` and report on them.

    Returns:
        ``summary`` (the content of ``result.json``), and the places ``report`` and ``folder``.

    Raises:
        EpilmError: the folder exists, or a stage refuses.
    """
    began = time.monotonic()
    run = open_run(recipe, stage="demo", on_existing=on_existing)
    with ray_session(recipe.ray):
        stages = _Stages(recipe, run, "resume" if run.resumed else "refuse", progress)
        results = stages.run()
    report = build_report(stages.folders, run.folder / "report.html", title="epilm demo: a toy epigenome, known truth")
    summary = run.finish(
        {
            "stage": "demo",
            "seed": recipe.seed,
            **summarise(run.folder, results),
            "seconds": round(time.monotonic() - began, 1),
        }
    )
    return {"summary": summary, "report": str(report), "folder": str(run.folder)}


class _Stages:
    """The demo's stages in order; each finds its inputs in the folders of those before."""

    def __init__(self, recipe: DemoRecipe, run: Run, on_existing: OnExisting, progress: Progress) -> None:
        self.recipe, self.folder = recipe, run.folder
        self.common = {"storage": str(run.folder), "seed": recipe.seed, "ray": recipe.ray}
        self.options: dict[str, Any] = {"on_existing": on_existing, "progress": progress}
        self.progress = progress
        self.folders: list[Location] = []

    def run(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        simulation = self.recipe.simulation.model_copy(update={"name": "simulate", **self.common})
        toy = self._stage("simulate", simulate, simulation)["paths"]
        self._stage("corpus", build_corpus, self._corpus(toy))
        for kind in MODELS:
            results[f"pretrain-{kind}"] = self._stage(f"pretrain-{kind}", pretrain, self._pretrain(kind))
            self._stage(f"embed-{kind}", run_embed, self._embed(kind, toy))
        results["regress"] = self._stage("regress", run_regress, self._regress(toy))
        return results

    def _stage(self, name: str, function: Callable[..., Any], recipe: Recipe) -> Any:
        """Run a stage, or take its result where a former run finished it."""
        folder, began = self.folder / name, time.monotonic()
        self.folders.append(folder)
        done = folder / "result.json"
        if done.exists() and name != "simulate":  # the simulation also returns where its files lie
            self.progress(f"== {name}: done before")
            return done.read_json()
        self.progress(f"== {name}")
        result = function(recipe, **self.options)
        self.progress(f"== {name}: {time.monotonic() - began:.0f} s")
        return result

    def _corpus(self, toy: dict[str, Any]) -> CorpusRecipe:
        return CorpusRecipe.model_validate(
            {
                **self.common,
                "name": "corpus",
                "assembly": "toy",
                "genome": {"path": toy["genome"]},
                "states": {"kind": "segments", "files": toy["states"]},
                "window_bp": 1000,
                "step_bp": 500,
                "bin_bp": self.recipe.simulation.bin_bp,
                "held_out_contigs": self.recipe.held_out_contigs,
                "held_out_cell_types": [self.recipe.held_out_cell_type],
                "rows_per_group": 64,
            }
        )

    def _pretrain(self, kind: str) -> PretrainRecipe:
        steps = self.recipe.steps
        return PretrainRecipe.model_validate(
            {
                **self.common,
                "name": f"pretrain-{kind}",
                "task": {
                    "corpus": str(self.folder / "corpus"),
                    "model": {"kind": kind, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "dropout": 0.0},
                    "tokens": {"k": 4},
                    "reverse_complement": True,
                    "evaluation": {"max_windows": 1024},
                },
                "train": {
                    "steps": steps,
                    "global_batch": self.recipe.global_batch,
                    "num_workers": 2,
                    "optimizer": {"lr": 2e-3, "warmup_steps": steps // 10, "schedule": "cosine"},
                    "eval_every_steps": max(1, steps // 3),
                },
            }
        )

    def _promoters(self, toy: dict[str, Any]) -> dict[str, Any]:
        return {"kind": "promoters", "genes": toy["genes"], "upstream_bp": 500, "downstream_bp": 500}

    def _embed(self, kind: str, toy: dict[str, Any]) -> EmbedRecipe:
        return EmbedRecipe.model_validate(
            {
                **self.common,
                "name": f"embed-{kind}",
                "model": str(self.folder / f"pretrain-{kind}" / MODEL_FOLDER),
                "corpus": str(self.folder / "corpus"),
                "intervals": self._promoters(toy),
                "cpus_per_worker": 2,
            }
        )

    def _regress(self, toy: dict[str, Any]) -> RegressRecipe:
        embeddings = {k: {"kind": "embeddings", "path": str(self.folder / f"embed-{k}")} for k in MODELS}
        return RegressRecipe.model_validate(
            {
                **self.common,
                "name": "regress",
                "corpus": str(self.folder / "corpus"),
                "intervals": self._promoters(toy),
                "target": {"path": toy["expression"], "cell_type": "cell_type"},
                "features": {
                    **embeddings,
                    "kmers": {"kind": "kmers", "k": 4},
                    "state_fractions": {"kind": "state_fractions"},
                },
                "num_seeds": self.recipe.num_seeds,
            }
        )


def summarise(folder: Location, results: dict[str, Any]) -> dict[str, float]:
    """The demo's figures: accuracies on the held-out contigs, and Pearson's r of expression on them."""
    last = {}
    for kind in MODELS:
        evaluations = [r for r in read_metrics(folder / f"pretrain-{kind}") if r["kind"] == "eval"]
        last[kind] = [r for r in evaluations if r["set"] == "held_out_contigs"][-1]
    ebert, features = last["ebert"], results["regress"]["features"]
    return {
        "ebert_state_accuracy": ebert["state_accuracy"],
        "copy_state_accuracy": ebert["copy_state_accuracy"],
        "majority_state_accuracy": ebert["majority_state_accuracy"],
        "ebert_dna_accuracy": ebert["dna_accuracy"],
        "dbert_dna_accuracy": last["dbert"]["dna_accuracy"],
        "unigram_dna_accuracy": ebert["unigram_dna_accuracy"],
        **{f"pearson_{name}": features[name]["pearson"]["value"] for name in (*MODELS, "kmers", "state_fractions")},
    }
