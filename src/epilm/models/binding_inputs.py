"""From gathered windows to what a TF-binding model reads: k-mers, states and pooled signals, on either strand.

Training, evaluation, prediction and mutagenesis all come through :func:`binding_inputs`, so that a window has one reading.
Shapes: B = windows, L = tokens with CLS and SEP, T = tracks, N = signal bins of a window.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from epilm.errors import RecipeError
from epilm.models.binding_config import BindingConfig, Pool, TrackConfig
from epilm.models.configuration_ebert import EbertConfig
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.strand import reverse_bins, reverse_complement
from epilm.tokens.vocab import CLS, SEP, STATE_PAD, num_tokens


@dataclass(frozen=True)
class BindingWindows:
    """Windows of ``input_bp`` bases as the corpus has them, on the forward strand; tensors on one device.

    What a model does not read may be None, and is left unread where it is given.
    """

    dna: Tensor
    """uint8 [B, input_bp], codes A0 C1 G2 T3 N4."""
    bins: Tensor | None = None
    """uint8 [B, num_bins], the states of each window's cell type, 255 = no data."""
    phase: Tensor | None = None
    """int64 [B], bases from the start of the first bin to the window's first base."""
    signals: Tensor | None = None
    """float32 [B, T, N], in the order of ``BindingConfig.tracks``; NaN = not covered."""
    signal_phase: Tensor | None = None
    """int64 [B], as ``phase``, of the signals' bins."""

    def __len__(self) -> int:
        return len(self.dna)

    def to(self, device: torch.device | str) -> BindingWindows:
        """The same windows on a device."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part.to(device) for name, part in given.items() if part is not None})


def binding_inputs(
    windows: BindingWindows, *, encoder: EbertConfig, config: BindingConfig, reverse: Tensor | None = None
) -> dict[str, Tensor]:
    """The keyword arguments of :class:`~epilm.models.binding.EbertForBinding`.

    Args:
        reverse: bool [B], windows to be read as their reverse complement (DNA, states and signals); None for none.

    Returns:
        ``input_ids`` int64 [B, L] with CLS and SEP; ``state_ids`` int64 [B, L] (absent for a DBERT); ``track_values``
        float32 [B, L-2, T] (absent without tracks).

    Raises:
        RecipeError: windows of another length, or without the states or signals that the model reads.
    """
    if windows.dna.shape[1] != config.input_bp:
        raise RecipeError(
            f"the windows have {windows.dna.shape[1]} bases, the model reads {config.input_bp} (input_bp). "
            "Gather windows of that length."
        )
    dna = windows.dna if reverse is None else reverse_complement(windows.dna, reverse)
    inputs = {"input_ids": _frame(tokenize_kmers(dna, k=encoder.k, stride=encoder.stride), CLS, SEP)}
    if encoder.num_states:
        inputs["state_ids"] = _frame(_states(windows, encoder, reverse), STATE_PAD, STATE_PAD)
    if config.tracks:
        inputs["track_values"] = _tracks(windows, encoder, config, reverse)
    return inputs


def _states(windows: BindingWindows, encoder: EbertConfig, reverse: Tensor | None) -> Tensor:
    bins, phase = windows.bins, windows.phase
    if bins is None or phase is None:
        raise RecipeError(
            f"the model reads {encoder.num_states} states, but the windows have none. Use a corpus with states."
        )
    geometry = {"bin_bp": encoder.bin_bp, "length_bp": windows.dna.shape[1]}
    if reverse is not None:
        bins, phase = reverse_bins(bins, phase, rows=reverse, **geometry)
    return tokenize_states(bins, phase, k=encoder.k, stride=encoder.stride, **geometry)


def _tracks(windows: BindingWindows, encoder: EbertConfig, config: BindingConfig, reverse: Tensor | None) -> Tensor:
    signals, phase, signal_bp = windows.signals, windows.signal_phase, config.signal_bp
    if signals is None or phase is None or signal_bp is None:
        raise RecipeError(
            f"the model reads the tracks {', '.join(config.tracks)}, but the windows have no signals. "
            "Use a corpus that has them."
        )
    if signals.shape[1] != len(config.tracks) or signals.shape[2] * signal_bp < config.input_bp:
        raise RecipeError(
            f"the windows have {signals.shape[1]} signals of {signals.shape[2]} bins; the model reads "
            f"{len(config.tracks)} ({', '.join(config.tracks)}, in this order), whose bins of {signal_bp} bp cover "
            f"{config.input_bp} bp."
        )
    geometry = {"signal_bp": signal_bp, "length_bp": config.input_bp}
    if reverse is not None:
        signals, phase = reverse_signals(signals, phase, rows=reverse, **geometry)
    return track_values(signals, phase, config.tracks, k=encoder.k, stride=encoder.stride, **geometry)


def reverse_signals(
    signals: Tensor, phase_bp: Tensor, *, signal_bp: int, length_bp: int, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Signals [B, T, N] and their phases [B] read from the other strand in the given ``rows`` (bool [B])."""
    turned, turned_phase = reverse_bins(signals, phase_bp, bin_bp=signal_bp, length_bp=length_bp)
    return torch.where(rows[:, None, None], turned, signals), torch.where(rows, turned_phase, phase_bp.long())


def track_values(
    signals: Tensor,
    phase_bp: Tensor,
    tracks: dict[str, TrackConfig],
    *,
    signal_bp: int,
    k: int,
    stride: int,
    length_bp: int,
) -> Tensor:
    """What each token holds of each track: pooled over its k bases, then multiplied and scaled (EBERT, section 2.2.2).

    Bases that are not covered (NaN) do not count; a token without a covered base holds the track's ``missing``.

    Args:
        signals: float [B, T, N], every base of a bin has the bin's value.
        phase_bp: int [B], bases from the start of the first bin to the window's first base; ``signal_bp`` and more are
            fine as long as the bins cover the window.

    Returns:
        float32 [B, num_tokens, T].
    """
    signals = signals.float()
    first_L = torch.arange(num_tokens(length_bp, k, stride), device=signals.device) * stride
    start_BL = phase_bp.long()[:, None] + first_L
    columns = [
        _scaled(pool_tokens(signals[:, i], start_BL, track.pool, signal_bp=signal_bp, k=k), track)
        for i, track in enumerate(tracks.values())
    ]
    return torch.stack(columns, dim=-1)


def pool_tokens(signal: Tensor, start_BL: Tensor, pool: Pool, *, signal_bp: int, k: int) -> Tensor:
    """Pool one signal over the k bases from each start on; NaN where none of them is covered.

    Args:
        signal: float32 [B, N], NaN = not covered.
        start_BL: int64 [B, L], first base of each token, counted from the start of the first bin.
    """
    first_BL, last_BL = start_BL // signal_bp, (start_BL + k - 1) // signal_bp
    neutral = {"max": -torch.inf, "min": torch.inf, "mean": 0.0}[pool]
    value_BN, covered_BN = signal.nan_to_num(nan=neutral, posinf=torch.inf, neginf=-torch.inf), ~signal.isnan()
    total_BL = torch.full_like(start_BL, neutral, dtype=torch.float32)
    bases_BL = torch.zeros_like(total_BL)
    for step in range(
        (k - 2) // signal_bp + 2
    ):  # a token meets so many bins at most, one base of the first being enough
        bin_BL = first_BL + step
        begin, end = torch.maximum(bin_BL * signal_bp, start_BL), torch.minimum((bin_BL + 1) * signal_bp, start_BL + k)
        index = torch.minimum(bin_BL, last_BL)
        width_BL = (end - begin).clamp(min=0) * covered_BN.gather(1, index)
        value_BL = value_BN.gather(1, index)
        if pool == "mean":
            total_BL = total_BL + value_BL * width_BL
        else:  # past the last bin the last one is read once more, which changes no extreme
            total_BL = torch.maximum(total_BL, value_BL) if pool == "max" else torch.minimum(total_BL, value_BL)
        bases_BL = bases_BL + width_BL
    pooled_BL = total_BL / bases_BL if pool == "mean" else total_BL
    return torch.where(bases_BL > 0, pooled_BL, torch.nan)


def _scaled(pooled: Tensor, track: TrackConfig) -> Tensor:
    value = pooled * track.factor
    if track.scale == "log1p":
        value = value.clamp(min=0).log1p()
    elif track.scale == "asinh":
        value = value.asinh()
    return torch.where(pooled.isnan(), track.missing, value)


def _frame(ids: Tensor, first: int, last: int) -> Tensor:
    """[B, L-2] to [B, L] with one id in front and one behind."""
    return F.pad(F.pad(ids, (1, 0), value=first), (0, 1), value=last)
