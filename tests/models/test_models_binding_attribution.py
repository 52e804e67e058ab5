"""Contributions of tokens: they sum to what they explain, find what decides, and equal a slow reading of the definitions."""

from __future__ import annotations

import pytest
import torch
from toy_binding import make_model, make_windows

from epilm.errors import RecipeError
from epilm.models.attribution import attribute, attribute_parts, centre_tokens, spread_to_bases, uninformative
from epilm.models.binding_inputs import binding_inputs
from epilm.tokens.vocab import UNK

KINDS = [
    ({"state_names": None}, {"tracks": {}}),
    ({}, {"tracks": {}}),
    ({}, {}),
    ({"combine": "concat"}, {}),
]


def model_and_inputs(changes=None, binding=None):
    model = make_model(binding=binding, **(changes or {}))
    return model, binding_inputs(make_windows(3, config=model.binding), encoder=model.config, config=model.binding)


@pytest.mark.parametrize(
    ("changes", "binding", "segments", "tolerance"), [*((*kind, 20, 2e-3) for kind in KINDS), ({}, {}, 4, 0.1)]
)
def test_integrated_gradients_sum_to_the_difference_of_the_logits(changes, binding, segments, tolerance):
    """Segments of one token each have no maximum to jump between, so that few steps are nearly exact."""
    head = {"conv_channels": (12, 8), "conv_widths": (5, 3), "segments": segments, "dense_size": 10}
    model, inputs = model_and_inputs({"stride": 3} | changes, binding | {"head": head})
    with torch.no_grad():
        difference = (model(**inputs) - model(**uninformative(model, inputs)))[:, 1]
    found = attribute_parts(model, inputs, 1, "integrated_gradients")
    total = found.tokens.sum(1) + (0 if found.tracks is None else found.tracks.sum((1, 2)))
    assert (total - difference).abs().max() < tolerance * difference.abs().max()
    assert (found.tracks is not None) == bool(model.binding.tracks)
    assert found.tokens.shape == (3, 20)
    assert torch.equal(attribute(model, inputs, 1, "integrated_gradients"), found.tokens)
    gradient = attribute(model, inputs, 1, "gradient")
    assert (gradient - found.tokens).abs().max() > 0.01  # the integral is not the gradient at its end


def test_gradient_times_input_equals_the_change_per_share_of_an_embedding():
    model, inputs = model_and_inputs()
    found = attribute_parts(model.double(), inputs, 0, "gradient")
    words = model.ebert.encoder.embeddings.word_embeddings

    def logit(token: int, share: float) -> torch.Tensor:
        """The logit with DNA + state embedding of one token multiplied, by a hand that knows nothing of hooks."""
        embeds = words(inputs["input_ids"]) + model.ebert.state_embeddings(inputs["state_ids"])
        scale = torch.ones(embeds.shape[1], 1, dtype=embeds.dtype)
        scale[token + 1] = share
        hidden = model.ebert.encoder(inputs_embeds=embeds * scale).last_hidden_state[:, 1:-1]
        return model.head(hidden, inputs["track_values"])[:, 0]

    with torch.no_grad():
        for token in (0, 7, 57):
            slope = (logit(token, 1 + 1e-5) - logit(token, 1 - 1e-5)) / 2e-5
            torch.testing.assert_close(found.tokens[:, token].double(), slope, rtol=1e-3, atol=1e-5)
        up, down = ({**inputs, "track_values": inputs["track_values"].double()} for _ in range(2))
        up["track_values"], down["track_values"] = up["track_values"].clone(), down["track_values"].clone()
        up["track_values"][:, 9, 2] *= 1 + 1e-5
        down["track_values"][:, 9, 2] *= 1 - 1e-5
        slope = (model.double()(**up) - model(**down))[:, 0] / 2e-5
    torch.testing.assert_close(found.tracks[:, 9, 2], slope.float(), rtol=0.05, atol=1e-2)


def test_the_deciding_token_is_found():
    """All k-mers but one are alike, and look like N."""
    model, inputs = model_and_inputs({"stride": 3, "state_names": None}, {"tracks": {}})
    inputs["input_ids"][:, 1:-1] = 30
    inputs["input_ids"][:, [8]] = torch.tensor([[11], [30], [11]])
    with torch.no_grad():
        words = model.ebert.get_input_embeddings().weight
        words[30] = words[UNK]
    found = attribute(model, inputs, 0, "integrated_gradients")
    assert found[[0, 2], 7].abs().min() > 0.05
    found[[0, 2], 7] = 0
    assert not found.any()  # what is not told apart from N contributes nothing


def slow_attention(model, inputs, row: int, *, rollout: bool) -> torch.Tensor:
    """Attention by its formula, one layer and head at a time, from the layers' own inputs."""
    output = model.ebert(inputs["input_ids"], state_ids=inputs["state_ids"], output_hidden_states=True)
    centre = [i + 1 for i, inside in enumerate(centre_tokens(model, inputs["input_ids"].shape[1] - 2)) if inside]
    total, followed = 0.0, torch.eye(inputs["input_ids"].shape[1])
    for layer, hidden in zip(model.ebert.encoder.encoder.layer, output.hidden_states[:-1], strict=True):
        own = layer.attention.self
        heads = []
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            query, key = own.query(hidden[row])[:, part], own.key(hidden[row])[:, part]
            heads.append((query @ key.T / 8**0.5).softmax(-1))
        mean = (heads[0] + heads[1]) / 2
        total = total + mean / 2
        followed = (mean / 2 + torch.eye(len(mean)) / 2) @ followed
    return (followed if rollout else total)[centre].mean(0)[1:-1]


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_attention_equals_its_formula(method):
    model, inputs = model_and_inputs()
    before = model.config._attn_implementation
    found = attribute_parts(model, inputs, 0, method)
    assert found.tracks is None
    assert (model.config._attn_implementation, before) == ("sdpa", "sdpa")
    assert not model.ebert.encoder.encoder.layer[0].attention.self._forward_hooks
    with torch.no_grad():
        for row in range(3):
            expected = slow_attention(model, inputs, row, rollout=method == "rollout")
            torch.testing.assert_close(found.tokens[row], expected, rtol=1e-4, atol=1e-6)


def test_tokens_of_the_centre_bin_share_a_base_with_it():
    model = make_model(stride=3)  # the bin is [20, 40); tokens of 3 bases at 0, 3, 6, ...
    assert (centre_tokens(model, 20).nonzero()[:, 0] * 3).tolist() == [18, 21, 24, 27, 30, 33, 36, 39]
    one = make_model(stride=1)
    assert centre_tokens(one, 58).nonzero()[:, 0].tolist() == list(range(18, 40))
    whole = make_model(stride=1, binding={"input_bp": 20})
    assert centre_tokens(whole, 18).all()


def test_values_of_tokens_are_shared_out_to_their_bases():
    tokens = torch.tensor([[3.0, 6.0, -9.0]])
    side_by_side = spread_to_bases(tokens, k=3, stride=3, length_bp=11)
    torch.testing.assert_close(side_by_side[0], torch.tensor([1.0, 1, 1, 2, 2, 2, -3, -3, -3, 0, 0]))
    overlapping = spread_to_bases(tokens, k=3, stride=1, length_bp=5)
    torch.testing.assert_close(overlapping[0], torch.tensor([1.0, 3, 0, -1, -3]))
    gaps = spread_to_bases(tokens, k=2, stride=3, length_bp=8)
    torch.testing.assert_close(gaps[0], torch.tensor([1.5, 1.5, 0, 3, 3, 0, -4.5, -4.5]))


def test_what_cannot_be_asked_is_refused():
    model, inputs = model_and_inputs()
    for settings, message in [
        ((2, "gradient"), "target=2 is none of the model's 2 targets"),
        ((0, "saliency"), "Allowed: gradient, integrated_gradients, attention, rollout"),
    ]:
        with pytest.raises(RecipeError, match=message):
            attribute(model, inputs, *settings)
    with pytest.raises(RecipeError, match="steps=0"):
        attribute(model, inputs, 0, "integrated_gradients", steps=0)
