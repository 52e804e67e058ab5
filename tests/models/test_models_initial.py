"""Starting from given weights: the same model, the positions that are needed, and every size that must agree."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from epilm.errors import CheckpointError, RecipeError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.initial import check_initial_weights, load_initial_weights, weights_fingerprint
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, write_provenance
from epilm.storage import Location

STATES = ["open", "poised", "closed"]


def make_config(**changes) -> EbertConfig:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    settings = {"k": 3, "stride": 1, "state_names": STATES, "max_position_embeddings": 30}
    return EbertConfig(**(settings | sizes | changes))


def make_model(seed: int = 0, **changes) -> EbertForPreTraining:
    torch.manual_seed(seed)
    model = EbertForPreTraining(make_config(**changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.2
    return model


def save(model: EbertForPreTraining, folder) -> Location:
    model.save_pretrained(folder)
    config = model.config
    provenance = Provenance(
        assembly="toy1", trained_contigs=("chr1",), corpus_fingerprint="c", window_bp=30, bin_bp=config.bin_bp, k=config.k,
        stride=config.stride, state_names=tuple(config.state_names), step=3, seed=0, recipe_fingerprint="r",
    )  # fmt: skip
    write_provenance(Location(str(folder)), provenance)
    return Location(str(folder))


def logits(model: EbertForPreTraining, length: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = {"input_ids": torch.randint(0, 69, (3, length), generator=generator)}
    if model.config.num_states:
        inputs["state_ids"] = torch.randint(0, 6, (3, length), generator=generator)
    with torch.inference_mode():
        output = model(**inputs)
    return [scores for scores in (output.dna_logits, output.state_logits) if scores is not None]


@pytest.mark.parametrize("changes", [{}, {"combine": "concat"}, {"state_names": None}, {"tie_word_embeddings": False}])
@pytest.mark.parametrize("positions", [30, 12])
def test_a_new_model_begins_as_the_given_one_is(tmp_path, changes, positions):
    given = make_model(**changes)
    folder = save(given, tmp_path)
    # another stride and dropout are another training of the same weights
    new = make_model(seed=1, max_position_embeddings=positions, stride=3, hidden_dropout_prob=0.3, **changes)
    before, expected = logits(new, 12), logits(given, 12)
    assert all((one - other).abs().max() > 0.1 for one, other in zip(before, expected, strict=True))
    load_initial_weights(new, folder)
    for one, other in zip(logits(new, 12), expected, strict=True):
        assert torch.equal(one, other)
    words = new.ebert.get_input_embeddings().weight
    assert (new.dna_head.decoder.weight is words) == changes.get("tie_word_embeddings", True)
    assert new.ebert.encoder.embeddings.position_embeddings.weight.shape == (positions, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 4}, r"k is 3 there, 4 here \(task\.tokens\.k\)"),
        ({"hidden_size": 24}, r"hidden_size is 16 there, 24 here \(task\.model\.hidden_size\)"),
        ({"num_hidden_layers": 3}, r"num_hidden_layers is 2 there, 3 here \(task\.model\.num_layers\)"),
        ({"num_attention_heads": 4}, r"\(task\.model\.num_heads\)"),
        ({"intermediate_size": 64}, r"\(task\.model\.feed_forward\)"),
        ({"combine": "concat"}, r"combine is 'sum' there, 'concat' here \(task\.model\.combine\)"),
        ({"state_names": None}, r"num_states is 3 there, 0 here \(task\.model\.kind"),
        ({"state_names": STATES[::-1]}, r"state_names is open, poised, closed there, closed, poised, open here"),
        ({"hidden_act": "relu"}, r"hidden_act is 'gelu' there; pre-training has only 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is True there"),
        ({"max_position_embeddings": 31}, "has 30 positions, the windows need 31"),
    ],
)
def test_what_differs_is_named_before_anything_starts(tmp_path, changes, message):
    folder = save(make_model(), tmp_path)
    with pytest.raises(RecipeError, match=message):
        check_initial_weights(make_config(**changes), folder)
    check_initial_weights(make_config(), folder)


def test_two_models_of_dna_alone_agree_however_they_would_combine_states(tmp_path):
    check_initial_weights(make_config(state_names=None, combine="concat"), save(make_model(state_names=None), tmp_path))


def test_what_is_not_a_whole_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        check_initial_weights(make_config(), Location(str(tmp_path / "nowhere")))
    folder = save(make_model(), tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    state.pop("state_head.dense.bias")
    save_file(state, tmp_path / "model" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"state_head\.dense\.bias"):
        load_initial_weights(make_model(), folder)
    (tmp_path / "model" / "model.safetensors").unlink()
    for use in (weights_fingerprint, lambda place: check_initial_weights(make_config(), place)):
        with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
            use(folder)


def test_the_fingerprint_is_of_the_content(tmp_path):
    one, other = save(make_model(), tmp_path / "one"), save(make_model(seed=1), tmp_path / "other")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert weights_fingerprint(one) == weights_fingerprint(Location(str(tmp_path / "copy")))
    assert weights_fingerprint(one) != weights_fingerprint(other)
    assert len(weights_fingerprint(one)) == 16
