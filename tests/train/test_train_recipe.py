"""Settings that contradict each other are refused with what would do; accumulation is derived."""

from __future__ import annotations

import pytest

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.session import RayConfig
from epilm.train.pretrain import check_pretrain
from epilm.train.recipe import PretrainRecipe, TrainConfig
from epilm.train.resources import check_resources


def raw(train: dict[str, object] | None = None, **changes: object) -> dict[str, object]:
    return {
        "name": "toy",
        "task": {"corpus": "runs/none"},
        "train": {"steps": 10, "global_batch": 24} | (train or {}),
    } | changes


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"global_batch": 25}, r"global_batch=25 is not a multiple of train\.num_workers=2\. Try 24 or 26"),
        ({"global_batch": 20, "num_workers": [2, 4]}, r"num_workers=3\. Try 12 or 24"),
        ({"optimizer": {"warmup_steps": 11}}, r"optimizer\.warmup_steps=11 exceeds steps=10"),
        ({"num_workers": 0}, r"train\.num_workers: must be at least 1"),
        ({"num_workers": [3, 2]}, r"train\.num_workers: must be at least 1, or \[min, max\]"),
        ({"steps": 0}, r"train\.steps"),
        ({"zero_stage": 4}, r"train\.zero_stage"),
        ({"micro_batches": 4}, r"train\.micro_batches: unknown setting\. Did you mean 'micro_batch'\?"),
        ({"optimizer": {"schedule": "step"}}, r"train\.optimizer\.schedule.*'linear', 'cosine' or 'constant'"),
    ],
)
def test_wrong_settings_are_explained(train: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(PretrainRecipe, raw(train))


@pytest.mark.parametrize(
    ("workers", "micro_batch", "exact", "expected"),
    [
        (1, 32, (1,), (24, 1)),
        (1, 10, (1,), (8, 3)),
        (2, 5, (1,), (4, 3)),
        (3, 8, (1,), (8, 1)),
        (3, 7, (1,), (4, 2)),
        (24, 8, (1,), (1, 1)),
        (1, 1, (1,), (1, 24)),
        (1, 32, (1, 2, 3, 4), (2, 12)),
        (3, 32, (1, 2, 3, 4), (2, 4)),
        (1, 32, (1, 2, 5), (12, 2)),  # 5 does not divide 24
        (8, 32, (1, 3), (1, 3)),
        (6, 32, (1, 16), (4, 1)),
    ],
)
def test_accumulation_is_derived(workers: int, micro_batch: int, exact: tuple, expected: tuple[int, int]) -> None:
    config = TrainConfig(steps=1, global_batch=24, micro_batch=micro_batch, num_workers=workers, exact_workers=exact)
    assert (config.micro_batch_for(workers), config.accumulation_for(workers)) == expected
    assert config.micro_batch_for(workers) * config.accumulation_for(workers) * workers == 24


@pytest.mark.parametrize("batch", [12, 24, 60, 96, 8192])
def test_exact_workers_cut_a_batch_alike(batch: int) -> None:
    """With dropout the curve depends on the cut; the default makes it one for 1 to 4 workers."""
    config = TrainConfig(steps=1, global_batch=batch, num_workers=1)
    sizes = {config.micro_batch_for(w) for w in (1, 2, 3, 4) if batch % w == 0}
    assert len(sizes) == 1
    assert sizes.pop() >= min(config.micro_batch, batch // 12)


def test_allowed_workers() -> None:
    assert list(TrainConfig(steps=1, global_batch=24).allowed_workers) == [2]
    assert list(TrainConfig(steps=1, global_batch=24, num_workers=(1, 4)).allowed_workers) == [1, 2, 3, 4]


def test_identity_holds_what_decides_the_numbers() -> None:
    """A run goes on elsewhere with other workers, but not with another learning rate."""
    identity = parse_recipe(PretrainRecipe, raw()).identity()
    same = parse_recipe(
        PretrainRecipe,
        raw(
            {"num_workers": 3, "zero_stage": 3, "checkpoint_every_steps": 5}, storage="/elsewhere", ray={"num_cpus": 9}
        ),
    )
    assert same.identity() == identity
    moved = parse_recipe(PretrainRecipe, raw(task={"corpus": "/elsewhere/none"}))
    assert moved.identity() == identity
    for change in ({"steps": 11}, {"global_batch": 48}, {"optimizer": {"lr": 1e-3}}, {"bf16": True}):
        assert parse_recipe(PretrainRecipe, raw(change)).identity() != identity, change
    assert parse_recipe(PretrainRecipe, raw(seed=1)).identity() != identity
    assert parse_recipe(PretrainRecipe, raw(task={"corpus": "runs/none", "alpha": 0.4})).identity() != identity


def test_absent_corpus_is_refused_before_ray_starts(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no corpus at .*none: it does not exist"):
        check_pretrain(parse_recipe(PretrainRecipe, raw(task={"corpus": str(tmp_path / "none")})))


def test_a_local_ray_without_the_gpus_is_refused_before_it_waits(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    config = TrainConfig(steps=1, global_batch=24, num_workers=2, use_gpu=True)
    with pytest.raises(ValueError, match=r"a GPU for each of 2 workers; this machine has 1"):
        check_resources(config, RayConfig(num_cpus=8))
    check_resources(config, RayConfig(address="10.0.0.1:6379"))
