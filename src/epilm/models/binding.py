"""TF binding from DNA, states and signals: the encoder and a head of two convolutions and two dense layers.

EBERT, section 2.2.2. DBERT reads DNA, EBERT DNA and states, EBERT+ also signals, which join the hidden states as channels.
Shapes: B = windows, L = tokens with CLS and SEP, H = hidden size, T = tracks, C = channels, S = segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epilm.errors import RecipeError
from epilm.models.binding_config import BindingConfig
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertModel
from epilm.tokens.vocab import num_tokens


class BindingHead(nn.Module):
    """Logits of every target from hidden states and track values.

    conv, GELU, conv, GELU over the tokens -> the maximum of each of S equal stretches -> dense, GELU, dropout -> dense.
    """

    def __init__(self, hidden_size: int, config: BindingConfig, *, initializer_range: float) -> None:
        super().__init__()
        head = config.head
        (first, second), (first_width, second_width) = head.conv_channels, head.conv_widths
        self.segments = head.segments
        self.conv1 = nn.Conv1d(hidden_size + len(config.tracks), first, first_width, padding=first_width // 2)
        self.conv2 = nn.Conv1d(first, second, second_width, padding=second_width // 2)
        self.dense = nn.Linear(second * head.segments, head.dense_size)
        self.dropout = nn.Dropout(head.dropout)
        self.out = nn.Linear(head.dense_size, len(config.targets))
        self._initialise(initializer_range)

    def _initialise(self, initializer_range: float) -> None:
        # He et al. 2015: std sqrt(2 / fan in) keeps the scale of a signal through a rectifier (GELU is nearly one). The
        # encoder's constant std of .02 suits sums over 768 alone; over the 640 weights of the second convolution it would
        # shrink the signal to a third, in a small model to a tenth. The last layer is kept small, so that the first
        # predictions are near the prior that its bias holds.
        for layer in (self.conv1, self.conv2, self.dense):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.out.weight, std=initializer_range)
        for layer in (self.conv1, self.conv2, self.dense, self.out):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, hidden_BLH: Tensor, track_values_BLT: Tensor | None = None) -> Tensor:
        """Logits float [B, num_targets] of hidden states without CLS and SEP; S may exceed the number of tokens."""
        features = hidden_BLH
        if track_values_BLT is not None:
            features = torch.cat([features, track_values_BLT.to(features.dtype)], dim=-1)
        x_BCL = F.gelu(self.conv1(features.transpose(1, 2)))
        x_BCL = F.gelu(self.conv2(x_BCL))
        x_BCS = F.adaptive_max_pool1d(x_BCL, self.segments)
        x_BD = self.dropout(F.gelu(self.dense(x_BCS.flatten(1))))
        return self.out(x_BD.to(self.out.weight.dtype))


class EbertForBinding(nn.Module):
    """An encoder and a :class:`BindingHead`; single-device. All windows have one length, so nothing is ever padded.

    Raises:
        RecipeError: windows without a k-mer, or of more tokens than the encoder has positions.
    """

    def __init__(self, config: EbertConfig, binding: BindingConfig) -> None:
        super().__init__()
        length = num_tokens(binding.input_bp, config.k, config.stride) + 2
        if length > config.max_position_embeddings:
            raise RecipeError(
                f"input_bp={binding.input_bp} makes {length} tokens (with CLS and SEP), the encoder has "
                f"{config.max_position_embeddings} positions. Use a smaller input_bp or an encoder of longer windows."
            )
        self.config, self.binding = config, binding
        self.encoder_frozen = False
        self.ebert = EbertModel(config)
        self.head = BindingHead(config.hidden_size, binding, initializer_range=config.initializer_range)

    def forward(self, input_ids: Tensor, state_ids: Tensor | None = None, track_values: Tensor | None = None) -> Tensor:
        """Logits float32 [B, num_targets] of the inputs that :func:`~epilm.models.binding_inputs.binding_inputs` makes.

        Raises:
            ValueError: states for a DBERT, tracks for a model without them, or the reverse.
        """
        if (track_values is not None) != bool(self.binding.tracks):
            given = "none were" if track_values is None else f"{track_values.shape[-1]} were"
            raise ValueError(f"this model reads {len(self.binding.tracks)} tracks, but {given} given as track_values.")
        hidden_BLH = self.ebert(input_ids, state_ids=state_ids).last_hidden_state
        return self.head(hidden_BLH[:, 1:-1], track_values).float()

    def freeze_encoder(self) -> None:
        """Train the head alone: the encoder gets no gradients and stays in evaluation mode, whatever ``train`` is told."""
        self.encoder_frozen = True
        self.ebert.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EbertForBinding:
        super().train(mode)
        if self.encoder_frozen:
            self.ebert.eval()  # features that dropout shakes would not be those of the pre-trained model
        return self

    @torch.no_grad()
    def set_prior(self, rate: float | Sequence[float]) -> None:
        """Set the last bias to the log-odds of the training's positive rate, one for all targets or one each.

        The first predictions are then the rate, and the first steps do not go into learning it (Lin et al. 2017, focal
        loss, section 3.3).

        Raises:
            RecipeError: rates out of (0, 1), or not one each.
        """
        rates = [rate] * len(self.binding.targets) if isinstance(rate, (int, float)) else list(rate)
        if len(rates) != len(self.binding.targets) or not all(0 < r < 1 for r in rates):
            raise RecipeError(
                f"positive rates {rates} for {len(self.binding.targets)} targets: give one above 0 and below 1 for each."
            )
        bias = self.head.out.bias
        bias.copy_(torch.tensor([math.log(r / (1 - r)) for r in rates], dtype=bias.dtype))


@torch.no_grad()
def binding_probabilities(model: EbertForBinding, windows: BindingWindows) -> Tensor:
    """Probabilities float32 [B, num_targets], of both strands where ``BindingConfig.both_strands`` asks for it.

    The mode (train, eval) is the caller's; windows lie on the model's device.
    """
    settings = {"encoder": model.config, "config": model.binding}
    forward = model(**binding_inputs(windows, **settings)).sigmoid()
    if not model.binding.both_strands:
        return forward
    every = torch.ones(len(windows), dtype=torch.bool, device=windows.dna.device)
    return (forward + model(**binding_inputs(windows, reverse=every, **settings)).sigmoid()) / 2
