"""Evaluate a task's fixed sets, spread over the workers; the sums do not depend on their number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from epilm.tasks.protocol import EvalSet, Task
from epilm.train.step import AllReduce


@torch.no_grad()
def evaluate_set(
    task: Task,
    model: nn.Module,
    samples: EvalSet,
    *,
    batch_rows: int,
    rank: int,
    num_workers: int,
    device: torch.device,
    all_reduce: AllReduce,
) -> dict[str, float]:
    """Metrics of one evaluation set, with ``num_samples`` and the counts.

    Every rank runs the same number of forward passes (ZeRO 3 gathers parameters in each); a rank without rows of its own
    repeats the first ones and drops their sums.
    """
    model.eval()
    stride = batch_rows * num_workers
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, torch.Tensor] = {}
    for first in range(0, samples.num_samples, stride):
        begin = first + rank * batch_rows
        own = np.arange(begin, min(begin + batch_rows, samples.num_samples), dtype=np.int64)
        indices = own if len(own) else np.arange(min(batch_rows, samples.num_samples), dtype=np.int64)
        batch = {k: v.to(device) for k, v in task.collate(samples.read(indices)).items()}
        prepared = task.prepare(batch, None)
        part = task.sums(model, prepared)
        weight = float(len(own) > 0)
        for totals, values in ((sums, part), (counts, prepared.counts)):
            for name, value in values.items():
                so_far = totals[name] if name in totals else torch.zeros_like(value, dtype=torch.float64)
                totals[name] = so_far + value.double() * weight
    model.train()
    total_sums, total_counts = _reduce(sums, all_reduce), _reduce(counts, all_reduce)
    metrics = task.summarise(total_sums, total_counts)
    return {**metrics, "num_samples": samples.num_samples, **{f"{n}_scored": c for n, c in total_counts.items()}}


def _reduce(values: dict[str, torch.Tensor], all_reduce: AllReduce) -> dict[str, Any]:
    """Totals over the workers: a number for a scalar, a list for a vector."""
    names = sorted(values)
    totals = all_reduce(torch.cat([values[n].reshape(-1) for n in names]))
    parts = totals.split([values[n].numel() for n in names])
    return {n: part.reshape(values[n].shape).tolist() for n, part in zip(names, parts, strict=True)}
