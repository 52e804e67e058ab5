"""Every recipe in rayjobs/ is valid, and teaches."""

from pathlib import Path

import pytest

from epilm.cli import STAGES
from epilm.config import load_recipe, read_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "rayjobs").glob("*/*.yaml"))


def recipe_class_of(path):
    return STAGES[path.parent.name].load_for(read_recipe(path))[0]


def test_each_stage_has_a_recipe():
    assert {path.parent.name for path in RECIPES} == set(STAGES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_recipe_is_valid(path):
    recipe = load_recipe(recipe_class_of(path), path)
    assert recipe.storage == "runs"
    assert path.read_text().startswith("#"), "a recipe begins with what it is for and how it is run"


def test_names_of_runs_are_unique():
    names = [load_recipe(recipe_class_of(p), p).name for p in RECIPES]
    assert len(set(names)) == len(names)
