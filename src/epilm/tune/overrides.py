"""Dotted settings laid over a pretrain recipe; what belongs to another masking policy falls away."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from epilm.config import Config, parse_recipe
from epilm.errors import RecipeError
from epilm.masking.recipe import GROUPS, SCORED, CmStepConfig, DnaMaskConfig
from epilm.storage import Location
from epilm.train.recipe import PretrainRecipe

MASK = "task.dna_mask"
PATHS = ("task.corpus", f"{MASK}.table", "task.model.weights")
"""Settings that are places: relative ones count from where the stage was started, wherever the trial runs."""

FIXED = {
    "name": "a trial's name is its own",
    "storage": "trials lie in the run's folder",
    "ray": "all trials run on one Ray",
    "seed": "trials are compared from the same seed; give seed (or seeds) of the run itself",
    "task.evaluation": "trials are compared on one common evaluation",
    "task.corpus": "trials are compared on the same data",
    "task.lengths": "a budget counts the tokens of whole windows",
    "train.steps": "it follows from the budget, the batch and the tokens of a window",
    "train.eval_every_steps": "it follows from the budget and evaluations",
    "train.checkpoint_every_steps": "a trial keeps a checkpoint at each evaluation",
    "train.checkpoints_kept": "a trial keeps its last checkpoint",
    "train.optimizer.warmup_steps": "it follows from warmup_share",
    "train.num_workers": "it changes where a trial runs, not what it reaches",
    "train.cpus_per_worker": "it changes where a trial runs, not what it reaches",
    "train.use_gpu": "it changes where a trial runs, not what it reaches",
    "train.resources_per_worker": "it changes where a trial runs, not what it reaches",
}
"""What no override may change, and why."""


def check_key(key: str, *, where: str, fixed: Mapping[str, str] = FIXED) -> None:
    """Refuse a setting that would make trials incomparable.

    Raises:
        RecipeError: the key, or the group that it is in or opens, is in ``fixed``.
    """
    for name, why in fixed.items():
        if key == name or key.startswith(f"{name}.") or name.startswith(f"{key}."):
            raise RecipeError(f"{where}.{key} may not be changed here: {why}. Set it in base, or remove it.")


def lay_over(mapping: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's mapping with each dotted override set.

    Groups of a masking policy that the new policy does not look at are dropped from ``mapping``, never from the overrides:
    an override without effect is refused when the result is parsed.
    """
    result = copy.deepcopy(dict(mapping))
    mask = get_dotted(set_dotted(copy.deepcopy(result), overrides), MASK) or {}
    below = get_dotted(result, MASK)
    if below:
        _drop_unused(below, mask)
    return set_dotted(result, overrides)


def _drop_unused(below: dict[str, Any], mask: Mapping[str, Any]) -> None:
    policy = mask.get("policy", "uniform")
    cm_step = mask.get("cm_step")
    named = DnaMaskConfig.model_construct(policy=policy, cm_step=CmStepConfig(**cm_step) if cm_step else None)
    for group in set(GROUPS) - set(named.groups_used()):
        below.pop(group, None)
    if policy not in SCORED:
        below.pop("published", None)
    if not named.is_own_class:
        below.pop("options", None)


def set_dotted(mapping: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set each dotted override in ``mapping`` itself, groups made where they are absent; return it.

    Raises:
        RecipeError: a group on the way is a value.
    """
    for dotted, value in overrides.items():
        *groups, last = dotted.split(".")
        node = mapping
        for group in groups:
            if not isinstance(node.get(group), dict):
                if node.get(group) is not None:
                    raise RecipeError(f"{dotted}: {group!r} is a value, not a group of settings.")
                node[group] = {}
            node = node[group]
        node[last] = copy.deepcopy(value)
    return mapping


def get_dotted(mapping: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key; None where it is absent."""
    node: Any = mapping
    for key in dotted.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def absolute_paths(mapping: Mapping[str, Any], root: str) -> dict[str, Any]:
    """A copy whose relative places count from ``root``."""
    places = {key: get_dotted(mapping, key) for key in PATHS}
    return set_dotted(
        copy.deepcopy(dict(mapping)),
        {
            key: place if "://" in place or place.startswith(("/", "~")) else str(Location(f"{root}/{place}"))
            for key, place in places.items()
            if place is not None
        },
    )


def as_mapping(recipe: Config) -> dict[str, Any]:
    """What was written of a recipe, without the defaults left alone."""
    return recipe.model_dump(mode="json", exclude_unset=True)


def parse_pretrain(mapping: Mapping[str, Any], *, source: str) -> PretrainRecipe:
    return parse_recipe(PretrainRecipe, mapping, source=source)
