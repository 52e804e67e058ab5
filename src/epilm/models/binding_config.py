"""Settings of a TF-binding model: what its head reads beside the encoder's states, and how large it is.

They are written beside the weights (``binding.json``), so that prediction feeds the model as training did.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config

CELL_TYPE = "{cell_type}"
"""In the name of a track's signal: replaced by the cell type of the sample."""

Pool = Literal["max", "min", "mean"]


class TrackConfig(Config):
    """One signal of the corpus as a channel beside the hidden states (EBERT+: DNase and mappability, section 2.2.2)."""

    signal: str
    """Signal of the corpus; ``{cell_type}`` stands for the sample's cell type, e.g. ``DNase.{cell_type}``."""
    pool: Pool = "max"
    """What a token holds of its bases: ``max`` for DNase (sensitive to peaks), ``min`` for mappability (one base that is
    not unique makes the token so), or ``mean``."""
    scale: Literal["none", "log1p", "asinh"] = "none"
    """Applied to the pooled value; ``log1p`` takes negative values as 0."""
    factor: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Multiplies the value before it is scaled."""
    missing: float = Field(default=0.0, allow_inf_nan=False)
    """What a token holds, after scaling, where none of its bases is covered."""

    def signal_for(self, cell_type: str) -> str:
        """Name of the signal in the corpus for a sample of a cell type."""
        return self.signal.replace(CELL_TYPE, cell_type)


class HeadConfig(Config):
    """Two convolutions over the tokens and two dense layers (EBERT, section 2.2.2; the paper gives no sizes, these are ours)."""

    conv_channels: tuple[int, int] = (128, 64)
    """Channels of the two convolutions."""
    conv_widths: tuple[int, int] = (7, 5)
    """Their widths in tokens, odd."""
    segments: int = Field(default=20, ge=1)
    """Stretches of the input over each of which the convolutions' output is max-pooled: 20 of 1,000 bp are 50 bp each, the
    step of the bins, so that the head can tell the bin from its flanks."""
    dense_size: int = Field(default=128, ge=1)
    """Width of the first dense layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Between the dense layers."""

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if min(self.conv_channels) < 1:
            raise ValueError(f"conv_channels={self.conv_channels}: each needs at least 1 channel.")
        if min(self.conv_widths) < 1 or any(width % 2 == 0 for width in self.conv_widths):
            raise ValueError(
                f"conv_widths={self.conv_widths}: widths are odd, so that a token stays in the middle. Try (7, 5)."
            )
        return self


class BindingConfig(Config):
    """What a TF-binding model predicts, and from what."""

    targets: tuple[str, ...] = Field(min_length=1)
    """Transcription factors, in the order of the outputs."""
    bin_bp: int = Field(default=200, ge=1)
    """Bases of a labelled bin."""
    input_bp: int = Field(default=1000, ge=1)
    """Bases of the input, the bin in its middle (EBERT: the bin and 400 bp on either side)."""
    tracks: dict[str, TrackConfig] = {}
    """Channels by name, in order; none for DBERT and EBERT."""
    signal_bp: int | None = Field(default=None, ge=1)
    """Bases of a signal bin of the corpus; absent where there are no tracks."""
    head: HeadConfig = HeadConfig()
    both_strands: bool = False
    """Average the probabilities of the input and of its reverse complement, wherever the model predicts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.input_bp < self.bin_bp or (self.input_bp - self.bin_bp) % 2:
            raise ValueError(
                f"input_bp={self.input_bp} has no bin of bin_bp={self.bin_bp} in its middle: it must exceed it by an even number."
            )
        if self.tracks and self.signal_bp is None:
            raise ValueError("tracks need signal_bp, the resolution of the corpus' signals.")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets names one twice: {', '.join(self.targets)}.")
        return self

    @property
    def flank_bp(self) -> int:
        """Bases of the input on either side of the bin."""
        return (self.input_bp - self.bin_bp) // 2
