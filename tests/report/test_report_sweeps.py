"""A sweep on the page: its trials, their places along the axes, what was spent, and a sweep that has no result."""

from __future__ import annotations

from typing import Any

import pytest

from epilm.report.axes import Scale, linear_ticks, tick_texts
from epilm.report.collect import RunRecord
from epilm.report.sweeps import pending_notes, short_labels, sweep_view, trials_of_log

SPACE = {
    "task.dna_mask.policy": {"values": ["uniform", "cm-gems"]},
    "task.dna_mask.cm_gems.patience": {
        "low": 1,
        "high": 5,
        "int": True,
        "when": {"task.dna_mask.policy": ["cm-gems"]},
    },
    "train.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True},
}


def trial(id_: str, status: str, value: float | None, error: str | None = None, **parameters: Any) -> dict[str, Any]:
    evaluations = [] if status == "failed" else [{"index": 1, "tokens": 1_000_000, "value": 1.38}]
    if status == "finished":
        evaluations.append({"index": 2, "tokens": 2_000_000, "value": value})
    return {
        "id": id_,
        "status": status,
        "parameters": {"train.optimizer.lr": 1e-3, **{f"task.dna_mask.{k}": v for k, v in parameters.items()}},
        "evaluations": evaluations,
        "value": value,
        "tokens": 1_000_000 * len(evaluations),
        "seconds": 7260.0,
        "error": error,
        "run": f"trials/{id_}",
    }


def result(**changes: Any) -> dict[str, Any]:
    return {
        "stage": "tune",
        "metric": "held_out_contigs/base_loss",
        "mode": "min",
        "space": SPACE,
        "budget_tokens": 2_000_000,
        "evaluations": 2,
        "trials": [
            trial("t000", "stopped", 1.38, policy="uniform"),
            trial("t001", "finished", 1.35, policy="uniform"),
            trial("t002", "failed", None, error="out of memory", policy="uniform"),
            trial("t003", "finished", 1.31, policy="cm-gems", **{"cm_gems.patience": 3}),
        ],
        "best": {"id": "t003", "parameters": {}, "value": 1.31, "recipe": "best.yaml"},
        "importance": {"train.optimizer.lr": 0.25, "task.dna_mask.policy": 0.75},
        "importance_note": "a hint",
        "spent": {"tokens": 5_000_000, "seconds": 21_780.0, "tokens_without_stopping": 8_000_000},
        "confirm": None,
        **changes,
    }


def record(content: dict[str, Any], **fields: Any) -> RunRecord:
    return RunRecord("sweep", "runs/sweep", "finished", stage="tune", result=content, **fields)


def test_sweep_rows_best_first_then_stopped_then_failed() -> None:
    view = sweep_view(record(result()))
    assert view is not None
    assert [(row.id, row.status_text, row.is_best) for row in view.rows] == [
        ("t003", "finished", True),
        ("t001", "finished", False),
        ("t000", "stopped early", False),
        ("t002", "failed", False),
    ]
    assert [head for head, _ in view.heads] == ["policy", "patience", "lr", "Base loss", "Tokens", "Time"]
    assert [cell.text for cell in view.rows[0].cells] == ["cm-gems", "3", "0.001000", "1.3100", "2 M", "2 h 1 min"]
    assert [cell.text for cell in view.rows[3].cells] == ["uniform", "–", "0.001000", "–", "0", "2 h 1 min"]
    assert view.rows[3].cells[1].key is None
    assert view.rows[3].error == "out of memory"
    assert view.has_errors


def test_sweep_of_trials_that_are_scored_once_shows_no_tokens() -> None:
    whole = result(budget_tokens=None, spent={"seconds": 5.0})
    for trial in whole["trials"]:
        trial["tokens"] = None
        trial["evaluations"] = [{**evaluation, "tokens": None} for evaluation in trial["evaluations"]]
    view = sweep_view(record(whole))
    assert view is not None
    assert not view.by_tokens
    assert [head for head, _ in view.heads][-2:] == ["Base loss", "Time"]
    assert [cell.text for cell in view.rows[0].cells] == ["cm-gems", "3", "0.001000", "1.3100", "2 h 1 min"]


def test_sweep_facts_say_what_was_chosen_and_spent() -> None:
    view = sweep_view(record(result()))
    assert view is not None
    facts = dict(view.facts)
    assert facts["Trials"] == "4 (2 finished, 1 stopped early, 1 failed)"
    assert facts["Best"] == "t003: base loss on held-out contigs 1.3100"
    assert facts["Recipe of the best"] == "best.yaml"
    assert facts["Spent"] == "5 M tokens, 62.5 % of the 8 M without early stops"
    assert facts["Time of all trials"] == "6 h 3 min"
    assert ("task.dna_mask.policy", "cm-gems") in view.best


def test_sweep_importance_bars_are_relative_to_the_greatest() -> None:
    view = sweep_view(record(result()))
    assert view is not None
    assert [(b.label, b.text, round(b.share, 1)) for b in view.importance] == [
        ("policy", "75.0 %", 100.0),
        ("lr", "25.0 %", 33.3),
    ]
    without = sweep_view(record(result(importance=None, importance_note="too few trials")))
    assert without is not None
    assert (without.importance, without.importance_note) == ((), "too few trials")


def test_sweep_axes_hold_gaps_and_scales() -> None:
    view = sweep_view(record(result()))
    assert view is not None
    axes = {axis["label"]: (axis["kind"], i) for i, axis in enumerate(view.data["axes"])}
    assert {name: kind for name, (kind, _) in axes.items()} == {
        "patience": "linear",
        "policy": "category",
        "lr": "log",
        "Base loss on held-out contigs": "metric",
    }
    assert next(iter(axes)) == "patience", "what only some trials drew stands first"
    places = {t["id"]: t["places"] for t in view.data["trials"]}
    assert [places[t][axes["patience"][1]] for t in ("t000", "t001", "t002", "t003")] == [None, None, None, 0.5]
    assert [places[t][axes["lr"][1]] for t in ("t000", "t003")] == [0.5, 0.5]
    metric = {t: p[-1] for t, p in places.items()}
    assert metric["t003"] > metric["t001"] > metric["t000"], "the lowest loss is at the top"
    assert metric["t002"] is None
    policy = [places[t][axes["policy"][1]] for t in ("t001", "t000", "t002", "t003")]
    assert policy[0] > policy[1] > policy[2], "within a category the better trials are above"
    assert policy[2] > 0
    assert policy[0] < 0.5 < policy[3] < 1


def test_sweep_highest_is_best_where_the_mode_says_so() -> None:
    content = result(mode="max", metric="held_out_contigs/base_accuracy")
    view = sweep_view(record(content))
    assert view is not None
    metric = {t["id"]: t["places"][-1] for t in view.data["trials"]}
    assert metric["t000"] > metric["t001"] > metric["t003"]
    assert [row.id for row in view.rows][:2] == ["t001", "t003"]
    assert view.rows[0].cells[3].text == "135.00 %"


def test_sweep_a_value_far_off_does_not_squeeze_the_others() -> None:
    content = result()
    content["trials"].append(trial("t004", "finished", 9.0, policy="uniform"))
    view = sweep_view(record(content))
    assert view is not None
    metric = {t["id"]: t["places"][-1] for t in view.data["trials"]}
    assert metric["t004"] == 0.0
    assert metric["t003"] - metric["t001"] > 0.3


def test_sweep_curves_end_where_a_trial_stopped() -> None:
    view = sweep_view(record(result()))
    assert view is not None
    ends = {t["id"]: [x for x, _ in t["curve"]] for t in view.data["trials"]}
    assert ends == {"t000": [0.5], "t001": [0.5, 1.0], "t002": [], "t003": [0.5, 1.0]}


def events() -> list[dict[str, Any]]:
    drawn = {"task.dna_mask.policy": "uniform", "train.optimizer.lr": 2e-3}
    return [
        {"kind": "trial", "event": "started", "trial": "t000", "config": {"number": 0, **drawn}, "time": 1.0},
        {"kind": "trial", "event": "evaluated", "trial": "t000", "index": 1, "tokens": 10, "value": 1.4, "time": 2.0},
        # cut off, and gone on with: the evaluation is made again
        {"kind": "trial", "event": "started", "trial": "t000", "config": {"number": 0, **drawn}, "time": 3.0},
        {"kind": "trial", "event": "evaluated", "trial": "t000", "index": 1, "tokens": 10, "value": 1.3, "time": 4.0},
        {"kind": "trial", "event": "stopped", "trial": "t000", "value": 1.3, "error": None, "time": 5.0},
        {"kind": "trial", "event": "started", "trial": "t001", "config": {"number": 1, **drawn}, "time": 6.0},
        {"kind": "trial", "event": "failed", "trial": "t001", "value": None, "error": "no memory", "time": 7.0},
        {"kind": "trial", "event": "started", "trial": "t002", "config": {"number": 2, **drawn}, "time": 8.0},
    ]


def test_sweep_without_a_result_is_told_by_its_log() -> None:
    trials = trials_of_log(events())
    assert [(t.id, t.status, t.value, t.error) for t in trials] == [
        ("t000", "stopped", 1.3, ""),
        ("t001", "failed", None, "no memory"),
        ("t002", "unfinished", None, ""),
    ]
    assert trials[0].parameters == {"task.dna_mask.policy": "uniform", "train.optimizer.lr": 2e-3}
    recipe = {"space": SPACE, "metric": "held_out_contigs/base_loss", "mode": "min", "budget_tokens": 20}
    killed = RunRecord("sweep", "runs/sweep", "unfinished", stage="tune", recipe=recipe, metrics=events())
    view = sweep_view(killed)
    assert view is not None
    assert dict(view.facts)["Trials"] == "3 (1 stopped early, 1 failed, 1 unfinished)"
    assert view.best == ()
    assert sweep_view(RunRecord("sweep", "runs/sweep", "unfinished", stage="tune", recipe=recipe)) is None


def test_sweep_pending_comparison_is_counted() -> None:
    arms = [{**event, "kind": "arms", "trial": event["trial"].replace("t", "span/seed-")} for event in events()]
    notes = pending_notes(RunRecord("masking", "runs/masking", "unfinished", stage="eval-masking", metrics=arms))
    assert notes == [
        "masking: arms has begun 3 runs (1 stopped, 1 failed, 1 unfinished); it is compared when all have ended.",
        "masking: span/seed-001 failed: no memory",
    ]


@pytest.mark.parametrize("broken", [{"trials": "none"}, {"trials": [3, {"id": "t000"}], "space": None, "spent": 4}])
def test_sweep_tolerates_what_is_not_there(broken: dict[str, Any]) -> None:
    view = sweep_view(record({"stage": "tune", **broken}))
    assert (view is None) == (broken["trials"] == "none")


def test_sweep_labels_are_the_shortest_that_tell_apart() -> None:
    keys = ["train.optimizer.lr", "task.span.length", "task.genemask.length", "task.dna_mask.policy", "lr"]
    assert list(short_labels(keys).values()) == ["optimizer.lr", "span.length", "genemask.length", "policy", "lr"]


def test_axes_places_and_ticks() -> None:
    assert Scale(1e-5, 1e-1, log=True).place(1e-3) == pytest.approx(0.5)
    assert Scale(0, 10).place(12) == 1.0
    assert Scale(0, 10).place(None) is None
    assert Scale(2, 2).place(2) == 0.5
    assert Scale(1e-5, 1e-2, log=True).ticks() == [1e-5, 1e-4, 1e-3, 1e-2]
    assert linear_ticks(1.3012, 1.3391) == [1.31, 1.32, 1.33]
    assert tick_texts([-0.015, 0.0, 0.015], "fine") == ["−0.015", "0.000", "0.015"]
    assert tick_texts([0.26, 0.28], "percent") == ["26 %", "28 %"]
    assert tick_texts([1e-5, 1e-3, 0.1], "number") == ["1e−5", "0.001", "0.1"]
