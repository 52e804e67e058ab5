"""The loop knows only the task protocol: an unrelated toy task trains through it, fails on damaged data, and goes on.

Two trainings: two workers under ZeRO 3 run into damaged data after a checkpoint; once it is mended, one worker ends
the run. The reference is plain PyTorch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_task
from ray import cloudpickle
from toy_task import Damage, ToyTask

from epilm.errors import CorpusError
from epilm.masking.contract import Moment
from epilm.runs import Run, read_metrics
from epilm.storage import Location
from epilm.train.checkpoint import fp32_weights, read_meta
from epilm.train.engine import build_optimizer
from epilm.train.launch import CHECKPOINTS_FOLDER, fit, save_weights
from epilm.train.ledger import digest_of
from epilm.train.recipe import TrainConfig
from epilm.train.schedule import learning_rate
from epilm.train.step import run_step, total_loss

pytestmark = pytest.mark.training
cloudpickle.register_pickle_by_value(toy_task)  # Ray's workers do not have this folder on their path

STEPS, BATCH, DAMAGED_STEP = 12, 24, 8
CONFIG = TrainConfig.model_validate(
    {
        "steps": STEPS,
        "global_batch": BATCH,
        "micro_batch": 4,
        "optimizer": {"lr": 0.05, "warmup_steps": 3, "weight_decay": 0.1},
        "threads_per_worker": 1,
        "checkpoint_every_steps": 4,
        "max_failures": 0,
    }
)


@pytest.fixture(scope="module")
def stopped(ray_local, tmp_path_factory) -> tuple[ToyTask, Run, Path]:
    """A run that met damaged data: the task, its folder, and the file whose absence mends the data."""
    folder = tmp_path_factory.mktemp("any_task")
    run = Run(Location(str(folder / "toy")).mkdir(), resumed=False)
    marker = folder / "damaged"
    marker.touch()
    registered = Path(run.folder.path, CHECKPOINTS_FOLDER, "checkpoint_manager_snapshot.json")
    task = ToyTask(seed=3, damage=Damage(DAMAGED_STEP * BATCH, str(marker), str(registered)))
    with pytest.raises(CorpusError, match=r"^corrupted shard toy-00003.*\n.*last checkpoint is kept in .*/toy"):
        fit(task, CONFIG.model_copy(update={"num_workers": 2, "zero_stage": 3}), run, "recipe")
    return task, run, marker


@pytest.fixture(scope="module")
def finished(stopped):
    """The same run, mended and resumed: the task, its folder, the last checkpoint, the model folder."""
    task, run, marker = stopped
    kept = [r["step"] for r in read_metrics(run.folder)]
    assert 4 <= max(kept) <= DAMAGED_STEP, "it stopped where the damage begins, and had registered a checkpoint"
    marker.unlink()
    lines: list[str] = []
    resumed = CONFIG.model_copy(update={"num_workers": 1, "zero_stage": 3})
    checkpoint, last = fit(task, resumed, run, "recipe", progress=lines.append)
    assert any("from the checkpoint at step" in line for line in lines), lines
    assert last["step"] == STEPS
    model = save_weights(task, checkpoint, run.folder / "model", "recipe")
    return task, run, checkpoint, model


@pytest.fixture(scope="module")
def plain() -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """Losses, gradient norms and weights of plain PyTorch on the same samples."""
    task, optimizer_config = ToyTask(seed=3), CONFIG.optimizer
    torch.manual_seed(task.seed)
    model = task.build_model().train()
    optimizer = build_optimizer(model, optimizer_config, fused=False)
    losses, norms = [], []
    for step in range(STEPS):
        batch = task.collate(task.train_source().read(np.arange(step * BATCH, (step + 1) * BATCH)))
        optimizer.zero_grad()
        totals = run_step(
            task,
            model,
            batch,
            Moment(step=0, steps=10, state={}),
            micro_batch=CONFIG.micro_batch_for(1),
            backward=lambda loss: loss.backward(),
            all_reduce=lambda t: t,
        )
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), optimizer_config.clip_norm)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(optimizer_config, step, STEPS)
        optimizer.step()
        losses.append(total_loss(task, totals))
    return losses, norms, model.state_dict()


def test_the_curve_is_that_of_plain_pytorch(finished, plain) -> None:
    _, run, _, _ = finished
    records = [r for r in read_metrics(run.folder) if r["kind"] == "train"]
    assert [r["step"] for r in records] == list(range(1, STEPS + 1))
    assert {r["num_workers"] for r in records} == {1, 2}
    losses, norms, _ = plain
    np.testing.assert_allclose([r["loss"] for r in records], losses, rtol=1e-5)
    np.testing.assert_allclose([r["grad_norm"] for r in records], norms, rtol=1e-4)
    assert losses[-1] < 0.5 * losses[0]
    assert max(norms) > 1.0, "clipping took effect"


def test_every_sample_was_trained_on_once(finished) -> None:
    task, run, _, _ = finished
    for record in (r for r in read_metrics(run.folder) if r["kind"] == "train"):
        positions = np.arange((record["step"] - 1) * BATCH, record["step"] * BATCH)
        item = positions % task.train_source().samples_per_pass
        assert record["samples_digest"] == f"{digest_of(item, positions) & (2**64 - 1):016x}"


def test_saved_weights_are_the_trained_ones(finished, plain) -> None:
    _, _, checkpoint, model = finished
    saved = torch.load(Path(model.path, "weights.pt"))
    assert json.loads(Path(model.path, "step.json").read_text()) == STEPS
    with checkpoint.as_directory() as folder:
        assert read_meta(folder).step == STEPS
        engine = fp32_weights(folder)
    assert saved.keys() == engine.keys() == plain[2].keys()
    for name, expected in plain[2].items():
        assert saved[name].dtype == torch.float32
        assert torch.equal(saved[name], engine[name])
        torch.testing.assert_close(saved[name], expected, rtol=1e-4, atol=1e-6)


def test_evaluation_of_the_last_step_is_that_of_the_saved_weights(finished) -> None:
    task, run, _, model = finished
    net = task.build_model().eval()
    net.load_state_dict(torch.load(Path(model.path, "weights.pt")))
    batch = task.collate(task.eval_sets(final=True)["held_out"].read(np.arange(17)))
    with torch.no_grad():
        expected = torch.nn.functional.mse_loss(net(batch["x"]), batch["y"]).item()
    last = [r for r in read_metrics(run.folder) if r["kind"] == "eval"][-1]
    assert (last["step"], last["set"], last["num_samples"]) == (STEPS, "held_out", 17)
    assert last["squared_error"] == pytest.approx(expected, rel=1e-6)
