"""One row of a study's table under other settings: recipes that fit it alone, and the settings that it reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epilm.config import Config, parse_recipe
from epilm.errors import RecipeError
from epilm.expression.recipe import (
    ContextualArm,
    DeepDiffArm,
    EndToEndArm,
    ExpressionRecipe,
    LevelsArm,
    StaticArm,
)
from epilm.tasks.expression_recipe import Inputs
from epilm.train.recipe import PLACEMENT
from epilm.tune.overrides import as_mapping, check_key, set_dotted

_WHERE = "it changes where a trial runs, not what it reaches"
_UNTESTED = "no trial is tested"
_FIXED = {
    "name": "a trial's name is its own",
    "storage": "trials lie in the run's folder",
    "ray": "all trials run on one Ray",
    "seed": "a trial is fitted from trial_seeds",
    "seeds": "a trial is fitted from trial_seeds",
    "data": "trials are compared on the same genes",
    "expression": "trials are compared on the same genes",
    "pair": "trials are compared on the same genes",
    "marks": "trials are compared on the same genes and marks",
    "published": "it has a table of its own",
    "importance": "it is no part of a row's fit",
    "importance_segments": "it is no part of a row's fit",
    "num_bootstrap": _UNTESTED,
    "confidence": _UNTESTED,
    "max_concurrent": _WHERE,
    "keep_features": "it is no part of a row's fit",
    "boost.num_actors": _WHERE,
    "boost.cpus_per_actor": _WHERE,
    "boost.gpus_per_actor": _WHERE,
    "boost.max_actor_restarts": _WHERE,
}
"""What no space may vary, and why."""
_SHAPE = ("kind", "hidden", "layers", "heads", "context", "dropout")
"""Settings of a language model that count where it is not pre-trained."""


class Row(Config):
    """One row of the table of ``epilm expression``."""

    arm: str
    """Name of an arm of the base."""
    inputs: Inputs
    """raw_c (both cell types), raw_d (their difference) or raw (all three)."""

    def __str__(self) -> str:
        return f"{self.arm} {self.inputs}"


def row_recipe(
    base: ExpressionRecipe, row: Row, parameters: Mapping[str, Any], own: Mapping[str, Any], *, source: str
) -> ExpressionRecipe:
    """The base with dotted settings laid over it, reduced to one row of its table.

    Args:
        own: further settings that are no parameters: name, storage, seeds.

    Raises:
        RecipeError: the settings do not go together.
    """
    mapping = _written_out(base)
    mapping["arms"] = {row.arm: mapping["arms"][row.arm] | {"inputs": [row.inputs]}}
    reduced = {"importance": {}, "published": None, "keep_features": False}
    return parse_recipe(ExpressionRecipe, set_dotted(mapping, {**parameters, **reduced, **own}), source=source)


def best_recipe(base: ExpressionRecipe, parameters: Mapping[str, Any], name: str) -> ExpressionRecipe:
    """The whole base under the settings, as a recipe of its own.

    Raises:
        RecipeError: another row of the base does not go with them.
    """
    source = f"the base with {dict(parameters)}"
    return parse_recipe(ExpressionRecipe, set_dotted(_written_out(base), {**parameters, "name": name}), source=source)


def _written_out(base: ExpressionRecipe) -> dict[str, Any]:
    """What was written of the base, with arms and models also where they are the defaults, so that a setting of one leaves
    the others there."""
    return as_mapping(base) | {
        "models": {name: as_mapping(model) for name, model in base.models.items()},
        "arms": {name: as_mapping(arm) for name, arm in base.arms.items()},
    }


def check_row(base: ExpressionRecipe, row: Row) -> None:
    """Raises RecipeError where the base has no such row, or dotted settings could not name it."""
    if row.arm not in base.arms:
        raise RecipeError(f"row.arm={row.arm!r} is no arm of the base; there are {', '.join(base.arms)}.")
    if row.inputs not in base.arms[row.arm].inputs:
        raise RecipeError(
            f"row.inputs={row.inputs!r}: base.arms.{row.arm}.inputs has {', '.join(base.arms[row.arm].inputs)}."
        )
    for name in (row.arm, *base.models):
        if "." in name:
            raise RecipeError(
                f"{name!r} has a dot, so that a dotted setting cannot name it. Give it another name in base."
            )


def check_row_key(key: str, base: ExpressionRecipe, row: Row) -> None:
    """Refuse a setting that makes trials incomparable, or that the row can never read.

    Raises:
        RecipeError: with why, or with what the row reads.
    """
    trained = [f"arms.{row.arm}", *(f"models.{name}" for name in base.models)]
    fixed = _FIXED | {
        f"arms.{row.arm}.kind": "the row is what it is; tune another one",
        f"arms.{row.arm}.inputs": "row.inputs says them",
        # another size of micro-batch draws other dropout
        **{f"{group}.train.{name}": _WHERE for group in trained for name in sorted(PLACEMENT - {"micro_batch"})},
    }
    check_key(key, where="space", fixed=fixed)
    group, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if group == "models" and name not in base.models:
        raise RecipeError(f"space.{key}: the base has no model {name!r}; there are {', '.join(base.models) or 'none'}.")
    if group == "arms" and name != row.arm:
        raise RecipeError(_unread(f"space.{key}", base, row))


def check_read(recipe: ExpressionRecipe, row: Row, keys: Sequence[str], space: Sequence[str]) -> None:
    """Refuse settings without effect on a row.

    Args:
        recipe: the row's, with the settings laid over.
        keys: the settings.
        space: all settings that are varied.

    Raises:
        RecipeError: with what the row reads, and a condition that mends it where one can.
    """
    for key in keys:
        if not _is_read(recipe, row, key):
            deciding = [other for other in _deciding(recipe, row) if other in space]
            hint = f" Or give it a condition (when) on {' or '.join(deciding)}." if deciding else ""
            raise RecipeError(_unread(key, recipe, row) + hint)


def _unread(key: str, recipe: ExpressionRecipe, row: Row) -> str:
    return f"{key} has no effect on the row {row}, which reads {', '.join(reads(recipe, row))}. Remove it."


def reads(recipe: ExpressionRecipe, row: Row) -> list[str]:
    """Dotted groups of settings that decide a row's predictions."""
    arm = recipe.arms[row.arm]
    found = [f"arms.{row.arm}"]
    if not isinstance(arm, LevelsArm | DeepDiffArm):
        found.append("words")
    if isinstance(arm, StaticArm | ContextualArm | EndToEndArm):
        whole = not isinstance(arm, EndToEndArm) or arm.pretrained
        model = f"models.{arm.model}"
        found += [model] if whole else [f"{model}.{name}" for name in _SHAPE]
    if not isinstance(arm, EndToEndArm | DeepDiffArm):
        found.append(arm.regressor)
    return found


def _is_read(recipe: ExpressionRecipe, row: Row, key: str) -> bool:
    if key in _ignored(recipe, row):
        return False
    return any(key == group or key.startswith(f"{group}.") for group in reads(recipe, row))


def _ignored(recipe: ExpressionRecipe, row: Row) -> list[str]:
    """Settings inside of groups that are read which themselves are not."""
    arm = recipe.arms[row.arm]
    ignored = [f"models.{name}.mask_rate" for name, model in recipe.models.items() if model.kind != "roberta"]
    if isinstance(arm, DeepDiffArm) and not arm.shape.aux:
        ignored.append(f"arms.{row.arm}.shape.aux_weight")
    return ignored


def _deciding(recipe: ExpressionRecipe, row: Row) -> list[str]:
    """Settings that decide which others are read."""
    names = ("regressor", "model", "pretrained", "shape.aux")
    return [*(f"arms.{row.arm}.{name}" for name in names), *(f"models.{name}.kind" for name in recipe.models)]
