"""One optimizer step over the micro-batches of a worker: pure of Ray and DeepSpeed, so that it can be profiled alone.

The loss is normalised by the scored items of the *global* batch, which are counted before the first backward pass:
masks are stateless, so preparing all micro-batches first costs nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epilm.masking.contract import Moment
from epilm.tasks.protocol import Prepared, Task, sample_seed

AllReduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StepTotals:
    """Sums and counts of a step over all workers."""

    sums: dict[str, float]
    counts: dict[str, float]
    num_tokens: int


def split_batch(batch: dict[str, Tensor], micro_batch: int) -> list[dict[str, Tensor]]:
    """Cut [rows, ...] tensors into micro-batches of ``micro_batch`` rows, views of the same memory."""
    rows = len(next(iter(batch.values())))
    return [{k: v[i : i + micro_batch] for k, v in batch.items()} for i in range(0, rows, micro_batch)]


def run_step(
    task: Task,
    model: nn.Module,
    batch: dict[str, Tensor],
    moment: Moment,
    *,
    micro_batch: int,
    backward: Callable[[Tensor], None],
    all_reduce: AllReduce,
) -> StepTotals:
    """Forward and backward over a worker's rows of a step; the caller applies the optimizer.

    Args:
        batch: rows on the model's device.
        moment: the step and what the task has learnt of its run.
        backward: called once a micro-batch with its part of the global loss (the parts of all workers and micro-batches
            add up to it).
        all_reduce: sum of a tensor over the workers.
    """
    micro_batches = split_batch(batch, micro_batch)
    first_positions = batch["position"][::micro_batch].tolist()
    prepared = [task.prepare(rows, moment) for rows in micro_batches]
    counts = _global_counts(prepared, all_reduce)
    sums: dict[str, Tensor] = {}
    for position, ready in zip(first_positions, prepared, strict=True):
        torch.manual_seed(sample_seed(task.seed, position))
        part = task.sums(model, ready)
        backward(_loss(task, part, counts))
        for name, value in part.items():
            value = value.detach().double()
            sums[name] = sums[name] + value if name in sums else value
    names = sorted(sums)
    tokens = torch.tensor(float(sum(p.num_tokens for p in prepared)), dtype=torch.float64, device=sums[names[0]].device)
    totals = all_reduce(torch.stack([*(sums[n] for n in names), tokens])).tolist()
    return StepTotals(
        dict(zip(names, totals, strict=False)), {n: float(c) for n, c in counts.items()}, num_tokens=int(totals[-1])
    )


def _global_counts(prepared: Sequence[Prepared], all_reduce: AllReduce) -> dict[str, Tensor]:
    names = sorted(prepared[0].counts)
    local = torch.stack([torch.stack([p.counts[n] for p in prepared]).double().sum() for n in names])
    return dict(zip(names, all_reduce(local).unbind(), strict=True))


def _loss(task: Task, sums: dict[str, Tensor], counts: dict[str, Tensor]) -> Tensor:
    parts = [w * sums[n] / counts[task.sum_counts[n]].clamp(min=1).float() for n, w in task.loss_weights.items()]
    return torch.stack(parts).sum()


def total_loss(task: Task, totals: StepTotals) -> float:
    """The loss of a step: weighted sums over their counts."""
    return sum(w * totals.sums[n] / max(1.0, totals.counts[task.sum_counts[n]]) for n, w in task.loss_weights.items())
