"""The folder of a TF-binding model: ``config.json``, ``model.safetensors``, ``binding.json`` and ``epilm.json``.

It is read from a local path or a URI alike. Whoever writes one puts it in place whole (``train.launch.save_weights``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from epilm.config import Config
from epilm.errors import CheckpointError, RecipeError
from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.folder import BINDING_CLASS, CONFIG_FILE, WEIGHTS_FILE, check_shapes, read_config, read_weights
from epilm.models.initial import check_initial_weights
from epilm.models.provenance import PROVENANCE_FILE, Provenance, read_provenance, write_provenance
from epilm.storage import Location

BINDING_FILE = "binding.json"

_ENCODER = "ebert."
_POSITIONS = "ebert.encoder.embeddings.position_embeddings.weight"


class BindingRecord(Config):
    """What ``binding.json`` says: the model's inputs and outputs, and the labels behind it."""

    binding: BindingConfig
    train_cell_types: tuple[str, ...]
    """Cell types whose labels the model was fine-tuned on."""
    selected_on: tuple[str, ...]
    """Contigs whose labels chose the kept step: not trained on, and yet not unseen."""
    labels_fingerprint: str
    corpus_fingerprint: str


@dataclass(frozen=True)
class BindingInfo:
    """What the folder of a TF-binding model says of itself, read without its weights."""

    config: EbertConfig
    record: BindingRecord
    provenance: Provenance

    @property
    def binding(self) -> BindingConfig:
        return self.record.binding


def write_binding(
    folder: Path,
    config: EbertConfig,
    binding: BindingConfig,
    state: Mapping[str, Tensor],
    provenance: Provenance,
    *,
    extra: Mapping[str, Any],
) -> None:
    """Write a model into an existing local folder; the provenance, written last, tells a whole one.

    Args:
        state: weights by the names of :class:`~epilm.models.binding.EbertForBinding`, adapters folded in
            (:func:`~epilm.models.adapt.merged_state`); kept bit by bit.
        extra: the fields of :class:`BindingRecord` beside ``binding``.
    """
    expected, given = _expected_shapes(config, binding), {name: tuple(weight.shape) for name, weight in state.items()}
    assert given == expected, sorted(set(given.items()) ^ set(expected.items()))[:3]
    config = copy.deepcopy(config)
    config.architectures = [BINDING_CLASS]
    config.save_pretrained(folder)
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in state.items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    target = Location(str(folder))
    (target / BINDING_FILE).write_json(BindingRecord(binding=binding, **extra).model_dump(mode="json"))
    write_provenance(target, provenance)


def read_binding_info(location: Location) -> BindingInfo:
    """Read and check everything but the weights, whose names and shapes are checked from their header.

    Raises:
        CheckpointError: not a TF-binding model, incomplete or damaged, or of files that contradict each other.
    """
    if not (location / BINDING_FILE).exists():
        raise CheckpointError(_no_binding(location))
    config, provenance = read_config(location), read_provenance(location)
    try:
        record = BindingRecord.model_validate((location / BINDING_FILE).read_json())
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(
            f"{location / BINDING_FILE} does not describe a TF-binding model: {error}. Copy it again from its run."
        ) from error
    for name, here, there in [
        ("k", config.k, provenance.k),
        ("stride", config.stride, provenance.stride),
        ("bin_bp", config.bin_bp, provenance.bin_bp),
        ("number of states", config.num_states, len(provenance.state_names)),
    ]:
        if here != there:
            raise CheckpointError(
                f"{location}: the {name} is {here} in {CONFIG_FILE} and {there} in {PROVENANCE_FILE}; "
                "the files belong to different models. Copy both from one run."
            )
    try:
        expected = _expected_shapes(config, record.binding)
    except RecipeError as error:
        raise CheckpointError(
            f"{location}: {CONFIG_FILE} and {BINDING_FILE} contradict each other: {error} Copy both from one run."
        ) from error
    check_shapes(location, expected)
    return BindingInfo(config=config, record=record, provenance=provenance)


def load_binding(
    location: Location,
    *,
    device: torch.device | str = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> EbertForBinding:
    """The model of a folder in evaluation mode.

    Raises:
        CheckpointError: as :func:`read_binding_info`.
    """
    info = read_binding_info(location)
    model = EbertForBinding(info.config, info.binding)
    model.load_state_dict(read_weights(location))
    model = model.eval().to(device=torch.device(device), dtype=getattr(torch, dtype))
    model.head.out.float()  # bf16 logits have 160 values between -7 and -3: millions of bins would be ties
    return model


def load_encoder(model: EbertForBinding, folder: Location) -> None:
    """Overwrite a new model's encoder with that of a pre-trained model's folder; its head stays as it is.

    Raises:
        CheckpointError: the folder is not a whole model folder.
        RecipeError: the sizes, the k-mers or the states differ (see ``models.initial.check_initial_weights``).
    """
    check_initial_weights(model.config, folder)
    state = {name: weight for name, weight in read_weights(folder).items() if name.startswith(_ENCODER)}
    state[_POSITIONS] = state[_POSITIONS][: model.config.max_position_embeddings]
    model.ebert.load_state_dict({name.removeprefix(_ENCODER): weight for name, weight in state.items()})


def _expected_shapes(config: EbertConfig, binding: BindingConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # no memory is taken
        model = EbertForBinding(config, binding)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _no_binding(location: Location) -> str:
    if (location / CONFIG_FILE).exists() and BINDING_CLASS not in (read_config(location).architectures or ()):
        return f"{location} is a pre-trained model, which predicts no binding: fine-tune it first (epilm finetune)."
    what = f"has no {BINDING_FILE}" if location.exists() else "does not exist"
    return (
        f"no TF-binding model at {location}: the folder {what}. Give the whole folder `model` of a fine-tuning's run."
    )
