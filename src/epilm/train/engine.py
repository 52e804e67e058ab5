"""DeepSpeed around a single-device model: the settings are derived from the recipe, the learning rate is ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from epilm.train.recipe import OptimizerConfig, TrainConfig

os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")


def deepspeed_settings(config: TrainConfig, num_workers: int, *, universal: bool = False) -> dict[str, Any]:
    """DeepSpeed's settings for a world size.

    Stage 1 communicates at the accumulation boundary alone; gradients of bf16 models accumulate in fp32, or a batch of
    thousands would lose small ones. ``universal`` says that the next checkpoint loaded is a universal one.
    """
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": config.micro_batch_for(num_workers),
        "gradient_accumulation_steps": config.accumulation_for(num_workers),
        "gradient_clipping": config.optimizer.clip_norm,
        "zero_optimization": {"stage": config.zero_stage, "overlap_comm": config.use_gpu},
        "zero_allow_untested_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "checkpoint": {"load_universal": universal},
    }
    if config.bf16:
        settings |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return settings


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, *, fused: bool, rate_factor: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.AdamW:
    """AdamW with decay on matrices alone (BERT: none on biases and norms), over the parameters that are trained.

    Args:
        rate_factor: parameter's name -> what its learning rate is multiplied by.
    """
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members.setdefault((rate_factor(name), parameter.ndim >= 2), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": config.weight_decay if is_matrix else 0.0, "rate_factor": factor}
        for (factor, is_matrix), parameters in sorted(members.items(), key=lambda item: item[0], reverse=True)
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


@dataclass
class Engine:
    """A DeepSpeed engine with the few verbs that the loop needs."""

    deepspeed: Any
    num_workers: int
    accumulation: int

    def backward(self, loss: Tensor) -> None:
        """DeepSpeed averages over workers and accumulation; our parts add up to the loss, so undo both."""
        self.deepspeed.backward(loss * (self.num_workers * self.accumulation))
        if not self.deepspeed.is_gradient_accumulation_boundary():
            self.deepspeed.step()  # within an accumulation this only counts the micro-step

    def apply(self, learning_rate: float) -> float:
        """Apply the optimizer at the accumulation boundary; return the norm of the gradient before clipping."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = learning_rate * group["rate_factor"]
        self.deepspeed.step()
        norm = self.deepspeed.get_global_grad_norm()
        return float(norm) if norm is not None else float("nan")


def build_engine(
    model: nn.Module,
    config: TrainConfig,
    *,
    num_workers: int,
    universal: bool = False,
    rate_factor: Callable[[str], float] = lambda name: 1.0,
) -> Engine:
    """Wrap a model that lies on its device; ``torch.distributed`` must be up (Ray Train starts it)."""
    deepspeed = _import_deepspeed()
    fused = next(model.parameters()).is_cuda
    optimizer = build_optimizer(model, config.optimizer, fused=fused, rate_factor=rate_factor)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config=deepspeed_settings(config, num_workers, universal=universal),
        dist_init_required=False if dist.is_initialized() else None,
    )
    if config.compile:
        engine.compile()
    engine.train()
    return Engine(engine, num_workers, config.accumulation_for(num_workers))


def _import_deepspeed() -> Any:
    import logging

    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    if not torch.cuda.is_available():
        # its shared-memory collectives need a compiler and 35 s at the first start; gloo serves a few CPU workers
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_init_required=not dist.is_initialized(), verbose=False)
    return deepspeed


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the workers, in place."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return tensor
