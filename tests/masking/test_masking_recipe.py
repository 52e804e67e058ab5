"""The settings of masking: what cannot take effect is refused, with a hint."""

import pytest

from epilm.config import describe_settings, parse_recipe
from epilm.errors import RecipeError
from epilm.masking.recipe import POLICIES, SCORED, DnaMaskConfig


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_stands_alone_and_survives_being_written(policy):
    table = "runs/npmi" if policy in SCORED else None
    config = DnaMaskConfig(policy=policy, table=table)
    assert DnaMaskConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "span", "span": {"centre_probability": 0.025}},
        {"policy": "genemask", "table": "t", "genemask": {"centre_probability": 0.0176}, "published": True},
        {"policy": "global", "table": "t", "global_pmi": {"fixed_m": 7}},
        {"policy": "global", "table": "t", "global_pmi": {"binomial_m": 0.0136}},
        {"policy": "cm-step", "table": "t", "cm_step": {"stages": 100, "easy": "span"}, "span": {}, "global_pmi": {}},
        {"policy": "cm-gems", "table": "t", "rate": 0.2, "genemask": {"centre_probability": 0.02}},
        {"policy": "cm-gems", "table": "t", "cm_gems": {"threshold": 0.5, "patience": 3}},
        {"policy": "span", "table": "t"},
        {"policy": "my.module:Mine", "options": {"size": 3}},
        {"policy": "my.module:Mine", "table": "t", "rate": 0.3},
    ],
    ids=str,
)
def test_allowed(settings):
    config = parse_recipe(DnaMaskConfig, settings)
    assert DnaMaskConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "genmask"}, r"policy: unknown policy. Did you mean 'genemask'\? Allowed: uniform, span"),
        ({"policy": "CM_GEMS"}, r"Did you mean 'cm-gems'\?"),
        ({"policy": "mine"}, r"a class of your own as package.module:Class"),
        ({"policy": "a:b:c"}, r"unknown policy"),
        (
            {"policy": "span", "genemask": {}},
            r"genemask has no effect on policy 'span' \(it reads span\). Remove genemask",
        ),
        ({"span": {}}, r"span has no effect on policy 'uniform' \(it reads no such group\)"),
        ({"policy": "cm-step", "table": "t", "span": {}}, r"it reads cm_step, genemask, global_pmi"),
        ({"policy": "global", "table": "t", "cm_gems": {}}, r"cm_gems has no effect"),
        ({"policy": "a.b:C", "span": {}}, r"span has no effect on policy 'a.b:C'"),
        ({"policy": "global"}, r"policy 'global' ranks k-mers by NPMI and needs table"),
        ({"policy": "cm-gems"}, r"needs table"),
        ({"published": True}, r"published has no effect on policy 'uniform'"),
        ({"policy": "span", "published": True}, r"published has no effect"),
        ({"options": {"size": 1}}, r"options are for a class of your own; policy is 'uniform'"),
        ({"policy": "span", "rate": 0.2, "span": {"centre_probability": 0.02}}, r"rate=0.2 has no effect"),
        (
            {
                "policy": "cm-gems",
                "table": "t",
                "rate": 0.2,
                "genemask": {"centre_probability": 0.02},
                "global_pmi": {"fixed_m": 7},
            },
            r"rate=0.2 has no effect",
        ),
        ({"policy": "global", "table": "t", "global_pmi": {"fixed_m": 7, "binomial_m": 0.1}}, r"give one of them"),
        ({"rate": 0.0}, r"rate: Input should be greater than 0"),
        ({"rate": 0.51}, r"rate: Input should be less than or equal to 0.5"),
        ({"mask_fraction": 0.9, "random_fraction": 0.2}, r"is 1.1; at most 1 is possible"),
        ({"policy": "cm-gems", "table": "t", "cm_gems": {"threshhold": 1}}, r"Did you mean 'threshold'\?"),
        ({"policy": "cm-gems", "table": "t", "cm_gems": {"window_steps": 0}}, r"cm_gems.window_steps"),
    ],
    ids=str,
)
def test_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(DnaMaskConfig, settings)


def test_every_setting_has_help():
    assert all(text for *_, text in describe_settings(DnaMaskConfig))
