"""A training step of DeepDiff: all marks' LSTMs at once, against a loop of ``torch.nn.LSTM`` over the marks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from epilm.bench.measure import Case, Duel, Workbench
from epilm.models.deepdiff import AttentiveLSTMs, DeepDiff
from epilm.models.many_lstms import to_lstms
from epilm.models.recurrence_native import kernel

TOLERANCE = 1e-5


class _Attentive(nn.Module):
    """One LSTM with attention, as one would write it."""

    def __init__(self, lstm: nn.LSTM, context: Tensor) -> None:
        super().__init__()
        self.lstm, self.context = lstm, nn.Parameter(context.detach().flatten().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, T, I] -> [N, 2H]."""
        states, _ = self.lstm(inputs)
        attention = torch.softmax(states @ self.context, 1)
        return (attention.unsqueeze(1) @ states).squeeze(1)


def _one_by_one(model: AttentiveLSTMs) -> nn.ModuleList:
    lstms = to_lstms(model.lstms)
    return nn.ModuleList(
        _Attentive(lstm, context)  # pyright: ignore[reportArgumentType]
        for lstm, context in zip(lstms, model.context, strict=True)
    )


class LoopDeepDiff(nn.Module):
    """DeepDiff of ``raw`` as a loop over the marks, with the weights of another."""

    def __init__(self, model: DeepDiff) -> None:
        super().__init__()
        self.encoders = _one_by_one(model.encoders)
        (self.reader,) = _one_by_one(model.reader.lstms)
        self.out = nn.Linear(model.reader.weight.shape[1], 1)
        with torch.no_grad():
            self.out.weight.copy_(model.reader.weight)
            self.out.bias.copy_(model.reader.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        bins = torch.cat([first, second, first - second], -1)
        vectors = [encoder(bins[..., e : e + 1]) for e, encoder in enumerate(self.encoders)]
        return self.out(self.reader(torch.stack(vectors, 1))).squeeze(-1)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, first: Tensor, second: Tensor, target: Tensor) -> Tensor:
    """A whole training step as published: the gradient's norm cut at 1, Adam; the predictions [N] before it."""
    optimizer.zero_grad()
    output = model(first, second)
    predicted = output if isinstance(output, Tensor) else output.difference
    (predicted - target).square().mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return predicted.detach()


def deepdiff_step(bench: Workbench) -> Duel:
    """A training step of 15 encoders (``raw``), a batch of 10 genes of 5 marks in 200 bins, equal weights.

    Both sides take torch's threads, one a core. The learning rate is 0, so that the weights stay equal. In float32 on CPUs the
    peer's LSTMs are oneDNN's fused kernels. Ours are compiled before the timing; where that cannot be done, torch's
    operators are timed, and the result says so.
    """
    genes, bins, marks = 10, bench.scaled(200, 5), 5
    torch.manual_seed(bench.seed)
    model = DeepDiff(marks, "raw")
    plain = LoopDeepDiff(model)
    first, second = (torch.poisson(torch.full((genes, bins, marks), 1.5)) for _ in range(2))
    target = torch.randn(genes)
    recurrences = ("compiled" if kernel() is not None else "torch's") + " recurrences"
    our_optimizer, their_optimizer = (torch.optim.Adam(side.parameters(), lr=0.0) for side in (model, plain))

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        predicted = _step(model, our_optimizer, first, second, target)
        lstms = model.encoders.lstms
        assert lstms.weight_hh.grad is not None
        assert lstms.weight_ih.grad is not None
        return predicted, lstms.weight_ih.grad, lstms.weight_hh.grad

    def theirs() -> tuple[Tensor, list[Tensor], list[Tensor]]:
        predicted = _step(plain, their_optimizer, first, second, target)
        grads = {name: weight.grad for name, weight in plain.encoders.named_parameters()}

        def of(name: str) -> list[Tensor]:
            keys = [f"{e}.lstm.{name}_l0{way}" for e in range(len(plain.encoders)) for way in ("", "_reverse")]
            return [grad for key in keys if (grad := grads[key]) is not None]

        return predicted, of("weight_ih"), of("weight_hh")

    def compare(mine: tuple[Tensor, ...], other: tuple[Tensor, list[Tensor], list[Tensor]]) -> str:
        pairs = {"predictions": other[0], "input weights' gradients": torch.stack(other[1])}
        pairs["recurrent weights' gradients"] = torch.stack(other[2])
        far = {name: float((a - b).abs().max()) for (name, b), a in zip(pairs.items(), mine, strict=True)}
        return ", ".join(f"{name} by {value:.2g}" for name, value in far.items() if not value < TOLERANCE)

    def describe() -> str:
        sizes = f"{genes} genes, {bins} bins, {model.num_encoders} encoders of 2 x 32"
        return f"{sizes}, {recurrences}, {torch.get_num_threads()} thread(s)"

    return Duel(ours, theirs, genes, genes, compare, describe)


CASES = (
    Case(
        name="deepdiff_step",
        about="a training step of DeepDiff, all marks' LSTMs at once",
        peer="a loop of torch.nn.LSTM over the marks",
        unit="genes/s",
        target=3,
        build=deepdiff_step,
        clock="wall",
    ),
)
