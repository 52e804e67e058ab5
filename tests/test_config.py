"""Recipes: what is refused, in which words; overrides; fingerprints."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from epilm.config import Config, apply_overrides, describe_settings, fingerprint, load_recipe, parse_recipe, to_yaml
from epilm.errors import RecipeError


class Inner(Config):
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate."""


class Outer(Config):
    name: str
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)


def test_a_typing_error_names_the_key_and_its_neighbour():
    with pytest.raises(RecipeError, match=r"inner\.learning: unknown setting\. Allowed: lr") as error:
        parse_recipe(Outer, {"name": "a", "inner": {"learning": 1}, "nam": 3})
    assert "Did you mean 'name'?" in str(error.value)


def test_every_error_is_told_at_once():
    with pytest.raises(RecipeError) as error:
        parse_recipe(Outer, {"inner": {"lr": -1}, "sizes": ["x"]})
    text = str(error.value)
    assert "name: is required" in text
    assert "inner.lr: " in text
    assert "(got -1)" in text
    assert "sizes.0: " in text


@pytest.mark.parametrize(("text", "value"), [("3e-4", 3e-4), ("1", 1.0), ("0.5", 0.5)])
def test_overrides_reach_nested_settings(text, value):
    raw = apply_overrides({"name": "a"}, [f"inner.lr={text}", "sizes=[3, 4]"])
    recipe = parse_recipe(Outer, raw)
    assert recipe.inner.lr == pytest.approx(value)
    assert recipe.sizes == (3, 4)


def test_overrides_leave_the_mapping_they_were_given():
    raw = {"inner": {"lr": 1.0}}
    apply_overrides(raw, ["inner.lr=2"])
    assert raw == {"inner": {"lr": 1.0}}


@pytest.mark.parametrize("override", ["lr", "=3", "inner..lr=3", "name.x=3", "inner.lr=[1"])
def test_a_wrong_override_is_refused(override):
    with pytest.raises(RecipeError, match="override"):
        apply_overrides({"name": "a"}, [override])


def test_files_that_are_no_recipe_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="not found"):
        load_recipe(Outer, tmp_path / "absent.yaml")
    for name, text, message in [
        ("list.yaml", "- 1", "list, not a mapping"),
        ("bad.yaml", "a: [", "not valid YAML"),
        ("twice.yaml", "name: a\nsizes: [1]\nname: b", "'name' is there twice, in lines 1 and 3"),
        ("empty.yaml", "", "is empty, not a mapping"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError, match=message):
            load_recipe(Outer, tmp_path / name)


def test_the_resolved_recipe_reads_back(tmp_path):
    recipe = Outer(name="a", inner=Inner(lr=2e-5))
    (tmp_path / "r.yaml").write_text(to_yaml(recipe))
    assert load_recipe(Outer, tmp_path / "r.yaml") == recipe


def test_fingerprints_see_values_not_the_order_of_keys():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint(Outer(name="a"))) == 16


def test_settings_teach():
    rows = {key: (kind, default, text) for key, kind, default, text in describe_settings(Outer)}
    assert rows["inner.lr"] == ("float", "0.001", "Learning rate.")
    assert rows["name"][1] == "required"


class Free(Config):
    options: dict[str, int] = {}


class Named(Config):
    by_name: dict[str, Free] = {}


def test_a_wrong_key_below_a_name_that_the_user_chose():
    with pytest.raises(RecipeError, match=r"by_name\.mine\.wrong: unknown setting"):
        parse_recipe(Named, {"by_name": {"mine": {"wrong": 1}}})


class Round(Config):
    kind: Literal["round"] = "round"
    radius: float = 1


class Square(Config):
    kind: Literal["square"]
    side: float = 1


class Names(Config):
    contigs: tuple[str, ...]


class Shapes(Config):
    shapes: dict[str, Annotated[Round | Square, Field(discriminator="kind")]]


def test_a_wrong_key_in_one_of_several_kinds_of_settings():
    given = {"shapes": {"mine": {"kind": "square", "sid": 3}}}
    with pytest.raises(RecipeError) as error:
        parse_recipe(Shapes, given)
    assert "shapes.mine.sid: unknown setting. Did you mean 'side'? Allowed: kind, side." in str(error.value)
    with pytest.raises(RecipeError, match=r"shapes\.mine\.radius: .*got 'x'"):
        parse_recipe(Shapes, {"shapes": {"mine": {"kind": "round", "radius": "x"}}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"radius": 1}, r"shapes\.mine\.kind: is required\. Allowed: round, square\."),
        ({"kind": "oval"}, r"shapes\.mine\.kind: there is no 'oval'\. Allowed: round, square\."),
    ],
)
def test_the_kinds_of_settings_are_named(given, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(Shapes, {"shapes": {"mine": given}})


def test_a_number_may_stand_where_a_name_is_wanted():
    assert parse_recipe(Names, {"contigs": [2, "X", 10]}).contigs == ("2", "X", "10")
    with pytest.raises(RecipeError, match=r"contigs\.1: Input should be a valid string \(got True\)"):
        parse_recipe(Names, {"contigs": ["X", True]})
