"""How much of a pre-trained encoder fine-tuning may change: all of it, nothing, by layer, or a low-rank part (LoRA).

LoRA (Hu et al. 2021): a weight W becomes W + alpha / rank * up @ down with W frozen. ``up`` begins at 0, so that the model
begins as the pre-trained one. It lives in parametrizations of torch, so the model's code knows nothing of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from epilm.config import Config
from epilm.models.binding import EbertForBinding
from epilm.models.configuration_ebert import EbertConfig

LoraTarget = Literal["query", "key", "value", "attention_output", "intermediate", "output"]

# Matrices of a layer by the setting's names, as BertModel calls them.
_MODULES: dict[LoraTarget, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
_LAYER = re.compile(r"^ebert\.encoder\.encoder\.layer\.(\d+)\.")


class AdaptConfig(Config):
    """What fine-tuning changes of the encoder; the head is always trained."""

    mode: Literal["full", "frozen", "lora"] = "full"
    """``full``: every weight; ``frozen``: the head alone, on the features of an encoder without dropout; ``lora``: the head
    and a low-rank change of some matrices."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """The learning rate of a layer is that of the layer above it times this (Clark et al. 2020, ELECTRA, use .8); the
    head has the full rate, the embeddings the lowest."""
    lora_rank: int = Field(default=8, ge=1)
    """Rank of the change."""
    lora_alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """The change is multiplied by alpha / rank."""
    lora_targets: tuple[LoraTarget, ...] = Field(default=("query", "value"), min_length=1)
    """Matrices of every layer that change: query, key, value, attention_output, intermediate, output."""

    @model_validator(mode="after")
    def _takes_effect(self) -> Self:
        if self.mode == "frozen" and self.layer_decay != 1:
            raise ValueError(f"layer_decay={self.layer_decay} has no effect with mode=frozen. Leave one of them out.")
        fields = type(self).model_fields
        for name in ("lora_rank", "lora_alpha", "lora_targets"):
            if self.mode != "lora" and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} has no effect with mode={self.mode}. Set mode=lora, or leave it out.")
        if len(set(self.lora_targets)) != len(self.lora_targets):
            raise ValueError(f"lora_targets names one twice: {', '.join(self.lora_targets)}.")
        return self


class LowRank(nn.Module):
    """The parametrization W -> W + scale * up @ down."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = alpha / rank
        place = {"dtype": weight.dtype, "device": weight.device}
        self.down = nn.Parameter(torch.empty(rank, columns, **place))
        self.up = nn.Parameter(torch.zeros(rows, rank, **place))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as the published code of LoRA

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


def apply_adapt(model: EbertForBinding, adapt: AdaptConfig) -> None:
    """Make a model trainable as asked, once; the low-rank ``down`` are drawn from torch's global generator.

    Optimizers take the parameters with ``requires_grad``. Load pre-trained weights before, under their plain names.
    """
    if adapt.mode == "frozen":
        model.freeze_encoder()
    if adapt.mode != "lora":
        return
    model.ebert.requires_grad_(False)
    for layer in model.ebert.encoder.encoder.layer:
        for target in adapt.lora_targets:
            linear = layer.get_submodule(_MODULES[target])
            low_rank = LowRank(linear.get_parameter("weight"), adapt.lora_rank, adapt.lora_alpha)
            parametrize.register_parametrization(linear, "weight", low_rank)


def rate_factor(parameter_name: str, config: EbertConfig, adapt: AdaptConfig) -> float:
    """What the learning rate of a parameter of :class:`EbertForBinding` is multiplied by.

    With n layers: 1 for the head, decay**(n - i) for layer i = 0 .. n - 1, decay**(n + 1) for the embeddings.
    """
    if not parameter_name.startswith("ebert."):
        return 1.0
    layer = _LAYER.match(parameter_name)
    below_head = config.num_hidden_layers - int(layer[1]) if layer else config.num_hidden_layers + 1
    return adapt.layer_decay**below_head


def merged_state(model: EbertForBinding, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of a plain model, low-rank parts folded into their matrices (in float32).

    Args:
        model: adapted as the one of the weights; only its structure is used.
        state_dict: weights of that model by name, of a checkpoint or its own ``state_dict()``.
    """
    state = dict(state_dict)
    for name, module in model.named_modules():
        if not parametrize.is_parametrized(module, "weight"):
            continue
        (low_rank,) = module.parametrizations["weight"]  # pyright: ignore
        assert isinstance(low_rank, LowRank)
        place = f"{name}.parametrizations.weight"
        weight, down, up = (state.pop(f"{place}.{part}") for part in ("original", "0.down", "0.up"))
        folded = weight.float() + low_rank.scale * (up.float() @ down.float())
        state[f"{name}.weight"] = folded.to(weight.dtype)
    return state
