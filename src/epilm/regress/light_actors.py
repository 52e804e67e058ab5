"""What xgboost-ray keeps beside its training actors, in processes that import next to nothing, or in none.

xgboost-ray (0.1.19) starts an actor for one boolean and one for its checkpoints. The first unpickles as a class of
``xgboost_ray``, which imports xgboost, scikit-learn and Ray Tune, 2 s of a core, for every booster; ours needs nothing but
Ray. The second is not wanted at all: see :class:`NoQueue`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray


class StopEvent:
    """``xgboost_ray.util.Event``."""

    def __init__(self, actor_options: dict[str, Any] | None = None) -> None:
        self.actor: Any = ray.remote(_Flag).options(**(actor_options or {})).remote()

    def set(self) -> None:
        self.actor.set.remote()

    def clear(self) -> None:
        self.actor.clear.remote()

    def is_set(self) -> bool:
        return ray.get(self.actor.is_set.remote())

    def shutdown(self) -> None:
        if self.actor:
            ray.kill(self.actor)
        self.actor = None


class NoQueue:
    """A queue that takes the actors' checkpoints and forgets them, so that a restarted fit begins anew.

    A booster that continues from a checkpoint is another one than the undisturbed: xgboost (2.0) draws the columns of its
    trees from a generator that begins with the fit and is not saved, ``seed_per_iteration`` does not reach it, and early
    stopping forgets the rounds before. From the start, everything is drawn and counted as before.
    """

    def __init__(self, actor_options: dict[str, Any] | None = None) -> None:
        pass

    def put(self, item: Any) -> None:
        pass

    def empty(self) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class _Flag:
    """An async actor, so that a question never waits for another one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def set(self) -> None:
        self._event.set()

    async def clear(self) -> None:
        self._event.clear()

    async def is_set(self) -> bool:
        return self._event.is_set()
