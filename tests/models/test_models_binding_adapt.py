"""What fine-tuning may change: the start is the pre-trained model, what is folded is what was trained."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from toy_binding import make_binding, make_config, make_model, make_windows

from epilm.models.adapt import apply_adapt, merged_state, rate_factor
from epilm.models.adapt_config import AdaptConfig
from epilm.models.binding import EbertForBinding
from epilm.models.binding_inputs import binding_inputs

ALL_TARGETS = ("query", "key", "value", "attention_output", "intermediate", "output")


def logits(model: EbertForBinding) -> torch.Tensor:
    return model(**binding_inputs(make_windows(), encoder=model.config, config=model.binding))


def trainable(model: EbertForBinding) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("targets", [("query", "value"), ("output",), ALL_TARGETS])
def test_a_low_rank_change_begins_at_nothing_and_folds_into_the_plain_weights(targets):
    plain = make_model()
    adapted = copy.deepcopy(plain)
    apply_adapt(adapted, AdaptConfig(mode="lora", lora_rank=3, lora_alpha=6.0, lora_targets=targets))
    assert torch.equal(logits(adapted), logits(plain))
    begun = merged_state(adapted, adapted.state_dict())
    assert {name: value.shape for name, value in begun.items()} == {n: v.shape for n, v in plain.state_dict().items()}
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in begun.items())

    optimizer = torch.optim.SGD([weight for weight in adapted.parameters() if weight.requires_grad], lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        logits(adapted).square().sum().backward()
        optimizer.step()
    merged = merged_state(adapted, adapted.state_dict())
    changed = {name for name, value in merged.items() if not torch.equal(value, plain.state_dict()[name])}
    layers = {name for name in changed if name.startswith("ebert.")}
    assert len(layers) == 2 * len(targets)  # of every layer these matrices, and nothing else of the encoder
    assert changed - layers == {name for name in merged if name.startswith("head.")}
    assert all(torch.linalg.matrix_rank(merged[n] - plain.state_dict()[n], atol=1e-6) <= 3 for n in layers)
    again = make_model(seed=5)
    again.load_state_dict(merged)
    torch.testing.assert_close(logits(again), logits(adapted), rtol=0, atol=1e-6)
    assert (logits(again) - logits(plain)).abs().max() > 1e-3


def test_the_change_is_scaled_by_alpha_over_rank():
    adapted = make_model()
    before = adapted.ebert.encoder.encoder.layer[1].attention.self.query.weight.detach().clone()
    apply_adapt(adapted, AdaptConfig(mode="lora", lora_rank=2, lora_alpha=10.0))
    query = adapted.ebert.encoder.encoder.layer[1].attention.self.query
    low_rank = query.parametrizations.weight[0]
    with torch.no_grad():
        low_rank.up.fill_(1.0)
        low_rank.down.copy_(torch.tensor([[0.25], [0.5]]).expand(2, 16))
    torch.testing.assert_close(query.weight, before + 10 / 2 * 0.75)


def test_what_is_trained_in_each_mode_and_under_which_names():
    full, frozen, lora = make_model(), make_model(), make_model()
    names = set(full.state_dict())
    apply_adapt(full, AdaptConfig())
    apply_adapt(frozen, AdaptConfig(mode="frozen"))
    apply_adapt(lora, AdaptConfig(mode="lora"))
    head = {name for name in names if name.startswith("head.")}
    assert trainable(full) == names
    assert set(frozen.state_dict()) == names
    assert trainable(frozen) == head
    place = "ebert.encoder.encoder.layer.{}.attention.self.{}.parametrizations.weight.0.{}"
    parts = {place.format(i, what, part) for i in (0, 1) for what in ("query", "value") for part in ("up", "down")}
    assert trainable(lora) == head | parts
    assert not frozen.train().ebert.training
    assert lora.train().ebert.training
    state = frozen.state_dict()
    assert merged_state(frozen, state).keys() == state.keys()


def test_rates_fall_from_the_head_to_the_embeddings():
    model, adapt = make_model(num_hidden_layers=3, combine="concat"), AdaptConfig(layer_decay=0.5)
    rates = {name: rate_factor(name, model.config, adapt) for name in model.state_dict()}
    layer = "ebert.encoder.encoder.layer"
    assert {name: rates[name] for name in rates if name.endswith(("query.weight", "out.bias", "conv1.weight"))} == {
        f"{layer}.0.attention.self.query.weight": 0.125,
        f"{layer}.1.attention.self.query.weight": 0.25,
        f"{layer}.2.attention.self.query.weight": 0.5,
        "head.conv1.weight": 1.0,
        "head.out.bias": 1.0,
    }
    lowest = {name for name, rate in rates.items() if rate == 0.0625}
    assert lowest == {name for name in rates if name.startswith("ebert.") and not name.startswith(layer)}
    assert {"ebert.state_embeddings.weight", "ebert.combine.weight"} < lowest
    assert set(rates.values()) == {1.0, 0.5, 0.25, 0.125, 0.0625}
    low_rank = f"{layer}.1.attention.self.query.parametrizations.weight.0.up"
    assert rate_factor(low_rank, model.config, AdaptConfig(mode="lora", layer_decay=0.5)) == 0.25
    assert {rate_factor(name, model.config, AdaptConfig()) for name in rates} == {1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "frozen", "layer_decay": 0.8}, "has no effect with mode=frozen"),
        ({"lora_rank": 4}, "lora_rank has no effect with mode=full"),
        ({"mode": "frozen", "lora_targets": ["query"]}, "lora_targets has no effect with mode=frozen"),
        ({"mode": "lora", "lora_targets": ["query", "query"]}, "names one twice"),
        ({"mode": "lora", "lora_targets": ["keys"]}, "'query', 'key', 'value', 'attention_output'"),
        ({"layer_decay": 0.0}, "greater than 0"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        AdaptConfig(**settings)
    for given in ({}, {"mode": "frozen"}, {"mode": "lora", "lora_rank": 2}):
        config = AdaptConfig(**given)
        assert AdaptConfig.model_validate(config.model_dump()) == config  # as it is read from a resolved recipe


def test_a_checkpoint_of_an_adapted_model_is_folded_by_a_new_model_of_its_form():
    trained = EbertForBinding(make_config(), make_binding())
    adapt = AdaptConfig(mode="lora")
    apply_adapt(trained, adapt)
    with torch.no_grad():
        for weight in trained.parameters():
            weight += torch.randn_like(weight) * 0.1
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    form = EbertForBinding(make_config(), make_binding())
    apply_adapt(form, adapt)
    plain = EbertForBinding(make_config(), make_binding())
    plain.load_state_dict(merged_state(form, state))
    torch.testing.assert_close(logits(plain.eval()), logits(trained.eval()), rtol=0, atol=1e-6)
