"""What a run is, as far as the training loop knows: data -> batch -> sums over scored items -> metrics.

A task states sums and counts, never means: the loop divides by the counts of the whole global batch, so that one worker
and four, or small and large micro-batches, give the same loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from epilm.corpus.source import SampleSource
from epilm.masking.contract import Moment


@dataclass(frozen=True)
class Prepared:
    """A micro-batch ready for the model, on its device."""

    inputs: dict[str, Tensor]
    counts: dict[str, Tensor]
    """Scored items, by name (``dna``: masked k-mers); scalars on the device, the denominators of the sums."""
    num_rows: int
    num_tokens: int
    """Model positions, with specials."""


class EvalSet(Protocol):
    """A fixed list of samples, the same at every evaluation and for every number of workers."""

    @property
    def num_samples(self) -> int: ...

    def read(self, indices: np.ndarray) -> pa.Table:
        """Rows of samples ``indices``, in that order."""
        ...


class Task(Protocol):
    """One kind of training. Picklable: every worker gets a copy and opens its own files.

    ``sum_counts`` maps every sum to the count that it is divided by; ``loss_weights`` names the sums that make up the
    loss and their weights; other sums are metrics alone.
    """

    @property
    def seed(self) -> int: ...

    @property
    def sum_counts(self) -> Mapping[str, str]: ...

    @property
    def loss_weights(self) -> Mapping[str, float]: ...

    def check(self) -> None:
        """Refuse bad input; runs on the driver before any worker starts.

        Raises:
            EpilmError: what, got, allowed, how to mend.
        """
        ...

    def data_fingerprint(self) -> str:
        """Identity of the training data; a checkpoint goes on with no other."""
        ...

    def train_source(self) -> SampleSource: ...

    def eval_sets(self, *, final: bool) -> Mapping[str, EvalSet]:
        """``final``: after the last step, when a set that is asked only once may be among them."""
        ...

    def initial_state(self) -> dict[str, Any]:
        """What the task will learn of its own run, as JSON; it is kept in checkpoints. ``{}`` for most."""
        ...

    def observe(
        self, state: Mapping[str, Any], *, step: int, evaluations: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        """The state after the evaluation at a step, given the metrics of every set."""
        ...

    def moment_metrics(self, moment: Moment) -> dict[str, float]:
        """Figures of a moment for its record, such as how far a curriculum has come."""
        ...

    def finished(self, state: Mapping[str, Any]) -> bool:
        """Whether the run ends before its last step, by what it has learnt of itself (early stopping). Sets that are
        evaluated only after the last step are then left out."""
        ...

    def score(self, evaluations: Mapping[str, Mapping[str, float]]) -> float | None:
        """Merit of the weights that were just evaluated, larger is better: the run's result is the checkpoint with the
        largest. NaN where no evaluation tells it; always None where the last weights are the result."""
        ...

    def rate_factor(self, parameter: str) -> float:
        """What a parameter's learning rate is multiplied by; 1 for most."""
        ...

    def build_model(self) -> nn.Module:
        """A new model; its random weights come from torch's global generator, which the caller seeds."""
        ...

    def collate(self, table: pa.Table) -> dict[str, Tensor]:
        """Rows as CPU tensors, bytes still: what is shipped to the device. Has ``position`` int64 [rows]."""
        ...

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        """Tokenise and mask on the device of the batch; random choices by the rows' positions alone.

        Args:
            moment: where training stands; None for an evaluation, whose choices are the same at every moment.
        """
        ...

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        """Forward pass: sums over the scored items. Those in ``loss_weights`` are scalars and carry gradients; in an
        evaluation others may be vectors (a histogram of scores), of the same length at every call."""
        ...

    def summarise(self, sums: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, float]:
        """Metrics from totals over a step or an evaluation set; a vector's totals are a list."""
        ...

    def flops_per_row(self) -> float:
        """Floating-point operations of a forward and backward pass over one row (multiply-add = 2)."""
        ...

    def tokens_per_row(self) -> int:
        """Tokens of a full row, without those that frame it: what a budget of tokens counts."""
        ...

    def describe(self) -> dict[str, object]:
        """Facts for ``result.json``: what was trained on, sizes."""
        ...

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        """Write fp32 weights and what is needed to load them elsewhere into an existing local folder."""
        ...


def mean_metrics(
    sums: Mapping[str, float], counts: Mapping[str, float], sum_counts: Mapping[str, str]
) -> dict[str, float]:
    """Each sum over its count; 0 scored items give NaN."""
    return {
        name: value / counts[sum_counts[name]] if counts[sum_counts[name]] else float("nan")
        for name, value in sums.items()
    }


def sample_seed(seed: int, position: int) -> int:
    """Seed of torch's generator for the micro-batch that starts at a position: dropout then depends on how the global
    batch is cut into micro-batches, not on the worker that holds one or on how often the run was restarted."""
    return torch.iinfo(torch.int64).max & ((seed + 1) * 0x9E3779B97F4A7C15 ^ (position + 1) * 0xBF58476D1CE4E5B9)
