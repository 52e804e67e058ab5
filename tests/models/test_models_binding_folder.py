"""A TF-binding model on disk and in a bucket: the same to the last bit, and refused where it is not whole."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_binding import STATES, make_binding, make_config, make_model, make_windows

from epilm.errors import CheckpointError, RecipeError
from epilm.models.binding import EbertForBinding
from epilm.models.binding_folder import load_binding, load_encoder, read_binding_info, write_binding
from epilm.models.binding_inputs import binding_inputs
from epilm.models.folder import check_weights, read_config
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, write_provenance
from epilm.storage import Location

EXTRA = {
    "train_cell_types": ("K562", "HepG2"),
    "selected_on": ("chr2",),
    "labels_fingerprint": "l1",
    "corpus_fingerprint": "c1",
}


def provenance_of(config, **changes) -> Provenance:
    return Provenance(
        assembly="toy1", trained_contigs=("chr1",), corpus_fingerprint="c1", window_bp=60, bin_bp=config.bin_bp,
        k=config.k, stride=config.stride, state_names=tuple(config.state_names), step=3, seed=0, recipe_fingerprint="r",
    ).model_copy(update=changes)  # fmt: skip


def save(model: EbertForBinding, folder: Path, **changes) -> Location:
    folder.mkdir(exist_ok=True)
    provenance = provenance_of(model.config, **changes)
    write_binding(folder, model.config, model.binding, model.state_dict(), provenance, extra=EXTRA)
    return Location(str(folder))


def logits(model: EbertForBinding) -> torch.Tensor:
    windows = make_windows(config=model.binding)
    with torch.inference_mode():
        return model(**binding_inputs(windows, encoder=model.config, config=model.binding))


@pytest.mark.parametrize(
    ("changes", "binding"),
    [({}, {}), ({"state_names": None, "stride": 3}, {"tracks": {}}), ({"combine": "concat"}, {"both_strands": True})],
)
def test_a_model_comes_back_to_the_last_bit_with_what_it_was_trained_on(tmp_path, changes, binding):
    model = make_model(binding=binding, **changes)
    place = save(model, tmp_path / "model")
    assert place.children() == ["binding.json", "config.json", "epilm.json", "model.safetensors"]
    info, loaded = read_binding_info(place), load_binding(place)
    assert info.binding == loaded.binding == model.binding
    assert info.record.model_dump(exclude={"binding"}) == EXTRA
    assert info.provenance == provenance_of(model.config)
    assert (info.config.model_type, info.config.architectures) == ("ebert", ["EbertForBinding"])
    assert model.config.architectures != ["EbertForBinding"]  # the caller's is left as it was
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert torch.equal(logits(loaded), logits(model))
    half = load_binding(place, device=torch.device("cpu"), dtype="bfloat16")
    kinds = {name: weight.dtype for name, weight in half.named_parameters()}
    assert {name for name, kind in kinds.items() if kind != torch.bfloat16} == {"head.out.weight", "head.out.bias"}
    assert logits(half).dtype == torch.float32


def test_a_model_in_a_bucket_is_the_one_on_the_disk(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("bucket", Path(__file__).parents[1] / "corpus" / "tiny_s3.py")
    bucket = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bucket)
    model = make_model()
    save(model, tmp_path / "model")
    with bucket.serve_bucket() as (url, objects):
        for key, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(key, value)
        place = Location("s3://bucket/runs/tf/model")
        pafs.copy_files(str(tmp_path / "model"), place.path, destination_filesystem=place.fs)
        assert torch.equal(logits(load_binding(place)), logits(model))
        objects["bucket/runs/tf/model/model.safetensors"] = objects["bucket/runs/tf/model/model.safetensors"][:-1]
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            read_binding_info(place)


def _edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _lose_a_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop("head.conv2.bias")
    save_file(state, folder / "model.safetensors")


def _cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def _other_targets(folder: Path) -> None:
    _edit(folder / "binding.json", binding=make_binding(targets=("CTCF",)).model_dump(mode="json"))


def _long_input(folder: Path) -> None:
    _edit(folder / "binding.json", binding=make_binding(input_bp=100).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut("model.safetensors"), "model.safetensors is not a whole safetensors file"),
        (_cut("binding.json"), "binding.json does not describe a TF-binding model"),
        (_cut("config.json"), "config.json is not valid JSON"),
        (_cut("epilm.json"), "epilm.json is not the provenance"),
        (_lose_a_weight, r"do not fit .*head\.conv2\.bias"),
        (_other_targets, r"do not fit .*head\.out\.(bias|weight)"),
        (_long_input, r"config.json and binding.json contradict each other: input_bp=100 makes 100 tokens"),
        (lambda folder: _edit(folder / "epilm.json", k=4), r"the k is 3 in config.json and 4 in epilm.json"),
        (lambda folder: _edit(folder / "epilm.json", bin_bp=25), r"the bin_bp is 20 in config.json and 25"),
        (lambda folder: _edit(folder / "config.json", k=4, dna_vocab_size=261), "the k is 4 in config.json and 3"),
        (lambda folder: _edit(folder / "binding.json", surprise=1), "does not describe a TF-binding model"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors: the model is incomplete"),
        (lambda folder: (folder / "binding.json").unlink(), r"the folder has no binding\.json"),
        (lambda folder: (folder / "epilm.json").unlink(), r"has no epilm\.json"),
        (shutil.rmtree, "no TF-binding model at .* the folder does not exist"),
    ],
)
def test_what_is_not_a_whole_binding_model_is_refused(tmp_path, damage, message):
    place = save(make_model(), tmp_path / "model")
    read_binding_info(place)
    damage(tmp_path / "model")
    for use in (read_binding_info, load_binding):
        with pytest.raises(CheckpointError, match=message):
            use(place)


def test_a_binding_model_is_not_taken_for_a_pretrained_one(tmp_path):
    place = save(make_model(), tmp_path / "model")
    for use in (lambda: load_encoder(make_model(), place), lambda: check_weights(place, read_config(place))):
        with pytest.raises(CheckpointError, match=r"is a TF-binding model, not a pre-trained one\. Predict with it"):
            use()


def pretrained(folder: Path, **changes) -> tuple[EbertForPreTraining, Location]:
    torch.manual_seed(9)
    model = EbertForPreTraining(make_config(**changes))
    model.save_pretrained(folder)
    write_provenance(Location(str(folder)), provenance_of(model.config))
    return model, Location(str(folder))


@pytest.mark.parametrize("changes", [{}, {"state_names": None}, {"combine": "concat"}])
def test_the_encoder_of_a_pretrained_model_is_taken_over_and_the_head_stays(tmp_path, changes):
    given, place = pretrained(tmp_path, max_position_embeddings=80, **changes)
    model = make_model(**changes)
    head = {name: value.clone() for name, value in model.head.state_dict().items()}
    load_encoder(model, place)
    for name, value in given.ebert.state_dict().items():
        found = model.ebert.state_dict()[name]
        assert torch.equal(found, value[: len(found)])
    assert len(model.ebert.encoder.embeddings.position_embeddings.weight) == 64
    assert all(torch.equal(value, head[name]) for name, value in model.head.state_dict().items())
    with pytest.raises(CheckpointError, match=r"is a pre-trained model.*fine-tune it first"):
        load_binding(place)


def test_an_encoder_that_does_not_fit_is_refused(tmp_path):
    _, place = pretrained(tmp_path)
    for changes, message in [
        ({"k": 4}, "k is 3 there, 4 here"),
        ({"state_names": None}, "num_states is 3 there, 0 here"),
        ({"state_names": STATES[::-1]}, "state_names is open, poised, closed there"),
    ]:
        with pytest.raises(RecipeError, match=message):
            load_encoder(make_model(**changes), place)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_encoder(make_model(), Location(str(tmp_path / "nowhere")))
