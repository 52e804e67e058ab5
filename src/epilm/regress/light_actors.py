"""The stop event and the queue of xgboost-ray, in processes that import next to nothing.

xgboost-ray (0.1.19) starts an actor for one boolean and one for its checkpoints. The first unpickles as a class of
``xgboost_ray``, the second unpickles checkpoints of ``xgboost_ray``: either imports xgboost, scikit-learn and Ray Tune, 2 s
of a core, for every booster. These have the same methods, and their actors need nothing but Ray.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import ray
from ray.util.queue import Queue


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


class BytesQueue(Queue):
    """``ray.util.queue.Queue`` whose actor holds pickled items, so that it need not import what they are."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(pickle.dumps(item), block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return pickle.loads(super().get(block, timeout))


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
