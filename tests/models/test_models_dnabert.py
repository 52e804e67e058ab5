"""DNABERT's published layout, made by transformers with random weights, against what is read from it and written to it."""

from __future__ import annotations

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from epilm.errors import CheckpointError, RecipeError, RunExistsError, StorageError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.dnabert_folder import import_dnabert, read_dnabert, write_dnabert
from epilm.models.folder import check_weights, read_config
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import read_provenance
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.storage import Location

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 32


def words(k: int, bases: str) -> list[str]:
    return [*SPECIALS, *map("".join, product(bases, repeat=k))]


def make_bert(k: int, **changes) -> BertForMaskedLM:
    """DNABERT's configuration at a tiny width; no weight is at a value that hides an error (0 of a bias, 1 of a norm)."""
    torch.manual_seed(k)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    config = BertConfig(vocab_size=5 + 4**k, max_position_embeddings=POSITIONS, type_vocab_size=2, **(sizes | changes))
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.2
    return model


def save(model: BertForMaskedLM, folder, order: list[str] | None, form: str = "safetensors"):
    """As transformers saves today, or as DNABERT is published: a pickle with a pooler, and the old names."""
    model.save_pretrained(folder)
    if order is not None:
        (folder / "vocab.txt").write_text("\n".join(order))
    if form == "safetensors":
        return folder
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    if form == "old names":
        state = {re.sub("LayerNorm.weight$", "LayerNorm.gamma", name): weight for name, weight in state.items()}
        state = {re.sub("LayerNorm.bias$", "LayerNorm.beta", name): weight for name, weight in state.items()}
        del state["cls.predictions.decoder.bias"]
    state |= {"bert.pooler.dense.weight": torch.ones(24, 24), "bert.pooler.dense.bias": torch.ones(24)}
    state |= {"cls.seq_relationship.bias": torch.ones(2), "bert.embeddings.position_ids": torch.arange(POSITIONS)[None]}
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    published = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "layer_norm_eps", "tie_word_embeddings", "pad_token_id"):
        published.pop(key)
    (folder / "config.json").write_text(json.dumps(published | {"num_rnn_layer": 1, "split": 10}))
    return folder


def assert_same_logits(ours: EbertForPreTraining, theirs: BertForMaskedLM, k: int, order: list[str]) -> None:
    """At every position of a batch with specials, MASK, UNK and padding, ids mapped by their names."""
    their_id = torch.tensor([order.index(word) for word in words(k, "ACGT")])
    ids = torch.randint(5, 5 + 4**k, (4, POSITIONS), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1], ids[1, 5:9], ids[2, 3], ids[3, 20:] = 2, 3, 4, 1, 0
    mask = (ids != 0).long()
    with torch.inference_mode():
        got = ours(ids, attention_mask=mask).dna_logits
        expected = theirs(their_id[ids], attention_mask=mask).logits[..., their_id]
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    assert expected.std() > 0.1
    assert (got[0, 1] - got[0, 2]).abs().max() > 0.1  # the input decides


@pytest.mark.parametrize("form", ["safetensors", "pickle", "old names"])
@pytest.mark.parametrize("k", [3, 6])
def test_an_import_scores_as_the_published_model(tmp_path, k, form):
    theirs, order = make_bert(k), words(k, "ATCG")
    read = read_dnabert(Location(str(save(theirs, tmp_path, order, form))), k=k)
    assert_same_logits(read.model, theirs, k, order)
    config = read.config
    assert (config.k, config.stride, config.num_states, config.max_position_embeddings) == (k, 1, 0, POSITIONS)
    assert config.tie_word_embeddings
    assert read.model.dna_head.decoder.weight is read.model.ebert.get_input_embeddings().weight


def test_settings_that_change_the_outputs_are_kept(tmp_path):
    theirs = make_bert(3, hidden_act="relu", layer_norm_eps=0.1, hidden_dropout_prob=0.3)
    read = read_dnabert(Location(str(save(theirs, tmp_path, words(3, "ATCG")))))
    assert_same_logits(read.model, theirs, 3, words(3, "ATCG"))
    assert read.config.hidden_dropout_prob == 0.3


def test_a_decoder_of_its_own_stays_so(tmp_path):
    theirs, order = make_bert(3, tie_word_embeddings=False), words(3, "ATCG")
    read = read_dnabert(Location(str(save(theirs, tmp_path / "in", order))))
    assert_same_logits(read.model, theirs, 3, order)
    assert not read.config.tie_word_embeddings
    import_dnabert(tmp_path / "in", tmp_path / "model", k=3, assembly="hg38")
    again = BertForMaskedLM.from_pretrained(write_dnabert(tmp_path / "model", tmp_path / "out")).eval()
    assert_same_logits(read.model, again, 3, order)


def test_vocab_txt_decides_and_the_published_order_is_the_fallback(tmp_path):
    theirs = make_bert(3)
    shuffled = [words(3, "ACGT")[i] for i in np.random.default_rng(0).permutation(69)]
    read = read_dnabert(Location(str(save(theirs, tmp_path / "named", shuffled))))
    assert read.has_vocab
    assert_same_logits(read.model, theirs, 3, shuffled)
    read = read_dnabert(Location(str(save(theirs, tmp_path / "bare", None))))
    assert not read.has_vocab
    assert_same_logits(read.model, theirs, 3, words(3, "ATCG"))


def test_the_imported_folder_is_a_model_folder(tmp_path):
    theirs = make_bert(6)
    save(theirs, tmp_path / "dnabert6", words(6, "ATCG"), "pickle")
    said: list[str] = []
    out = import_dnabert(tmp_path / "dnabert6", tmp_path / "deep" / "model", k=6, assembly="hg38", progress=said.append)
    location = Location(str(out))
    check_weights(location, read_config(location))
    assert_same_logits(EbertForPreTraining.from_pretrained(out).eval(), theirs, 6, words(6, "ATCG"))
    tokenizer = KmerTokenizer.from_pretrained(out)
    assert (tokenizer.k, tokenizer.stride, tokenizer("ACGTACG")["input_ids"][0]) == (6, 1, 2)
    seen = read_provenance(location)
    assert (seen.assembly, seen.trained_contigs, seen.saw_everything) == ("hg38", ("*",), True)
    assert (seen.window_bp, seen.k, seen.stride) == (POSITIONS - 2 + 5, 6, 1)
    assert seen.step is seen.seed is seen.corpus_fingerprint is seen.recipe_fingerprint is None
    assert re.fullmatch(r"dnabert6/pytorch_model\.bin \(sha256 [0-9a-f]{16}\)", str(seen.imported_from))
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert len(said) == 1
    assert "6-mers at stride 1, at most 35 bp; trained on hg38, all contigs" in said[0]


def test_what_the_user_knows_of_the_training_is_kept_and_an_assumed_order_is_said(tmp_path):
    save(make_bert(3), tmp_path / "in", None)
    said: list[str] = []
    settings = {"k": 3, "assembly": "hg19", "progress": said.append}
    out = import_dnabert(tmp_path / "in", tmp_path / "out", trained_contigs=("chr1", "chr2"), **settings)
    assert read_provenance(Location(str(out))).trained_contigs == ("chr1", "chr2")
    assert "has no vocab.txt" in said[0]
    for contigs in ((), ("",)):
        with pytest.raises(RecipeError, match="say what the checkpoint has seen"):
            import_dnabert(tmp_path / "in", tmp_path / "none", trained_contigs=contigs, **settings)


def test_existing_folders(tmp_path):
    save(make_bert(3), tmp_path / "in", words(3, "ATCG"))
    settings = {"k": 3, "assembly": "hg38"}
    out = import_dnabert(tmp_path / "in", tmp_path / "out", **settings)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(RunExistsError, match="Use --overwrite"):
        import_dnabert(tmp_path / "in", out, **settings)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    import_dnabert(tmp_path / "in", out, on_existing="overwrite", **(settings | {"assembly": "hg19"}))
    assert read_provenance(Location(str(out))).assembly == "hg19"
    with pytest.raises(RunExistsError, match=r"is not an epilm model \(no epilm\.json"):
        import_dnabert(
            tmp_path / "in", save(make_bert(3), tmp_path / "other", None), on_existing="overwrite", **settings
        )
    with pytest.raises(RunExistsError, match="is not a DNABERT folder of epilm"):
        write_dnabert(out, tmp_path / "other", on_existing="overwrite")
    with pytest.raises(StorageError, match="is the one to read"):
        import_dnabert(tmp_path / "in", tmp_path / "in", on_existing="overwrite", **settings)
    with pytest.raises(CheckpointError):
        import_dnabert(tmp_path / "nowhere", tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_there_and_back_is_the_same_to_the_last_bit(tmp_path):
    theirs = make_bert(6)
    save(theirs, tmp_path / "in", words(6, "ATCG"))
    out = write_dnabert(import_dnabert(tmp_path / "in", tmp_path / "m", k=6, assembly="hg38"), tmp_path / "out")
    before, after = load_file(tmp_path / "in" / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    segments = "bert.embeddings.token_type_embeddings.weight"
    for name, weight in before.items():
        assert torch.equal(
            after[name][:1] if name == segments else after[name], weight[:1] if name == segments else weight
        ), name
    loaded, report = BertForMaskedLM.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())
    ids = torch.randint(0, 4101, (2, POSITIONS), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(ids).logits, theirs(ids).logits)
    assert (out / "vocab.txt").read_text() == (tmp_path / "in" / "vocab.txt").read_text() + "\n"
    assert (out / "epilm.json").read_bytes() == (tmp_path / "m" / "epilm.json").read_bytes()
    tokenizer = BertTokenizer.from_pretrained(out)
    assert tokenizer("AAAAAC AAAACA NNNNNN")["input_ids"] == [2, 5 + 2, 5 + 8, 1, 3]


def make_ebert(folder, **changes):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40}
    config = EbertConfig(max_position_embeddings=POSITIONS, **(sizes | {"k": 4, "stride": 1} | changes))
    torch.manual_seed(0)
    model = EbertForPreTraining(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.2
    model.save_pretrained(folder)
    names = tuple(config.state_names)
    facts = {"assembly": "toy1", "trained_contigs": ["chr1"], "corpus_fingerprint": "c", "window_bp": 33, "bin_bp": 200}
    facts |= {
        "k": config.k,
        "stride": config.stride,
        "state_names": names,
        "step": 1,
        "seed": 0,
        "recipe_fingerprint": "r",
    }
    (folder / "epilm.json").write_text(json.dumps(facts))
    return model


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"hidden_act": "relu", "layer_norm_eps": 0.1}])
def test_a_model_of_our_own_in_the_published_layout(tmp_path, changes):
    model = make_ebert(tmp_path / "model", **changes)
    theirs = BertForMaskedLM.from_pretrained(write_dnabert(tmp_path / "model", tmp_path / "out")).eval()
    assert_same_logits(model, theirs, 4, words(4, "ATCG"))
    assert theirs.config.type_vocab_size == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"state_names": ["a", "b"]}, "an EBERT of 2 states"), ({"stride": 4}, "a 4-mer every 4 bp, DNABERT every base")],
)
def test_models_that_the_published_layout_cannot_hold(tmp_path, changes, message):
    make_ebert(tmp_path / "model", **changes)
    with pytest.raises(CheckpointError, match=message):
        write_dnabert(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def change_weights(folder, change) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def rename(old: str, new: str):
    return lambda state: state.update({new: state.pop(old)})


def cut(name: str, rows: int):
    return lambda state: state.update({name: state[name][:rows].clone()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("bert.encoder.layer.1.output.dense.bias", "x"), r"lacks bert\.encoder\.layer\.1\.output\.dense\.bias"),
        (
            lambda state: [state.pop(name) for name in list(state) if name.startswith("cls.")],
            "and 2 more.*not of an encoder",
        ),
        (lambda state: state.update({"classifier.weight": torch.ones(2)}), r"has classifier\.weight, for which"),
        (
            cut("bert.embeddings.position_embeddings.weight", 20),
            r"position_embeddings\.weight \(20, 24\), not \(32, 24\)",
        ),
        (cut("bert.embeddings.word_embeddings.weight", 68), r"word_embeddings\.weight \(68, 24\), not \(69, 24\)"),
        (
            cut("bert.embeddings.token_type_embeddings.weight", 0),
            r"token_type_embeddings\.weight \(0, 24\), not \(1, 24\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    save(make_bert(3), tmp_path, words(3, "ATCG"))
    change_weights(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        read_dnabert(Location(str(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "k", "message"),
    [
        ({"vocab_size": 4096}, None, r"vocab_size is 4096; expected 5 \+ 4\^k \(4101 for k=6\)"),
        ({}, 6, r"vocab_size is 69, which is that of k=3; expected 4101"),
        ({"hidden_size": None}, None, "has no number for hidden_size"),
        ({"num_attention_heads": 5}, None, "hidden_size=24 is not a multiple of num_attention_heads=5"),
        ({"num_hidden_layers": 3}, None, r"lacks bert\.encoder\.layer\.2"),
        ({"num_hidden_layers": 1}, None, r"has bert\.encoder\.layer\.1"),
        ({"intermediate_size": 41}, None, "other sizes than its config.json says: .*41"),
        ({"max_position_embeddings": 2}, None, "CLS, SEP and one k-mer need 3"),
        ({"model_type": "gpt2"}, None, "model_type is 'gpt2'"),
        ({"position_embedding_type": "relative_key"}, None, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "wave"}, None, "hidden_act is 'wave'"),
    ],
)
def test_another_configuration_is_refused(tmp_path, changes, k, message):
    save(make_bert(3), tmp_path, words(3, "ATCG"))
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(CheckpointError, match=message):
        read_dnabert(Location(str(tmp_path)), k=k)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    location = Location(str(tmp_path / "in"))
    with pytest.raises(CheckpointError, match="is not a DNABERT checkpoint: it does not exist"):
        read_dnabert(location)
    save(make_bert(3), tmp_path / "in", words(3, "ATCG"), "pickle")
    weights = tmp_path / "in" / "pytorch_model.bin"
    whole = weights.read_bytes()
    for data in (whole[: len(whole) // 2], b"not a pickle", b""):
        weights.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read"):
            read_dnabert(location)
    torch.save({"model": {"weight": torch.ones(2)}}, weights)
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        read_dnabert(location)
    torch.save({"weight": Location("somewhere")}, weights)  # a pickle that would run code
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_dnabert(location)
    (tmp_path / "in" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_dnabert(location)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"it holds config\.json, vocab\.txt"):
        read_dnabert(location)
