"""Fine-tuning for real: killed, restarted, resumed on other workers and stopped early, against plain PyTorch.

Three trainings of 12 steps of 24 samples, two layers, dropout on; each start of workers costs 25 s, so that they are few.
"""

import dataclasses
from pathlib import Path

import killed_task
import numpy as np
import pytest
import torch
from killed_task import Kill, KilledBinding
from ray import cloudpickle

from epilm.errors import EpilmError
from epilm.masking.contract import Moment
from epilm.models.binding_folder import load_binding, read_binding_info
from epilm.models.folder import read_weights
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.runs import Run, read_metrics
from epilm.storage import Location
from epilm.tasks.binding_recipe import TfBindingConfig
from epilm.tasks.save_model import save_model
from epilm.tasks.tf_binding import VALIDATION, TfBindingTask
from epilm.train.engine import build_optimizer
from epilm.train.evaluate import evaluate_set
from epilm.train.launch import CHECKPOINTS_FOLDER, fit, save_weights
from epilm.train.ledger import digest_of
from epilm.train.recipe import TrainConfig
from epilm.train.schedule import learning_rate
from epilm.train.step import run_step, total_loss

pytestmark = [pytest.mark.ray, pytest.mark.training]
cloudpickle.register_pickle_by_value(killed_task)  # Ray's workers do not have this folder on their path

STEPS, BATCH, EVERY = 12, 24, 4


def task_config(corpus: Location, **changes) -> TfBindingConfig:
    toy = Path(corpus.path).parent / "toy"
    cells = ("blood", "heart", "brain")
    files = {tf: {cell: str(toy / "binding" / f"{cell}.{tf}.bed") for cell in cells} for tf in ("TF1", "TF2")}
    return TfBindingConfig.model_validate(
        {
            "corpus": str(corpus),
            "labels": {"kind": "peaks", "resize_bp": 200, "files": files},
            "encoder": {
                "model": {"kind": "ebert", "hidden_size": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.1},
                "tokens": {"k": 4},
            },
            "adapt": {"layer_decay": 0.5},
            "head": {"conv_channels": [8, 8], "dense_size": 8, "segments": 6},
            "input_bp": 600,
            "split": {"validation_contigs": ["chr2"], "held_out_cell_types": ["brain"]},
            "evaluation": {"max_positives": 30, "max_negatives": 31},
            "early_stop": None,
            **changes,
        }
    )


def train_config(**changes) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "steps": STEPS,
            "global_batch": BATCH,
            "num_workers": 2,
            "exact_workers": [1, 2],
            "threads_per_worker": 1,
            "optimizer": {"lr": 3e-3, "warmup_steps": 2},
            "eval_every_steps": EVERY,
            "max_failures": 1,
            **changes,
        }
    )


def plain(task: TfBindingTask, config: TrainConfig) -> list[float]:
    """Losses of plain PyTorch on the same samples."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    model = task.build_model().train()
    optimizer = build_optimizer(model, config.optimizer, fused=False, rate_factor=task.rate_factor)
    source, losses = task.train_source(), []
    for step in range(config.steps):
        batch = task.collate(source.read(np.arange(step * BATCH, (step + 1) * BATCH)))
        optimizer.zero_grad()
        totals = run_step(
            task,
            model,
            batch,
            Moment(step, config.steps, {}),
            micro_batch=config.micro_batch_for(1),
            backward=lambda loss: loss.backward(),
            all_reduce=lambda tensor: tensor,
        )
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, step, config.steps) * group["rate_factor"]
        optimizer.step()
        losses.append(total_loss(task, totals))
    torch.set_num_threads(threads)
    return losses


def column(run: Run, name: str) -> list:
    records = [r for r in read_metrics(run.folder) if r["kind"] == "train"]
    assert [r["step"] for r in records] == list(range(1, STEPS + 1))
    return [r[name] for r in records]


@pytest.fixture(scope="module")
def restarted(tiny_corpus, tmp_path_factory):
    """Killed in the middle of an epoch at step 6, restarted by Ray from the checkpoint of step 4; on two workers."""
    run = Run(Location(str(tmp_path_factory.mktemp("restarted"))), resumed=False)
    kill = Kill(6, 4, (run.folder / CHECKPOINTS_FOLDER).path)
    task = KilledBinding(task_config(tiny_corpus), 3, kills=(kill,))
    task.check()
    checkpoint, best = fit(task, train_config(), run, "recipe")
    folder = save_weights(task, checkpoint, run.folder / "model", "recipe")
    return task, run, best, folder


def test_a_restarted_run_has_the_curve_of_plain_pytorch(restarted) -> None:
    task, run, _, _ = restarted
    np.testing.assert_allclose(column(run, "loss"), plain(task, train_config()), rtol=0, atol=2e-5)


def test_every_step_saw_the_samples_of_its_positions(restarted) -> None:
    task, run, _, _ = restarted
    for step, digest in enumerate(column(run, "samples_digest")):
        positions = np.arange(step * BATCH, (step + 1) * BATCH)
        bins, cells = task.sampler.locate(positions)
        assert int(digest, 16) == digest_of(bins, np.asarray(task.split.train_cells)[cells], positions) % 2**64


def test_the_result_is_the_best_checkpoint(restarted) -> None:
    """Its weights, loaded as prediction loads them, give the validation figures of the step that was best."""
    task, run, best, folder = restarted
    evaluations = {r["step"]: r for r in read_metrics(run.folder) if r["kind"] == "eval"}
    assert sorted(evaluations) == [4, 8, 12]
    assert best["step"] == max(evaluations, key=lambda step: evaluations[step]["auprc"])
    model = load_binding(folder)
    found = evaluate_set(
        task,
        model,
        task.eval_sets(final=True)[VALIDATION],
        batch_rows=7,
        rank=0,
        num_workers=1,
        device=torch.device("cpu"),
        all_reduce=lambda tensor: tensor,
    )
    expected = evaluations[best["step"]]
    assert found["binding_loss"] == pytest.approx(expected["binding_loss"], abs=2e-6)
    assert found["auprc"] == pytest.approx(expected["auprc"], abs=1e-3)  # a logit may fall into the next step


def test_the_model_tells_what_it_has_seen(restarted) -> None:
    _, _, best, folder = restarted
    info = read_binding_info(folder)
    assert info.provenance.trained_contigs == ("chr1",)
    assert info.provenance.trained_cell_types == ("blood", "heart")
    assert info.provenance.step == best["step"]
    assert info.record.selected_on == ("chr2",)


def pretrained_folder(task: TfBindingTask, folder: Path) -> Path:
    """A model as `epilm pretrain` saves one, with random weights."""
    torch.manual_seed(11)
    state = EbertForPreTraining(task.encoder).state_dict()
    save_model(folder, task.encoder, state, task.manifest, step=7, seed=0, recipe_fingerprint="recipe", initial=None)
    return folder


@pytest.fixture(scope="module")
def low_rank(restarted, tiny_corpus, tmp_path_factory):
    """LoRA on a pre-trained model: dies at step 6 on one worker, goes on with two, stops early."""
    weights = pretrained_folder(restarted[0], tmp_path_factory.mktemp("pretrained"))
    run = Run(Location(str(tmp_path_factory.mktemp("low-rank"))), resumed=False)
    config = task_config(
        tiny_corpus,
        encoder={"pretrained": str(weights), "dropout": 0.1},
        adapt={"mode": "lora", "lora_rank": 2},
        early_stop={"patience": 1, "min_gain": 1.0},
    )
    kill = Kill(6, 4, (run.folder / CHECKPOINTS_FOLDER).path)
    task = KilledBinding(config, 4, kills=(kill,))
    task.check()
    with pytest.raises(EpilmError, match="go on with --resume"):
        fit(task, train_config(num_workers=1, max_failures=0), run, "recipe")
    checkpoint, best = fit(task, train_config(), run, "recipe")
    return task, run, checkpoint, best, weights


def test_low_rank_updates_resume_on_other_workers_and_stop_early(low_rank) -> None:
    task, run, _, best, _ = low_rank
    records = [r for r in read_metrics(run.folder) if r["kind"] == "train"]
    assert [r["step"] for r in records] == list(range(1, 9))  # no gain of 1.0 at step 8: patience 1
    assert best["step"] in (4, 8)
    np.testing.assert_allclose([r["loss"] for r in records], plain(task, train_config())[:8], rtol=0, atol=2e-5)


def test_a_run_that_stopped_early_is_not_trained_on(low_rank) -> None:
    task, run, _, best, _ = low_rank
    before = read_metrics(run.folder)
    _, again = fit(task, train_config(num_workers=1), run, "recipe")
    assert again["step"] == best["step"]
    assert read_metrics(run.folder) == before


def test_low_rank_updates_change_only_their_matrices(low_rank, tmp_path) -> None:
    task, _, checkpoint, _, weights = low_rank
    folder = save_weights(task, checkpoint, Location(str(tmp_path / "model")), "recipe")
    before, after = read_weights(Location(str(weights))), load_binding(folder).state_dict()
    encoder = [name for name in before if name.startswith("ebert.")]
    changed = {name for name in encoder if not torch.equal(before[name], after[name])}
    matrices = {f"{part}.weight" for part in ("query", "value")}
    assert changed
    assert all(name.endswith(tuple(matrices)) for name in changed), changed
    seen = read_binding_info(folder).provenance
    assert seen.initial_weights is not None
    assert seen.trained_cell_types == ("blood", "heart")


def test_a_seed_makes_another_run(restarted) -> None:
    task, _, _, _ = restarted
    other = dataclasses.replace(task, seed=task.seed + 1, kills=())
    assert plain(other, train_config(steps=2)) != plain(dataclasses.replace(task, kills=()), train_config(steps=2))
