"""The step, without Ray and DeepSpeed: normalised by what the whole batch scores, however it is cut; and it learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from toy_task import ToySource, ToyTask

from epilm.masking.contract import Moment
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.protocol import Prepared
from epilm.tasks.recipe import MaskedEpigenomeConfig
from epilm.train.engine import build_optimizer
from epilm.train.evaluate import evaluate_set
from epilm.train.recipe import OptimizerConfig
from epilm.train.step import run_step, split_batch, total_loss

ROWS = 24


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small run faster on one thread than on several that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class UnevenTask(ToyTask):
    """Scores only the rows whose position is a multiple of 5: micro-batches differ in what they score, some have none."""

    def prepare(self, batch, moment):
        scored = batch["position"] % 5 == 0
        inputs = {"x": batch["x"][scored], "y": batch["y"][scored]}
        return Prepared(inputs, {"rows": scored.sum()}, len(scored), len(scored))


def rows_of(task: ToyTask, first: int = 0, last: int = ROWS) -> dict[str, torch.Tensor]:
    return task.collate(ToySource(task.seed).read(np.arange(first, last)))


def gradients(task: ToyTask, batch, *, micro_batch: int, all_reduce=lambda t: t):
    """(totals, gradient as one vector) of one step."""
    torch.manual_seed(1)
    model = task.build_model().train()
    totals = run_step(
        task,
        model,
        batch,
        Moment(step=0, steps=10, state={}),
        micro_batch=micro_batch,
        backward=lambda loss: loss.backward(),
        all_reduce=all_reduce,
    )
    return totals, torch.cat([p.grad.flatten() for p in model.parameters()])


def plain_gradient(task: ToyTask, batch, scored: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Mean squared error over the scored rows of the whole batch, by one backward pass of plain PyTorch."""
    torch.manual_seed(1)
    model = task.build_model().eval()
    loss = torch.nn.functional.mse_loss(model(batch["x"][scored]), batch["y"][scored])
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 8, 24])
def test_any_accumulation_is_the_plain_full_batch(micro_batch: int) -> None:
    task = ToyTask(dropout=0.0)
    batch = rows_of(task)
    loss, gradient = plain_gradient(task, batch, torch.ones(ROWS, dtype=torch.bool))
    totals, found = gradients(task, batch, micro_batch=micro_batch)
    assert total_loss(task, totals) == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6)
    assert totals.counts == {"rows": ROWS}
    assert totals.num_tokens == ROWS


@pytest.mark.parametrize("micro_batch", [2, 4, 6, 24])
def test_what_is_scored_in_the_whole_batch_normalises_every_part(micro_batch: int) -> None:
    """A mean of the micro-batches' means would be another number."""
    task = UnevenTask(dropout=0.0)
    batch = rows_of(task)
    loss, gradient = plain_gradient(task, batch, batch["position"] % 5 == 0)
    totals, found = gradients(task, batch, micro_batch=micro_batch)
    assert totals.counts == {"rows": 5}
    assert total_loss(task, totals) == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6)


def test_a_batch_without_anything_scored_is_no_error() -> None:
    task = UnevenTask(dropout=0.0)
    totals, gradient = gradients(task, rows_of(task, 1, 5), micro_batch=2)
    assert total_loss(task, totals) == 0
    assert not gradient.any()


def test_dropout_belongs_to_the_samples() -> None:
    """Two workers with half of the rows each draw what one with all of them draws, whatever else was drawn before."""
    task = ToyTask(dropout=0.5)
    batch = rows_of(task)
    _, whole = gradients(task, batch, micro_batch=4)
    halves = [{k: v[i : i + 12] for k, v in batch.items()} for i in (0, 12)]
    parts = []
    for half in halves:
        torch.rand(17)
        parts.append(gradients(task, half, micro_batch=4, all_reduce=lambda t: 2 * t)[1])  # both halves score 12 rows
    torch.testing.assert_close(parts[0] + parts[1], whole, rtol=1e-5, atol=1e-6)
    _, no_dropout = gradients(ToyTask(dropout=0.0), batch, micro_batch=4)
    assert not torch.allclose(whole, no_dropout, rtol=1e-2)


def test_split_batch_views_the_same_memory() -> None:
    batch = {"a": torch.arange(10), "b": torch.arange(20).view(10, 2)}
    parts = split_batch(batch, 4)
    assert [len(part["a"]) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part["b"] for part in parts]), batch["b"])
    parts[1]["a"][0] = -1
    assert batch["a"][4] == -1


def test_decay_on_matrices_alone() -> None:
    model = ToyTask().build_model()
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.1), fused=False)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "layers.0.weight": 0.1,
        "layers.0.bias": 0.0,
        "layers.3.weight": 0.1,
        "layers.3.bias": 0.0,
    }


@pytest.mark.parametrize(("workers", "batch_rows"), [(1, 17), (1, 4), (2, 4), (3, 2), (3, 8)])
def test_evaluation_does_not_depend_on_the_workers(workers: int, batch_rows: int) -> None:
    """17 samples: some ranks have none left in the last round, yet every rank makes the same number of passes."""
    task = ToyTask(dropout=0.5)
    samples = task.eval_sets(final=True)["held_out"]
    torch.manual_seed(1)
    model = task.build_model()
    whole = task.collate(samples.read(np.arange(17)))
    expected = torch.nn.functional.mse_loss(model.eval()(whole["x"]), whole["y"]).item()
    totals: list[torch.Tensor] = []
    passes: list[int] = []
    for rank in range(workers):
        parts: list[torch.Tensor] = []
        calls: list[int] = []
        hook = model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        evaluate_set(
            task,
            model,
            samples,
            batch_rows=batch_rows,
            rank=rank,
            num_workers=workers,
            device=torch.device("cpu"),
            all_reduce=lambda t, parts=parts: parts.append(t) or t,  # pyright: ignore[reportArgumentType]
        )
        hook.remove()
        totals.append(torch.cat(parts))
        passes.append(len(calls))
    squared_error, rows = torch.stack(totals).sum(dim=0).tolist()
    assert rows == 17
    assert squared_error / rows == pytest.approx(expected, rel=1e-6)
    assert len(set(passes)) == 1
    assert model.training


@pytest.mark.ray
def test_one_batch_can_be_overfitted(tiny_corpus: Location) -> None:
    """Two layers of 32 learn by heart what is hidden in eight samples: k-mers and states."""
    size = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.0}
    settings = {"corpus": str(tiny_corpus), "model": size, "tokens": {"k": 4}}
    task = MaskedEpigenomeTask(MaskedEpigenomeConfig.model_validate(settings), seed=1)
    batch = task.collate(task.train_source().read(np.arange(8)))
    torch.manual_seed(0)
    model = task.build_model().train()
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.0), fused=False)
    losses = []
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 10)
        optimizer.zero_grad()
        totals = run_step(
            task,
            model,
            batch,
            Moment(step=0, steps=10, state={}),
            micro_batch=4,
            backward=lambda loss: loss.backward(),
            all_reduce=lambda t: t,
        )
        optimizer.step()
        losses.append(total_loss(task, totals))
    assert losses[0] > 3
    assert losses[-1] < 0.1
    last = task.summarise(totals.sums, totals.counts)
    assert last["dna_accuracy"] > 0.97
    assert last["state_accuracy"] == 1.0
    assert last["majority_state_accuracy"] < 1.0
