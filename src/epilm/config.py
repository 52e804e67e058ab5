"""Recipes: frozen pydantic models, read from YAML, overridden by ``key.path=value``, validated once.

A stage's recipe class lives beside the code that it configures and derives from :class:`Config` (parts) or
:class:`~epilm.runs.Recipe` (whole runs).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from epilm.errors import RecipeError


class Config(BaseModel):
    """Frozen settings; unknown keys are refused; the docstring under a field is its help.

    A number is taken where a name is wanted: YAML reads the contig ``2`` as one.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, coerce_numbers_to_str=True
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def load_recipe(cls: type[ConfigT], path: str | Path, overrides: typing.Sequence[str] = ()) -> ConfigT:
    """Read a YAML recipe, apply ``key.path=value`` overrides to the raw mapping, and validate once.

    Raises:
        RecipeError: with the dotted path of every wrong key, what was got and what is allowed.
    """
    return parse_recipe(cls, read_recipe(path, overrides), source=str(path))


def read_recipe(path: str | Path, overrides: typing.Sequence[str] = ()) -> dict[str, Any]:
    """The raw mapping of a YAML recipe under ``key.path=value`` overrides.

    Raises:
        RecipeError: no such file, not YAML, or no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"recipe not found: {path}. Give the path of a YAML file; examples are in rayjobs/.")
    try:
        raw = yaml.load(path.read_text(), Loader=_EachKeyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"holds {type(raw).__name__}"
        raise RecipeError(f"{path} {what}, not a mapping of settings. Write `name: NAME` and so on; see rayjobs/.")
    return apply_overrides(raw, overrides)


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, where the library lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    raise yaml.YAMLError(f"{key.value!r} is there twice, in lines {lines[key.value]} and {line}.")
                lines[key.value] = line
        return super().construct_mapping(node, deep)


def apply_overrides(raw: dict[str, Any], overrides: typing.Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``raw`` with each ``a.b.c=value`` set; values are YAML (``[1, 2]``, ``null``, ``3e-4``)."""
    result = json.loads(json.dumps(raw, default=str))
    for override in overrides:
        dotted, separator, text = override.partition("=")
        keys = dotted.split(".")
        if not separator or not all(keys):
            raise RecipeError(f"override {override!r} is not of the form key.path=value, e.g. train.lr=3e-4.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"override {override!r}: the value is not valid YAML: {error}") from error
        node = result
        for key in keys[:-1]:
            child = node.get(key)
            if child is None:
                child = node[key] = {}
            if not isinstance(child, dict):
                raise RecipeError(f"override {override!r}: {key!r} is a value, not a group of settings.")
            node = child
        node[keys[-1]] = value
    return result


def parse_recipe(cls: type[ConfigT], raw: typing.Mapping[str, Any], *, source: str = "recipe") -> ConfigT:
    """Validate a raw mapping; collect every error into one :class:`RecipeError`."""
    try:
        return cls.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(cls, item) for item in error.errors()]
        raise RecipeError(f"{source}:\n" + "\n".join(f"  {line}" for line in lines)) from error


def _explain(cls: type[Config], item: Any) -> str:
    place, allowed = _place(cls, item["loc"][:-1] if item["type"] == "extra_forbidden" else item["loc"])
    if item["type"] == "extra_forbidden":
        name = str(item["loc"][-1])
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{'.'.join([*place, name])}: unknown setting.{hint} Allowed: {', '.join(allowed)}."
    dotted = ".".join(place) or "(recipe)"
    if item["type"] == "missing":
        return f"{dotted}: is required."
    got = item.get("input")
    if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
        key = item["ctx"]["discriminator"].strip("'")
        said = f"there is no {item['ctx']['tag']!r}" if "tag" in item["ctx"] else "is required"
        return f"{'.'.join([*place, key])}: {said}. Allowed: {', '.join(_tags(cls, item['loc'], key))}."
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(got, dict) else f" (got {got!r})"
    return f"{dotted}: {message}{shown}"


def _place(cls: Any, location: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """A location of pydantic's as the keys of the recipe, and the settings that are allowed there."""
    keys, models = _models_at(cls, location)
    return keys, sorted({name for model in models for name in model.model_fields})


def _tags(cls: Any, location: tuple[Any, ...], key: str) -> list[str]:
    """What the setting ``key``, which chooses among the classes of a union, may be."""
    _, models = _models_at(cls, location)
    return [tag for model in models for tag in typing.get_args(model.model_fields[key].annotation)]


def _models_at(cls: Any, location: tuple[Any, ...]) -> tuple[list[str], list[Any]]:
    """A location of pydantic's as the keys of the recipe, and the settings' classes there.

    Of a union of settings, pydantic's location has the tag that chose one: it is no key.
    """
    here, keys = [cls], []
    for part in location:
        alternatives = [choice for annotation in here for choice in _alternatives(annotation)]
        tagged = [choice for choice in alternatives if _has_tag(choice, part)]
        below = [deeper for choice in alternatives for deeper in _below(choice, part)]
        if tagged and not below:
            here = tagged
        else:
            here = below
            keys.append(str(part))
    return keys, [choice for annotation in here for choice in _alternatives(annotation) if _is_model(choice)]


def _alternatives(annotation: Any) -> list[Any]:
    """What a value may be, unions taken apart."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _alternatives(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [choice for argument in arguments for choice in _alternatives(argument)]
    return [annotation]


def _below(annotation: Any, part: Any) -> list[Any]:
    """What lies under a key, or under a number of a list."""
    if _is_model(annotation):
        field = annotation.model_fields.get(str(part))
        return [] if field is None else [field.annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return [arguments[1]]
    return [arguments[0]] if origin in (list, tuple) and isinstance(part, int) else []


def _has_tag(annotation: Any, part: Any) -> bool:
    """Whether a part of a location is what tells this settings class from the others of its union."""
    fields = annotation.model_fields.values() if _is_model(annotation) else ()
    literals = [f.annotation for f in fields if typing.get_origin(f.annotation) is typing.Literal]
    return any(part in typing.get_args(literal) for literal in literals)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple, dict, typing.Annotated):
        return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
    return []


def fingerprint(value: Any) -> str:
    """SHA-256 (16 hex digits) of a config or of any JSON value, independent of key order."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_yaml(config: Config) -> str:
    """The resolved recipe as YAML, with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe_settings(cls: type[BaseModel], prefix: str = "") -> list[tuple[str, str, str, str]]:
    """(dotted key, type, default, help) of every setting, for ``epilm STAGE --settings``."""
    rows: list[tuple[str, str, str, str]] = []
    for name, field in cls.model_fields.items():
        key = f"{prefix}{name}"
        nested = _models_in(field.annotation)
        help_text = " ".join((field.description or "").split())
        if nested:
            many = len(nested) > 1
            rows.append((key, " | ".join(model.__name__ for model in nested), "", help_text))
            for model in nested:
                rows += describe_settings(model, f"{key}<{model.__name__}>." if many else f"{key}.")
        else:
            kind = getattr(field.annotation, "__name__", None) if not typing.get_args(field.annotation) else None
            default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
            rows.append((key, kind or str(field.annotation).replace("typing.", ""), default, help_text))
    return rows
