"""What is refused before any trial starts: data, metric, budget, machine."""

from __future__ import annotations

import os
from collections.abc import Iterable

import ray

from epilm.config import fingerprint
from epilm.errors import EpilmError, RecipeError
from epilm.session import RayConfig
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.train.pretrain import check_curriculum
from epilm.train.recipe import TrainConfig
from epilm.train.resources import check_resources
from epilm.tune.metrics import check_figure
from epilm.tune.plan import ComparePlan, Maker, SweepPlan, Trial, make_maker
from epilm.tune.recipe import CompareRecipe, TuneRecipe
from epilm.tune.space import samples

ARMS = "arms"
_RANDOM_POINTS = 64


def check_tune(recipe: TuneRecipe) -> SweepPlan:
    """Refuse bad input before anything starts; return the plan.

    Raises:
        EpilmError: a corpus, table, metric, budget or machine that cannot do it.
    """
    maker = make_maker(recipe)
    task = MaskedEpigenomeTask(recipe.base.task, recipe.seed)
    task.check()
    sets = task.eval_sets(final=False)
    set_name = recipe.metric.partition("/")[0]
    if set_name not in sets:
        raise RecipeError(
            f"metric={recipe.metric!r}: the corpus has no evaluation set {set_name!r}; it has {', '.join(sets) or 'none'}."
        )
    check_figure(recipe.metric, task.sum_counts)
    _check_points(recipe, maker)
    check_concurrency(recipe.base.train, recipe.max_concurrent, recipe.ray)
    return SweepPlan(maker, recipe.metric, recipe.seed)


def _check_points(recipe: TuneRecipe, maker: Maker) -> None:
    """Every value of the space and many of their combinations, each as the trial that it would be, and as the winner that
    the confirmation's baseline is laid over."""
    done: set[str] = set()
    for drawn in samples(recipe.space, num_random=_RANDOM_POINTS, seed=recipe.seed):
        try:
            trials = [maker.make("trial", "trial", [drawn], seed=recipe.seed, test=False)]
            if recipe.confirm:
                arms = {"baseline": dict(recipe.confirm.baseline)}
                confirmed = ComparePlan(maker, recipe.metric, "confirm", arms, (recipe.seed + 1,), drawn)
                trials.append(confirmed.trial({"run": confirmed.runs[0]}))
            _check_trials(trials, done)
        except EpilmError as error:
            raise RecipeError(f"space, at {drawn}: {error}") from error


def _check_trials(trials: Iterable[Trial], done: set[str]) -> None:
    """The data, the policy and the curriculum of each, as `epilm pretrain` checks them; ``done`` holds the fingerprints of
    those found right."""
    for recipe in (trial.recipe for trial in trials):
        key = fingerprint({"task": recipe.task.model_dump(mode="json"), "train": recipe.train.model_dump(mode="json")})
        if key not in done:
            task = MaskedEpigenomeTask(recipe.task, 0)
            task.check()
            check_curriculum(task, recipe.train)
            done.add(key)


def check_compare(recipe: CompareRecipe) -> ComparePlan:
    """Refuse bad input before anything starts; return the plan.

    Raises:
        EpilmError: a corpus, table, budget or machine that cannot do it, or arms that would not see the same tokens.
    """
    maker = make_maker(recipe)
    plan = ComparePlan(maker, "held_out_contigs/base_loss", ARMS, recipe.arms, recipe.seeds, {})
    trials = [plan.trial({"run": run}) for run in plan.runs[: len(recipe.arms)]]
    _check_equal(trials, recipe.budget_tokens)
    _check_trials(trials, set())
    sets = MaskedEpigenomeTask(trials[0].recipe.task, 0).eval_sets(final=False)
    if "held_out_contigs" not in sets:
        raise RecipeError(
            f"the corpus {recipe.base.task.corpus} has no held-out contigs besides the test's, on which the arms are followed. "
            "Hold out another contig (corpus: held_out_contigs), or name fewer in base.task.evaluation.test_contigs."
        )
    check_concurrency(recipe.base.train, recipe.max_concurrent, recipe.ray)
    return plan


def _check_equal(trials: list[Trial], budget_tokens: int | None) -> None:
    tokens = {t.id.rpartition("/")[0]: t.tokens for t in trials}
    if budget_tokens is None and len(set(tokens.values())) > 1:
        raise RecipeError(
            f"without budget_tokens every arm runs the base's steps, and they would not see the same tokens: {tokens}. "
            "Give budget_tokens."
        )


def check_concurrency(
    train: TrainConfig, max_concurrent: int, ray_config: RayConfig, *, side_by_side: int = 1, where: str = "base.train"
) -> None:
    """A local Ray cannot grow: trials whose workers do not fit beside each other would wait for ever.

    Args:
        side_by_side: trainings of a trial at a time.
        where: dotted place of ``train`` in the recipe.

    Raises:
        RecipeError: with how many trials fit.
    """
    check_resources(train, ray_config)
    if ray_config.address != "local" or ray.is_initialized():
        return
    have = ray_config.num_cpus or 2 * (os.cpu_count() or 1)
    need = side_by_side * (train.allowed_workers[0] * train.cpus_per_worker + 1)
    if max_concurrent * need > have:
        fewer = f"fewer trainings side by side (base.max_concurrent={side_by_side}), " if side_by_side > 1 else ""
        raise RecipeError(
            f"max_concurrent={max_concurrent}: each trial needs {need:g} CPUs (its workers and one for its data); the local "
            f"Ray has {have}, enough for {int(have // need)}. Use max_concurrent={max(1, int(have // need))}, {fewer}fewer "
            f"workers ({where}.num_workers), or ray.num_cpus={int(-(-max_concurrent * need // 1))}."
        )
