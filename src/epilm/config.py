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
    """Frozen settings; unknown keys are refused; the docstring under a field is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


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
        raw = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        what = "is empty" if raw is None else f"holds {type(raw).__name__}"
        raise RecipeError(f"{path} {what}, not a mapping of settings. Write `name: NAME` and so on; see rayjobs/.")
    return apply_overrides(raw, overrides)


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
    dotted = ".".join(str(part) for part in item["loc"]) or "(recipe)"
    if item["type"] == "extra_forbidden":
        allowed = _keys_at(cls, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"{dotted}: unknown setting.{hint} Allowed: {', '.join(allowed)}."
    if item["type"] == "missing":
        return f"{dotted}: is required."
    message = item["msg"].removeprefix("Value error, ")
    got = item.get("input")
    shown = "" if isinstance(got, dict) else f" (got {got!r})"
    return f"{dotted}: {message}{shown}"


def _keys_at(cls: Any, location: tuple[Any, ...]) -> list[str]:
    """Setting names allowed at a dotted location; looks through unions, and gives [] where it cannot tell."""
    candidates = [cls]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                field = candidate.model_fields.get(str(part))
                if field is not None:
                    following += _models_in(field.annotation)
                elif any(part == getattr(f.default, "value", f.default) for f in candidate.model_fields.values()):
                    following.append(candidate)  # a discriminated union repeats its tag in the location
            if isinstance(part, int):
                following.append(candidate)
        candidates = following
    return sorted({name for c in candidates if hasattr(c, "model_fields") for name in c.model_fields})


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
