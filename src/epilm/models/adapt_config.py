"""Settings of how much of an encoder fine-tuning changes; without torch, so that a recipe is read at once."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config

LoraTarget = Literal["query", "key", "value", "attention_output", "intermediate", "output"]


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
