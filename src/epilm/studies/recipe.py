"""The recipe of ``epilm eval-binding``."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from epilm.baselines.recipe import PredictorConfig
from epilm.config import Config, parse_recipe
from epilm.errors import RecipeError
from epilm.evaluate.recipe import BASE_RATE, AllowOverlap, BootstrapConfig
from epilm.predict.load import Dtype
from epilm.runs import Recipe
from epilm.train.recipe import FinetuneRecipe
from epilm.tune.overrides import as_mapping, check_key, set_dotted
from epilm.tune.recipe import Scalars, check_arm_names, check_seeds, read_base

FIXED = {
    "name": "a run's name is its arm's and its seed's",
    "storage": "runs lie in the folder of the comparison",
    "ray": "all runs use one Ray",
    "seed": "arms are compared from the same seeds; give seeds",
    "task.corpus": "arms are compared on the same data",
    "task.labels": "arms are compared on the same labels",
    "task.targets": "arms are compared on the same factors",
    "task.evaluation": "arms are chosen by the same validation bins",
    "task.split.cell_types": "arms learn in the same cell types, which the table names",
    "task.split.validation_contigs": "arms are chosen on the same contigs",
    "task.split.test_contigs": "arms are tested on the same contigs",
    "task.split.held_out_cell_types": "arms are tested in the same cell types",
    "train.num_workers": "it changes where a run computes, not what it reaches",
    "train.cpus_per_worker": "it changes where a run computes, not what it reaches",
    "train.use_gpu": "it changes where a run computes, not what it reaches",
    "train.resources_per_worker": "it changes where a run computes, not what it reaches",
}
"""What no arm may change, and why."""


class RivalConfig(Config):
    """A simple predictor (``epilm baseline``) fitted on the arms' own bins; corpus, labels and split are the base's."""

    predictor: PredictorConfig
    """k-mer logistic regression or a position-weight matrix."""
    epochs: int = Field(default=1, ge=1)
    """Draws of negatives that the fit sees; the positives are in each."""
    max_samples: int = Field(default=100_000, ge=2)
    """Most samples of the fit."""


class PredictingConfig(Config):
    """How the test contigs are predicted, by all arms alike."""

    batch_size: int = Field(default=64, ge=1)
    """Windows in a forward pass."""
    dtype: Dtype = "float32"
    """Arithmetic of the model."""
    num_workers: int = Field(default=1, ge=1)
    """Actors, each with a copy of the model."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """Cores, and threads, of an actor."""
    gpus_per_worker: float | None = Field(default=None, ge=0)
    """GPUs of an actor; 1 where the cluster has any, otherwise 0, where absent."""


class EvalBindingRecipe(Recipe):
    """``epilm eval-binding``: arms of fine-tuning from the same seeds, scored on the test contigs and in the held-out cell
    types of ``base.task.split``, beside simple rivals."""

    base: FinetuneRecipe
    """Finetune recipe that every arm changes: a path from the working directory, or its settings. Its
    ``task.split.test_contigs`` and ``held_out_cell_types`` are the test."""
    arms: dict[str, Scalars] = Field(min_length=1)
    """Name -> dotted settings that make the base this arm, e.g. ``task.encoder.random_weights: true``; few labels are
    ``task.sampling.max_positives``."""
    baseline: str
    """Name of the arm that the others are compared with first; the result holds every pair."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every arm is fine-tuned from each of these; margins are paired by seed."""
    rivals: dict[str, RivalConfig] = {}
    """Name -> simple predictor in the same table, fitted once, with the first of the seeds."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to test in; those trained on and those held out where absent."""
    predict: PredictingConfig = PredictingConfig()
    """How the test contigs are predicted."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """Intervals: resamples of the test contigs, the same for all arms, and of the seeds."""
    allow_overlap: AllowOverlap = AllowOverlap()
    """Test contigs and held-out cell types that pre-training may have seen; the result says so."""

    @field_validator("base", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return read_base(value, "finetune")

    @model_validator(mode="after")
    def _can_be_compared(self) -> Self:
        if self.baseline not in self.arms:
            raise ValueError(f"baseline={self.baseline!r} is no arm; the arms are {', '.join(self.arms)}.")
        check_seeds(self.seeds)
        if not self.base.task.split.test_contigs:
            raise ValueError(
                "base.task.split.test_contigs is empty: there is nothing to compare the arms on. Name contigs that are neither "
                "trained nor chosen on."
            )
        if self.cell_types is not None and (not self.cell_types or len(set(self.cell_types)) != len(self.cell_types)):
            raise ValueError(f"cell_types={list(self.cell_types)} must name one or more, each once.")
        try:
            check_arm_names([*self.arms, *self.rivals])
            self._check_rivals()
            for name in self.arms:
                for key in self.arms[name]:
                    check_key(key, where=f"arms.{name}", fixed=FIXED)
                self.arm(name)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def _check_rivals(self) -> None:
        taken = {BASE_RATE, *self.arms, *(run_name(arm, seed) for arm in self.arms for seed in self.seeds)}
        for name in self.rivals:
            if name in taken:
                raise RecipeError(
                    f"rivals: {name!r} is the name of an arm, a run or the base rate. Choose another one."
                )

    def arm(self, name: str, own: Scalars | None = None) -> FinetuneRecipe:
        """The recipe of an arm, with ``own`` dotted settings above it.

        Raises:
            RecipeError: the arm's settings make no finetune recipe.
        """
        mapping = as_mapping(self.base)
        for layer in (self.arms[name], own or {}):
            mapping = set_dotted(mapping, layer)
        return parse_recipe(FinetuneRecipe, mapping, source=f"arms.{name}")

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        identity["base"] = self.base.identity()
        for key in ("num_workers", "cpus_per_worker", "gpus_per_worker"):
            del identity["predict"][key]
        return identity


def run_name(arm: str, seed: int) -> str:
    """Name of a run, and of its submission."""
    return f"{arm}-s{seed}"
