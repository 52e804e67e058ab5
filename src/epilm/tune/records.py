"""What is known of trials: their evaluations, from their folders, and what became of them, from the sweep's log.

The log is ``metrics.jsonl`` of the sweep, a record an event, so that a killed sweep tells how far it came:
``{"kind": "trial", "event": started | evaluated | stopped | finished | failed, "trial": id, "time": ...}``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from epilm.runs import read_metrics
from epilm.storage import Location
from epilm.tune.plan import AnyTrial, Plan

ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a trial; ``value`` is None where the metric is no number (training diverged), ``tokens`` where trials
    are not counted in tokens."""

    index: int
    tokens: int | None
    value: float | None


@dataclass(frozen=True)
class TrialRecord:
    """A trial and what became of it: ``finished`` at its full budget, ``stopped`` early, or ``failed``."""

    id: str
    path: str
    parameters: dict[str, Any]
    status: str
    evaluations: tuple[Evaluation, ...]
    budget_tokens: int | None
    seconds: float
    error: str | None

    @property
    def value(self) -> float | None:
        return self.evaluations[-1].value if self.evaluations else None

    @property
    def tokens(self) -> int | None:
        if self.budget_tokens is None:
            return None
        return self.evaluations[-1].tokens if self.evaluations else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "parameters": self.parameters,
            "evaluations": [{"index": e.index, "tokens": e.tokens, "value": e.value} for e in self.evaluations],
            "value": self.value,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "error": self.error,
            "run": self.path,
        }


def finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def evaluations_of(folder: Location, trial: AnyTrial, metric: str) -> tuple[Evaluation, ...]:
    """A trial's evaluations so far, from its own ``metrics.jsonl``, where a resumed trial has each once."""
    set_name, _, name = metric.partition("/")
    records = [r for r in read_metrics(folder / trial.path) if r["kind"] == "eval" and r["set"] == set_name]
    values = [(trial.index_of(r["step"]), finite(r.get(name))) for r in records]
    return tuple(Evaluation(index, trial.tokens_at(index), value) for index, value in values)


def fate(trial: AnyTrial, evaluations: tuple[Evaluation, ...], *, whole: bool) -> tuple[str, str | None]:
    """(status, error) of a trial that ended without an exception; ``whole``: it came to its own end."""
    lost = next((e for e in evaluations if e.value is None), None)
    if lost is not None:
        return "failed", (
            f"no finite metric at evaluation {lost.index} of {trial.evaluations}: training diverged, or the evaluation has no "
            "such figure."
        )
    return ("finished" if whole else "stopped"), None


def seconds_of(events: Iterable[dict[str, Any]]) -> float:
    """Wall time of a trial over all its attempts: of one that was cut off, up to its last sign of life."""
    total, began, last = 0.0, None, 0.0
    for event in events:
        if event["event"] == "started":
            total += last - began if began is not None else 0.0
            began = event["time"]
        last = event["time"]
    return total + (last - began if began is not None else 0.0)


def attempts(events: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Trial -> its events. A sweep that was killed before Tune kept a draw draws that trial anew: then those of the last
    draw."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        own = found.setdefault(event["trial"], [])
        if event["event"] == "started" and own and own[0].get("config") != event["config"]:
            own.clear()
        own.append(event)
    return found


def collect(plan: Plan, events: Iterable[dict[str, Any]]) -> list[TrialRecord]:
    """Records of the trials that ended, in the order of their ids, which is that of their draws.

    Of a trial that was stopped, only what the decision was made on counts: it may have gone on for a moment.
    """
    records = []
    for own in attempts(events).values():
        if own[-1]["event"] not in ENDED:
            continue
        trial, last = plan.trial(own[0]["config"]), own[-1].get("index")
        evaluations = evaluations_of(plan.folder, trial, plan.metric)
        records.append(
            TrialRecord(
                trial.id,
                trial.path,
                trial.parameters,
                own[-1]["event"],
                tuple(e for e in evaluations if last is None or e.index <= last),
                trial.tokens_at(trial.evaluations),
                seconds_of(own),
                own[-1].get("error"),
            )
        )
    return sorted(records, key=lambda r: r.id)


def best_of(records: Iterable[TrialRecord], mode: str) -> TrialRecord | None:
    """The best of those that spent their whole budget; None where none did. The first of equals."""
    done = [r for r in records if r.status == "finished" and r.value is not None]
    sign = 1.0 if mode == "min" else -1.0
    return min(done, key=lambda r: sign * float(r.value or 0.0), default=None)


def spent(records: list[TrialRecord]) -> dict[str, float]:
    """What the sweep cost, and, where trials are counted in tokens, what it would have cost without early stops."""
    seconds = round(sum(r.seconds for r in records), 1)
    if any(r.budget_tokens is None for r in records):
        return {"seconds": seconds}
    return {
        "tokens": sum(r.tokens or 0 for r in records),
        "seconds": seconds,
        "tokens_without_stopping": sum(r.budget_tokens or 0 for r in records),
    }
