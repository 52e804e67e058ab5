"""``epilm pretrain``: from a recipe to a finished run folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ray
import torch

from epilm.config import fingerprint
from epilm.errors import RecipeError
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.runs import OnExisting, Run, open_run, read_metrics
from epilm.session import RayConfig, ray_session
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.train.launch import fit, save_weights
from epilm.train.recipe import PretrainRecipe, TrainConfig

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


def check_resources(config: TrainConfig, ray_config: RayConfig) -> None:
    """A local Ray cannot grow: workers that do not fit would wait for ever."""
    if ray_config.address != "local" or ray.is_initialized():
        return
    have = ray_config.num_cpus or 2 * (os.cpu_count() or 1)
    need = config.allowed_workers[0] * config.cpus_per_worker + 1
    if need > have:
        raise RecipeError(
            f"train.num_workers={config.num_workers} x train.cpus_per_worker={config.cpus_per_worker:g} and one CPU for the "
            f"data need {need:g} CPUs; the local Ray has {have}. Use fewer workers, or set ray.num_cpus={int(-(-need // 1))}."
        )
    if config.use_gpu and torch.cuda.device_count() < config.allowed_workers[0]:
        raise RecipeError(
            f"train.use_gpu needs a GPU for each of {config.allowed_workers[0]} workers; this machine has "
            f"{torch.cuda.device_count()}. Use fewer workers, train.use_gpu=false, or a cluster (ray.address)."
        )


def _result(
    recipe: PretrainRecipe, task: MaskedEpigenomeTask, run: Run, model: Location, last: dict[str, Any]
) -> dict[str, Any]:
    records = read_metrics(run.folder)
    final = {r["set"]: _numbers(r) for r in records if r["kind"] == "eval" and r["step"] == recipe.train.steps}
    steps = [r for r in records if r["kind"] == "train"]
    late = steps[len(steps) // 2 :]  # the first steps hold the start of the workers
    return {
        "stage": "pretrain",
        "name": recipe.name,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "seen_samples": recipe.train.steps * recipe.train.global_batch,
        "final": final,
        "train": _numbers(steps[-1]),
        "median_step_time_s": _median(late, "step_time_s"),
        "median_tokens_per_s": _median(late, "tokens_per_s"),
        "median_data_wait_share": _median(late, "data_wait_share"),
        "median_mfu": _median(late, "mfu"),
        "matmul_peak_gflops": last.get("matmul_peak_gflops"),
        "parameters": _num_parameters(task),
        "model": str(model),
        **task.describe(),
    }


def _num_parameters(task: MaskedEpigenomeTask) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in EbertForPreTraining(task.model_config()).parameters())


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("kind", "set", "step", "time")}


def _median(records: list[dict[str, Any]], name: str) -> float | None:
    values = sorted(r[name] for r in records if r.get(name) is not None)
    return values[len(values) // 2] if values else None
