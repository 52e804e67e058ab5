"""From the recipe to a masking policy: the built-in ones by name, a user's own class by ``package.module:Class``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epilm.errors import RecipeError
from epilm.masking.cm_gems import CmGemsPolicy, SwitchRule
from epilm.masking.cm_step import CmStepPolicy
from epilm.masking.contract import MaskPolicy
from epilm.masking.curriculum import TwoPolicies
from epilm.masking.genemask import GeneMaskPolicy
from epilm.masking.global_pmi import GlobalPmiPolicy
from epilm.masking.own_policy import OwnPolicy
from epilm.masking.ranks import kmer_ranks, published_ranks
from epilm.masking.recipe import (
    CmGemsConfig,
    CmStepConfig,
    DnaMaskConfig,
    GeneMaskConfig,
    GlobalPmiConfig,
    SpanConfig,
)
from epilm.masking.span import SpanPolicy
from epilm.masking.uniform import UniformPolicy

if TYPE_CHECKING:
    from epilm.ngrams.table import KmerScores


def build_policy(config: DnaMaskConfig, *, scores: KmerScores | None) -> MaskPolicy:
    """The policy that the settings name.

    Args:
        scores: what ``config.table`` holds for the tokens' k; None where there is no table.

    Raises:
        RecipeError: scores are needed and were not read, or the user's class cannot be imported or built.
    """
    if config.is_own_class:
        return OwnPolicy.build(config.policy, {"rate": config.rate, "scores": scores, **config.options})
    if config.policy in ("uniform", "span"):
        return UniformPolicy(config.rate) if config.policy == "uniform" else _span(config)
    if scores is None:
        raise RecipeError(
            f"task.dna_mask.policy={config.policy} ranks k-mers by NPMI, but no scores were read. Set "
            "task.dna_mask.table to the run folder of `epilm npmi`, or to a parquet or csv table."
        )
    if config.policy == "genemask":
        return _genemask(config, scores)
    if config.policy == "global":
        return _global(config, scores)
    if config.policy == "cm-step":
        step = config.cm_step or CmStepConfig()
        easy = _span(config) if step.easy == "span" else _genemask(config, scores)
        return CmStepPolicy(TwoPolicies(easy, _global(config, scores)), step.stages)
    gems = config.cm_gems or CmGemsConfig()
    rule = SwitchRule(threshold=gems.threshold, window_steps=gems.window_steps, patience=gems.patience)
    return CmGemsPolicy(TwoPolicies(_genemask(config, scores), _global(config, scores)), rule)


def _span(config: DnaMaskConfig) -> SpanPolicy:
    return SpanPolicy(config.rate, (config.span or SpanConfig()).centre_probability, config.policy)


def _genemask(config: DnaMaskConfig, scores: KmerScores) -> GeneMaskPolicy:
    # the curricula's programs have a GeneMask of their own, which puts unknown k-mers last
    first = config.policy == "genemask"
    ranks = published_ranks(scores, unknown_first=first) if config.published else kmer_ranks(scores)
    return GeneMaskPolicy(config.rate, ranks, (config.genemask or GeneMaskConfig()).centre_probability, config.policy)


def _global(config: DnaMaskConfig, scores: KmerScores) -> GlobalPmiPolicy:
    ranks = published_ranks(scores, unknown_first=False) if config.published else kmer_ranks(scores)
    settings = config.global_pmi or GlobalPmiConfig()
    return GlobalPmiPolicy(config.rate, ranks, settings.fixed_m, settings.binomial_m, config.policy)
