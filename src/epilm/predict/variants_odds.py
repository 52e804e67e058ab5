"""Log-odds of edited windows: what variants and mutagenesis ask of a model. Changes are taken between log-odds and not between
probabilities, which near 0 and 1 no longer tell them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from epilm.models.binding import EbertForBinding
from epilm.models.binding_inputs import BindingWindows, binding_inputs


@torch.inference_mode()
def log_odds(model: EbertForBinding, windows: BindingWindows) -> Tensor:
    """ln(p / (1 - p)) float32 [B, num_targets] of the predicted probabilities p; windows on the model's device.

    Where the model averages the probabilities of both strands the mean's log-odds are taken from the strands' logits, so that
    they stay exact where the mean itself would round to 0 or 1.
    """
    settings = {"encoder": model.config, "config": model.binding}
    forward = model(**binding_inputs(windows, **settings))
    if not model.binding.both_strands:
        return forward
    every = torch.ones(len(windows), dtype=torch.bool, device=windows.dna.device)
    other = model(**binding_inputs(windows, reverse=every, **settings))
    return torch.logaddexp(F.logsigmoid(forward), F.logsigmoid(other)) - torch.logaddexp(
        F.logsigmoid(-forward), F.logsigmoid(-other)
    )


def log_odds_in_batches(model: EbertForBinding, batches: Iterator[BindingWindows], *, num_windows: int) -> np.ndarray:
    """The log-odds of all batches, float32 [num_windows, num_targets]; batches are moved to the model's device."""
    device = next(model.parameters()).device
    result = np.empty((num_windows, len(model.binding.targets)), np.float32)
    done = 0
    for windows in batches:
        result[done : done + len(windows)] = log_odds(model, windows.to(device)).cpu().numpy()
        done += len(windows)
    assert done == num_windows
    return result


def take(windows: BindingWindows, rows: np.ndarray, dna: np.ndarray | None = None) -> BindingWindows:
    """Some rows of windows, in any order and number, with other DNA where it is given (uint8 [len(rows), input_bp])."""
    index = torch.from_numpy(np.ascontiguousarray(rows)).to(windows.dna.device)
    given = {field.name: getattr(windows, field.name) for field in fields(windows)}
    taken = replace(windows, **{name: part[index] for name, part in given.items() if part is not None})
    return taken if dna is None else replace(taken, dna=torch.from_numpy(dna).to(windows.dna.device))


def probability(odds: np.ndarray) -> np.ndarray:
    """Probabilities float64 of log-odds."""
    odds = np.asarray(odds, np.float64)
    return np.where(odds >= 0, 1, np.exp(np.minimum(odds, 0))) / (1 + np.exp(-np.abs(odds)))
