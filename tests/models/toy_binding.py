"""A TF-binding model small enough for milliseconds, windows to feed it, and what it reads of them base by base."""

from __future__ import annotations

import math
from collections import Counter

import torch

from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig
from epilm.models.binding_inputs import BindingWindows
from epilm.models.configuration_ebert import EbertConfig

STATES = ["open", "poised", "closed"]
TRACKS = {
    "dnase": {"signal": "DNase.{cell_type}", "pool": "max", "scale": "log1p", "factor": 2.0},
    "unique": {"signal": "mappability", "pool": "min", "missing": -1.0},
    "gc": {"signal": "gc", "pool": "mean", "scale": "asinh", "missing": 0.25},
}


def make_config(**changes) -> EbertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    settings = {"k": 3, "stride": 1, "state_names": STATES, "bin_bp": 20, "max_position_embeddings": 64}
    return EbertConfig(**(settings | sizes | changes))


def make_binding(**changes) -> BindingConfig:
    head = {"conv_channels": (12, 8), "conv_widths": (5, 3), "segments": 4, "dense_size": 10}
    settings = {"targets": ("CTCF", "MAX"), "bin_bp": 20, "input_bp": 60, "tracks": TRACKS, "signal_bp": 5}
    return BindingConfig.model_validate(settings | {"head": head} | changes)


def make_model(seed: int = 0, binding: dict | None = None, **changes) -> EbertForBinding:
    """In evaluation mode, no weight at its first value, so that no part of the model is without effect."""
    torch.manual_seed(seed)
    model = EbertForBinding(make_config(**changes), make_binding(**(binding or {}))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.1
    return model


def make_windows(num: int = 6, *, seed: int = 0, config: BindingConfig | None = None, spare: int = 2) -> BindingWindows:
    """Windows of all phases with N, bins and signal bins without data, and ``spare`` bins more than are needed."""
    config, generator = config or make_binding(), torch.Generator().manual_seed(seed)
    length, signal_bp = config.input_bp, config.signal_bp or 5

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    dna = integers(0, 4, num, length)
    dna[torch.rand(num, length, generator=generator) < 0.02] = 4
    bins = integers(0, 4, num, length // 20 + 1 + spare)
    bins[bins == 3] = 255
    signals = torch.randn(num, len(TRACKS), length // signal_bp + 1 + spare, generator=generator)
    signals[torch.rand(signals.shape, generator=generator) < 0.3] = torch.nan
    signals[..., 20 // signal_bp : 20 // signal_bp - (-12 // signal_bp)] = torch.nan  # tokens without a covered base
    return BindingWindows(
        dna.to(torch.uint8), bins.to(torch.uint8), integers(0, 20, num), signals, integers(0, signal_bp, num)
    )


def turned(windows: BindingWindows, length_bp: int, *, bin_bp: int = 20, signal_bp: int = 5) -> BindingWindows:
    """The windows as a genome of the other strand would hold them."""
    assert windows.bins is not None
    assert windows.signals is not None
    dna = torch.tensor([[{0: 3, 1: 2, 2: 1, 3: 0}.get(b, b) for b in reversed(row)] for row in windows.dna.tolist()])
    return BindingWindows(
        dna.to(torch.uint8),
        windows.bins.flip(-1),
        windows.bins.shape[1] * bin_bp - windows.phase - length_bp,
        windows.signals.flip(-1),
        windows.signals.shape[2] * signal_bp - windows.signal_phase - length_bp,
    )


def slow_inputs(windows: BindingWindows, row: int, encoder: EbertConfig, config: BindingConfig, *, reverse: bool):
    """(ids, states, tracks [token][track]) of one window: written out base by base, then read on the asked strand."""
    length, k = config.input_bp, encoder.k
    bases = windows.dna[row].tolist()
    phase, signal_phase = int(windows.phase[row]), int(windows.signal_phase[row])
    states = [int(windows.bins[row][(phase + i) // encoder.bin_bp]) for i in range(length)]
    levels = [
        [float(track[(signal_phase + i) // config.signal_bp]) for i in range(length)] for track in windows.signals[row]
    ]
    if reverse:
        bases = [b if b == 4 else 3 - b for b in reversed(bases)]
        states, levels = states[::-1], [track[::-1] for track in levels]
    ids, state_ids, tracks = [2], [0], []
    for first in range(0, length - k + 1, encoder.stride):
        mer = bases[first : first + k]
        ids.append(1 if 4 in mer else 5 + sum(base * 4 ** (k - 1 - i) for i, base in enumerate(mer)))
        count = Counter(states[first : first + k]).most_common()
        tie = len(count) > 1 and count[0][1] == count[1][1]
        state = states[first + k // 2] if tie else count[0][0]
        state_ids.append(2 if state == 255 else 3 + state)
        tracks.append(
            [
                slow_pool(track[first : first + k], settings)
                for track, settings in zip(levels, config.tracks.values(), strict=True)
            ]
        )
    return [*ids, 3], [*state_ids, 0], tracks


def slow_pool(levels: list[float], track) -> float:
    covered = [level for level in levels if not math.isnan(level)]
    if not covered:
        return track.missing
    value = {"max": max(covered), "min": min(covered), "mean": sum(covered) / len(covered)}[track.pool] * track.factor
    return {"none": value, "log1p": math.log1p(max(value, 0)), "asinh": math.asinh(value)}[track.scale]
