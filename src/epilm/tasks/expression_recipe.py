"""Settings of histone language models and of expression regressors that are trained by the loop."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config

ModelKind = Literal["gpt2", "roberta"]
Inputs = Literal["raw_c", "raw_d", "raw"]
"""What a regressor sees of the two cell types: both (C), their difference (D), or all three."""


class LanguageModelShape(Config):
    """A GPT-2 (next token) or RoBERTa (masked token) of histone words, from random weights."""

    kind: ModelKind = "gpt2"
    hidden: int = Field(default=32, ge=2)
    """Width of the embeddings (the paper: 32, 128, 256)."""
    layers: int = Field(default=8, ge=1)
    heads: int = Field(default=8, ge=1)
    context: int = Field(default=64, ge=4)
    """Most tokens that a token sees (the paper: 32, 64, 128); longer lines are read in windows."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    mask_rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that RoBERTa has to predict; 8 in 10 of them masked, 1 random, 1 as it is."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden={self.hidden} is not a multiple of heads={self.heads}.")
        return self


class EndToEndHead(Config):
    """From the hidden states of the lines to one number: means of segments, side by side, through a hidden layer."""

    segments: int = Field(default=20, ge=1)
    """Stretches of neighbouring bins whose hidden states are averaged; more keep the place more exactly."""
    hidden: int = Field(default=64, ge=1)
    """Width of the hidden layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)


class DeepDiffShape(Config):
    """DeepDiff (Sekhon et al. 2018): an LSTM with attention a mark, another over the marks."""

    bin_hidden: int = Field(default=32, ge=1)
    """Width of each direction of a mark's LSTM over the bins."""
    mark_hidden: int = Field(default=16, ge=1)
    """Width of each direction of the LSTM over the marks."""
    aux: bool = False
    """Also predict log2(expression + 1) in each cell type, from its own marks; raw_c and raw only."""
    aux_weight: float = Field(default=1.0, gt=0)
    """Weight of each cell type's squared error beside that of the difference."""
