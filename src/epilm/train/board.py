"""A tiny actor between the workers and the driver: live progress, and errors that no restart can mend."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Holds the latest records and the first fatal error."""

    def __init__(self) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=256)
        self._posted = 0
        self._fatal: tuple[str, str] | None = None

    def post(self, record: dict[str, Any]) -> None:
        self._records.append(record)
        self._posted += 1

    def since(self, seen: int) -> tuple[int, list[dict[str, Any]]]:
        """How many records were posted in all, and those after the first ``seen`` that are still held."""
        fresh = min(self._posted - seen, len(self._records)) if seen <= self._posted else len(self._records)
        return self._posted, list(self._records)[len(self._records) - fresh :]

    def fail(self, kind: str, message: str) -> None:
        self._fatal = self._fatal or (kind, message)

    def fatal(self) -> tuple[str, str] | None:
        return self._fatal


class Watch:
    """Polls a board from a thread of the driver and passes the new records on."""

    def __init__(self, board: Any, show: Callable[[dict[str, Any]], None], *, every_s: float = 1.0) -> None:
        self._board, self._show, self._every_s = board, show, every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=10)

    def _poll(self) -> None:
        seen, ended = 0, False
        while not ended:
            ended = self._done.wait(self._every_s)  # once more after the end: the last records are the evaluation's
            try:
                posted: tuple[int, list[dict[str, Any]]] = ray.get(self._board.since.remote(seen), timeout=10)
            except (RayError, RuntimeError):
                continue  # the board restarts with its node
            seen, fresh = posted
            for record in _worth_showing(fresh):
                self._show(record)


def _worth_showing(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but the training steps that another one follows."""
    last = max((i for i, record in enumerate(records) if record["kind"] == "train"), default=-1)
    return [record for i, record in enumerate(records) if record["kind"] != "train" or i == last]
