"""EBERT and DBERT: shapes, heads, ties, saving, learning."""

import copy

import pytest
import torch
from torch.nn import functional as F

from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertForPreTraining, EbertModel

STATES = ["quiescent", "promoter", "enhancer", "repressed"]


def small_config(**changes) -> EbertConfig:
    settings = {
        "k": 3, "stride": 3, "state_names": STATES, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 40,
    }  # fmt: skip
    return EbertConfig(**{**settings, **changes})


def make_model(cls=EbertForPreTraining, seed: int = 0, **changes):
    torch.manual_seed(seed)
    return cls(small_config(**changes)).eval()


def make_batch(batch: int = 5, length: int = 22) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 69, (batch, length), generator=generator)
    states = torch.randint(3, 7, (batch, length), generator=generator)
    ids[:, 0], ids[:, -1], states[:, 0], states[:, -1] = 2, 3, 0, 0
    scored = torch.rand(ids.shape, generator=generator) < 0.2
    one_state = torch.zeros_like(scored)
    one_state[torch.arange(batch), torch.randint(1, length - 1, (batch,), generator=generator)] = True
    return {
        "input_ids": torch.where(scored, 4, ids),
        "state_ids": torch.where(one_state, 1, states),
        "dna_labels": torch.where(scored, ids, -100),
        "state_labels": torch.where(one_state, states, -100),
    }


@pytest.mark.parametrize("combine", ["sum", "concat"])
@pytest.mark.parametrize(
    "size", [{}, {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1, "intermediate_size": 7}]
)
def test_scored_heads_equal_the_full_heads_there(combine, size):
    model, batch = make_model(combine=combine, **size), make_batch()
    scored = model(**batch)
    full = model(batch["input_ids"], state_ids=batch["state_ids"])
    assert full.dna_logits.shape == (5, 22, 69)
    assert full.state_logits.shape == (5, 22, 7)
    torch.testing.assert_close(scored.dna_logits, full.dna_logits[batch["dna_labels"] != -100])
    torch.testing.assert_close(scored.state_logits, full.state_logits[batch["state_labels"] != -100])
    assert scored.state_logits.shape == (5, 7)


def test_nothing_scored_gives_empty_logits_and_zero_gradients():
    model, batch = make_model(), make_batch()
    batch["dna_labels"].fill_(-100)
    output = model(**batch)
    assert output.dna_logits.shape == (0, 69)
    (output.dna_logits.sum() + output.state_logits.sum() * 0).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_every_parameter_gets_a_gradient():
    for changes in ({}, {"combine": "concat"}, {"state_names": None}):
        model, batch = make_model(**changes), make_batch()
        if not model.config.num_states:
            batch = {key: batch[key] for key in ("input_ids", "dna_labels")}
        output = model(**batch)
        loss = output.dna_logits.square().sum()
        if output.state_logits is not None:
            loss = loss + output.state_logits.square().sum()
        loss.backward()
        without = [name for name, p in model.named_parameters() if p.grad is None]
        assert without == []


def test_states_change_the_result_and_a_dbert_has_none():
    model, batch = make_model(EbertModel), make_batch()
    one = model(batch["input_ids"], state_ids=batch["state_ids"]).last_hidden_state
    other = model(batch["input_ids"], state_ids=batch["state_ids"].flip(1)).last_hidden_state
    assert one.shape == (5, 22, 32)
    assert not torch.allclose(one, other)

    dbert = make_model(state_names=None)
    assert dbert.config.num_states == 0
    assert not [name for name, _ in dbert.named_parameters() if "state" in name]
    output = dbert(batch["input_ids"], dna_labels=batch["dna_labels"])
    assert output.state_logits is None
    assert output.dna_logits.shape[1] == 69


def test_missing_surplus_and_too_long_inputs_are_refused():
    batch = make_batch()
    with pytest.raises(ValueError, match="state_ids is None"):
        make_model()(batch["input_ids"])
    with pytest.raises(ValueError, match="reads DNA alone"):
        make_model(state_names=None)(batch["input_ids"], state_ids=batch["state_ids"])
    with pytest.raises(ValueError, match="44 tokens, the model at most 40"):
        make_model(state_names=None)(batch["input_ids"].repeat(1, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 9}, "k=9 is out of range"),
        ({"stride": 0}, "stride=0"),
        ({"dna_vocab_size": 64}, "dna_vocab_size=64 contradicts k=3"),
        ({"num_states": 3}, "num_states=3 contradicts the 4 state_names"),
        ({"combine": "product"}, "combine='product' is unknown"),
        ({"num_attention_heads": 5}, "not a multiple of num_attention_heads=5"),
    ],
)
def test_contradictory_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(**changes)


def test_padding_changes_nothing():
    model, batch = make_model(EbertModel), make_batch()
    whole = model(batch["input_ids"], state_ids=batch["state_ids"]).last_hidden_state
    ids, states = F.pad(batch["input_ids"], (0, 6)), F.pad(batch["state_ids"], (0, 6))
    padded = model(ids, state_ids=states, attention_mask=(ids != 0).long()).last_hidden_state
    torch.testing.assert_close(padded[:, :22], whole)


@pytest.mark.parametrize("changes", [{}, {"state_names": None}, {"combine": "concat"}, {"tie_word_embeddings": False}])
def test_save_and_load(tmp_path, changes):
    model, batch = make_model(**changes), make_batch()
    if not model.config.num_states:
        batch = {key: batch[key] for key in ("input_ids", "dna_labels")}
    model.save_pretrained(tmp_path)
    loaded, report = EbertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    unlike = {"_name_or_path": "", "transformers_version": ""}
    assert loaded.config.to_dict() | unlike == model.config.to_dict() | unlike
    for (name, one), (_, other) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    torch.testing.assert_close(loaded(**batch).dna_logits, model(**batch).dna_logits, rtol=0, atol=0)
    tied = loaded.dna_head.decoder.weight is loaded.ebert.get_input_embeddings().weight
    assert tied == changes.get("tie_word_embeddings", True)


def test_the_encoder_loads_from_a_pre_trained_model(tmp_path):
    model, batch = make_model(), make_batch()
    model.save_pretrained(tmp_path)
    encoder, report = EbertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]  # the heads are left out without a warning
    expected = model.ebert(batch["input_ids"], state_ids=batch["state_ids"]).last_hidden_state
    got = encoder(batch["input_ids"], state_ids=batch["state_ids"]).last_hidden_state
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_initialisation_is_berts():
    model = make_model(hidden_size=128, intermediate_size=512)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "LayerNorm" in name:
            assert (weight == 1).all(), name
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.15), name
    assert not model.ebert.get_input_embeddings().weight[0].any()
    assert model.config._attn_implementation == "sdpa"


def test_eager_and_sdpa_attention_agree():
    batch = make_batch()
    sdpa, eager = make_model(), make_model(attn_implementation="eager")
    assert eager.ebert.encoder.config._attn_implementation == "eager"
    torch.testing.assert_close(sdpa(**batch).dna_logits, eager(**batch).dna_logits, rtol=1e-4, atol=1e-5)
    assert len(eager(**batch, output_attentions=True).attentions) == 2
    assert len(sdpa(**batch, output_hidden_states=True).hidden_states) == 3


def test_gradient_checkpointing_gives_the_same_gradients():
    plain, batch = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(), make_batch()
    saving = copy.deepcopy(plain)
    saving.gradient_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in saving.ebert.encoder.encoder.layer)
    for model in (plain, saving):
        output = model(**batch)
        (output.dna_logits.square().mean() + output.state_logits.square().mean()).backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_one_batch_can_be_overfitted():
    model, batch = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    dna = batch["dna_labels"][batch["dna_labels"] != -100]
    state = batch["state_labels"][batch["state_labels"] != -100]
    for _ in range(150):
        output = model(**batch)
        loss = F.cross_entropy(output.dna_logits, dna) + F.cross_entropy(output.state_logits, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert (output.dna_logits.argmax(1) == dna).all()
    assert (output.state_logits.argmax(1) == state).all()


def test_bfloat16_runs():
    model, batch = make_model().to(torch.bfloat16), make_batch()
    assert model(**batch).dna_logits.dtype == torch.bfloat16
