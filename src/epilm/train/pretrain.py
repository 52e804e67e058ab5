"""``epilm pretrain``: from a recipe to a finished run folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from epilm.config import fingerprint
from epilm.errors import RecipeError
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.runs import OnExisting, Run, open_run, read_metrics
from epilm.session import ray_session
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.train.launch import fit, save_weights
from epilm.train.recipe import PretrainRecipe, TrainConfig
from epilm.train.resources import check_resources
from epilm.train.summary import numbers, speed_summary

MODEL_FOLDER = "model"

Progress = Callable[[str], None]


def pretrain(
    recipe: PretrainRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm pretrain``; return the content of ``result.json``."""
    task = check_pretrain(recipe)
    run = open_run(recipe, stage="pretrain", on_existing=on_existing, data={"corpus": task.data_fingerprint()})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    if seen := task.held_out_but_seen():
        progress(
            f"warning: {', '.join(seen)} held out, but seen by the initial weights or counted in the table of NPMI"
        )
    if task.scores and task.scores.contigs is None:
        progress(
            f"warning: {recipe.task.dna_mask.table} does not tell which contigs were counted; held-out ones may be among them"
        )
    with ray_session(recipe.ray):
        checkpoint, last = fit(task, recipe.train, run, fingerprint(recipe.identity()), progress=progress)
        folder = save_weights(task, checkpoint, run.folder / MODEL_FOLDER, fingerprint(recipe.identity()))
    return run.finish(_result(recipe, task, run, folder, last))


def check_pretrain(recipe: PretrainRecipe) -> MaskedEpigenomeTask:
    """Refuse bad input before anything starts; return the task.

    Raises:
        EpilmError: a recipe, corpus or machine that cannot do it.
    """
    task = MaskedEpigenomeTask(recipe.task, recipe.seed)
    task.check()
    check_curriculum(task, recipe.train)
    check_resources(recipe.train, recipe.ray)
    return task


def check_curriculum(task: MaskedEpigenomeTask, config: TrainConfig) -> None:
    """CM-GEMS follows the run's perplexity, and must hear of it often enough to act before the end.

    Raises:
        RecipeError: even a perplexity that never falls would change nothing; says how often to evaluate.
    """
    if task.config.dna_mask.policy != "cm-gems":
        return
    start = task.initial_state()
    if "held_out_contigs" not in task.eval_sets(final=False):
        raise RecipeError(
            f"task.dna_mask.policy={task.config.dna_mask.policy} follows the perplexity on held-out contigs, but "
            f"{task.corpus} holds none out. Build a corpus with held_out_contigs, or use another policy."
        )
    every, state = config.eval_every_steps or config.steps, start
    flat = {"held_out_contigs": {"dna_perplexity": 2.0}}
    for step in range(every, config.steps, every):
        state = task.observe(state, step=step, evaluations=flat)
        if task.moment_metrics(Moment(step, config.steps, state)) != task.moment_metrics(
            Moment(step, config.steps, start)
        ):
            return
    raise RecipeError(
        f"task.dna_mask.policy={task.config.dna_mask.policy} can never move on: within {config.steps} steps it hears of the "
        f"perplexity only every {every} (train.eval_every_steps={config.eval_every_steps}), and compares over "
        "task.dna_mask.cm_gems.window_steps, patience times. Evaluate more often, shorten the window, or train longer."
    )


def _result(
    recipe: PretrainRecipe, task: MaskedEpigenomeTask, run: Run, model: Location, last: dict[str, Any]
) -> dict[str, Any]:
    records = read_metrics(run.folder)
    final = {r["set"]: numbers(r) for r in records if r["kind"] == "eval" and r["step"] == recipe.train.steps}
    return {
        "stage": "pretrain",
        "name": recipe.name,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "seen_samples": recipe.train.steps * recipe.train.global_batch,
        "final": final,
        **speed_summary(records, last),
        "parameters": _num_parameters(task),
        "model": str(model),
        **task.describe(),
    }


def _num_parameters(task: MaskedEpigenomeTask) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in EbertForPreTraining(task.model_config()).parameters())
