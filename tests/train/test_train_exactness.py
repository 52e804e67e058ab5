"""Same seed, same curve: through SIGKILL, on any number of workers, under every ZeRO stage; and weights that are the engine's.

Trainings of one recipe (60 steps of 12 samples, two layers, dropout on) are compared with each other, with plain PyTorch,
and with the order of samples.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epilm.config import to_yaml
from epilm.corpus.source import WindowSource
from epilm.errors import CheckpointError
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.runs import read_metrics
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.train.checkpoint import CheckpointMeta, check_stage
from epilm.train.engine import build_optimizer
from epilm.train.evaluate import evaluate_set
from epilm.train.ledger import digest_of
from epilm.train.pretrain import pretrain
from epilm.train.recipe import PretrainRecipe
from epilm.train.schedule import learning_rate
from epilm.train.step import run_step, total_loss

pytestmark = pytest.mark.training

STEPS, BATCH, EVERY = 60, 12, 12


def make_recipe(corpus: Location, storage: Path, name: str, *, num_workers: int, zero_stage: int, **train: Any):
    return PretrainRecipe.model_validate(
        {
            "name": name,
            "storage": str(storage),
            "seed": 5,
            "ray": {"num_cpus": 6},
            "task": {
                "corpus": str(corpus),
                "model": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.1},
                "tokens": {"k": 4},
                "reverse_complement": True,
                "evaluation": {"max_windows": 30},
            },
            "train": {
                "steps": STEPS,
                "global_batch": BATCH,
                "num_workers": num_workers,
                "exact_workers": [1, 2, 3],
                "zero_stage": zero_stage,
                "threads_per_worker": 1,
                "optimizer": {"lr": 3e-3, "warmup_steps": 5},
                "checkpoint_every_steps": EVERY,
                **train,
            },
        }
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def one_worker(tiny_corpus, storage):
    recipe = make_recipe(tiny_corpus, storage, "one-worker", num_workers=1, zero_stage=1)
    pretrain(recipe)
    return recipe


@pytest.fixture(scope="module")
def two_workers(tiny_corpus, storage):
    recipe = make_recipe(tiny_corpus, storage, "two-workers", num_workers=2, zero_stage=2)
    pretrain(recipe)
    return recipe


@pytest.fixture(scope="module")
def killed(tiny_corpus, storage):
    """The two-worker run in a process group of its own, killed with SIGKILL between two checkpoints."""
    recipe = make_recipe(tiny_corpus, storage, "killed", num_workers=2, zero_stage=2)
    path = storage / "killed.yaml"
    path.write_text(to_yaml(recipe))
    command = [sys.executable, "-m", "epilm.cli", "pretrain", str(path)]
    # Ray asks its workers for news every two seconds; a run this short would be over before a checkpoint is registered
    environment = {**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1"}
    with open(storage / "killed.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    folder, deadline = Location(str(storage)) / "killed", time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        steps = [r["step"] for r in read_metrics(folder) if r["kind"] == "train"]
        if registered(folder) and steps and steps[-1] % EVERY > 3:
            break
        time.sleep(0.02)
    alive = process.poll() is None
    kill_session(process.pid)
    process.wait()
    assert alive, (storage / "killed.log").read_text()[-3000:]
    done = [r["step"] for r in read_metrics(folder) if r["kind"] == "train"]
    assert EVERY < done[-1] < STEPS
    return recipe


def registered(folder: Location) -> list[str]:
    """Checkpoints that Ray knows of; the folder of one that it does not yet know of counts for nothing."""
    try:
        snapshot = json.loads(Path(folder.path, "checkpoints", "checkpoint_manager_snapshot.json").read_text())
    except (OSError, json.JSONDecodeError):  # not there yet, or just being written
        return []
    return [result["checkpoint_dir_name"] for result in snapshot["checkpoint_results"]]


def kill_session(leader: int) -> None:
    """SIGKILL every process of the session that ``leader`` began: driver, workers and their Ray alike."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    members.append(int(entry.name))
            except (OSError, ValueError, IndexError):
                continue
    # Ray's services lead sessions of their own; they end with the driver, whom they watch
    for member in members:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


def records(recipe: PretrainRecipe, kind: str = "train") -> list[dict[str, Any]]:
    return [r for r in read_metrics(Location(recipe.storage) / recipe.name) if r["kind"] == kind]


def column(recipe: PretrainRecipe, name: str) -> np.ndarray:
    """A figure of every step. A resumed run writes the steps after its checkpoint again: they must be there once."""
    steps = [r["step"] for r in records(recipe)]
    assert steps == list(range(1, STEPS + 1))
    return np.array([r[name] for r in records(recipe)])


def expected_digests(recipe: PretrainRecipe) -> list[str]:
    """The ledger from the order of samples alone, without reading a row."""
    source = MaskedEpigenomeTask(recipe.task, recipe.seed).train_source()
    assert isinstance(source, WindowSource)
    digests = []
    for step in range(STEPS):
        found = source.order.locate(np.arange(step * BATCH, (step + 1) * BATCH))
        cell = np.array(source.cells)[found.cell]
        digests.append(f"{digest_of(cell, found.locus, found.position) & (2**64 - 1):016x}")
    return digests


@pytest.fixture(scope="module")
def resumed(killed, storage):
    """A copy of the killed run first, then the run itself resumed."""
    shutil.copytree(storage / "killed", storage / "three-workers")
    resume(killed)
    return killed


def resume(recipe: PretrainRecipe) -> None:
    """Resume, and make sure that it went on from a checkpoint instead of beginning anew."""
    lines: list[str] = []
    pretrain(recipe, on_existing="resume", progress=lines.append)
    assert any(line.startswith("training from the checkpoint at step ") for line in lines), lines


def test_a_killed_run_resumes_to_the_same_losses(resumed, two_workers):
    difference = np.abs(column(resumed, "loss") - column(two_workers, "loss")).max()
    assert difference == 0.0
    assert np.abs(column(resumed, "grad_norm") - column(two_workers, "grad_norm")).max() == 0.0


def test_the_ledger_is_the_order_nothing_lost_or_repeated(resumed, two_workers, one_worker):
    expected = expected_digests(two_workers)
    for recipe in (two_workers, resumed, one_worker):
        assert column(recipe, "samples_digest").tolist() == expected
    assert len(set(expected)) == STEPS


def test_a_checkpoint_resumes_on_another_number_of_workers(resumed, one_worker, tiny_corpus, storage):
    recipe = make_recipe(tiny_corpus, storage, "three-workers", num_workers=3, zero_stage=1)
    resume(recipe)
    assert [r["num_workers"] for r in records(recipe)].count(3) >= STEPS - 2 * EVERY
    np.testing.assert_allclose(column(recipe, "loss"), column(one_worker, "loss"), rtol=0, atol=1e-5)
    assert column(recipe, "samples_digest").tolist() == expected_digests(recipe)


def test_zero_3_has_the_same_curve(one_worker, tiny_corpus, storage):
    """Its resumption on another number of workers is in ``test_train_any_task.py``."""
    recipe = make_recipe(tiny_corpus, storage, "zero-3", num_workers=2, zero_stage=3)
    pretrain(recipe)
    np.testing.assert_allclose(column(recipe, "loss"), column(one_worker, "loss"), rtol=0, atol=1e-5)
    check_weights(recipe)


@pytest.mark.parametrize(("written", "wanted", "allowed"), [(2, 3, "1 or 2"), (1, 3, "1 or 2"), (3, 1, "=3")])
def test_a_checkpoint_does_not_enter_or_leave_zero_3(written, wanted, allowed):
    meta = CheckpointMeta(12, num_workers=2, zero_stage=written, recipe_fingerprint="", data_fingerprint="")
    with pytest.raises(CheckpointError, match=rf"train\.zero_stage={wanted}.*step 12.*Resume with .*{allowed}"):
        check_stage(meta, wanted)


def test_one_and_two_workers_have_the_same_losses(one_worker, two_workers):
    np.testing.assert_allclose(column(two_workers, "loss"), column(one_worker, "loss"), rtol=0, atol=1e-5)
    for ours, theirs in zip(records(two_workers, "eval"), records(one_worker, "eval"), strict=True):
        assert ours["set"] == theirs["set"]
        assert ours["state_loss"] == pytest.approx(theirs["state_loss"], abs=1e-5)


def test_learning_happens(one_worker):
    loss = column(one_worker, "loss")
    assert loss[-10:].mean() < loss[:10].mean() - 0.2


def test_the_curve_is_that_of_plain_pytorch(one_worker):
    """No Ray, no DeepSpeed: the task's rows by position, gradients summed over micro-batches, AdamW."""
    task = MaskedEpigenomeTask(one_worker.task, one_worker.seed)
    config = one_worker.train
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    model = task.build_model().train()
    optimizer = build_optimizer(model, config.optimizer, fused=False)
    source, losses = task.train_source(), []
    for step in range(20):
        batch = task.collate(source.read(np.arange(step * BATCH, (step + 1) * BATCH)))
        optimizer.zero_grad()
        totals = run_step(
            task,
            model,
            batch,
            Moment(step=0, steps=10, state={}),
            micro_batch=config.micro_batch_for(1),
            backward=lambda loss: loss.backward(),
            all_reduce=lambda t: t,
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, step, config.steps)
        optimizer.step()
        losses.append(total_loss(task, totals))
    torch.set_num_threads(threads)
    np.testing.assert_allclose(losses, column(one_worker, "loss")[:20], rtol=0, atol=2e-5)


def check_weights(recipe: PretrainRecipe) -> None:
    """The saved model gives the losses that the engine's own fp32 weights gave at the last evaluation."""
    task = MaskedEpigenomeTask(recipe.task, recipe.seed)
    folder = Location(recipe.storage) / recipe.name
    model = EbertForPreTraining.from_pretrained((folder / "model").path).eval()
    last = {r["set"]: r for r in records(recipe, "eval") if r["step"] == STEPS}
    assert set(last) == {"held_out_contigs", "held_out_cell_types", "held_out_both"}
    for name, samples in task.eval_sets(final=True).items():
        metrics = evaluate_set(
            task,
            model,
            samples,
            batch_rows=4,
            rank=0,
            num_workers=1,
            device=torch.device("cpu"),
            all_reduce=lambda tensor: tensor,
        )
        for figure in ("dna_loss", "state_loss", "state_accuracy", "copy_state_accuracy", "unigram_dna_loss"):
            assert metrics[figure] == pytest.approx(last[name][figure], abs=2e-6), (name, figure)


def test_saved_weights_are_the_engines(one_worker, two_workers):
    check_weights(one_worker)  # ZeRO 1
    check_weights(two_workers)  # ZeRO 2; ZeRO 3 has a test of its own


def test_a_checkpoint_of_another_recipe_is_refused(two_workers, tiny_corpus, storage):
    other = make_recipe(
        tiny_corpus, storage, "two-workers", num_workers=2, zero_stage=2, optimizer={"lr": 1e-3, "warmup_steps": 5}
    )
    with pytest.raises(CheckpointError, match="recipe fingerprint"):
        pretrain(other, on_existing="resume")
