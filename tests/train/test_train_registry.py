"""Checkpoints in a training's own folder: the last and the best stay, and a torn one is never taken."""

import pytest
import torch.distributed as dist

from epilm.storage import Location
from epilm.train.registry import SCORE, FolderRegistry


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    place = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def registry(tmp_path) -> FolderRegistry:
    return FolderRegistry(Location(str(tmp_path / "checkpoints")).mkdir(), rank=0)


def written(tmp_path, step: int) -> str:
    folder = tmp_path / f"local-{step}"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "weights.pt").write_text(f"weights {step}")
    return str(folder)


def names(registry) -> list[str]:
    return [name for name in registry.folder.children() if name.startswith("step-")]


def test_the_last_and_the_best_are_kept(registry, tmp_path):
    assert registry.latest() is None
    for step, score in [(1, 0.2), (2, 0.5), (3, 0.1), (4, 0.3)]:
        registry.register({"step": step, SCORE: score}, written(tmp_path, step))
    assert names(registry) == ["step-000000002", "step-000000004"]
    assert registry.best(scored=True)["metrics"]["step"] == 2
    assert registry.best(scored=False)["metrics"]["step"] == 4
    with registry.latest().as_directory() as folder:
        assert (Location(folder) / "state" / "weights.pt").read_text() == "weights 4"
    with registry.checkpoint(registry.best(scored=True)).as_directory() as folder:
        assert (Location(folder) / "state" / "weights.pt").read_text() == "weights 2"


def test_a_step_that_is_trained_again_takes_its_place(registry, tmp_path):
    registry.register({"step": 1, SCORE: 0.2}, written(tmp_path, 1))
    (tmp_path / "local-1" / "state" / "weights.pt").write_text("again")
    registry.register({"step": 1, SCORE: 0.2}, str(tmp_path / "local-1"))
    assert len(registry.entries) == 1
    with registry.latest().as_directory() as folder:
        assert (Location(folder) / "state" / "weights.pt").read_text() == "again"


def test_a_checkpoint_that_was_not_registered_is_not_taken(registry, tmp_path):
    registry.register({"step": 1, SCORE: 0.2}, written(tmp_path, 1))
    (registry.folder / "step-000000002" / "state").mkdir()  # a kill before all had written
    with registry.latest().as_directory() as folder:
        assert (Location(folder) / "state" / "weights.pt").read_text() == "weights 1"
