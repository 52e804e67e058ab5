"""One Ray task of one CPU for each factor or part, a bounded number of them under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from epilm.errors import EpilmError, user_error


def run_tasks(work: Callable[[int], Any], num: int, *, at_once: int, done: Callable[[int], None]) -> list[Any]:
    """``[work(0), ..., work(num - 1)]``, whoever is first; ``work`` is shipped once.

    Args:
        done: called after each task with how many are finished.

    Raises:
        EpilmError: the first that a task met; those under way are cancelled, and what they wrote stays.
    """
    shared, task = ray.put(work), ray.remote(num_cpus=1)(_call)
    results: list[Any] = [None] * num
    running: dict[ray.ObjectRef, int] = {}
    following = 0
    while following < num or running:
        while following < num and len(running) < at_once:
            running[task.remote(shared, following)] = following
            following += 1
        (ready,), _ = ray.wait(list(running))
        number = running.pop(ready)
        try:
            results[number] = ray.get(ready)
        except (RayError, EpilmError) as error:
            for reference in running:
                ray.cancel(reference)
            raise user_error(error) or error from None
        done(following - len(running))
    return results


def _call(work: Callable[[int], Any], number: int) -> Any:
    return work(number)
