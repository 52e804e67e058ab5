"""A tiny actor between the workers and the driver: live progress, and errors that no restart can mend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ray


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Holds the latest record and the first fatal error."""

    def __init__(self) -> None:
        self._record: dict[str, Any] | None = None
        self._fatal: tuple[str, str] | None = None

    def post(self, record: dict[str, Any]) -> None:
        self._record = record

    def latest(self) -> dict[str, Any] | None:
        return self._record

    def fail(self, kind: str, message: str) -> None:
        self._fatal = self._fatal or (kind, message)

    def fatal(self) -> tuple[str, str] | None:
        return self._fatal


class Watch:
    """Polls a board from a thread of the driver and passes each new record on."""

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
        last = None
        while not self._done.wait(self._every_s):
            try:
                record = ray.get(self._board.latest.remote(), timeout=10)
            except (ray.exceptions.RayError, RuntimeError):
                continue  # the board restarts with its node
            if record is not None and record != last:
                last = record
                self._show(record)
