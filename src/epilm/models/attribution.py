"""Which tokens a TF-binding prediction rests on: by gradients of a logit, or by the encoder's attention.

Gradients are taken at the embedding output (DNA and state embeddings joined, before the positions) and at the track values.
Shapes: B = windows, L = tokens with CLS and SEP, H = hidden size, T = tracks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from epilm.errors import RecipeError
from epilm.models.binding import EbertForBinding
from epilm.tokens.vocab import STATE_UNK, UNK

Method = Literal["gradient", "integrated_gradients", "attention", "rollout"]

INTEGRATION_STEPS = 32


@dataclass(frozen=True)
class Attribution:
    """Contributions to one logit by token, CLS and SEP left out."""

    tokens: Tensor
    """float32 [B, L-2] of the k-mers and their states."""
    tracks: Tensor | None
    """float32 [B, L-2, T] of the signals; None for a model without tracks, and for attention, which cannot tell."""


def attribute(
    model: EbertForBinding,
    inputs: Mapping[str, Tensor],
    target: int,
    method: Method,
    *,
    steps: int = INTEGRATION_STEPS,
) -> Tensor:
    """Contributions of the k-mers and their states alone, float32 [B, L-2]; see :func:`attribute_parts`."""
    return attribute_parts(model, inputs, target, method, steps=steps).tokens


def attribute_parts(
    model: EbertForBinding,
    inputs: Mapping[str, Tensor],
    target: int,
    method: Method,
    *,
    steps: int = INTEGRATION_STEPS,
) -> Attribution:
    """Contributions of every token to the prediction of a target.

    ``gradient``: gradient x input (Shrikumar et al. 2016), the change of the logit per share of the token's embedding.
    ``integrated_gradients`` (Sundararajan et al. 2017): from an input without information (N for every k-mer, no state,
    the tracks' ``missing``) to the given one; tokens and tracks together sum to the difference of the two logits.
    ``attention``: what the tokens of the centre bin attend to, mean over layers and heads; the same for every target.
    ``rollout`` (Abnar & Zuidema 2020): attention followed down through the layers, residual connections as one half.

    Args:
        model: in evaluation mode.
        inputs: of :func:`~epilm.models.binding_inputs.binding_inputs`. Windows read as reverse complement come out in
            the order in which they were read.
        target: index into ``BindingConfig.targets``.
        steps: points of the integral (Gauss-Legendre); one forward and backward pass each.

    Raises:
        RecipeError: an unknown method or target, or no steps.
    """
    assert not model.training, "dropout would make the contributions random"
    if method not in get_args(Method):
        raise RecipeError(f"method={method!r} is unknown. Allowed: {', '.join(get_args(Method))}.")
    if not 0 <= target < len(model.binding.targets):
        raise RecipeError(f"target={target} is none of the model's {len(model.binding.targets)} targets (0 and on).")
    if steps < 1:
        raise RecipeError(f"steps={steps} makes no integral. Give at least 1; {INTEGRATION_STEPS} is usual.")
    if method == "gradient":
        return _gradient(model, inputs, target)
    if method == "integrated_gradients":
        return _integrated_gradients(model, inputs, target, steps)
    return Attribution(_attention(model, inputs, rollout=method == "rollout")[:, 1:-1].float(), None)


def uninformative(model: EbertForBinding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of windows of N without states and signals: where integrated gradients begin."""
    blank = {name: value.clone() for name, value in inputs.items()}
    blank["input_ids"][:, 1:-1] = UNK
    if "state_ids" in blank:
        blank["state_ids"][:, 1:-1] = STATE_UNK
    if "track_values" in blank:
        missing = [track.missing for track in model.binding.tracks.values()]
        blank["track_values"][:] = blank["track_values"].new_tensor(missing)
    return blank


def spread_to_bases(tokens: Tensor, *, k: int, stride: int, length_bp: int) -> Tensor:
    """Values of tokens [B, L-2] as values of bases [B, length_bp]: each token gives 1/k of its value to its k bases.

    Sums are kept. Bases behind the last whole k-mer, or between k-mers (stride > k), hold 0.
    """
    share = tokens.new_full((1, 1, k), 1 / k)
    bases = F.conv_transpose1d(tokens[:, None], share, stride=stride)[:, 0]
    return F.pad(bases, (0, length_bp - bases.shape[1]))


def centre_tokens(model: EbertForBinding, num_tokens: int) -> Tensor:
    """Which of the tokens (CLS and SEP left out) share a base with the bin in the window's middle: bool [num_tokens]."""
    config, binding = model.config, model.binding
    first = torch.arange(num_tokens) * config.stride
    return (first < binding.flank_bp + binding.bin_bp) & (first + config.k > binding.flank_bp)


def _gradient(model: EbertForBinding, inputs: Mapping[str, Tensor], target: int) -> Attribution:
    point = _point(model, inputs)
    return _contributions(point, _gradients(model, inputs, point, target))


def _integrated_gradients(model: EbertForBinding, inputs: Mapping[str, Tensor], target: int, steps: int) -> Attribution:
    start, end = _point(model, uninformative(model, inputs)), _point(model, inputs)
    change = {name: end[name] - start[name] for name in end}
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    mean = {name: torch.zeros_like(value) for name, value in end.items()}
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        gradients = _gradients(model, inputs, {name: start[name] + node * change[name] for name in end}, target)
        mean = {name: mean[name] + weight * gradients[name] for name in mean}
    return _contributions(change, mean)


def _contributions(values: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Attribution:
    tracks = values["tracks"] * gradients["tracks"] if "tracks" in values else None
    return Attribution((values["embeds"] * gradients["embeds"]).sum(-1)[:, 1:-1], tracks)


def _point(model: EbertForBinding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where gradients are taken, float32: ``embeds`` [B, L, H] and, with tracks, ``tracks`` [B, L-2, T]."""
    seen: list[Tensor] = []
    with torch.no_grad(), _encoder_reads(model, lambda embeds: seen.append(embeds) or embeds):
        model.ebert(inputs["input_ids"], state_ids=inputs.get("state_ids"))
    point = {"embeds": seen[0].float()}
    return point | ({"tracks": inputs["track_values"].float()} if "track_values" in inputs else {})


def _gradients(
    model: EbertForBinding, inputs: Mapping[str, Tensor], point: Mapping[str, Tensor], target: int
) -> dict[str, Tensor]:
    """Gradients of the logit with respect to each part of a point, in float32."""
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in point.items()}
        given = dict(inputs) | ({"track_values": leaves["tracks"]} if "tracks" in leaves else {})
        with _encoder_reads(model, lambda embeds: leaves["embeds"].to(embeds.dtype)):
            logits = model(**given)[:, target]
        gradients = torch.autograd.grad(logits.sum(), list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


@contextmanager
def _encoder_reads(model: EbertForBinding, replace) -> Iterator[None]:
    """Within the block the BERT encoder reads ``replace(embeddings)`` in place of the embeddings that it is given."""

    def before(module, args, kwargs):
        return args, kwargs | {"inputs_embeds": replace(kwargs["inputs_embeds"])}

    handle = model.ebert.encoder.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _attention(model: EbertForBinding, inputs: Mapping[str, Tensor], *, rollout: bool) -> Tensor:
    """Attention of the centre bin's tokens to all tokens, CLS and SEP included: [B, L]."""
    centre = F.pad(centre_tokens(model, inputs["input_ids"].shape[1] - 2), (1, 1)).to(inputs["input_ids"].device)
    layers_BLL = _head_means(model, inputs)
    start_B1L = (centre / centre.sum()).float().expand(len(layers_BLL[0]), 1, -1)
    if not rollout:
        return torch.stack([start_B1L @ layer for layer in layers_BLL]).mean(0)[:, 0]
    for layer in reversed(layers_BLL):
        start_B1L = (start_B1L @ layer + start_B1L) / 2
    return start_B1L[:, 0]


def _head_means(model: EbertForBinding, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Attention of each layer, mean over its heads: float32 [B, L, L] each, rows sum to 1."""
    means: list[Tensor] = []
    attentions = [layer.get_submodule("attention.self") for layer in model.ebert.encoder.encoder.layer]
    handles = [
        attention.register_forward_hook(lambda _, args, output: means.append(output[1].float().mean(1)))
        for attention in attentions
    ]
    before = model.config._attn_implementation
    assert before is not None  # chosen when the encoder was made
    try:
        model.ebert.set_attn_implementation("eager")  # the fused kernels never form the matrix
        with torch.no_grad():
            model.ebert(inputs["input_ids"], state_ids=inputs.get("state_ids"))
    finally:
        model.ebert.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
    return means
