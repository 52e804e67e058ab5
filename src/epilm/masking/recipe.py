"""Settings of the masking of DNA: how much is hidden, and which policy chooses it."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config

POLICIES = ("uniform", "span", "genemask", "global", "cm-step", "cm-gems")
SCORED = ("genemask", "global", "cm-step", "cm-gems")
"""Policies that rank k-mers by NPMI, and so need ``table``."""
OWN_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class SpanConfig(Config):
    """Span masking (DNABERT; Ji et al. 2021): every centre hides one base, and so all k-mers that hold it."""

    centre_probability: float | None = Field(default=None, gt=0, le=1)
    """Probability that a k-mer is a centre (DNABERT: 0.025 at k=6); where absent, what reaches `rate`."""


class GeneMaskConfig(Config):
    """GeneMask (Roy et al. 2023): spans around random centres, half of them widened about their best-ranked k-mer."""

    centre_probability: float | None = Field(default=None, gt=0, le=1)
    """Probability that a k-mer is a centre (published: 0.0176 at k=6); where absent, what reaches `rate`."""


class GlobalPmiConfig(Config):
    """Global PMI masking: the sequence's k-mers of the highest NPMI, until `rate` is reached."""

    fixed_m: int | None = Field(default=None, ge=1)
    """Hide exactly this many k-mers (with all that share a base with them) instead of reaching `rate`."""
    binomial_m: float | None = Field(default=None, gt=0, le=1)
    """Draw how many from Binomial(number of k-mers, this), as the published program does (0.0136 at k=6; their spans
    overlap, so that 11-13 % is hidden)."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.fixed_m is not None and self.binomial_m is not None:
            raise ValueError("fixed_m and binomial_m both say how many k-mers are hidden; give one of them.")
        return self


class CmStepConfig(Config):
    """CM-STEP: the share of samples masked by Global PMI rises in equal steps over the run."""

    stages: int = Field(default=10, ge=2)
    """Stages of equal length; the share rises by 1/stages from one to the next, from 0."""
    easy: Literal["genemask", "span"] = "genemask"
    """The policy of the other samples: ``genemask`` (the paper) or ``span`` (the published program)."""


class CmGemsConfig(Config):
    """CM-GEMS: GeneMask until perplexity falls no faster than a threshold, then Global PMI for good."""

    threshold: float = Field(default=1.0, gt=0)
    """The least drop of the evaluation's perplexity within `window_steps` that keeps GeneMask going."""
    window_steps: int = Field(default=500, ge=1)
    """Optimizer steps over which the drop is taken (the published window is unknown)."""
    patience: int = Field(default=1, ge=1)
    """Evaluations in a row that must fall short before Global PMI takes over."""


GROUPS = ("span", "genemask", "global_pmi", "cm_step", "cm_gems")


class DnaMaskConfig(Config):
    """Masked language modelling of k-mers: a policy chooses, then 80/10/10 (Devlin et al. 2019, section 3.1)."""

    rate: float = Field(default=0.15, gt=0, le=0.5)
    """Share of the k-mers that are masked and scored. ``span`` and ``genemask`` come out a little low in sequences rich in N:
    their centres are as frequent as an unbroken sequence needs, but a span's tokens that hold an N are never masked (every
    tenth base N at random: 0.13 and 0.12 for 0.15; in one gap: 0.15)."""
    mask_fraction: float = Field(default=0.8, ge=0, le=1)
    """Share of the masked k-mers shown as [MASK]."""
    random_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share shown as a random k-mer; the rest is shown unchanged."""
    policy: str = "uniform"
    """``uniform`` (each k-mer alone), ``span``, ``genemask``, ``global``, ``cm-step``, ``cm-gems``, or a class of your own
    as ``package.module:Class``. Where k-mers overlap, all but ``uniform`` hide whole bases, so that no neighbour tells."""
    table: str | None = None
    """NPMI scores of the k-mers: run folder of `epilm npmi`, or a parquet or csv table. Needed by all that rank k-mers; under
    any policy it adds to the log how many of the top-NPMI k-mers are masked."""
    span: SpanConfig | None = None
    """Settings of ``span``."""
    genemask: GeneMaskConfig | None = None
    """Settings of ``genemask``."""
    global_pmi: GlobalPmiConfig | None = None
    """Settings of ``global``."""
    cm_step: CmStepConfig | None = None
    """Settings of ``cm-step``."""
    cm_gems: CmGemsConfig | None = None
    """Settings of ``cm-gems``."""
    published: bool = False
    """Repeat an error of the published programs: they look a rank up by the k-mer's position number, so that what they
    hide does not depend on the sequence at all. For reproduction only."""
    options: dict[str, Any] = {}
    """Keyword arguments of your own class, beside ``rate`` and ``scores``."""

    @field_validator("policy")
    @classmethod
    def _known(cls, policy: str) -> str:
        if policy in POLICIES or OWN_CLASS.fullmatch(policy):
            return policy
        near = difflib.get_close_matches(policy.lower().replace("_", "-"), POLICIES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"unknown policy. {hint}Allowed: {', '.join(POLICIES)}, or a class of your own as package.module:Class."
        )

    @model_validator(mode="after")
    def _fractions(self) -> Self:
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            raise ValueError(
                f"mask_fraction + random_fraction is {self.mask_fraction + self.random_fraction:g}; at most 1 is possible."
            )
        return self

    @model_validator(mode="after")
    def _takes_effect(self) -> Self:
        """Refuse what the policy would not look at."""
        allowed = self.groups_used()
        for group in GROUPS:
            if getattr(self, group) is not None and group not in allowed:
                uses = f"it reads {', '.join(allowed)}" if allowed else "it reads no such group"
                raise ValueError(f"{group} has no effect on policy {self.policy!r} ({uses}). Remove {group}.")
        if self.options and not self.is_own_class:
            raise ValueError(f"options are for a class of your own; policy is {self.policy!r}. Remove options.")
        if self.table is None and self.policy in SCORED:
            raise ValueError(
                f"policy {self.policy!r} ranks k-mers by NPMI and needs table: the run folder of `epilm npmi`, or a parquet "
                "or csv table of scores."
            )
        if self.published and self.policy not in SCORED:
            raise ValueError(f"published has no effect on policy {self.policy!r}; it is for {', '.join(SCORED)}.")
        if self.rate != type(self).model_fields["rate"].default and self._rate_overridden():
            raise ValueError(
                f"rate={self.rate:g} has no effect: the number of centres or of hidden k-mers is given. Remove one of the two."
            )
        return self

    @property
    def is_own_class(self) -> bool:
        return self.policy not in POLICIES

    def groups_used(self) -> tuple[str, ...]:
        """The groups of settings that the policy looks at."""
        easy = (self.cm_step or CmStepConfig()).easy
        return {
            "span": ("span",),
            "genemask": ("genemask",),
            "global": ("global_pmi",),
            "cm-step": ("cm_step", easy, "global_pmi"),
            "cm-gems": ("cm_gems", "genemask", "global_pmi"),
        }.get(self.policy, ())

    def _rate_overridden(self) -> bool:
        """Whether every part of the policy has its own measure of how much is hidden."""
        given = {
            "span": self.span is not None and self.span.centre_probability is not None,
            "genemask": self.genemask is not None and self.genemask.centre_probability is not None,
            "global_pmi": self.global_pmi is not None
            and (self.global_pmi.fixed_m is not None or self.global_pmi.binomial_m is not None),
        }
        parts = [group for group in self.groups_used() if group in given]
        return bool(parts) and all(given[part] for part in parts)
