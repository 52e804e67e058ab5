"""What a space may hold, and how points of it are drawn."""

from __future__ import annotations

import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.tune.records import Evaluation, TrialRecord
from epilm.tune.search import importance, make_search
from epilm.tune.space import Parameter, draw, order, random_choice, samples

POLICY, RATE, PATIENCE = "task.dna_mask.policy", "task.dna_mask.rate", "task.dna_mask.cm_gems.patience"
SPACE = {
    PATIENCE: Parameter(low=1, high=3, int=True, when={POLICY: ("cm-gems",)}),
    RATE: Parameter(low=0.1, high=0.3),
    POLICY: Parameter(values=("uniform", "cm-gems")),
}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({}, r"give values: \[\.\.\.\], or low and high"),
        ({"values": []}, "is empty"),
        ({"values": [1]}, "holds 1 alone; give at least two values, or write the one in the base"),
        ({"values": [1, 1]}, "holds a value twice"),
        ({"values": [1, 2], "low": 1, "high": 2}, "either values, or low and high"),
        ({"low": 2, "high": 2}, "low=2 must be smaller than high=2"),
        ({"low": 3, "high": 2}, "low=3 must be smaller than high=2"),
        ({"low": 0, "high": 2, "log": True}, "a logarithmic range begins above 0"),
        ({"low": 1, "high": 8, "step": 2, "log": True}, "step and log do not go together"),
        ({"low": 1, "high": 8, "step": 2}, r"high=8 is not low \+ n x step .* Try high=7"),
        ({"low": 1, "high": 8, "step": -1}, r"step=-1 must be above 0"),
        ({"low": 0.5, "high": 2, "int": True}, "whole numbers"),
        ({"vals": [1]}, "Did you mean 'values'"),
    ],
)
def test_wrong_parameters_are_refused(parameter, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(Parameter, parameter)


def test_floats_that_yaml_reads_as_text_are_floats():
    assert Parameter(values=("1e-3", "3.0E+2", "e-3", "1")).values == (1e-3, 300.0, "e-3", "1")


def test_values_may_be_lists():
    assert Parameter(values=([1, 2], ["1e-3", 6], None)).values == ((1, 2), (1e-3, 6), None)
    with pytest.raises(RecipeError, match="holds a value twice"):
        parse_recipe(Parameter, {"values": [[1, 2], [1, 2]]})


def test_lists_are_drawn_and_weighed():
    """Optuna itself knows numbers and text alone, and warns of anything else."""
    space = {"a": Parameter(values=((1, 2), (1, 3, 6), None))}
    search = make_search(space, mode="max", seed=0, trials=9)
    records = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for number in range(9):
            config = search.suggest(str(number))
            assert config is not None
            value, found = config["a"], float(config["a"] == [1, 2])
            search.on_trial_complete(str(number), {"value": found, "training_iteration": 1})
            evaluations = (Evaluation(1, None, found),)
            records.append(TrialRecord(f"t{number}", "", {"a": value}, "finished", evaluations, None, 1.0, None))
            assert config == {"number": number, "a": value}
    assert {str(r.parameters["a"]) for r in records} == {"[1, 2]", "[1, 3, 6]", "None"}
    shares, note = importance(records, space, mode="max", evaluations=1)
    assert shares == {"a": 1.0}
    assert note.startswith("PED-ANOVA over 9 trials")


def test_values_keep_their_kind():
    values = Parameter(values=(True, 1, 1.0, None, "a")).values
    assert [type(v) for v in values] == [bool, int, float, type(None), str]


def test_conditions_come_before_what_they_decide():
    assert order(SPACE) == [RATE, POLICY, PATIENCE]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"task.alpha": (1,)}, "names 'task.alpha', which is not in the space"),
        ({RATE: (0.1,)}, "is a range; a condition needs a setting with values"),
        ({POLICY: ("span",)}, r"\['span'\] is not drawn"),
        ({POLICY: ()}, "nothing is not drawn"),
    ],
)
def test_conditions_that_never_hold_are_refused(when, message):
    with pytest.raises(RecipeError, match=message):
        order({**SPACE, "train.global_batch": Parameter(values=(8, 16), when=when)})


def test_circular_conditions_are_refused():
    first, second = "task.reverse_complement", "train.bf16"
    space = {
        first: Parameter(values=(True, False), when={second: (True,)}),
        second: Parameter(values=(True, False), when={first: (True,)}),
    }
    with pytest.raises(RecipeError, match="wait for each other"):
        order(space)


@given(st.integers(0, 10_000))
def test_a_draw_lies_in_the_space(seed):
    drawn = draw(SPACE, random_choice(random.Random(seed)))
    assert drawn[POLICY] in ("uniform", "cm-gems")
    assert 0.1 <= drawn[RATE] <= 0.3
    assert (PATIENCE in drawn) == (drawn[POLICY] == "cm-gems")
    assert drawn.get(PATIENCE, 1) in (1, 2, 3)


def test_a_condition_on_a_key_that_takes_no_part_does_not_hold():
    space = {
        POLICY: Parameter(values=("uniform", "cm-gems")),
        PATIENCE: Parameter(values=(1, 2), when={POLICY: ("cm-gems",)}),
        RATE: Parameter(values=(0.1, 0.2), when={PATIENCE: (1, 2)}),
    }
    assert draw(space, lambda key, parameter: parameter.ends[0]) == {POLICY: "uniform"}
    assert set(draw(space, lambda key, parameter: parameter.ends[-1])) == {POLICY, PATIENCE, RATE}


def test_steps_are_drawn_whole_and_reach_both_ends():
    parameter = Parameter(low=16, high=64, step=16, int=True)
    choose = random_choice(random.Random(0))
    drawn = [choose("train.global_batch", parameter) for _ in range(200)]
    assert set(drawn) == {16, 32, 48, 64}
    assert all(isinstance(value, int) for value in drawn)


def test_checks_see_every_value_and_both_ends_also_of_conditional_keys():
    points = list(samples(SPACE, num_random=0, seed=0))
    assert {p[POLICY] for p in points} == {"uniform", "cm-gems"}
    assert {p[RATE] for p in points} == {0.1, 0.3}
    assert {p[PATIENCE] for p in points if PATIENCE in p} == {1, 3}
    assert len(list(samples(SPACE, num_random=7, seed=0))) == len(points) + 7
