"""Many small bidirectional LSTMs of the same shape that run together.

Two directions of E LSTMs are 2E recurrences; a direction that reads backwards gets its input reversed and goes forwards.
Gates and biases are those of ``torch.nn.LSTM`` (input, forget, cell, output).

In float32 on CPUs a compiled kernel runs each recurrence from its first step to its last (``recurrence_native.py``);
elsewhere, or without a compiler, a step of all recurrences is one batched product.

Shapes: E = LSTMs, R = 2E recurrences, T = steps, N = rows of the batch, I = input size, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from epilm.models.recurrence_native import NativeRecurrence, kernel

STRETCH = 10
"""Steps whose weight gradients are summed by one product in the backward pass: few enough to lie in the cache."""

_times_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
"""(x, s) -> x s (1 - s) in one pass."""


class _Recurrence(torch.autograd.Function):
    """Hidden states [R, T, N, H] of inputs [R, T, N, I] and weights [R, 4H, H + I + 1] (hidden | input | bias).

    The sigmoid is several times cheaper than the tanh on CPUs, so tanh(x) is 2 sigmoid(2x) - 1: the weights of the cell gate
    arrive doubled, and the cell state is kept doubled. The forward pass leaves for each gate the factor from a gradient of the
    cell state (input, forget, cell) or of the hidden state (output) to that of the gate's sum, so that the backward
    pass has but one product to make with each.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, keep: bool) -> Tensor:
        R, T, N, I = inputs.shape  # noqa: E741
        H = weight.shape[1] // 4
        # Step t's row of `rows` is (hidden state before t | input | 1): one product gives the gates' sums.
        rows = inputs.new_zeros(R, T + 1, N, H + I + 1)
        rows[:, :-1, :, H:-1] = inputs
        rows[..., -1] = 1
        hidden = rows[:, 1:, :, :H]
        by_column = weight.mT.contiguous()
        gates, s = inputs.new_empty(R, N, 4 * H), inputs.new_empty(R, N, H)
        i, f, g, o = gates.split(H, -1)
        # What each gate is multiplied by; two in turn, because the cell state before a step is the forget gate's.
        turns = [(slopes, slopes.split(H, -1)) for slopes in inputs.new_zeros(2, R, N, 4 * H)]
        minus_1, minus_2 = inputs.new_full((), -1), inputs.new_full((), -2)
        steps = T if keep else 0
        factors, to_cell, forget = (inputs.new_empty(steps, R, N, width) for width in (4 * H, H, H))
        kept = zip(factors.unbind(), to_cell.unbind(), forget.unbind(), strict=True) if keep else repeat(None, T)
        for t, (row, h, keeps) in enumerate(zip(rows[:, :-1].unbind(1), hidden.unbind(1), kept, strict=True)):
            slopes, (for_i, for_f, for_g, for_o) = turns[t % 2]
            cell2 = turns[(t + 1) % 2][1][1]
            torch.bmm(row, by_column, out=gates)
            gates.sigmoid_()
            torch.add(minus_2, g, alpha=4, out=for_i)  # twice the tanh
            torch.mul(f, for_f, out=cell2)
            cell2.addcmul_(i, for_i)
            torch.sigmoid(cell2, out=s)
            torch.add(minus_1, s, alpha=2, out=for_o)
            torch.mul(o, for_o, out=h)
            if keeps is not None:
                torch.mul(i, 4, out=for_g)
                factor, half_slope, open_ = keeps
                open_.copy_(f)
                _times_sigmoid_slope(o, s, grad_input=half_slope)  # half of dh / d(cell2)
                _times_sigmoid_slope(slopes, gates, grad_input=factor)
        if keep:
            ctx.save_for_backward(rows, weight, factors, to_cell, forget)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor | None, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, weight, factors, to_cell, forget = ctx.saved_tensors
        T, R, N, H = forget.shape
        of_hidden, of_input = weight[..., :H].contiguous(), weight[..., H:-1].contiguous()
        grad_by_column = weight.new_zeros(R, weight.shape[-1], 4 * H)
        grad_inputs = rows.new_empty(R, T, N, of_input.shape[-1]) if ctx.needs_input_grad[0] else None
        stretch = rows.new_empty(R, min(STRETCH, T), N, 4 * H)  # gradients of the gates' sums
        grad_sums = [(step, step.split(H, -1)) for step in stretch.unbind(1)]
        given = grad_hidden.unbind(1)
        each_factor = (part.unbind() for part in factors.split(H, -1))
        by_step = list(zip(to_cell.unbind(), forget.unbind(), *each_factor, strict=True))
        grad_cell, grad_h = rows.new_zeros(R, N, H), given[-1]
        for t in reversed(range(T)):
            place = t % STRETCH
            grad_sum, (grad_i, grad_f, grad_g, grad_o) = grad_sums[place]
            half_slope, open_, of_i, of_f, of_g, of_o = by_step[t]
            grad_cell.addcmul_(grad_h, half_slope, value=2)
            torch.mul(of_i, grad_cell, out=grad_i)
            torch.mul(of_f, grad_cell, out=grad_f)
            torch.mul(of_g, grad_cell, out=grad_g)
            torch.mul(of_o, grad_h, out=grad_o)
            grad_cell.mul_(open_)
            if t:
                grad_h = torch.baddbmm(given[t - 1], grad_sum, of_hidden)
            if not place:
                steps = min(STRETCH, T - t)
                sums = stretch[:, :steps].reshape(R, steps * N, 4 * H)
                grad_by_column.baddbmm_(rows[:, t : t + steps].reshape(R, steps * N, -1).mT, sums)
                if grad_inputs is not None:
                    grad_inputs[:, t : t + steps] = torch.bmm(sums, of_input).view(R, steps, N, -1)
        return grad_inputs, grad_by_column.mT, None


def run_recurrences(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Hidden states [R, T, N, H] of R LSTMs that read [R, T, N, I] forwards, each its own; T, N >= 1.

    Args:
        weight_ih: [R, 4H, I].
        weight_hh: [R, 4H, H].
        bias: [R, 4H], the sum of both biases.

    Computed in float32 where the weights are narrower (200 steps of bfloat16 drift), and given in that.
    """
    dtype = torch.promote_types(weight_hh.dtype, torch.float32)
    H = weight_hh.shape[-1]
    with torch.autocast(weight_hh.device.type, enabled=False):
        if dtype == torch.float32 and weight_hh.device.type == "cpu" and kernel() is not None:
            parts = (part.to(dtype) for part in (inputs, weight_ih, weight_hh, bias))
            return NativeRecurrence.apply(*parts, torch.is_grad_enabled())  # pyright: ignore[reportReturnType]
        weight = torch.cat([weight_hh, weight_ih, bias.unsqueeze(-1)], -1).to(dtype)
        doubled = torch.ones(4, 1, dtype=dtype, device=weight.device)
        doubled[2] = 2
        weight = weight * doubled.expand(4, H).reshape(4 * H, 1)
        return _Recurrence.apply(inputs.to(dtype), weight, torch.is_grad_enabled())  # pyright: ignore[reportReturnType]


class ManyLSTMs(nn.Module):
    """E bidirectional LSTMs of one layer. Recurrence 2e reads the input of LSTM e forwards, 2e + 1 backwards.

    The weights are those of ``torch.nn.LSTM``, stacked: [2E, 4H, I], [2E, 4H, H] and two biases [2E, 4H], from
    U(-H^-.5, H^-.5).
    """

    def __init__(self, num: int, input_size: int, hidden: int) -> None:
        super().__init__()
        self.num, self.input_size, self.hidden = num, input_size, hidden
        self.weight_ih = nn.Parameter(torch.empty(2 * num, 4 * hidden, input_size))
        self.weight_hh = nn.Parameter(torch.empty(2 * num, 4 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(2 * num, 4 * hidden))
        self.bias_hh = nn.Parameter(torch.empty(2 * num, 4 * hidden))
        self.reset(hidden**-0.5)

    def reset(self, bound: float) -> None:
        """Draw all weights from U(-bound, bound)."""
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def read(self, inputs: Tensor) -> Tensor:
        """Hidden states [E, 2, T, N, H] of inputs [N, T, E, I], each direction in the order in which it reads.

        The second direction's step t saw the inputs from the last down to T - 1 - t. Who only sums over the steps is spared
        the reversal of all states; :meth:`forward` has them in the order of the inputs.

        Raises:
            ValueError: the inputs have other sizes.
        """
        if inputs.ndim != 4 or inputs.shape[2:] != (self.num, self.input_size):
            raise ValueError(
                f"inputs have the shape {list(inputs.shape)}; it must be [rows, steps, {self.num}, {self.input_size}]."
            )
        forwards = inputs.permute(2, 1, 0, 3)
        both = torch.stack([forwards, forwards.flip(1)], 1).flatten(0, 1)
        states = run_recurrences(both, self.weight_ih, self.weight_hh, self.bias_ih + self.bias_hh)
        return states.unflatten(0, (self.num, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [N, T, E, 2H] of inputs [N, T, E, I], as ``torch.nn.LSTM`` gives them."""
        states = self.read(inputs)
        outputs = torch.cat([states[:, 0], states[:, 1].flip(1)], -1)
        return outputs.permute(2, 1, 0, 3).to(self.weight_hh.dtype)


def _of_lstm(lstm: nn.LSTM, name: str) -> list[Tensor]:
    return [getattr(lstm, f"{name}_l0"), getattr(lstm, f"{name}_l0_reverse")]


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@torch.no_grad()
def from_lstms(lstms: Sequence[nn.LSTM]) -> ManyLSTMs:
    """A copy of the weights of bidirectional ``torch.nn.LSTM`` of one layer and the same sizes."""
    first = lstms[0]
    many = ManyLSTMs(len(lstms), first.input_size, first.hidden_size).to(next(first.parameters()))
    for name in NAMES:
        getattr(many, name).copy_(torch.stack([weight for lstm in lstms for weight in _of_lstm(lstm, name)]))
    return many


@torch.no_grad()
def to_lstms(many: ManyLSTMs) -> nn.ModuleList:
    """The same weights as ``torch.nn.LSTM`` modules (batch first), one for each."""
    lstms = nn.ModuleList(
        nn.LSTM(many.input_size, many.hidden, bidirectional=True, batch_first=True) for _ in range(many.num)
    ).to(many.weight_hh)
    for name in NAMES:
        targets = [weight for lstm in lstms for weight in _of_lstm(lstm, name)]  # pyright: ignore[reportArgumentType]
        for target, weight in zip(targets, getattr(many, name), strict=True):
            target.copy_(weight)
    return lstms
