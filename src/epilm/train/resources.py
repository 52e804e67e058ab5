"""Whether a Ray that is started here can hold the workers."""

from __future__ import annotations

import os

import ray
import torch

from epilm.errors import RecipeError
from epilm.session import RayConfig
from epilm.train.recipe import TrainConfig


def check_resources(config: TrainConfig, ray_config: RayConfig) -> None:
    """A local Ray cannot grow: workers that do not fit would wait for ever."""
    if ray_config.address != "local" or ray.is_initialized():
        return
    have = ray_config.num_cpus or 2 * (os.cpu_count() or 1)
    need = config.allowed_workers[0] * config.cpus_per_worker + 1
    if need > have:
        raise RecipeError(
            f"train.num_workers={config.num_workers} x train.cpus_per_worker={config.cpus_per_worker:g} and one CPU for the "
            f"data need {need:g} CPUs; the local Ray has {have}. Use fewer workers, or set ray.num_cpus={int(-(-need // 1))}."
        )
    if config.use_gpu and torch.cuda.device_count() < config.allowed_workers[0]:
        raise RecipeError(
            f"train.use_gpu needs a GPU for each of {config.allowed_workers[0]} workers; this machine has "
            f"{torch.cuda.device_count()}. Use fewer workers, train.use_gpu=false, or a cluster (ray.address)."
        )
