"""What a masking policy is given, and what it must do.

A policy is asked on the device, a batch at a time. All that it draws must be a function of (seed, position) alone
(:mod:`epilm.masking.hashing`), so that any batching, worker and restart hides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from epilm.tokens.vocab import NUM_SPECIAL


@dataclass(frozen=True)
class MaskInput:
    """Rows to be masked; B = sequences, L = tokens, P = overlapping k-mers.

    Attributes:
        ids: int64 ``[B, L]``, tokens of (k, stride): PAD behind a shortened sequence, UNK where there is an N; without CLS
            and SEP. Token ``t`` holds the bases ``t * stride`` to ``t * stride + k``.
        kmer_ids: int64 ``[B, P]``, the k-mers at every base of the same sequences (stride 1), PAD and UNK likewise; the
            same tensor as ``ids`` where ``stride`` is 1.
        position: int64 ``[B]``, the samples' positions in the run: with ``seed`` the only source of randomness.
    """

    ids: Tensor
    kmer_ids: Tensor
    position: Tensor
    seed: int
    k: int
    stride: int

    @property
    def real(self) -> Tensor:
        """bool ``[B, L]``: tokens that may be masked."""
        return self.ids >= NUM_SPECIAL

    @property
    def real_kmers(self) -> Tensor:
        """bool ``[B, P]``: k-mers without N that lie in the sequence."""
        return self.kmer_ids >= NUM_SPECIAL

    def rows(self, chosen: Tensor) -> MaskInput:
        """The rows where ``chosen`` (bool ``[B]``) is true."""
        ids = self.ids[chosen]
        kmer_ids = ids if self.kmer_ids is self.ids else self.kmer_ids[chosen]
        return MaskInput(ids, kmer_ids, self.position[chosen], self.seed, self.k, self.stride)


@dataclass(frozen=True)
class Moment:
    """Where training stands."""

    step: int
    """Optimizer steps done before this batch."""
    steps: int
    """Optimizer steps of the whole run."""
    state: Mapping[str, Any]
    """The curriculum's state, as kept in checkpoints."""


class MaskPolicy(Protocol):
    """Chooses the tokens that are masked and scored. A frozen, picklable object."""

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        """Refuse rows that the policy cannot mask, before any worker starts.

        Args:
            num_tokens: L of a full window.
            num_kmers: P of a full window.

        Raises:
            RecipeError: windows shorter than a span, scores of another k, ...
        """
        ...

    def initial_state(self) -> dict[str, Any]:
        """The state (JSON) at step 0; ``{}`` where there is none."""
        ...

    def observe(self, state: Mapping[str, Any], *, step: int, perplexity: float) -> dict[str, Any]:
        """The state after an evaluation at ``step``; ``perplexity`` is the held-out one (exp of the loss)."""
        ...

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        """The tokens to mask: bool ``[B, L]`` on the batch's device, false at every special id."""
        ...

    def describe(self, moment: Moment) -> dict[str, float]:
        """Figures for the log, e.g. ``{"global_share": 0.3}``."""
        ...


POLICY_METHODS = ("check", "initial_state", "observe", "mask", "describe")


class Stateless:
    """The part of :class:`MaskPolicy` that a policy without a curriculum need not write."""

    def initial_state(self) -> dict[str, Any]:
        return {}

    def observe(self, state: Mapping[str, Any], *, step: int, perplexity: float) -> dict[str, Any]:
        return dict(state)

    def describe(self, moment: Moment) -> dict[str, float]:
        return {}
