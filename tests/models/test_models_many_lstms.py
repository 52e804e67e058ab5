"""Many LSTMs at once against ``torch.nn.LSTM``, one after the other, in outputs and in all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epilm.models.many_lstms import NAMES, STRETCH, ManyLSTMs, from_lstms, run_recurrences, to_lstms

SHAPES = [  # LSTMs, steps, rows, inputs, hidden
    (1, 1, 1, 1, 1),
    (1, 1, 3, 2, 4),
    (3, STRETCH, 1, 1, 5),
    (2, STRETCH + 1, 4, 3, 2),
    (4, 2 * STRETCH + 3, 2, 1, 8),
]


def plain_lstms(num: int, input_size: int, hidden: int, dtype: torch.dtype = torch.float64) -> list[nn.LSTM]:
    torch.manual_seed(num + hidden)
    return [nn.LSTM(input_size, hidden, bidirectional=True, batch_first=True, dtype=dtype) for _ in range(num)]


def one_by_one(lstms: list[nn.LSTM], inputs: Tensor) -> Tensor:
    return torch.stack([lstm(inputs[:, :, e])[0] for e, lstm in enumerate(lstms)], 2)


def stacked_gradients(lstms: list[nn.LSTM], name: str) -> Tensor:
    return torch.stack([getattr(lstm, f"{name}_l0{way}").grad for lstm in lstms for way in ("", "_reverse")])


@pytest.mark.parametrize(("num", "steps", "rows", "input_size", "hidden"), SHAPES)
def test_outputs_and_gradients_are_those_of_torch(num, steps, rows, input_size, hidden):
    lstms = plain_lstms(num, input_size, hidden)
    many = from_lstms(lstms)
    mine = torch.randn(rows, steps, num, input_size, dtype=torch.float64, requires_grad=True)
    other = mine.detach().clone().requires_grad_()
    towards = torch.randn(rows, steps, num, 2 * hidden, dtype=torch.float64)
    got, wanted = many(mine), one_by_one(lstms, other)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    (got * towards).sum().backward()
    (wanted * towards).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-10)
    for name in NAMES:
        torch.testing.assert_close(getattr(many, name).grad, stacked_gradients(lstms, name), rtol=0, atol=1e-10)


def test_gates_that_are_nearly_shut_or_open():
    lstms = plain_lstms(2, 1, 3)
    with torch.no_grad():
        for lstm in lstms:
            lstm.weight_ih_l0.mul_(50)
    inputs = 10 * torch.randn(2, 15, 2, 1, dtype=torch.float64)
    many = from_lstms(lstms)
    got, wanted = many(inputs), one_by_one(lstms, inputs)
    got.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    for name in NAMES:
        torch.testing.assert_close(getattr(many, name).grad, stacked_gradients(lstms, name), rtol=0, atol=1e-9)


def test_gradients_are_numerically_right():
    torch.manual_seed(1)
    inputs, weight_ih, weight_hh, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, STRETCH + 1, 2, 2), (2, 12, 2), (2, 12, 3), (2, 12))
    )
    assert torch.autograd.gradcheck(run_recurrences, (inputs, weight_ih, weight_hh, bias), fast_mode=True)


def test_backward_twice_gives_the_same_gradients():
    many = ManyLSTMs(2, 1, 3)
    output = many(torch.randn(2, 5, 2, 1)).square().sum()
    output.backward(retain_graph=True)
    once = many.weight_hh.grad.clone()
    output.backward()
    torch.testing.assert_close(many.weight_hh.grad, 2 * once)


def test_states_are_in_the_order_read():
    many = ManyLSTMs(2, 1, 3)
    inputs = torch.randn(4, 6, 2, 1)
    states, outputs = many.read(inputs), many(inputs)
    assert states.shape == (2, 2, 6, 4, 3)
    for e in range(2):
        torch.testing.assert_close(states[e, 0].transpose(0, 1), outputs[:, :, e, :3])
        torch.testing.assert_close(states[e, 1].flip(0).transpose(0, 1), outputs[:, :, e, 3:])


def test_without_gradients_the_outputs_are_the_same_and_keep_nothing():
    many = ManyLSTMs(2, 1, 3)
    inputs = torch.randn(4, 6, 2, 1)
    with torch.no_grad():
        quiet = many(inputs)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, many(inputs), rtol=0, atol=0)


def test_weights_go_to_torch_and_back():
    many = ManyLSTMs(3, 2, 4)
    back = from_lstms(list(to_lstms(many)))
    for name in NAMES:
        assert torch.equal(getattr(back, name), getattr(many, name))
    assert not torch.equal(many.weight_hh[0], many.weight_hh[1])


def test_bfloat16_weights_are_computed_in_float32():
    exact = from_lstms(plain_lstms(2, 1, 4, torch.float32))
    narrow = from_lstms(list(to_lstms(exact))).to(torch.bfloat16)
    inputs = torch.randn(3, 50, 2, 1)
    got = narrow(inputs)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(
        got.float(), narrow.float()(inputs), rtol=0, atol=2**-8
    )  # but for the rounding at the end
    narrow.to(torch.bfloat16)(inputs).float().square().sum().backward()
    assert narrow.weight_hh.grad is not None
    assert narrow.weight_hh.grad.dtype == torch.bfloat16
    assert narrow.weight_hh.grad.isfinite().all()


def test_autocast_changes_nothing():
    many = ManyLSTMs(2, 1, 3)
    inputs = torch.randn(2, 5, 2, 1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = many(inputs)
    torch.testing.assert_close(inside, many(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 5, 3, 1), (2, 5, 2, 2), (2, 5, 2)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[rows, steps, 2, 1\]"):
        ManyLSTMs(2, 1, 3)(torch.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same():
    many = ManyLSTMs(3, 1, 4).double()
    inputs = torch.randn(2, 13, 3, 1, dtype=torch.float64)
    outputs = many(inputs)
    outputs.square().sum().backward()
    there = from_lstms(list(to_lstms(many))).cuda()
    on_gpu = there(inputs.cuda())
    on_gpu.square().sum().backward()
    torch.testing.assert_close(on_gpu.cpu(), outputs, rtol=0, atol=1e-10)
    torch.testing.assert_close(there.weight_hh.grad.cpu(), many.weight_hh.grad, rtol=0, atol=1e-10)
