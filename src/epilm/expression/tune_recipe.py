"""The recipe of ``epilm tune`` over a study of differential expression."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.errors import RecipeError
from epilm.expression.recipe import ExpressionRecipe
from epilm.expression.tune_rows import Row, best_recipe, check_read, check_row, check_row_key, row_recipe
from epilm.runs import Recipe
from epilm.session import RayConfig
from epilm.tune.recipe import SweepRay, check_seeds, read_base
from epilm.tune.space import Drawn, Parameter, order, samples

METRIC = "validation/pearson"
_RANDOM_CHECKS = 64


class ConfirmRow(Config):
    """After the choice: the best trial and the base itself from fresh seeds, on the test genes once. Nothing is chosen on
    them."""

    seeds: int = Field(default=3, ge=1)
    """Fresh seeds."""


class TuneExpressionRecipe(Recipe):
    """``epilm tune`` over one row of ``epilm expression``: a search by its validation Pearson r, then a confirmation on fresh
    seeds and the test genes."""

    base: ExpressionRecipe
    """Expression recipe that every trial changes: a path from the working directory, or its settings."""
    row: Row
    """The row of its table that is tuned."""
    space: dict[str, Parameter] = Field(min_length=1)
    """Dotted setting of the expression recipe -> its values or range."""
    trials: int = Field(ge=1)
    """Trials in all."""
    trial_seeds: tuple[int, ...] = (0,)
    """A trial is fitted from each of these; trials are compared by the mean of r over them."""
    metric: Literal["validation/pearson"] = METRIC
    """What trials are compared by: Pearson r on the validation genes."""
    mode: Literal["max"] = "max"
    max_concurrent: int = Field(default=1, ge=1)
    """Trials that run at once; each needs its workers' CPUs, and runs base.max_concurrent trainings side by side. It stays as
    it was through --resume: the search depends on which trials had ended."""
    confirm: ConfirmRow | None = ConfirmRow()
    """Confirmation of the choice; null = none."""
    ray: SweepRay = RayConfig(dashboard=True)
    """Where the run computes. The dashboard is on: Ray frees what a stopped trial held by asking it."""

    @field_validator("base", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return read_base(value, "expression")

    @field_validator("trial_seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        check_seeds(value)
        return value

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        try:
            check_row(self.base, self.row)
            for key in self.space:
                check_row_key(key, self.base, self.row)
            order(self.space)
            for drawn in self.points():
                self._check_point(drawn)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def points(self) -> list[Drawn]:
        """Every value of the space and many of their combinations."""
        return list(samples(self.space, num_random=_RANDOM_CHECKS, seed=self.seed))

    def at(self, parameters: dict[str, Any], own: dict[str, Any], *, source: str = "trial") -> ExpressionRecipe:
        """The row's recipe at a point of the space; ``own``: its name, storage and seeds."""
        ray = {"ray": self.ray.model_dump(mode="json")}
        return row_recipe(self.base, self.row, parameters, ray | own, source=source)

    def _check_point(self, drawn: Drawn) -> None:
        recipe = self.at(drawn, {}, source=f"space, at {drawn}: the expression recipe refuses this trial")
        try:
            check_read(recipe, self.row, list(drawn), list(self.space))
            best_recipe(self.base, drawn, "best")
        except RecipeError as error:
            raise RecipeError(f"space, at {drawn}: {error}") from error

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        identity["base"] = self.base.identity()
        return identity
