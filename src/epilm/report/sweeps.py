"""A search over settings: its trials as a table, what was chosen and spent, and what the settings mattered.

Without a result (a sweep that was killed, or still runs) the trials are those of the sweep's own log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from epilm.report.catalog import metric_of_set
from epilm.report.collect import RunRecord
from epilm.report.comparisons import READING, ComparisonView, comparison_view, metric_title
from epilm.report.parallel import Point, Trial, draw_data
from epilm.report.text import ABSENT, figure, number, setting, show

ENDED = ("finished", "stopped", "failed")
RUNNING = "unfinished"
STATUS_WORDS = {"stopped": "stopped early"}


@dataclass(frozen=True)
class TableCell:
    """A cell that can be sorted: numbers by themselves, text as text, what is absent last."""

    text: str
    key: float | str | None


@dataclass(frozen=True)
class TrialRow:
    id: str
    status: str
    status_text: str
    is_best: bool
    cells: tuple[TableCell, ...]
    error: str


@dataclass(frozen=True)
class ImportanceBar:
    label: str
    title: str
    text: str
    share: float
    """Percent of the greatest."""


@dataclass(frozen=True)
class SweepView:
    name: str
    status: str
    facts: tuple[tuple[str, str], ...]
    best: tuple[tuple[str, str], ...]
    """Settings of the best trial; empty where there is none."""
    heads: tuple[tuple[str, str], ...]
    """(heading, what it stands for) of the columns behind trial and status."""
    rows: tuple[TrialRow, ...]
    importance: tuple[ImportanceBar, ...]
    importance_note: str
    has_errors: bool
    by_tokens: bool
    """Whether trials are followed over tokens; a row of differential expression is scored once."""
    confirm: ComparisonView | None
    data: dict[str, Any]
    """What the page's script draws."""


def sweep_view(record: RunRecord) -> SweepView | None:
    """The view of a ``tune`` run; None where not even a trial has begun."""
    result = record.result
    settings = result if result else record.recipe
    trials = _from_result(result) if result else trials_of_log(record.metrics)
    if not trials:
        return None
    key, mode = str(settings.get("metric") or "metric"), str(settings.get("mode") or "min")
    chosen, confirm = _mapping(result.get("best")), _mapping(result.get("confirm"))
    best = next((t for t in trials if t.id == chosen.get("id")), None)
    space = _mapping(settings.get("space"))
    parameters = list(dict.fromkeys([*space, *(name for t in trials for name in t.parameters)]))
    labels = short_labels(parameters)
    entry = metric_of_set(key)[1]
    by_tokens = settings.get("budget_tokens") is not None or any(t.tokens is not None for t in trials)
    tokens_head = (("Tokens", ""),) if by_tokens else ()
    return SweepView(
        name=record.name,
        status=record.status,
        facts=tuple(_facts(settings, result, trials, best, key)),
        best=tuple((name, setting(value)) for name, value in best.parameters.items()) if best else (),
        heads=(*((labels[name], name) for name in parameters), (entry.title, key), *tokens_head, ("Time", "")),
        rows=tuple(_row(t, best, parameters, entry.style, by_tokens) for t in _ranked(trials, mode)),
        importance=_importance(result.get("importance"), labels),
        importance_note=str(result.get("importance_note") or ""),
        has_errors=any(t.error for t in trials),
        by_tokens=by_tokens,
        confirm=comparison_view(record.name, confirm, reading=str(confirm.get("reading") or READING)),
        data=draw_data(trials, best, space, labels, title=metric_title(key), style=entry.style, mode=mode),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_result(result: Mapping[str, Any]) -> list[Trial]:
    entries = result.get("trials")
    return [_trial(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _trial(entry: dict[str, Any]) -> Trial:
    evaluations = entry.get("evaluations")
    points = [
        Point(tokens, number(e.get("value")))
        for e in (evaluations if isinstance(evaluations, list) else [])
        if isinstance(e, dict) and (tokens := number(e.get("tokens"))) is not None
    ]
    return Trial(
        id=str(entry.get("id")),
        status=str(entry.get("status")),
        parameters=_mapping(entry.get("parameters")),
        points=tuple(sorted(points, key=lambda p: p.tokens)),
        value=number(entry.get("value")),
        tokens=number(entry.get("tokens")),
        seconds=number(entry.get("seconds")),
        error=str(entry.get("error") or ""),
    )


def trials_of_log(events: Iterable[Mapping[str, Any]], group: str = "trial") -> list[Trial]:
    """Trials as the log of a sweep tells of them, in the order in which they began; of repeated events the last counts."""
    own: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("kind") == group and event.get("trial") is not None:
            own.setdefault(str(event["trial"]), []).append(event)
    return [_logged(id_, of_trial) for id_, of_trial in own.items()]


def _logged(id_: str, events: list[Mapping[str, Any]]) -> Trial:
    last = events[-1]
    ended = last.get("event") in ENDED
    drawn: dict[str, Any] = {}
    points: dict[float, Point] = {}
    for event in events:
        drawn = {k: v for k, v in _mapping(event.get("config")).items() if "." in k} or drawn
        tokens = number(event.get("tokens"))
        if event.get("event") == "evaluated" and tokens is not None:
            points[tokens] = Point(tokens, number(event.get("value")))
    ordered = tuple(points[t] for t in sorted(points))
    return Trial(
        id=id_,
        status=str(last["event"]) if ended else RUNNING,
        parameters=drawn,
        points=ordered,
        value=ordered[-1].value if ordered else number(last.get("value")),
        tokens=ordered[-1].tokens if ordered else None,
        seconds=None,
        error=str(last.get("error") or "") if ended else "",
    )


def pending_notes(record: RunRecord) -> list[str]:
    """How far the runs of a comparison have come that has no result yet, alone or behind a search; errors by name."""
    if record.result:
        return []
    groups = dict.fromkeys(str(event.get("kind")) for event in record.metrics if event.get("trial") is not None)
    notes = []
    for group in groups:
        if group != "trial":
            runs = trials_of_log(record.metrics, group)
            counts = {s: sum(r.status == s for r in runs) for s in (*ENDED, RUNNING)}
            shown = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
            notes.append(
                f"{record.name}: {group} has begun {len(runs)} runs ({shown}); it is compared when all have ended."
            )
            notes += [f"{record.name}: {r.id} failed: {r.error}" for r in runs if r.error]
    return notes


def short_labels(keys: Iterable[str]) -> dict[str, str]:
    """Dotted setting -> the shortest end of it that no other setting shares: ``task.dna_mask.policy`` -> ``policy``."""
    names = list(keys)
    labels = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        labels[name] = next(
            (e for e in ends if not any(o != name and (o == e or o.endswith(f".{e}")) for o in names)), name
        )
    return labels


def _ranked(trials: list[Trial], mode: str) -> list[Trial]:
    """Those with the whole budget first, the best of them at the top; then stopped ones, then failed ones."""
    order = {status: place for place, status in enumerate(("finished", RUNNING, "stopped", "failed"))}
    sign = 1.0 if mode == "min" else -1.0
    return sorted(trials, key=lambda t: (order.get(t.status, 9), t.value is None, sign * (t.value or 0.0)))


def _row(trial: Trial, best: Trial | None, parameters: list[str], style: str, by_tokens: bool) -> TrialRow:
    drawn = [
        TableCell(setting(v), _sort_key(v)) if name in trial.parameters else TableCell(ABSENT, None)
        for name in parameters
        for v in (trial.parameters.get(name),)
    ]
    measured = [
        TableCell(figure(trial.value, style), trial.value),
        *([TableCell(show(trial.tokens, "si"), trial.tokens)] if by_tokens else []),
        TableCell(show(trial.seconds, "duration"), trial.seconds),
    ]
    status_text = STATUS_WORDS.get(trial.status, trial.status)
    return TrialRow(trial.id, trial.status, status_text, trial is best, (*drawn, *measured), trial.error)


def _sort_key(value: Any) -> float | str:
    found = number(value)
    return setting(value) if found is None else found


def _facts(
    settings: Mapping[str, Any], result: Mapping[str, Any], trials: list[Trial], best: Trial | None, key: str
) -> list[tuple[str, str]]:
    entry = metric_of_set(key)[1]
    goal = "lowest" if settings.get("mode", "min") == "min" else "highest"
    title = metric_title(key)
    counts = {s: sum(t.status == s for t in trials) for s in (*ENDED, RUNNING)}
    shown = [f"{n} {STATUS_WORDS.get(s, s)}" for s, n in counts.items() if n]
    facts = [("Trials", f"{len(trials)} ({', '.join(shown)})" if shown else str(len(trials)))]
    if best is not None:
        facts.append(("Best", f"{best.id}: {title[0].lower()}{title[1:]} {figure(best.value, entry.style)}"))
    facts.append(("Chosen by", f"{goal} {title[0].lower()}{title[1:]}, of trials with their whole budget"))
    if best is not None and _mapping(result.get("best")).get("recipe"):
        facts.append(("Recipe of the best", str(result["best"]["recipe"])))
    if settings.get("budget_tokens") is not None:
        times = f", {settings['evaluations']} evaluations" if settings.get("evaluations") is not None else ""
        facts.append(("Budget of a trial", f"{show(settings['budget_tokens'], 'si')} tokens{times}"))
    return facts + _spent_facts(_mapping(result.get("spent")))


def _spent_facts(spent: Mapping[str, Any]) -> list[tuple[str, str]]:
    tokens, whole = number(spent.get("tokens")), number(spent.get("tokens_without_stopping"))
    facts = []
    if tokens is not None:
        of_all = f", {show(tokens / whole, 'percent')} of" if whole else ""
        without = f"{of_all} the {show(whole, 'si')} without early stops" if whole else ""
        facts.append(("Spent", f"{show(tokens, 'si')} tokens{without}"))
    if number(spent.get("seconds")) is not None:
        facts.append(("Time of all trials", show(spent["seconds"], "duration")))
    return facts


def _importance(shares: Any, labels: Mapping[str, str]) -> tuple[ImportanceBar, ...]:
    found = {str(k): v for k, value in _mapping(shares).items() if (v := number(value)) is not None}
    most = max(found.values(), default=0.0) or 1.0
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return tuple(ImportanceBar(labels.get(k, k), k, show(v, "percent"), 100 * max(0.0, v / most)) for k, v in ranked)
