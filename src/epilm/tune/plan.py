"""What a trial is: from what Tune hands to it, to its recipe and its folder. Pure, and sent to every trial."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from epilm.corpus.manifest import read_manifest
from epilm.storage import Location
from epilm.train.recipe import PretrainRecipe
from epilm.tune.budget import Budget
from epilm.tune.overrides import absolute_paths, as_mapping, lay_over, parse_pretrain
from epilm.tune.recipe import CompareRecipe, TuneRecipe

NUMBER = "number"
"""Key of a trial's number in what Tune hands to it, beside the drawn settings."""
RUN = "run"
"""Key of a run's id in what Tune hands to it in a comparison."""


class AnyTrial(Protocol):
    """What the log and the records of a sweep ask of a trial."""

    @property
    def id(self) -> str:
        """Its name in the log."""
        ...

    @property
    def path(self) -> str:
        """Its run folder, relative to the sweep's."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """Dotted settings that make it what it is."""
        ...

    @property
    def evaluations(self) -> int:
        """Evaluations of the whole trial."""
        ...

    @property
    def size(self) -> str:
        """How much it is, in words."""
        ...

    def index_of(self, step: int) -> int:
        """Number of the evaluation at a step, from 1."""
        ...

    def tokens_at(self, evaluation: int) -> int | None:
        """Tokens seen at an evaluation; None where trials are not counted in tokens."""
        ...


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        id: its name in the log.
        path: its run folder, relative to the sweep's.
        parameters: dotted settings that make it what it is.
        recipe: what is trained; its storage and name are the run folder's.
    """

    id: str
    path: str
    parameters: dict[str, Any]
    recipe: PretrainRecipe
    tokens_per_step: int

    @property
    def steps(self) -> int:
        return self.recipe.train.steps

    @property
    def every(self) -> int:
        return self.recipe.train.eval_every_steps or self.steps

    @property
    def evaluations(self) -> int:
        return -(-self.steps // self.every)

    def index_of(self, step: int) -> int:
        """Number of the evaluation at a step, from 1."""
        return -(-step // self.every)

    @property
    def size(self) -> str:
        return f"{self.steps} steps"

    @property
    def tokens(self) -> int:
        """Of the whole budget."""
        return self.steps * self.tokens_per_step

    def tokens_at(self, evaluation: int) -> int:
        return min(evaluation * self.every, self.steps) * self.tokens_per_step


class Plan(Protocol):
    """How Tune's trials become runs."""

    @property
    def folder(self) -> Location: ...

    @property
    def metric(self) -> str:
        """``<set>/<figure>`` that is followed."""
        ...

    def trial(self, config: Mapping[str, Any]) -> AnyTrial: ...


class TrainingPlan(Plan, Protocol):
    """How Tune's trials become trainings."""

    def trial(self, config: Mapping[str, Any]) -> Trial: ...


@dataclass(frozen=True)
class Maker:
    """Makes trials of a base recipe under a budget.

    Args:
        root: folder that relative places in the recipe count from.
    """

    base: PretrainRecipe
    budget: Budget
    folder: Location
    root: str

    def make(self, id_: str, path: str, layers: list[Mapping[str, Any]], *, seed: int, test: bool) -> Trial:
        """A trial from layers of overrides; those of the last are what it is called by."""
        mapping = as_mapping(self.base)
        for layer in layers:
            mapping = lay_over(mapping, layer)
        recipe = self._scheduled(mapping, path)
        parent, _, name = path.rpartition("/")
        own = {
            "name": name,
            "storage": str(self.folder / parent),
            "seed": seed,
            "task.evaluation.test": test,
            "train.checkpoint_every_steps": recipe.train.eval_every_steps,
            "train.checkpoints_kept": 1,
        }
        mapping = absolute_paths(lay_over(as_mapping(recipe), own), self.root)
        trial = parse_pretrain(mapping, source=path)
        per_step = self.budget.tokens_per_step(trial.train, trial.task.tokens)
        return Trial(id_, path, dict(layers[-1]), trial, per_step)

    def best(self, name: str, parameters: Mapping[str, Any], seed: int) -> PretrainRecipe:
        """The trial as a recipe of its own: places, evaluation and checkpoints are the base's."""
        recipe = self._scheduled(lay_over(as_mapping(self.base), parameters), name)
        own = {"name": name, "seed": seed, "task.evaluation.test": False}  # the test is read once, by the confirmation
        return parse_pretrain(lay_over(as_mapping(recipe), own), source=name)

    def _scheduled(self, mapping: Mapping[str, Any], source: str) -> PretrainRecipe:
        plain = parse_pretrain(mapping, source=source)
        settings = self.budget.settings(plain.train, plain.task.tokens)
        return parse_pretrain(lay_over(mapping, settings), source=source)


def make_maker(recipe: TuneRecipe | CompareRecipe) -> Maker:
    """Reads the corpus's manifest for the length of its windows.

    Raises:
        CorpusError: there is no finished corpus.
    """
    window_bp = read_manifest(Location(recipe.base.task.corpus)).window_bp
    budget = Budget(recipe.budget_tokens, recipe.evaluations, recipe.warmup_share, window_bp)
    return Maker(recipe.base, budget, Location(recipe.storage) / recipe.name, os.getcwd())


@dataclass(frozen=True)
class SweepPlan:
    """Trials of a search: ``trials/t000``, ``trials/t001``, ... in the order in which they are drawn."""

    maker: Maker
    metric: str
    seed: int

    @property
    def folder(self) -> Location:
        return self.maker.folder

    def trial(self, config: Mapping[str, Any]) -> Trial:
        id_ = f"t{config[NUMBER]:03d}"
        parameters = {k: v for k, v in config.items() if k != NUMBER}
        return self.maker.make(id_, f"trials/{id_}", [parameters], seed=self.seed, test=False)


@dataclass(frozen=True)
class ComparePlan:
    """Runs of a comparison: ``<group>/<arm>/seed-<n>``, each evaluated on the test set after its last step.

    Args:
        under: overrides below those of the arms (the best trial's, in a confirmation).
    """

    maker: Maker
    metric: str
    group: str
    arms: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    under: dict[str, Any]

    @property
    def folder(self) -> Location:
        return self.maker.folder

    @property
    def runs(self) -> list[str]:
        """Ids of all runs, seed by seed, so that an interrupted comparison has whole pairs."""
        return [f"{arm}/seed-{seed}" for seed in self.seeds for arm in self.arms]

    def trial(self, config: Mapping[str, Any]) -> Trial:
        id_ = config[RUN]
        arm, _, seed = id_.rpartition("/seed-")
        test = bool(self.maker.base.task.evaluation.test_contigs)
        layers: list[Mapping[str, Any]] = [self.under, self.arms[arm]]
        return self.maker.make(id_, f"{self.group}/{id_}", layers, seed=int(seed), test=test)
