"""How much of a pre-trained encoder fine-tuning may change: all of it, nothing, by layer, or a low-rank part (LoRA).

LoRA (Hu et al. 2021): a weight W becomes W + alpha / rank * up @ down with W frozen. ``up`` begins at 0, so that the model
begins as the pre-trained one. It lives in parametrizations of torch, so the model's code knows nothing of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from epilm.models.adapt_config import AdaptConfig, LoraTarget
from epilm.models.binding import EbertForBinding
from epilm.models.configuration_ebert import EbertConfig

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
