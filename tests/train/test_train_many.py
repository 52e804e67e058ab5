"""Trainings that share workers: same weights as alone, through a killed worker, and kept when they are done."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
import ray.cloudpickle
import safetensors.torch
import torch

from epilm.errors import RecipeError
from epilm.storage import Location
from epilm.tasks.expression_model import DeepDiffModel
from epilm.tasks.expression_recipe import DeepDiffShape
from epilm.tasks.expression_regression import ExpressionTask
from epilm.train.many import TrainJob, train_all
from epilm.train.recipe import TrainConfig

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
sys.path.append(str(Path(__file__).parents[1] / "tasks"))

pytestmark = [pytest.mark.ray, pytest.mark.training]

CONFIG = TrainConfig(steps=6, global_batch=5, micro_batch=5, num_workers=1, eval_every_steps=2, log_every_steps=2)


@dataclass(frozen=True)
class Killed(ExpressionTask):
    """Its worker is killed once, in the middle of its run."""

    marker: str = ""

    def collate(self, table):
        if table.num_rows == 5 and table.column("position")[0].as_py() == 20 and not os.path.exists(self.marker):
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().collate(table)


@dataclass(frozen=True)
class Refused(ExpressionTask):
    def collate(self, table):
        raise RecipeError("this gene is not as it should be.")


def weights(job: TrainJob) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file((job.model / "model.safetensors").path)


@pytest.fixture(scope="module")
def trained(ray_local, tmp_path_factory):
    from toy_genes import MARKS, toy_table

    folder = Location(str(tmp_path_factory.mktemp("many")))
    table, _ = toy_table(folder)
    model = DeepDiffModel(DeepDiffShape(bin_hidden=3, mark_hidden=2), "raw_d", MARKS)

    def job(name: str, task: ExpressionTask) -> TrainJob:
        return TrainJob(name, task, CONFIG, folder / name, f"of {name}")

    jobs = [
        job("plain", ExpressionTask(table, model, 7, None)),
        job("killed", Killed(table, model, 7, None, marker=str(Path(folder.path) / "killed"))),
        job("other", ExpressionTask(table, model, 8, None)),
    ]
    done = {job.name: result for job, result in train_all(jobs, max_concurrent=1)}
    refused = job("refused", Refused(table, model, 7, None))
    with pytest.raises(RecipeError, match="not as it should be"):
        list(train_all([*jobs, refused], max_concurrent=2))
    return jobs, done


def test_each_training_is_its_own(trained):
    jobs, done = trained
    assert list(done) == ["plain", "killed", "other"]
    plain, other = weights(jobs[0]), weights(jobs[2])
    assert any(not torch.equal(plain[name], other[name]) for name in plain)
    for job in jobs:
        assert job.finished is not None
        assert "checkpoints" not in job.folder.children()
        assert done[job.name]["best_step"] in (2, 4, 6)


def test_a_killed_worker_changes_nothing(trained):
    jobs, done = trained
    assert (Location(jobs[1].task.marker)).exists(), "nothing was killed"
    plain, killed = weights(jobs[0]), weights(jobs[1])
    for name, value in plain.items():
        torch.testing.assert_close(killed[name], value, atol=1e-6, rtol=1e-5)
    assert done["killed"]["best"]["pearson"] == pytest.approx(done["plain"]["best"]["pearson"], abs=1e-5)


def test_what_is_finished_is_not_trained_again(trained):
    jobs, done = trained
    again = {job.name: result for job, result in train_all(jobs, max_concurrent=1)}
    assert again == done


def test_other_settings_are_another_training(trained):
    jobs, _ = trained
    assert TrainJob("plain", jobs[0].task, CONFIG, jobs[0].folder, "of others").finished is None
