"""Recipes of ``epilm tune`` and ``epilm eval-masking``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from epilm.config import Config
from epilm.errors import RecipeError
from epilm.runs import Recipe
from epilm.session import RayConfig
from epilm.train.recipe import PretrainRecipe
from epilm.tune.metrics import check_metric
from epilm.tune.overrides import as_mapping, check_key, lay_over, parse_pretrain
from epilm.tune.space import Parameter, order, samples

_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RANDOM_CHECKS = 64

Scalars = dict[str, Any]


class AshaConfig(Config):
    """Asynchronous successive halving (Li et al. 2020): at the evaluations grace, grace x reduction_factor, ... a trial that
    is not among the best 1/reduction_factor of those that came so far is stopped."""

    grace: int = Field(default=1, ge=1)
    """Evaluations before a trial may be stopped."""
    reduction_factor: float = Field(default=3, gt=1)
    """One trial of so many goes on."""


class ConfirmConfig(Config):
    """After the choice: the best trial and a baseline from fresh seeds, with the test set. Nothing is chosen on it."""

    seeds: int = Field(default=3, ge=1)
    """Fresh seeds; margins are paired by seed."""
    baseline: Scalars = {"task.dna_mask.policy": "uniform"}
    """Dotted settings that make the best trial the baseline; those of another policy are dropped."""


def read_base(value: Any, stage: str) -> Any:
    """The settings of a base recipe: as they stand, or from the YAML file that a path names.

    Raises:
        ValueError: no such file, or not YAML.
    """
    if not isinstance(value, str):
        return value
    path = Path(value)
    if not path.is_file():
        raise ValueError(f"no such {stage} recipe: {path.absolute()}. The path counts from the working directory.")
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error


def check_arm_names(names: Iterable[str]) -> None:
    """Raises RecipeError at a name that could not be a folder's."""
    for name in names:
        if not _ARM_NAME.fullmatch(name):
            raise RecipeError(f"arms: {name!r} names a folder; use letters, digits, dot, dash and underscore.")


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError where two are the same, or one is negative."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds={list(seeds)}: give different whole numbers from 0, e.g. [0, 1, 2].")


class _WithBase(Recipe):
    base: PretrainRecipe
    """Pretrain recipe that every trial changes: a path from the working directory, or its settings."""
    evaluations: int = Field(default=8, ge=1)
    """Evaluations of a trial, in equal shares of its tokens."""
    warmup_share: float | None = Field(default=None, ge=0, le=1)
    """Warm-up as a share of the steps; the base's own share where absent."""
    max_concurrent: int = Field(default=1, ge=1)
    """Trials that run at once; each needs its workers' CPUs and one for its data. It stays as it was through --resume: Tune
    keeps what trials reserve, and the search depends on which trials had ended."""

    @field_validator("base", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return read_base(value, "pretrain")

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        identity["base"] = self.base.identity()
        return identity


def _with_dashboard(value: Any) -> Any:
    return {"dashboard": True, **value} if isinstance(value, Mapping) else value


def _dashboard_is_on(value: RayConfig) -> RayConfig:
    if not value.dashboard:
        raise ValueError(
            "dashboard=false: a trial that is stopped early would hold its CPUs for ever. Set ray.dashboard=true."
        )
    return value


SweepRay = Annotated[RayConfig, BeforeValidator(_with_dashboard), AfterValidator(_dashboard_is_on)]
"""Of a search: the dashboard is on, whatever else Ray is told."""


class TuneRecipe(_WithBase):
    """``epilm tune``: search over settings of pre-training at equal tokens, early stop, then a confirmation on fresh seeds."""

    space: dict[str, Parameter] = Field(min_length=1)
    """Dotted setting of the pretrain recipe -> its values or range."""
    budget_tokens: int = Field(ge=1)
    """Tokens of each trial (model positions without [CLS] and [SEP]): its steps follow, so that all see as much."""
    metric: str = "held_out_contigs/base_loss"
    """What trials are compared by: ``<set>/<figure>`` of an evaluation that is not the test's."""
    mode: Literal["min", "max"] = "min"
    trials: int = Field(ge=1)
    """Trials in all."""
    asha: AshaConfig | None = AshaConfig()
    """Early stop; null = every trial spends its whole budget."""
    fail_fast: bool = False
    """End the sweep at the first trial that raises an error; else it is recorded and the others go on."""
    confirm: ConfirmConfig | None = ConfirmConfig()
    """Confirmation of the choice; null = none."""
    ray: SweepRay = RayConfig(dashboard=True)
    """Where the run computes. The dashboard is on: Ray frees what a stopped trial held by asking it."""

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.asha and self.asha.grace >= self.evaluations:
            raise ValueError(
                f"asha.grace={self.asha.grace} stops no trial before its end ({self.evaluations} evaluations). "
                "Use a smaller grace, more evaluations, or asha=null."
            )
        try:
            check_metric(self.metric, self.mode, self.space)
            for key in self.space:
                check_key(key, where="space")
            order(self.space)
            self._check_points()
            for key in self.confirm.baseline if self.confirm else ():
                check_key(key, where="confirm.baseline")
            if self.confirm:
                parse_pretrain(lay_over(as_mapping(self.base), self.confirm.baseline), source="confirm.baseline")
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def _check_points(self) -> None:
        mapping = as_mapping(self.base)
        for drawn in samples(self.space, num_random=_RANDOM_CHECKS, seed=self.seed):
            parse_pretrain(
                lay_over(mapping, drawn), source=f"space, at {drawn}: the pretrain recipe refuses this trial"
            )

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        del identity["fail_fast"]
        return identity


class CompareRecipe(_WithBase):
    """``epilm eval-masking``: arms of pre-training from the same seeds at the same budget, with the test set, against a
    baseline."""

    arms: dict[str, Scalars] = Field(min_length=2)
    """Name -> dotted settings that make the base this arm; those of a masking policy that it does not look at are dropped."""
    baseline: str
    """Name of the arm that the others are compared with."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every arm is trained from each of these; margins are paired by seed."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens of each run (model positions without [CLS] and [SEP]); the base's own steps where absent."""

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline={self.baseline!r} is no arm; the arms are {', '.join(self.arms)}.")
        check_seeds(self.seeds)
        try:
            check_arm_names(self.arms)
            for name, overrides in self.arms.items():
                self._check_arm(name, overrides)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def _check_arm(self, name: str, overrides: Scalars) -> None:
        for key in overrides:
            check_key(key, where=f"arms.{name}")
        parse_pretrain(lay_over(as_mapping(self.base), overrides), source=f"arms.{name}")
