"""DeepDiff: the difference of a gene's expression in two cell types from histone marks around it.

Sekhon, Singh, Qi 2018 (Bioinformatics 34, i891), sections 2.2 to 2.4: an LSTM with attention reads the bins of each mark,
another the marks. Single-device.

Shapes: N = genes, B = bins, M = marks, E = encoders (marks of all lines), H = hidden size of a direction.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from epilm.errors import RecipeError
from epilm.models.many_lstms import ManyLSTMs

DeepDiffInputs = Literal["raw_c", "raw_d", "raw"]
NUM_LINES: dict[str, int] = {"raw_c": 2, "raw_d": 1, "raw": 3}
"""Lines (cell types, difference) of an input; each has an encoder for each mark."""

INITIAL_BOUND = 0.1
"""All weights begin in U(-.1, .1)."""


class DeepDiffOutput(NamedTuple):
    """What DeepDiff says of N genes."""

    difference: Tensor
    """[N], the target."""
    first: Tensor | None
    """[N], log2(expression + 1) in the first cell type; None without ``aux``."""
    second: Tensor | None
    bin_attention: Tensor
    """[N, E, B]: share of each bin in an encoder's vector; sums to 1 over the bins."""
    mark_attention: Tensor
    """[N, E]: share of each encoder; sums to 1."""


class _Attend(torch.autograd.Function):
    """Vectors [E, 2, N, H] and attention [E, 2, T, N] (in the order read) of states [E, 2, T, N, H] and contexts [E, 2, H].

    By hand, because autograd's backward pass goes over the states (the largest tensor) twice as often.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        forwards, backwards = (states * context[:, :, None, None]).sum(-1).unbind(1)
        attention = torch.softmax(forwards + backwards.flip(1), 1)
        attention = torch.stack([attention, attention.flip(1)], 1)
        vectors = (attention.unsqueeze(-1) * states).sum(2)
        ctx.save_for_backward(states, context, attention)
        return vectors, attention

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_vectors: Tensor, grad_attention: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        states, context, attention = ctx.saved_tensors
        E, _, T, N, H = states.shape
        grad_vectors = grad_vectors.unsqueeze(2)
        forwards, backwards = ((states * grad_vectors).sum(-1) + grad_attention).unbind(1)
        grad_weights = forwards + backwards.flip(1)
        weights = attention[:, 0]
        grad_scores = weights * (grad_weights - (weights * grad_weights).sum(1, keepdim=True))
        grad_scores = torch.stack([grad_scores, grad_scores.flip(1)], 1).unsqueeze(-1)
        grad_states = (attention.unsqueeze(-1) * grad_vectors).addcmul_(grad_scores, context[:, :, None, None])
        by_recurrence = states.flatten(0, 1).flatten(1, 2)
        grad_context = torch.bmm(grad_scores.view(2 * E, 1, T * N), by_recurrence)
        return grad_states, grad_context.view(E, 2, H)


class AttentiveLSTMs(nn.Module):
    """E bidirectional LSTMs, and for each a learned context vector u: its vector is the states' mean by softmax(h . u)."""

    def __init__(self, num: int, input_size: int, hidden: int) -> None:
        super().__init__()
        self.lstms = ManyLSTMs(num, input_size, hidden)
        self.context = nn.Parameter(torch.empty(num, 2, hidden).uniform_(-INITIAL_BOUND, INITIAL_BOUND))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [N, E, 2H] and attention [N, E, T] of inputs [N, T, E, I]."""
        states = self.lstms.read(inputs)
        vectors, attention = _Attend.apply(states, self.context.to(states.dtype))  # pyright: ignore[reportGeneralTypeIssues]
        dtype = self.context.dtype
        return vectors.permute(2, 0, 1, 3).flatten(2).to(dtype), attention[:, 0].permute(2, 0, 1).to(dtype)


class MarkReaders(nn.Module):
    """R numbers a gene, each by its own attentive LSTM over a sequence of vectors, and its own linear layer."""

    def __init__(self, num: int, input_size: int, hidden: int) -> None:
        super().__init__()
        self.lstms = AttentiveLSTMs(num, input_size, hidden)
        self.weight = nn.Parameter(torch.empty(num, 2 * hidden).uniform_(-INITIAL_BOUND, INITIAL_BOUND))
        self.bias = nn.Parameter(torch.empty(num).uniform_(-INITIAL_BOUND, INITIAL_BOUND))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers [N, R] and attention [N, R, E] of vectors [N, E, R, I]."""
        summary, attention = self.lstms(vectors)
        return (summary * self.weight).sum(-1) + self.bias, attention


class DeepDiff(nn.Module):
    """DeepDiff of a number of marks.

    Args:
        inputs: what is read: both cell types (``raw_c``), their difference (``raw_d``), or all three (``raw``). Encoders, and
            the order in which the marks are read: all marks of the first cell type, of the second, of the difference.
        bin_hidden: width of each direction of an encoder's LSTM over the bins.
        mark_hidden: width of each direction of the LSTM over the encoders' vectors.
        aux: also predict each cell type's expression, from its own marks' vectors.

    Raises:
        RecipeError: other inputs; ``aux`` without the cell types' own marks.
    """

    def __init__(
        self, num_marks: int, inputs: DeepDiffInputs, bin_hidden: int = 32, mark_hidden: int = 16, aux: bool = False
    ) -> None:
        super().__init__()
        if inputs not in NUM_LINES:
            raise RecipeError(f"inputs={inputs!r} is none of {', '.join(get_args(DeepDiffInputs))}.")
        if aux and inputs == "raw_d":
            raise RecipeError("aux=True needs the cell types' own marks; inputs='raw_d' has none. Use raw_c or raw.")
        self.num_marks, self.inputs = num_marks, inputs
        self.num_encoders = num_marks * NUM_LINES[inputs]
        self.encoders = AttentiveLSTMs(self.num_encoders, 1, bin_hidden)
        self.reader = MarkReaders(1, 2 * bin_hidden, mark_hidden)
        self.cell_readers = MarkReaders(2, 2 * bin_hidden, mark_hidden) if aux else None
        self.reset()

    def reset(self) -> None:
        """Draw all weights anew from U(-.1, .1) with torch's global generator."""
        for weight in self.parameters():
            nn.init.uniform_(weight, -INITIAL_BOUND, INITIAL_BOUND)

    def forward(self, first: Tensor, second: Tensor) -> DeepDiffOutput:
        """Predict from the marks [N, B, M] of the same genes in two cell types.

        Raises:
            ValueError: the two differ in shape, or have another number of marks.
        """
        if first.shape != second.shape or first.ndim != 3 or first.shape[-1] != self.num_marks:
            raise ValueError(
                f"marks have the shapes {list(first.shape)} and {list(second.shape)}; both must be "
                f"[genes, bins, {self.num_marks}]."
            )
        vectors, bin_attention = self.encoders(self._lines(first, second).unsqueeze(-1))
        difference, mark_attention = self.reader(vectors.unsqueeze(2))
        of_cells: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.cell_readers is not None:
            of_each = vectors[:, : 2 * self.num_marks].unflatten(1, (2, self.num_marks)).transpose(1, 2)
            first_level, second_level = self.cell_readers(of_each)[0].unbind(-1)
            of_cells = first_level, second_level
        return DeepDiffOutput(difference[:, 0], *of_cells, bin_attention, mark_attention[:, 0])

    def _lines(self, first: Tensor, second: Tensor) -> Tensor:
        """Bins of every encoder, [N, B, E]."""
        if self.inputs == "raw_d":
            return first - second
        return torch.cat([first, second] if self.inputs == "raw_c" else [first, second, first - second], -1)
