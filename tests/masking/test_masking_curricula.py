"""CM-STEP's stages and CM-GEMS's switch."""

import json
import math

import pytest
import torch
from slow_policies import random_rows, random_scores

from epilm.masking.cm_gems import SwitchRule
from epilm.masking.cm_step import global_share
from epilm.masking.contract import Moment
from epilm.masking.policy import build_policy
from epilm.masking.recipe import DnaMaskConfig

CURVE = [
    (250, 4032.5),
    (500, 3610.0),
    (750, 3455.2),
    (1000, 3449.1),
    (1250, 3448.4),
    (1500, 3448.0),
    (1750, 3440.7),
    (2000, 3440.1),
    (2250, 3441.3),
    (2500, 3439.9),
]
"""Perplexities of an evaluation every 250 steps."""


def build(**settings):
    return build_policy(DnaMaskConfig.model_validate({"table": "scores", **settings}), scores=random_scores(6))


def switched_at(curve, **rule) -> int | None:
    rule = SwitchRule(**{"threshold": 1.0, "window_steps": 500, "patience": 1, **rule})
    state = rule.start()
    for step, perplexity in curve:
        state = rule.after(state, step=step, perplexity=perplexity)
    return state["switched_at"]


@pytest.mark.parametrize(
    ("rule", "step"),
    [
        ({}, 2250),  # 2250 against 1750: a rise of 0.6; before, 1500 against 1000: 1.1
        ({"window_steps": 250}, 1250),  # 0.7
        ({"window_steps": 250, "patience": 2}, 1500),  # 0.7, 0.4
        ({"window_steps": 250, "patience": 3}, None),  # 0.7, 0.4, 7.3; 0.6, -1.2, 1.4
        ({"threshold": 0.3, "window_steps": 250}, 2250),
        ({"threshold": 7.0}, 1250),  # 6.8
        ({"threshold": 7.0, "patience": 2}, 1500),  # 6.8, 1.1
        ({"threshold": 8.5, "window_steps": 1000}, 2250),  # 9.0 at 2000, 7.1 at 2250
        ({"threshold": 600.0}, 750),  # 577.3; at 500 nothing is 500 steps old
        ({"window_steps": 300}, 2250),  # the latest that is 300 steps old is 500 steps old
        ({"window_steps": 5000}, None),
    ],
    ids=str,
)
def test_switch_on_a_recorded_curve(rule, step):
    assert switched_at(CURVE, **rule) == step


def test_the_switch_is_for_good():
    assert switched_at([*CURVE, (2750, 1000.0), (3000, 10.0)]) == 2250


def test_no_decision_on_what_is_no_number_or_was_seen():
    odd = [*CURVE[:8], (2100, math.nan), (2200, math.inf), *CURVE[7:]]
    assert switched_at(odd) == 2250
    rule = SwitchRule(threshold=1.0, window_steps=250, patience=2)
    state = rule.start()
    for step, perplexity in CURVE[:5]:
        state = rule.after(state, step=step, perplexity=perplexity)
    assert state["below"] == 1
    assert rule.after(state, step=1250, perplexity=3448.4) == state  # a resumed run evaluates again
    assert rule.after(state, step=1500, perplexity=math.nan) == state


def test_state_is_short_json_that_resumes():
    policy = build(policy="cm-gems", cm_gems={"window_steps": 500, "patience": 2, "threshold": 7.0})
    state = policy.initial_state()
    assert state == {"evaluations": [], "below": 0, "switched_at": None}
    states = []
    for step, perplexity in CURVE:
        before = json.dumps(state)
        new = policy.observe(json.loads(before), step=step, perplexity=perplexity)
        assert json.dumps(state) == before, "the state given is left alone"
        state = json.loads(json.dumps(new))
        assert state == new
        states.append(state)
    assert states[4] == {
        "evaluations": [[750, 3455.2], [1000, 3449.1], [1250, 3448.4]],
        "below": 1,
        "switched_at": None,
    }
    assert states[-1]["switched_at"] == 1500


def test_gems_masks_by_genemask_then_by_global():
    batch = random_rows(6, 1)
    policy = build(policy="cm-gems", rate=0.2)
    easy, hard = build(policy="genemask", rate=0.2), build(policy="global", rate=0.2)
    start = Moment(0, 100, policy.initial_state())
    switched = {"evaluations": [], "below": 1, "switched_at": 40}
    for moment, by in [(start, easy), (Moment(39, 100, switched), easy), (Moment(40, 100, switched), hard)]:
        assert torch.equal(policy.mask(batch, moment), by.mask(batch, moment))
    assert policy.describe(start) == {"global_share": 0.0, "switched": 0.0}
    assert policy.describe(Moment(40, 100, switched)) == {"global_share": 1.0, "switched": 1.0}


def test_share_rises_by_tenths():
    shares = [global_share(step=step, steps=1000, stages=10) for step in (0, 99, 100, 199, 500, 899, 900, 999, 1000)]
    assert shares == [0.0, 0.0, 0.1, 0.1, 0.5, 0.8, 0.9, 0.9, 0.9]
    assert global_share(step=2, steps=3, stages=10) == 0.6
    assert global_share(step=75, steps=100, stages=4) == 0.75


@pytest.mark.parametrize("easy", ["genemask", "span"])
def test_step_mixes_the_two_policies_by_sample(easy):
    batch = random_rows(6, 6, num_rows=2000)
    policy = build(policy="cm-step", rate=0.2, cm_step={"easy": easy})
    easy_policy = build(policy=easy, rate=0.2, table=None if easy == "span" else "scores")
    first, hard_policy = Moment(0, 1000, {}), build(policy="global", rate=0.2)
    easy_mask, hard_mask = easy_policy.mask(batch, first), hard_policy.mask(batch, first)
    assert torch.equal(policy.mask(batch, first), easy_mask)

    late = Moment(730, 1000, {})
    mask = policy.mask(batch, late)
    is_easy, is_hard = (mask == easy_mask).all(1), (mask == hard_mask).all(1)
    assert (is_easy | is_hard).all()
    differ = (easy_mask != hard_mask).any(1)
    assert is_hard[differ].float().mean().item() == pytest.approx(0.7, abs=0.03)
    assert policy.describe(late) == {"global_share": 0.7}
