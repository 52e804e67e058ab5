"""Settings of the training loop and the recipe of ``epilm pretrain``."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.corpus.order import check_batch
from epilm.errors import RecipeError
from epilm.runs import Recipe
from epilm.tasks.binding_recipe import TfBindingConfig
from epilm.tasks.recipe import MaskedEpigenomeConfig


class OptimizerConfig(Config):
    """AdamW; the defaults are EBERT's (section 4.1)."""

    lr: float = Field(default=6e-5, gt=0, allow_inf_nan=False)
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What follows the linear warm-up: decay to 0 by a line or a cosine, or none."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up from 0."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    """Adam's epsilon (EBERT: 1e-4)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of matrices; biases, norms and embeddings' norms have none."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 = no clipping."""


class TrainConfig(Config):
    """How a task is trained. The global batch is what is stated; accumulation is derived from it."""

    steps: int = Field(ge=1)
    """Optimizer steps."""
    global_batch: int = Field(ge=1)
    """Samples of an optimizer step, over all workers."""
    micro_batch: int = Field(default=32, ge=1)
    """Most samples in one forward pass on one worker. The largest size is used that divides the shares of this number of
    workers and of `exact_workers`; with dropout, another size draws other numbers."""
    exact_workers: tuple[int, ...] = (1, 2, 3, 4)
    """Numbers of workers that give the same losses, dropout included: torch draws dropout a forward pass at a time, so all
    of them must cut the batch alike. Those that do not divide the global batch are left out. Without dropout any number
    of workers gives the same losses."""
    optimizer: OptimizerConfig = OptimizerConfig()
    bf16: bool = False
    """Train in bfloat16 with gradients accumulated in fp32."""
    zero_stage: Literal[1, 2, 3] = 1
    """DeepSpeed ZeRO stage. 1 suits nearly all: 2 communicates in every micro-step, 3 only past one GPU's memory."""
    compile: bool = False
    """Compile the model (`engine.compile()`)."""

    num_workers: int | tuple[int, int] = 2
    """Workers, or [min, max] for an elastic run that grows and shrinks with the cluster. It does not change the losses (see
    `exact_workers`)."""
    use_gpu: bool = False
    """One GPU a worker."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """Logical CPUs that a worker reserves."""
    threads_per_worker: int | None = Field(default=None, ge=1)
    """torch's threads of a worker; cpus_per_worker where absent."""
    resources_per_worker: dict[str, float] = {}
    """Further (custom) resources that a worker reserves."""
    max_failures: int = Field(default=3, ge=-1)
    """Restarts after a lost worker or node; -1 = without limit."""

    eval_every_steps: int | None = Field(default=None, ge=1)
    """Evaluate every so many steps; at the end always."""
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    """Checkpoint every so many steps; at the end always. Ray registers at most one every few seconds: aim at minutes."""
    checkpoints_kept: int = Field(default=2, ge=1)
    log_every_steps: int = Field(default=1, ge=1)
    """Steps between records in metrics.jsonl."""

    @field_validator("num_workers")
    @classmethod
    def _workers(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        low, high = (value, value) if isinstance(value, int) else value
        if not 1 <= low <= high:
            raise ValueError("must be at least 1, or [min, max] with 1 <= min <= max.")
        return value

    @field_validator("exact_workers")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1:
            raise ValueError("must hold numbers of workers, each at least 1, e.g. [1, 2, 4, 8].")
        return value

    @model_validator(mode="after")
    def _divides(self) -> Self:
        try:
            check_batch(self.global_batch, self.allowed_workers)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(f"optimizer.warmup_steps={self.optimizer.warmup_steps} exceeds steps={self.steps}.")
        return self

    @property
    def allowed_workers(self) -> range:
        low, high = (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers
        return range(low, high + 1)

    def micro_batch_for(self, num_workers: int) -> int:
        """Largest size up to ``micro_batch`` that divides the share of this number of workers and of ``exact_workers``."""
        batch = self.global_batch
        common = math.lcm(num_workers, *(w for w in self.exact_workers if batch % w == 0))
        # a number of workers outside of exact_workers may share no cut with all of them
        share = batch // (common if batch % common == 0 else num_workers)
        return next(m for m in range(min(self.micro_batch, share), 0, -1) if share % m == 0)

    def accumulation_for(self, num_workers: int) -> int:
        """Micro-batches of an optimizer step on each worker."""
        return self.global_batch // num_workers // self.micro_batch_for(num_workers)


# What may differ between a run and its resumption: it changes where and how fast, not the numbers.
PLACEMENT = {
    "num_workers",
    "use_gpu",
    "cpus_per_worker",
    "threads_per_worker",
    "resources_per_worker",
    "max_failures",
    "checkpoint_every_steps",
    "checkpoints_kept",
    "log_every_steps",
    "zero_stage",
    "compile",
    "micro_batch",
}


def drop_placement(train: dict[str, Any]) -> dict[str, Any]:
    """A dumped :class:`TrainConfig` without what may differ between a run and its resumption, in place; returns it."""
    for key in PLACEMENT:
        train.pop(key)
    return train


class PretrainRecipe(Recipe):
    """``epilm pretrain``: masked pre-training of EBERT or DBERT."""

    task: MaskedEpigenomeConfig
    train: TrainConfig

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        # compared by their fingerprints, wherever they lie
        identity["task"].pop("corpus")
        identity["task"]["dna_mask"].pop("table")
        identity["task"]["model"].pop("weights")
        drop_placement(identity["train"])
        return identity


class FinetuneRecipe(Recipe):
    """``epilm finetune``: TF binding on a pre-trained encoder (or one with random weights)."""

    task: TfBindingConfig
    train: TrainConfig
    """EBERT's fine-tuning: global_batch 320, lr 1e-4 after 25,000 steps of warm-up, AdamW (.9, .99, 1e-5)."""

    @model_validator(mode="after")
    def _early_stop_hears(self) -> Self:
        if self.task.early_stop is not None and self.train.eval_every_steps is None:
            raise ValueError(
                "task.early_stop follows the evaluations, but train.eval_every_steps is absent: say how often, or set "
                "task.early_stop=null."
            )
        return self

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        # compared by their fingerprints, wherever they lie
        identity["task"].pop("corpus")
        identity["task"].pop("labels")
        identity["task"]["encoder"].pop("pretrained")
        drop_placement(identity["train"])
        return identity
