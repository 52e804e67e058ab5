"""DeepDiff: sizes, initial weights, a slow reference with an LSTM a mark, symmetries, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from epilm.errors import RecipeError
from epilm.models.deepdiff import DeepDiff, DeepDiffInputs, _Attend
from epilm.models.many_lstms import NAMES, ManyLSTMs, to_lstms

ALL: list[tuple[DeepDiffInputs, bool]] = [
    ("raw_d", False),
    ("raw_c", False),
    ("raw", False),
    ("raw_c", True),
    ("raw", True),
]


def counts(genes: int, bins: int, marks: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Counts of both cell types [genes, bins, marks]."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.poisson(torch.full((2, genes, bins, marks), 2.0, dtype=torch.float64), generator=generator)
    return first, second


def build(marks: int, inputs: DeepDiffInputs, aux: bool = False, bin_hidden: int = 4, mark_hidden: int = 3) -> DeepDiff:
    torch.manual_seed(0)
    return DeepDiff(marks, inputs, bin_hidden, mark_hidden, aux).double()


def attend(states: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """One gene's sum of states [T, 2H], step by step."""
    weights = torch.stack([state @ context for state in states]).exp()
    weights = weights / weights.sum()
    return sum((weight * state for weight, state in zip(weights, states, strict=True)), torch.tensor(0.0)), weights


def read_sequence(lstms: ManyLSTMs, which: int, context: Tensor, sequence: Tensor) -> tuple[Tensor, Tensor]:
    states, _ = to_lstms(lstms)[which](sequence.unsqueeze(0))
    return attend(states[0], context[which].flatten())


def slow_deepdiff(model: DeepDiff, first: Tensor, second: Tensor) -> list[tuple[Tensor, ...]]:
    """A gene, a line and a mark at a time: (difference, first, second, bin attention, mark attention) of each gene."""
    rows = []
    for a, b in zip(first, second, strict=True):
        lines = {"raw_d": [a - b], "raw_c": [a, b], "raw": [a, b, a - b]}[model.inputs]
        sequences = [line[:, mark] for line in lines for mark in range(model.num_marks)]
        encoders = model.encoders
        read = [read_sequence(encoders.lstms, e, encoders.context, s.unsqueeze(1)) for e, s in enumerate(sequences)]
        vectors = torch.stack([vector for vector, _ in read])
        values = []
        readers = [(model.reader, 0, vectors)]
        if model.cell_readers is not None:
            m = model.num_marks
            readers += [(model.cell_readers, 0, vectors[:m]), (model.cell_readers, 1, vectors[m : 2 * m])]
        for reader, which, sequence in readers:
            summary, shares = read_sequence(reader.lstms.lstms, which, reader.lstms.context, sequence)
            values.append((reader.weight[which] @ summary + reader.bias[which], shares))
        aux = [value for value, _ in values[1:]] or [torch.tensor(0.0)] * 2
        rows.append((values[0][0], *aux, torch.stack([shares for _, shares in read]), values[0][1]))
    return rows


@pytest.mark.parametrize(("inputs", "aux"), ALL)
def test_number_of_weights(inputs, aux):
    expected = {"raw_d": 55_681, "raw_c": 100_801, "raw": 145_921}[inputs] + (2 * 10_561 if aux else 0)
    assert sum(weight.numel() for weight in DeepDiff(5, inputs, aux=aux).parameters()) == expected


def test_initial_weights_fill_the_interval():
    torch.manual_seed(3)
    model = DeepDiff(5, "raw", aux=True)
    for weight in model.parameters():
        assert weight.abs().max() <= 0.1
    drawn = torch.cat([weight.detach().flatten() for weight in model.parameters()])
    assert drawn.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.01)
    assert abs(drawn.mean().item()) < 1e-3
    torch.manual_seed(3)
    again = DeepDiff(5, "raw", aux=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    again.reset()
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("inputs", "aux"), ALL)
@pytest.mark.parametrize(("genes", "bins", "marks"), [(3, 7, 2), (1, 1, 1)])
def test_equals_a_gene_and_a_mark_at_a_time(inputs, aux, genes, bins, marks):
    model = build(marks, inputs, aux)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)  # so that nothing is lost among small numbers
        output = model(*counts(genes, bins, marks))
        slow = slow_deepdiff(model, *counts(genes, bins, marks))
    for got, wanted in zip(output, zip(*slow, strict=True), strict=True):
        if got is not None:
            torch.testing.assert_close(got, torch.stack(wanted), rtol=0, atol=1e-9)
    assert (output.first is not None, output.second is not None) == (aux, aux)


@pytest.mark.parametrize(("inputs", "aux"), [("raw_d", False), ("raw", True)])
def test_gradients_equal_those_of_a_mark_at_a_time(inputs, aux):
    model, other = build(2, inputs, aux), build(2, inputs, aux)
    first, second = counts(2, 5, 2)

    def loss(difference: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor:
        return sum((part.square().sum() for part in (difference, a, b) if part is not None), torch.tensor(0.0))

    output = model(first, second)
    loss(output.difference, output.first, output.second).backward()
    # The reference reads copies of the weights, through which no gradient flows: central differences, in a random way.
    step = 1e-6
    for name, weight in other.named_parameters():
        torch.manual_seed(len(name))
        way = torch.randn_like(weight)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(way, alpha=sign * step)
                slow = [torch.stack(part) for part in zip(*slow_deepdiff(other, first, second), strict=True)]
                weight.sub_(way, alpha=sign * step)
            ends.append(loss(slow[0], slow[1] if aux else None, slow[2] if aux else None))
        slope = (ends[0] - ends[1]) / (2 * step)
        grad = dict(model.named_parameters())[name].grad
        assert grad is not None
        torch.testing.assert_close((grad * way).sum(), slope, rtol=1e-6, atol=1e-8)


def test_gradients_of_vectors_and_attention_are_numerically_right():
    torch.manual_seed(2)
    states = torch.randn(2, 2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Attend.apply, (states, context))


@pytest.mark.parametrize(("inputs", "encoders"), [("raw_d", 3), ("raw_c", 6), ("raw", 9)])
def test_attention_sums_to_one(inputs, encoders):
    output = build(3, inputs)(*counts(4, 6, 3))
    assert output.bin_attention.shape == (4, encoders, 6)
    assert output.mark_attention.shape == (4, encoders)
    for shares in (output.bin_attention, output.mark_attention):
        assert (shares > 0).all()
        torch.testing.assert_close(shares.sum(-1), torch.ones_like(shares[..., 0]))


def test_raw_d_sees_the_difference_alone():
    model = build(2, "raw_d")
    first, second = counts(4, 6, 2)
    torch.testing.assert_close(model(first + 3, second + 3).difference, model(first, second).difference)
    assert not torch.allclose(model(first + 3, second).difference, model(first, second).difference)


@pytest.mark.parametrize("inputs", ["raw_c", "raw"])
def test_other_inputs_see_the_levels(inputs):
    model = build(2, inputs)
    first, second = counts(4, 6, 2)
    assert not torch.allclose(model(first + 3, second + 3).difference, model(first, second).difference)


def test_aux_of_a_cell_type_sees_that_cell_type_alone():
    model = build(2, "raw", aux=True)
    first, second = counts(4, 6, 2)
    here, there = model(first, second), model(first, second + 1)
    torch.testing.assert_close(here.first, there.first)
    assert not torch.allclose(here.second, there.second)


def test_genes_do_not_see_each_other():
    model = build(2, "raw", aux=True)
    first, second = counts(5, 6, 2)
    order = torch.tensor([3, 0, 4, 1, 2])
    for got, wanted in zip(model(first[order], second[order]), model(first, second), strict=True):
        torch.testing.assert_close(got, wanted[order])


@pytest.mark.parametrize("aux", [False, True])
def test_a_batch_is_overfitted(aux):
    torch.manual_seed(0)
    model = DeepDiff(5, "raw", aux=aux)
    first, second = (values.float() for values in counts(10, 8, 5))
    targets = torch.randn(3, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        output = model(first, second)
        said = [part for part in (output.difference, output.first, output.second) if part is not None]
        return sum(((part - target) ** 2).mean() for part, target in zip(said, targets, strict=False))

    start = loss().item()
    for _ in range(250):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss().item() < 0.01 * start


def test_bfloat16_is_near():
    exact = build(2, "raw").float()
    first, second = (values.float() for values in counts(4, 30, 2))
    wanted = exact(first, second).difference
    got = exact.to(torch.bfloat16)(first, second)
    assert got.difference.dtype == torch.bfloat16
    torch.testing.assert_close(got.difference.float(), wanted, rtol=0, atol=5e-3)
    got.difference.sum().backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in exact.parameters())


def test_lstm_weights_are_found_under_their_names():
    names = set(dict(DeepDiff(2, "raw").named_parameters()))
    assert {f"encoders.lstms.{name}" for name in NAMES} <= names
    assert {f"reader.lstms.lstms.{name}" for name in NAMES} <= names


def test_settings_that_do_not_fit():
    with pytest.raises(RecipeError, match="Use raw_c or raw"):
        DeepDiff(5, "raw_d", aux=True)
    with pytest.raises(RecipeError, match="none of raw_c, raw_d, raw"):
        DeepDiff(5, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize("shapes", [((2, 5, 3), (2, 5, 4)), ((2, 5, 4), (2, 5, 4)), ((5, 3), (5, 3))])
def test_marks_of_other_shapes(shapes):
    with pytest.raises(ValueError, match=r"both must be \[genes, bins, 3\]"):
        DeepDiff(3, "raw")(*(torch.zeros(shape) for shape in shapes))
