"""The TF-binding model: shapes of every kind, its start, its strands, and that it can learn."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from toy_binding import TRACKS, make_binding, make_config, make_model, make_windows, turned

from epilm.errors import RecipeError
from epilm.models.adapt import apply_adapt
from epilm.models.adapt_config import AdaptConfig
from epilm.models.binding import BindingHead, EbertForBinding, binding_probabilities
from epilm.models.binding_inputs import binding_inputs

KINDS = {
    "dbert": ({"state_names": None}, {"tracks": {}}),
    "ebert": ({}, {"tracks": {}}),
    "ebert+": ({}, {}),
    "ebert+ concat": ({"combine": "concat"}, {"tracks": {"dnase": TRACKS["dnase"]}}),
}


def windows_for(model: EbertForBinding, num: int = 6):
    windows = make_windows(num, config=model.binding)
    kept = list(range(len(TRACKS)))[: len(model.binding.tracks)]
    return windows.__class__(windows.dna, windows.bins, windows.phase, windows.signals[:, kept], windows.signal_phase)


def inputs_for(model: EbertForBinding, num: int = 6) -> dict[str, torch.Tensor]:
    return binding_inputs(windows_for(model, num), encoder=model.config, config=model.binding)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 3, 20])  # 58, 20 and 3 tokens; the pooling makes 4 segments of them
def test_logits_of_every_kind(kind, stride):
    changes, binding = KINDS[kind]
    model = make_model(binding=binding, stride=stride, **changes)
    inputs = inputs_for(model)
    logits = model(**inputs)
    assert logits.shape == (6, 2)
    assert logits.dtype == torch.float32
    for name, value in inputs.items():  # the first token of every input has a say
        other = value.clone()
        other[:, 1] = 7 if name == "input_ids" else 4 if name == "state_ids" else other[:, 1] + 3
        assert (model(**(inputs | {name: other})) != logits).any()
    half = model.to(torch.bfloat16)(**inputs)
    assert half.dtype == torch.float32
    assert (half - logits).abs().max() < 0.1


def test_the_head_equals_one_written_out():
    torch.manual_seed(0)
    config = make_binding()
    head = BindingHead(16, config, initializer_range=0.02).eval()
    hidden, tracks = torch.randn(3, 10, 16), torch.randn(3, 10, 3)
    x = torch.cat([hidden, tracks], dim=-1)
    for conv, width in ((head.conv1, 5), (head.conv2, 3)):
        padded = F.pad(x, (0, 0, width // 2, width // 2))
        taps = [padded[:, i : i + 10] @ conv.weight[:, :, i].T for i in range(width)]
        x = F.gelu(torch.stack(taps).sum(0) + conv.bias)
    # 10 tokens in 4 stretches: floor(10 i / 4) to ceil(10 (i + 1) / 4)
    x = torch.stack([x[:, a:b].amax(1) for a, b in ((0, 3), (2, 5), (5, 8), (7, 10))], dim=-1)
    expected = F.gelu(x.flatten(1) @ head.dense.weight.T + head.dense.bias) @ head.out.weight.T + head.out.bias
    torch.testing.assert_close(head(hidden, tracks), expected, rtol=1e-5, atol=1e-5)


def test_a_new_head_keeps_the_scale_of_its_signal_and_begins_at_the_prior():
    torch.manual_seed(0)
    config = make_binding(tracks={}, targets=[f"TF{i}" for i in range(50)], head={})
    for hidden_size in (16, 768):
        head = BindingHead(hidden_size, config, initializer_range=0.02).eval()
        x = torch.randn(8, hidden_size, 140)
        first = head.conv1(x)
        second = head.conv2(F.gelu(first))
        dense = head.dense(F.adaptive_max_pool1d(F.gelu(second), 20).flatten(1))
        assert all(0.4 < layer.std() < 4 for layer in (first, second, dense))
        assert head(x.transpose(1, 2)).std() < 1
    model = EbertForBinding(make_config(), make_binding()).eval()
    model.set_prior(0.01)
    assert model(**inputs_for(model)).sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
    model.set_prior([0.2, 0.5])
    assert model.head.out.bias.tolist() == pytest.approx([-1.3862944, 0.0])
    for rates in (0.0, [0.1], [0.1, 1.0]):
        with pytest.raises(RecipeError, match="give one above 0 and below 1 for each"):
            model.set_prior(rates)


def test_with_both_strands_a_window_and_its_reverse_complement_have_one_prediction():
    model = make_model(binding={"both_strands": True})
    windows = make_windows()
    here, there = binding_probabilities(model, windows), binding_probabilities(model, turned(windows, 60))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-7)
    alone = make_model()
    forward, backward = binding_probabilities(alone, windows), binding_probabilities(alone, turned(windows, 60))
    assert (forward - backward).abs().max() > 1e-3
    torch.testing.assert_close(here, (forward + backward) / 2, rtol=0, atol=1e-7)


@pytest.mark.parametrize("adapt", [{}, {"mode": "frozen"}, {"mode": "lora", "lora_rank": 4}])
def test_one_batch_can_be_learned_by_heart(adapt):
    torch.manual_seed(0)
    settings = {"stride": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = EbertForBinding(make_config(**settings), make_binding(head={"dropout": 0.0}))
    apply_adapt(model, AdaptConfig(**adapt))
    inputs, labels = inputs_for(model, 16), torch.rand(16, 2, generator=torch.Generator().manual_seed(1)) < 0.3
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    started = time.perf_counter()
    for step in range(300):
        loss = F.binary_cross_entropy_with_logits(model.train()(**inputs), labels.float())
        if step == 0:
            first = loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    assert loss < 0.02 < first
    assert ((model.eval()(**inputs) > 0) == labels).all()
    assert time.perf_counter() - started < 3


def test_a_frozen_encoder_has_no_dropout_and_no_gradient_and_the_head_has_both():
    model = EbertForBinding(make_config(), make_binding(head={"dropout": 0.5}))
    inputs = inputs_for(model)
    model.freeze_encoder()
    model.train()
    assert not any(module.training for module in model.ebert.modules())
    hidden = [model.ebert(inputs["input_ids"], state_ids=inputs["state_ids"]).last_hidden_state for _ in range(2)]
    assert torch.equal(*hidden)
    assert not torch.equal(model(**inputs), model(**inputs))
    model(**inputs).sum().backward()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"head"}
    assert not model.eval().head.training


def test_what_cannot_work_is_refused():
    with pytest.raises(RecipeError, match=r"input_bp=60 makes 60 tokens .* the encoder has 59 positions"):
        EbertForBinding(make_config(max_position_embeddings=59), make_binding())
    with pytest.raises(RecipeError, match="has no 7-mer"):
        EbertForBinding(make_config(k=7), make_binding(input_bp=4, bin_bp=2))
    model = make_model()
    inputs = inputs_for(model)
    with pytest.raises(ValueError, match="reads 3 tracks, but none were given"):
        model(inputs["input_ids"], inputs["state_ids"])
    with pytest.raises(ValueError, match="reads 0 tracks, but 3 were given"):
        make_model(binding={"tracks": {}})(**inputs)
