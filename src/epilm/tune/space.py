"""The search space: dotted settings of a recipe, each with its values or its range, some under a condition.

Pure: how a number is drawn is the caller's affair (Optuna's trial in a sweep, ``random.Random`` in a check).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from pydantic import field_validator, model_validator

from epilm.config import Config
from epilm.errors import RecipeError

Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]
"""What a setting may be; a tuple where it is a list (thresholds, say)."""
Space = Mapping[str, "Parameter"]
Drawn = dict[str, Value]

_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class Parameter(Config):
    """What one setting may be: ``values``, or ``low`` to ``high``."""

    values: tuple[Value, ...] | None = None
    """The values to choose from; lists are values as well, e.g. ``[[1, 2], [1, 3, 6]]``."""
    low: float | None = None
    """Smallest value of a range."""
    high: float | None = None
    """Largest value of a range; it can be drawn."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    step: float | None = None
    """Distance between the values of a range."""
    when: dict[str, tuple[Value, ...]] = {}
    """The setting takes part only where these other settings of the space have one of these values."""
    int: bool = False
    """The range holds whole numbers."""

    @field_validator("values", mode="after")
    @classmethod
    def _distinct(cls, values: tuple[Value, ...] | None) -> tuple[Value, ...] | None:
        if values is None:
            return None
        read = tuple(tuple(map(_read, v)) if isinstance(v, tuple) else _read(v) for v in values)
        if len(read) < 2:
            what = f"holds {read[0]!r} alone" if read else "is empty"
            raise ValueError(f"{what}; give at least two values, or write the one in the base.")
        if len({(type(v), v) for v in read}) < len(read):
            raise ValueError(f"holds a value twice: {list(read)}.")
        return read

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.values is not None:
            if self.low is not None or self.high is not None or self.step is not None or self.log or self.int:
                raise ValueError("give either values, or low and high (with log, step or int), not both.")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give values: [...], or low and high.")
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be smaller than high={self.high:g}.")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low:g}: a logarithmic range begins above 0.")
        if self.step is not None:
            self._check_step(self.low, self.high, self.step)
        if self.int and not all(x is None or x == round(x) for x in (self.low, self.high, self.step)):
            raise ValueError("int: true needs whole numbers as low, high and step.")
        return self

    def _check_step(self, low: float, high: float, step: float) -> None:
        if self.log:
            raise ValueError("step and log do not go together; list the values instead.")
        if step <= 0:
            raise ValueError(f"step={step:g} must be above 0.")
        count = (high - low) / step
        if abs(count - round(count)) > 1e-9 * max(1.0, count) or count < 1:
            reachable = low + step * max(1, int(count))
            raise ValueError(f"high={high:g} is not low + n x step ({low:g} + n x {step:g}). Try high={reachable:g}.")

    @property
    def ends(self) -> tuple[Value, ...]:
        """Every value of a choice; both ends of a range."""
        if self.values is not None:
            return self.values
        return tuple(round(x) if self.int else x for x in (self.low, self.high) if x is not None)

    def describe(self) -> dict[str, Any]:
        """As it was written: without the settings left alone."""
        return self.model_dump(mode="json", exclude_defaults=True)


def _read(value: Scalar) -> Scalar:
    """YAML 1.1 reads 1e-3 as a string: it wants 1.0e-3."""
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value


def order(space: Space) -> list[str]:
    """The keys, each behind those that its ``when`` names, else as written.

    Raises:
        RecipeError: a ``when`` names what is not in the space, a range, or a value that is never drawn; or it is circular.
    """
    for key, parameter in space.items():
        for other, wanted in parameter.when.items():
            _check_condition(space, key, other, wanted)
    ordered: list[str] = []
    while len(ordered) < len(space):
        ready = [k for k in space if k not in ordered and all(other in ordered for other in space[k].when)]
        if not ready:
            circle = ", ".join(k for k in space if k not in ordered)
            raise RecipeError(f"space: the conditions (when) of {circle} wait for each other. Remove one of them.")
        ordered.append(ready[0])
    return ordered


def _check_condition(space: Space, key: str, other: str, wanted: tuple[Value, ...]) -> None:
    if other not in space:
        raise RecipeError(
            f"space.{key}.when names {other!r}, which is not in the space. It may name: {', '.join(space)}."
        )
    values = space[other].values
    if values is None:
        raise RecipeError(
            f"space.{key}.when names {other!r}, which is a range; a condition needs a setting with values."
        )
    never = [v for v in wanted if v not in values]
    if never or not wanted:
        raise RecipeError(
            f"space.{key}.when.{other}={list(wanted)}: {never or 'nothing'} is not drawn; {other} has {list(values)}."
        )


def draw(space: Space, choose: Callable[[str, Parameter], Value]) -> Drawn:
    """One point of the space: the keys that take part, in the order of :func:`order`, each as ``choose`` says."""
    drawn: Drawn = {}
    for key in order(space):
        parameter = space[key]
        if all(other in drawn and drawn[other] in wanted for other, wanted in parameter.when.items()):
            drawn[key] = choose(key, parameter)
    return drawn


def random_choice(generator: random.Random) -> Callable[[str, Parameter], Value]:
    """A ``choose`` that draws evenly (also over a logarithmic range: it is for checks)."""

    def choose(key: str, parameter: Parameter) -> Value:
        if parameter.values is not None:
            return generator.choice(parameter.values)
        assert parameter.low is not None
        assert parameter.high is not None
        if parameter.step is None and not parameter.int:
            return generator.uniform(parameter.low, parameter.high)
        step = parameter.step or 1
        value = parameter.low + step * generator.randint(0, round((parameter.high - parameter.low) / step))
        return round(value) if parameter.int else value

    return choose


def samples(space: Space, *, num_random: int, seed: int) -> Iterator[Drawn]:
    """Points that a check looks at: every value and both ends of every range, one at a time, then random ones."""
    first = {key: parameter.ends[0] for key, parameter in space.items()}
    for key, parameter in space.items():
        fixed = _enable(space, key)
        for end in parameter.ends:
            yield draw(space, lambda k, _: {**first, **fixed, key: end}[k])  # noqa: B023  drawn at once
    choose = random_choice(random.Random(seed))
    for _ in range(num_random):
        yield draw(space, choose)


def _enable(space: Space, key: str) -> Drawn:
    """Values of other settings with which this one takes part."""
    fixed: Drawn = {}
    for other, wanted in space[key].when.items():
        fixed |= {other: wanted[0], **_enable(space, other)}
    return fixed
