"""What a sweep knows of its trials after a kill: from its log and from their folders."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from epilm.storage import Location
from epilm.tune.experiment import has_state, head_share
from epilm.tune.halving import Halving
from epilm.tune.log import TrialLog, read_events, reason
from epilm.tune.plan import ComparePlan
from epilm.tune.recipe import AshaConfig
from epilm.tune.records import Evaluation, TrialRecord, attempts, best_of, collect, fate, seconds_of, spent
from epilm.tune.search import FEWEST, importance, make_search
from epilm.tune.space import Parameter
from epilm.tune.sweep import confirmation_plan
from epilm.tune.trainable import EVALUATION, VALUE

LR = "train.optimizer.lr"


def event(trial: str, kind: str, time: float, **fields):
    return {"kind": "trial", "event": kind, "trial": trial, "time": time, **fields}


def write_evaluations(plan, number: int, values: list[float | None]) -> None:
    """A trial's own records, as the training loop writes them."""
    folder = Location(f"{plan.folder}/trials/t{number:03d}").mkdir()
    records = [
        {"kind": "eval", "step": 20 * (i + 1), "set": "held_out_contigs", "base_loss": value}
        for i, value in enumerate(values)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_seconds_of_a_trial_that_was_cut_off_count_to_its_last_sign_of_life():
    events = [
        event("t000", "started", 10.0),
        event("t000", "evaluated", 14.0),  # killed at 99
        event("t000", "started", 100.0),
        event("t000", "finished", 103.5),
    ]
    assert seconds_of(events) == 7.5
    assert seconds_of(events[:1]) == 0.0


def test_a_number_that_was_drawn_anew_forgets_the_draw_that_was_lost():
    lost, kept = {"number": 0, LR: 0.1}, {"number": 0, LR: 0.2}
    events = [
        event("t000", "started", 1.0, config=lost),
        event("t000", "evaluated", 2.0),
        event("t000", "started", 3.0, config=kept),
        event("t000", "started", 4.0, config=kept),
    ]
    assert attempts(events) == {"t000": events[2:]}


def test_records_are_read_from_log_and_folders(make_sweep):
    _, plan = make_sweep()
    write_evaluations(plan, 0, [1.4, 1.3, 1.2, 1.1])
    write_evaluations(plan, 1, [1.4, 1.38])
    write_evaluations(plan, 2, [1.4, None])
    configs = [{"number": n, LR: 0.001 * (n + 1)} for n in range(5)]
    events = [
        event("t001", "started", 0.0, config=configs[1]),
        event("t001", "stopped", 5.0, index=1, error=None),
        event("t000", "started", 0.0, config=configs[0]),
        event("t000", "finished", 8.0, index=4, error=None),
        event("t002", "started", 0.0, config=configs[2]),
        event("t002", "failed", 2.0, index=2, error="diverged"),
        event("t003", "started", 0.0, config=configs[3]),
        event("t003", "failed", 1.0, index=None, error="no such table"),
        event("t004", "started", 0.0, config=configs[4]),
    ]
    records = collect(plan, events)
    assert [(r.id, r.status, r.value, r.tokens) for r in records] == [
        ("t000", "finished", 1.1, 64_000),
        ("t001", "stopped", 1.4, 16_000),  # the evaluation after the decision does not count
        ("t002", "failed", None, 32_000),
        ("t003", "failed", None, 0),
    ]
    assert best_of(records, "min") is records[0]
    assert spent(records) == {"tokens": 112_000, "seconds": 16.0, "tokens_without_stopping": 256_000}
    assert records[0].as_json()["evaluations"][3] == {"index": 4, "tokens": 64_000, "value": 1.1}
    assert records[3].as_json()["error"] == "no such table"


def test_only_trials_at_their_full_budget_are_chosen_from(make_sweep):
    _, plan = make_sweep()
    for number, values in enumerate([[1.0], [1.3, 1.3, 1.3, 1.3], [1.3, 1.3, 1.2, 1.25]]):
        write_evaluations(plan, number, values)
    events = []
    for number, status in enumerate(["stopped", "finished", "finished"]):
        events.append(event(f"t{number:03d}", "started", 0.0, config={"number": number, LR: 0.001}))
        events.append(event(f"t{number:03d}", status, 1.0))
    records = collect(plan, events)
    assert best_of(records, "min") is records[2]
    assert best_of(records, "max") is records[1]
    assert best_of(records[:1], "min") is None


def test_how_a_trial_ended(make_sweep):
    _, plan = make_sweep()
    trial = plan.trial({"number": 0})
    good, lost = Evaluation(4, 64_000, 1.0), Evaluation(2, 32_000, None)
    assert fate(trial, (good,), whole=True) == ("finished", None)
    assert fate(trial, (good,), whole=False) == ("stopped", None)
    status, error = fate(trial, (lost,), whole=False)
    assert status == "failed"
    assert "evaluation 2 of 4" in str(error)


def test_the_log_tells_how_far_a_sweep_came_also_after_a_kill(make_sweep, tmp_path):
    _, plan = make_sweep()
    path = Location(f"{plan.folder}/metrics.jsonl")
    plan.folder.mkdir()
    lines: list[str] = []
    write_evaluations(plan, 0, [1.4, 1.3, 1.2, 1.1])
    first = SimpleNamespace(config={"number": 0, LR: 0.001}, last_result={EVALUATION: 4, VALUE: 1.1})
    log = TrialLog(plan, path, lines.append, group="trial", total=3, mode="min")
    log.on_trial_start(0, [], first)
    log.on_trial_result(0, [], first, {EVALUATION: 1, VALUE: 1.4})
    (plan.folder / "trials" / "t000" / "result.json").write_text("{}")
    log.on_trial_complete(0, [], first)
    assert lines[0].startswith("t000 starts (has 4 of 4 evaluations): lr=0.001")
    assert lines[1] == "t000 1/4  held_out_contigs/base_loss 1.4"
    assert lines[2] == "t000 finished at 1.1  2 of 3 left  best so far t000 1.1"
    assert [e["event"] for e in read_events(path, "trial")] == ["started", "evaluated", "finished"]
    assert read_events(path, "trial")[1]["tokens"] == 16_000

    second = SimpleNamespace(
        config={"number": 1, LR: 0.1}, last_result={}, pickled_error_file=None, error_file=str(tmp_path / "error.txt")
    )
    (tmp_path / "error.txt").write_text("Traceback (most recent call last):\n  File x\nValueError: b\n")
    log = TrialLog(plan, path, lines.append, group="trial", total=3, mode="min")
    log.on_trial_start(0, [], second)
    log.on_trial_error(0, [], second)
    assert lines[-1] == "t001 failed: ValueError: b  1 of 3 left  best so far t000 1.1"
    assert log.failures == {"t001": "ValueError: b"}
    log.on_trial_start(0, [], second)
    assert (log.num_left, log.failures) == (2, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the table has no 6-mers.\nThere is no checkpoint in x yet.", "the table has no 6-mers."),
        ("space:\n  task.k: wrong\nThe last checkpoint is kept in x.", "space:\n  task.k: wrong"),
        (
            "failed: Traceback (most recent call last):\n  raise ValueError: no\nmy.OwnError: it broke\n\n",
            "my.OwnError: it broke",
        ),
        ("", "no error was recorded"),
        ("x" * 1000, "x" * 600 + " ..."),
    ],
)
def test_a_failure_is_told_in_its_own_words(text, expected):
    assert reason(text) == expected


def test_early_stop_remembers_what_was_reached_before_a_kill(make_sweep):
    """Tune restores trials, not the scheduler: the cut-off of a fresh one would let everything pass."""
    _, plan = make_sweep()
    for number in range(3):
        write_evaluations(plan, number, [1.0 + 0.1 * number])
    late = SimpleNamespace(trial_id="x", config={"number": 9}, last_result={})

    def decision(former: list[int], value: float) -> str:
        halving = Halving(plan, AshaConfig(grace=1, reduction_factor=2), evaluations=4, mode="min")
        halving.set_search_properties(VALUE, "min")
        for number in former:
            trial = SimpleNamespace(
                trial_id=str(number), config={"number": number}, last_result={EVALUATION: 1}, status="TERMINATED"
            )
            halving.on_trial_add(None, trial)
        halving.on_trial_add(None, late)
        return halving.on_trial_result(None, late, {EVALUATION: 1, VALUE: value})

    assert decision([0, 1, 2], 1.5) == "STOP"
    assert decision([0, 1, 2], 1.05) == "CONTINUE"
    assert decision([], 1.5) == "CONTINUE"


def test_a_trial_that_had_been_stopped_is_stopped_again(make_sweep):
    """Tune keeps its state only every ten seconds: after a kill it starts a trial again that it had just ended."""
    _, plan = make_sweep()
    for number, value in enumerate([1.0, 1.1, 9.0]):
        write_evaluations(plan, number, [value, value - 0.5])
    halving = Halving(plan, AshaConfig(grace=1, reduction_factor=2), evaluations=4, mode="min")
    halving.set_search_properties(VALUE, "min")
    trials = [
        SimpleNamespace(trial_id=str(n), config={"number": n}, last_result={EVALUATION: 1}, status=status)
        for n, status in enumerate(["TERMINATED", "TERMINATED", "PENDING"])
    ]
    for trial in trials:
        halving.on_trial_add(None, trial)
    assert halving.on_trial_result(None, trials[2], {EVALUATION: 3, VALUE: 0.1}) == "STOP"
    # what the ended ones trained after Tune had ended them counts for nothing: the second rung knows the third trial alone
    late = SimpleNamespace(trial_id="x", config={"number": 9}, last_result={}, status="PENDING")
    halving.on_trial_add(None, late)
    assert halving.on_trial_result(None, late, {EVALUATION: 1, VALUE: 0.9}) == "CONTINUE"
    assert halving.on_trial_result(None, late, {EVALUATION: 2, VALUE: 8.0}) == "CONTINUE"


@pytest.mark.parametrize("asha", [None, AshaConfig()])
def test_a_trial_that_diverged_ends_and_one_at_its_last_evaluation_ends_by_itself(make_sweep, asha):
    _, plan = make_sweep()
    halving = Halving(plan, asha, evaluations=3, mode="min")
    halving.set_search_properties(VALUE, "min")
    trials = [SimpleNamespace(trial_id=str(n), config={"number": n}, last_result={}) for n in range(3)]
    for trial in trials:
        halving.on_trial_add(None, trial)
    assert halving.on_trial_result(None, trials[0], {EVALUATION: 1, VALUE: 1.0}) == "CONTINUE"
    assert halving.on_trial_result(None, trials[1], {EVALUATION: 1, VALUE: float("nan")}) == "STOP"
    second = halving.on_trial_result(None, trials[2], {EVALUATION: 1, VALUE: 9.0})
    assert second == ("STOP" if asha else "CONTINUE")
    assert halving.on_trial_result(None, trials[0], {EVALUATION: 3, VALUE: 99.0}) == "CONTINUE"
    halving.on_trial_complete(None, trials[1], {EVALUATION: 1, VALUE: float("nan")})


SPACE = {
    LR: Parameter(low=1e-4, high=1e-2, log=True),
    "train.global_batch": Parameter(low=8, high=32, step=8, int=True),
    "task.dna_mask.policy": Parameter(values=("uniform", "cm-gems")),
    "task.dna_mask.cm_gems.patience": Parameter(low=1, high=3, int=True, when={"task.dna_mask.policy": ("cm-gems",)}),
}


def test_search_is_seeded_numbered_and_keeps_to_the_conditions():
    draws = [
        [make_search(SPACE, mode="min", seed=seed, trials=12).suggest(str(n)) for n in range(1)] for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    search = make_search(SPACE, mode="min", seed=0, trials=12)
    for number in range(20):
        drawn = search.suggest(str(number))
        assert drawn["number"] == number
        assert ("task.dna_mask.cm_gems.patience" in drawn) == (drawn["task.dna_mask.policy"] == "cm-gems")
        assert drawn["train.global_batch"] in (8, 16, 24, 32)
        search.on_trial_complete(str(number), {VALUE: abs(drawn[LR] - 1e-3), "training_iteration": 1})


def test_a_restored_search_goes_on_as_if_it_had_not_been_killed(tmp_path):
    def tell(search, number: int):
        drawn = search.suggest(str(number))
        search.on_trial_complete(str(number), {VALUE: drawn[LR], "training_iteration": 1})
        return drawn

    whole = make_search(SPACE, mode="min", seed=4, trials=12)
    expected = [tell(whole, n) for n in range(14)]
    first = make_search(SPACE, mode="min", seed=4, trials=12)
    begun = [tell(first, n) for n in range(7)]
    first.save(str(tmp_path / "search.pkl"))
    second = make_search(SPACE, mode="min", seed=4, trials=12)
    second.restore(str(tmp_path / "search.pkl"))
    assert begun + [tell(second, n) for n in range(7, 14)] == expected


def records_of(points: list[dict], values: list[list[float]]):
    from epilm.tune.records import TrialRecord

    return [
        TrialRecord(
            f"t{i:03d}",
            "",
            point,
            "stopped",
            tuple(Evaluation(j + 1, 0, v) for j, v in enumerate(found)),
            0,
            0.0,
            None,
        )
        for i, (point, found) in enumerate(zip(points, values, strict=True))
    ]


def test_importance_finds_what_decides():
    generator = random.Random(0)
    space = {"a": Parameter(low=0.0, high=1.0), "b": Parameter(low=0.0, high=1.0), "c": Parameter(values=("x", "y"))}
    points = [{"a": generator.random(), "b": generator.random(), "c": generator.choice("xy")} for _ in range(60)]
    shares, note = importance(records_of(points, [[p["a"]] for p in points]), space, mode="min", evaluations=1)
    assert shares is not None
    assert shares["a"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert note == "PED-ANOVA over 60 trials at evaluation 1 of 1."


def test_importance_of_few_trials_is_told_with_care_or_not_at_all():
    space = {LR: Parameter(low=0.0, high=1.0)}
    points = [{LR: n / 10} for n in range(FEWEST)]
    shares, note = importance(records_of(points[:-1], [[0.5]] * 7), space, mode="min", evaluations=4)
    assert shares is None
    assert "7 trials can be compared" in note
    shares, note = importance(records_of(points, [[p[LR]] for p in points]), space, mode="min", evaluations=4)
    assert shares is not None
    assert "8 trials at evaluation 1 of 4" in note
    assert "a hint" in note


def test_runs_of_a_comparison_come_seed_by_seed(make_sweep):
    _, plan = make_sweep(task={"evaluation": {"test_contigs": ["chr3"]}})
    arms = {"uniform": {"task.dna_mask.policy": "uniform"}, "best": {}}
    compare = ComparePlan(plan.maker, plan.metric, "confirm", arms, (1, 2), {"task.dna_mask.policy": "span", LR: 0.5})
    assert compare.runs == ["uniform/seed-1", "best/seed-1", "uniform/seed-2", "best/seed-2"]
    uniform, best = (compare.trial({"run": run}) for run in compare.runs[2:])
    assert uniform.path == "confirm/uniform/seed-2"
    assert (uniform.recipe.seed, best.recipe.seed) == (2, 2)
    assert (uniform.recipe.task.dna_mask.policy, best.recipe.task.dna_mask.policy) == ("uniform", "span")
    assert uniform.recipe.train.optimizer == best.recipe.train.optimizer
    assert uniform.recipe.train.optimizer.lr == 0.5
    assert uniform.recipe.task.evaluation.test


def test_state_of_tune_is_told_from_an_empty_start(tmp_path):
    folder = Location(str(tmp_path)) / "tune"
    assert not has_state(folder)
    (folder.mkdir() / "searcher-state.pkl").write_text("")
    assert not has_state(folder)
    (folder / "experiment_state-2026.json").write_text("")
    assert has_state(folder)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 19, 50])
def test_no_more_than_the_wanted_trials_find_room_on_the_head(most):
    share = round(head_share(most) * 10_000)
    assert most * share + 100 <= 10_000, "ten cleaners of Ray Train beside them"
    assert (most + 1) * (share - 1) > 10_000, "Ray may cut a step off"


@pytest.mark.parametrize(("policy", "arms"), [("span", ["best", "baseline"]), ("uniform", ["best"])])
def test_a_best_trial_that_is_the_baseline_has_no_margin_to_itself(make_sweep, policy, arms):
    recipe, plan = make_sweep()
    drawn = {"task.dna_mask.policy": policy, "train.optimizer.lr": 0.002}
    best = TrialRecord("t000", "trials/t000", drawn, "finished", (), 0, 0.0, None)
    confirmed = confirmation_plan(recipe, plan, best)
    assert list(confirmed.arms) == arms
    assert recipe.seed not in confirmed.seeds
