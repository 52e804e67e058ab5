"""The log of a sweep and its lines of progress, written as Tune tells of its trials."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune

from epilm.errors import user_error
from epilm.runs import RESULT_FILE, read_metrics
from epilm.storage import Location
from epilm.tune.plan import Plan
from epilm.tune.records import ENDED, attempts, evaluations_of, fate, finite
from epilm.tune.release import release
from epilm.tune.trainable import EVALUATION, VALUE

Progress = Callable[[str], None]

_MOST_ERROR = 600
"""Characters of an error that are kept."""


class TrialLog(tune.Callback):
    """Appends an event to ``metrics.jsonl`` whenever a trial starts, is evaluated or ends, says so, and frees what a trial
    held that ended.

    Args:
        group: where the events belong: ``trial`` for the sweep, another word for a comparison in the same run folder.
        total: trials that there will be.
        mode: ``min`` or ``max`` to tell the best so far; None where nothing is chosen.
    """

    def __init__(
        self, plan: Plan, path: Location, progress: Progress, *, group: str, total: int, mode: str | None
    ) -> None:
        self._plan, self._path, self._progress = plan, path, progress
        self._group, self._total, self._mode = group, total, mode
        ends = {id_: own[-1] for id_, own in attempts(read_events(path, group)).items() if own[-1]["event"] in ENDED}
        self._ended = set(ends)
        self.failures: dict[str, str] = {}
        self._values = {id_: end["value"] for id_, end in ends.items() if end["event"] == "finished"}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        made = self._plan.trial(trial.config)
        self._ended.discard(made.id)
        self.failures.pop(made.id, None)
        before = evaluations_of(self._plan.folder, made, self._plan.metric)
        self._write("started", made.id, config=trial.config)
        settings = "  ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in made.parameters.items())
        goes_on = f" (has {before[-1].index} of {made.evaluations} evaluations)" if before else ""
        self._progress(f"{made.id} starts{goes_on}: {settings or 'as the base'}  {made.size}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        made = self._plan.trial(trial.config)
        index, value = int(result[EVALUATION]), finite(result[VALUE])
        self._write("evaluated", made.id, index=index, tokens=made.tokens_at(index), value=value)
        self._progress(f"{made.id} {index}/{made.evaluations}  {self._plan.metric} {_short(value)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        release(trial.last_result)
        made = self._plan.trial(trial.config)
        whole = (self._plan.folder / made.path / RESULT_FILE).exists()
        last = made.evaluations if whole else int(trial.last_result.get(EVALUATION, 0))
        evaluations = [e for e in evaluations_of(self._plan.folder, made, self._plan.metric) if e.index <= last]
        status, error = fate(made, tuple(evaluations), whole=whole)
        self._end(made.id, status, evaluations[-1].value if evaluations else None, error, index=last)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        release(trial.last_result)
        self._end(self._plan.trial(trial.config).id, "failed", None, error_text(trial))

    def _end(self, id_: str, status: str, value: float | None, error: str | None, *, index: int | None = None) -> None:
        self._write(status, id_, index=index, value=value, error=error)
        self._ended.add(id_)
        if status == "failed":
            self.failures[id_] = error or "no error was recorded"
        if status == "finished" and value is not None:
            self._values[id_] = value
        told = f"{id_} {status}" + (f" at {_short(value)}" if value is not None else "")
        told += f": {error.splitlines()[0]}" if error else ""
        self._progress(f"{told}  {self._total - len(self._ended)} of {self._total} left{self._best()}")

    def _best(self) -> str:
        if self._mode is None or not self._values:
            return ""
        best = (min if self._mode == "min" else max)(self._values, key=lambda id_: self._values[id_])
        return f"  best so far {best} {_short(self._values[best])}"

    def _write(self, event: str, id_: str, **fields: Any) -> None:
        record = {"kind": self._group, "event": event, "trial": id_, **fields, "time": time.time()}
        self._path.append_text(json.dumps(record) + "\n")

    @property
    def num_left(self) -> int:
        return self._total - len(self._ended)


def read_events(path: Location, group: str) -> list[dict[str, Any]]:
    """Events of a group, oldest first. ``path`` is the ``metrics.jsonl`` of a run folder."""
    folder = Location(path.uri.rpartition("/")[0])
    return [record for record in read_metrics(folder) if record["kind"] == group]


def error_text(trial: Any) -> str:
    """What a Tune trial failed of. Tune's own ``get_error`` looks where the files arrive later."""
    files = [Path(name) if name else None for name in (trial.pickled_error_file, trial.error_file)]
    if files[0] is not None and files[0].exists():
        error = cloudpickle.loads(files[0].read_bytes())
        return reason(str(user_error(error) or error))
    return reason(files[1].read_text() if files[1] is not None and files[1].exists() else "")


def reason(text: str) -> str:
    """The last exception of a traceback; a message without one, less what it says of checkpoints."""
    raised = re.findall(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Died)\b.*", text, flags=re.MULTILINE)
    if "Traceback (most recent call last)" in text and raised:
        text = raised[-1]
    lines = [
        line for line in text.strip().splitlines() if not line.startswith(("The last checkpoint", "There is no ch"))
    ]
    told = "\n".join(lines) or "no error was recorded"
    return told if len(told) <= _MOST_ERROR else f"{told[:_MOST_ERROR]} ..."


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
