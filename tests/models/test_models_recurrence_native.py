"""The compiled recurrences: torch's LSTMs in outputs and gradients, and what is taken where they cannot be built."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from epilm.models import recurrence_native
from epilm.models.many_lstms import run_recurrences

SHAPES = [  # recurrences, steps, rows, inputs, hidden
    (1, 1, 1, 1, 1),
    (2, 7, 1, 1, 16),
    (3, 50, 10, 1, 32),  # rows of two tiles, steps of several stretches
    (2, 161, 1, 2, 5),
    (2, 15, 7, 64, 16),
    (2, 3, 13, 17, 40),
    (1, 2, 200, 3, 33),  # a step longer than a stretch
]


@pytest.fixture
def kernel():
    operators = recurrence_native.kernel()
    if operators is None:
        pytest.skip("the kernel cannot be built here")
    return operators


@pytest.fixture
def forgotten():
    """Builds are looked for anew in the test, and after it."""
    recurrence_native._loaded.cache_clear()
    yield
    recurrence_native._loaded.cache_clear()


def drawn(recurrences: int, steps: int, rows: int, inputs: int, hidden: int) -> list[Tensor]:
    """Inputs, input weights, recurrent weights and biases, all with gradients."""
    torch.manual_seed(steps + hidden)
    shapes = (recurrences, 4 * hidden, inputs), (recurrences, 4 * hidden, hidden), (recurrences, 4 * hidden)
    weights = [torch.empty(shape).uniform_(-(hidden**-0.5), hidden**-0.5) for shape in shapes]
    return [part.requires_grad_() for part in (torch.randn(recurrences, steps, rows, inputs), *weights)]


def by_torch(inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Hidden states and gradients of their weighted sum, by ``torch.nn.LSTM`` in float64, a recurrence at a time."""
    states, grads = [], []
    for each in zip(inputs, weight_ih, weight_hh, bias, strict=True):
        lstm = torch.nn.LSTM(inputs.shape[-1], weight_hh.shape[-1], dtype=torch.float64)
        read, w_ih, w_hh, b = (part.detach().double() for part in each)
        with torch.no_grad():
            for name, value in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), (w_ih, w_hh, b), strict=True):
                getattr(lstm, name).copy_(value)
            lstm.bias_hh_l0.zero_()
        read.requires_grad_()
        state, _ = lstm(read)
        (state * towards(state.shape)).sum().backward()
        states.append(state.detach())
        grads.append([read.grad, lstm.weight_ih_l0.grad, lstm.weight_hh_l0.grad, lstm.bias_ih_l0.grad])
    return torch.stack(states), [torch.stack(part) for part in zip(*grads, strict=True)]


def towards(shape: torch.Size) -> Tensor:
    """What the states [..., T, N, H] are weighted by: the same for every recurrence."""
    return torch.cos(torch.arange(shape[-3:].numel(), dtype=torch.float64)).view(shape[-3:])


def far(got: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((got.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


@pytest.mark.parametrize("path", ["kernel", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_paths_are_torchs_lstm(shape, path, monkeypatch, kernel):
    monkeypatch.setenv(recurrence_native.SWITCH, "1" if path == "kernel" else "0")
    parts = drawn(*shape)
    states = run_recurrences(*parts)
    assert (type(states.grad_fn).__name__ == "NativeRecurrenceBackward") == (path == "kernel")
    (states * towards(states.shape)).sum().backward()
    wanted, grads = by_torch(*parts)
    assert far(states.detach(), wanted) < 2e-6
    for part, grad in zip(parts, grads, strict=True):
        assert far(part.grad, grad) < 1e-5


def test_without_gradients_of_the_inputs(kernel):
    parts = drawn(2, 20, 3, 2, 8)
    quiet = [parts[0].detach(), *(part.detach().requires_grad_() for part in parts[1:])]
    for given in (parts, quiet):
        run_recurrences(*given).square().sum().backward()
    assert quiet[0].grad is None
    for got, wanted in zip(quiet[1:], parts[1:], strict=True):
        assert torch.equal(got.grad, wanted.grad)


def test_values_that_lie_apart_in_memory(kernel):
    inputs, *weights = (part.detach() for part in drawn(4, 6, 5, 3, 16))
    apart = inputs.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not apart.is_contiguous()
    assert torch.equal(run_recurrences(apart, *weights), run_recurrences(inputs, *weights))


def test_gates_over_the_whole_range_of_float32(kernel):
    """One step from zero: o tanh(i tanh(g)), for gates' sums between nothing and far beyond saturation."""
    torch.manual_seed(0)
    sizes = 10 ** torch.empty(2000, 4, 1).uniform_(-6, 1.9)
    sums = torch.where(torch.rand_like(sizes) < 0.5, -sizes, sizes)
    zeros = torch.zeros(2000, 4, 1)
    got = run_recurrences(torch.zeros(2000, 1, 1, 1), zeros, zeros, sums.flatten(1)).flatten().double()
    i, _, g, o = sums.double().flatten(1).unbind(1)
    wanted = o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()
    assert wanted.abs().min() < 1e-30
    torch.testing.assert_close(got, wanted, rtol=2e-6, atol=1e-37)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_infinite_inputs_saturate_and_nan_stays(bad, kernel, monkeypatch):
    inputs, *weights = (part.detach() for part in drawn(1, 3, 2, 1, 4))
    inputs[0, 1, 0] = bad
    got = run_recurrences(inputs, *weights)
    monkeypatch.setenv(recurrence_native.SWITCH, "0")
    torch.testing.assert_close(got, run_recurrences(inputs, *weights), rtol=1e-5, atol=1e-6, equal_nan=True)
    assert got[0, 1:, 0].isnan().all() == (bad != bad)
    assert got[0, :, 1].isfinite().all()


def test_memory_of_a_living_graph_is_not_used_again(kernel):
    shape = (4, 100, 40, 1, 16)  # large enough that its memory is used again
    first, second = drawn(*shape), drawn(*shape)
    run_recurrences(*first).square().sum().backward()
    wanted = [part.grad.clone() for part in first[1:]]
    with torch.no_grad():
        second[0].neg_()
    for part in first:
        part.grad = None
    held = [run_recurrences(*parts).square().sum() for parts in (first, second, second, second)]
    run_recurrences(*second).square().sum().backward()
    held[0].backward(retain_graph=True)
    assert all(torch.equal(part.grad, grad) for part, grad in zip(first[1:], wanted, strict=True))
    held[0].backward()
    assert all(torch.equal(part.grad, 2 * grad) for part, grad in zip(first[1:], wanted, strict=True))


def test_two_threads_give_the_same(kernel):
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            parts = drawn(5, 12, 3, 1, 8)
            run_recurrences(*parts).square().sum().backward()
            results.append([part.grad for part in parts])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_other_shapes_are_refused(kernel):
    inputs, weight_ih, weight_hh, bias = (part.detach() for part in drawn(2, 3, 4, 1, 5))
    with pytest.raises(RuntimeError, match="shape"):
        kernel.forward(inputs, weight_ih, weight_hh, bias[:1], False)
    with pytest.raises(RuntimeError, match="float32"):
        kernel.forward(inputs.double(), weight_ih, weight_hh, bias, False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_and_their_path(dtype, kernel):
    parts = [part.detach().to(dtype).requires_grad_() for part in drawn(2, 3, 4, 1, 5)]
    states = run_recurrences(*parts)
    native = type(states.grad_fn).__name__ == "NativeRecurrenceBackward"
    assert native == (dtype == torch.bfloat16)  # computed in float32
    assert states.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("compiler", ["/nowhere/g++", "false"])
def test_without_a_compiler_torchs_operators_are_taken(compiler, tmp_path, monkeypatch, caplog, forgotten):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    parts = drawn(2, 5, 3, 1, 4)
    for _ in range(2):
        states = run_recurrences(*parts)
    assert type(states.grad_fn).__name__ == "_RecurrenceBackward"
    assert far(states.detach(), by_torch(*parts)[0]) < 2e-6
    (line,) = caplog.messages
    assert "torch's operators are taken" in line
    assert compiler in line


def test_the_switch_turns_it_off_without_a_build(tmp_path, monkeypatch, caplog, forgotten):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv(recurrence_native.SWITCH, "0")
    assert recurrence_native.kernel() is None
    assert not list(tmp_path.iterdir())
    assert not caplog.messages


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_several_at_once_compile_once(tmp_path):
    """The compiler here only counts its calls and writes what it was asked for."""
    calls, compiler = tmp_path / "calls", tmp_path / "compile"
    compiler.write_text(f'#!/bin/sh\necho call >> {calls}\nsleep 0.2\nfor last; do :; done\necho made > "$last"\n')
    compiler.chmod(0o755)
    environment = {"CXX": str(compiler), "TORCH_EXTENSIONS_DIR": str(tmp_path / "kept")}
    with ThreadPoolExecutor(4) as pool:
        (made,) = set(pool.map(lambda _: recurrence_native.build(environment), range(4)))
    assert calls.read_text().split() == ["call"]
    assert made.read_text() == "made\n"
    assert made.is_relative_to(tmp_path / "kept")
    assert {path.name for path in made.parent.iterdir()} == {"lock", made.name}
    assert recurrence_native.build({**environment, "CXX": f"{compiler} -O1"}) != made
    made.unlink()
    (made.parent / "tmpkilled").mkdir()  # what a killed build leaves
    assert recurrence_native.build(environment) == made
    assert {path.name for path in made.parent.iterdir()} == {"lock", made.name}
