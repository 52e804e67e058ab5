"""``epilm finetune``: from a recipe to a fine-tuned TF-binding model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from epilm.config import fingerprint
from epilm.errors import RecipeError
from epilm.models.binding import EbertForBinding
from epilm.runs import OnExisting, Run, open_run, read_metrics
from epilm.session import ray_session
from epilm.storage import Location
from epilm.tasks.tf_binding import VALIDATION, TfBindingTask
from epilm.train.launch import fit, save_weights
from epilm.train.pretrain import MODEL_FOLDER
from epilm.train.recipe import FinetuneRecipe
from epilm.train.resources import check_resources
from epilm.train.summary import numbers, speed_summary

Progress = Callable[[str], None]


def finetune(
    recipe: FinetuneRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm finetune``; return the content of ``result.json``. The model is that of the best validation AUPRC."""
    task = check_finetune(recipe)
    run = open_run(recipe, stage="finetune", on_existing=on_existing, data={"data": task.data_fingerprint()})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    progress(_opening(recipe, task))
    if seen := task.held_out_but_seen():
        progress(f"warning: {', '.join(seen)} kept for validation or test, but seen by the pre-trained weights")
    with ray_session(recipe.ray):
        identity = fingerprint(recipe.identity())
        checkpoint, best = fit(task, recipe.train, run, identity, progress=progress)
        folder = save_weights(task, checkpoint, run.folder / MODEL_FOLDER, identity)
    return run.finish(_result(recipe, task, run, folder, best))


def check_finetune(recipe: FinetuneRecipe) -> TfBindingTask:
    """Refuse bad input before anything starts; return the task.

    Raises:
        EpilmError: a recipe, corpus, labels, encoder or machine that cannot do it.
    """
    task = TfBindingTask(recipe.task, recipe.seed)
    task.check()
    if recipe.task.adapt.mode == "lora" and recipe.train.zero_stage == 3:
        raise RecipeError(
            "task.adapt.mode=lora with train.zero_stage=3: ZeRO 3 cuts the weights that low-rank updates are added to. "
            "Use zero_stage=1; with low-rank updates there is little left to cut."
        )
    if recipe.task.adapt.mode == "lora" and recipe.train.bf16:
        raise RecipeError(
            "task.adapt.mode=lora with train.bf16=true: a small change of a bf16 weight is rounded away, so that what is "
            "trained is not what is saved. Use train.bf16=false, or another mode."
        )
    check_resources(recipe.train, recipe.ray)
    return task


def _opening(recipe: FinetuneRecipe, task: TfBindingTask) -> str:
    """What an epoch is, and how many of them the steps are."""
    size, positives = task.sampler.epoch_size, task.sampler.positives.size
    epochs = recipe.train.steps * recipe.train.global_batch / size
    cells = ", ".join(task.split.train_cell_types)
    negatives = size - positives
    return (
        f"{len(task.labels.targets)} factor(s) in {cells}: an epoch is {positives:,} positives and {negatives:,} negatives; "
        f"{recipe.train.steps:,} steps are {epochs:.1f} epochs at most"
    )


def _result(
    recipe: FinetuneRecipe, task: TfBindingTask, run: Run, model: Location, best: dict[str, Any]
) -> dict[str, Any]:
    records = read_metrics(run.folder)
    evaluations = {r["step"]: numbers(r) for r in records if r["kind"] == "eval" and r["set"] == VALIDATION}
    last = max(evaluations)
    return {
        "stage": "finetune",
        "name": recipe.name,
        "seed": recipe.seed,
        "steps": last,
        "stopped_early": last < recipe.train.steps,
        "best_step": best["step"],
        "seen_samples": last * recipe.train.global_batch,
        "epochs": round(last * recipe.train.global_batch / task.sampler.epoch_size, 3),
        "best": evaluations[best["step"]],
        "final": {VALIDATION: evaluations[last]},
        **speed_summary(records, best),
        "parameters": _num_parameters(task),
        "model": str(model),
        **task.describe(),
    }


def _num_parameters(task: TfBindingTask) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in EbertForBinding(task.encoder, task.binding).parameters())
