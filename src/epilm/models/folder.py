"""A model folder: its configuration, whether its weights fit, and how one is written: whole or not at all."""

from __future__ import annotations

import json
import shutil
import struct
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from epilm.errors import CheckpointError, RunExistsError, StorageError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.storage import Location

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BINDING_CLASS = "EbertForBinding"
"""In ``architectures`` of the configuration: a fine-tuned model, whose head is another."""

_MAX_HEADER_BYTES = 100_000_000
"""As in safetensors itself."""


def read_config(model_dir: Location) -> EbertConfig:
    """Read ``config.json``.

    Raises:
        CheckpointError: the folder lacks its configuration or its weights, or is of another kind of model.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (model_dir / name).exists():
            raise CheckpointError(
                f"{model_dir} has no {name}: the model is incomplete. Copy the whole folder `model` of a pretrain run."
            )
    try:
        raw = (model_dir / CONFIG_FILE).read_json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{model_dir / CONFIG_FILE} is not valid JSON: {error}") from error
    if raw.get("model_type") != EbertConfig.model_type:
        raise CheckpointError(
            f"{model_dir / CONFIG_FILE}: model_type is {raw.get('model_type')!r}, allowed: {EbertConfig.model_type!r}."
        )
    try:
        return EbertConfig.from_dict(raw)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{model_dir / CONFIG_FILE} is not a configuration of an epilm model: {error}") from error


def expected_shapes(config: EbertConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's weights, the tied ones included; no memory is taken."""
    with torch.device("meta"):
        model = EbertForPreTraining(config)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def check_weights(model_dir: Location, config: EbertConfig) -> None:
    """Refuse weights that are cut short, or whose names and shapes are not those of the configuration's model.

    Answered from the file's header, without reading the weights.

    Raises:
        CheckpointError: naming up to three of the weights.
    """
    if BINDING_CLASS in (config.architectures or ()):
        raise CheckpointError(
            f"{model_dir} is a TF-binding model, not a pre-trained one. Predict with it (epilm predict), or give the "
            "pre-trained model that it began with."
        )
    tied = set(EbertForPreTraining._tied_weights_keys) if config.tie_word_embeddings else set()
    check_shapes(model_dir, expected_shapes(config), optional=tied)


def check_shapes(
    model_dir: Location, expected: Mapping[str, tuple[int, ...]], *, optional: Collection[str] = ()
) -> None:
    """Refuse weights whose names and shapes are not the expected ones, of which the optional ones may be absent.

    Raises:
        CheckpointError: as :func:`check_weights`.
    """
    shapes, needed = read_shapes(model_dir / WEIGHTS_FILE), expected.keys() - set(optional)
    strays = sorted({name for name in needed if name not in shapes} | (shapes.keys() - expected.keys()))
    strays += [f"{name} {shapes[name]}" for name in shapes if name in expected and shapes[name] != expected[name]]
    if strays:
        raise CheckpointError(
            f"the weights in {model_dir} do not fit its config.json: {', '.join(strays[:3])}"
            f"{' and others' if len(strays) > 3 else ''} are missing, left over or of another shape. "
            "Copy both files from one run."
        )


def read_weights(model_dir: Location) -> dict[str, Tensor]:
    """The weights by name, on the CPU. :func:`check_weights` says whether they are whole."""
    return safetensors.torch.load((model_dir / WEIGHTS_FILE).read_bytes())


def read_shapes(path: Location) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file (8 bytes with the header's length, the header as JSON, the weights).

    Raises:
        CheckpointError: the file is no safetensors file, or shorter than its header says.
    """
    try:
        with path.fs.open_input_file(path.path) as stream:
            (header_bytes,) = struct.unpack("<Q", stream.read(8))
            if header_bytes > min(_MAX_HEADER_BYTES, path.size()):
                raise ValueError(f"its header would have {header_bytes:,} bytes")
            header = json.loads(stream.read(header_bytes))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        last = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        if 8 + header_bytes + last != path.size():
            raise ValueError(f"it has {path.size():,} bytes, its header says {8 + header_bytes + last:,}")
        return {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}. Copy it again from its run."
        ) from error


@contextmanager
def new_folder(out: Path, *, what: str, marks: Collection[str], on_existing: str) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` when the block ends, and is deleted where it fails.

    Args:
        what: what ``out`` will be, for messages: ``an export``.
        marks: files by which an earlier one is known; nothing else is overwritten.
        on_existing: ``refuse`` or ``overwrite``.

    Raises:
        RunExistsError: ``out`` is in use, or holds something else.
        StorageError: ``out`` cannot be written.
    """
    _check_new(out, what=what, marks=marks, on_existing=on_existing)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise StorageError(f"cannot write {what} to {out}: {error}. Is the disk full or read-only?") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_new(out: Path, *, what: str, marks: Collection[str], on_existing: str) -> None:
    if on_existing not in ("refuse", "overwrite"):
        raise StorageError(f"{what} cannot be resumed (got {on_existing!r}). Allowed: refuse, overwrite.")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if on_existing == "refuse":
        raise RunExistsError(f"the folder {out} exists. Use --overwrite to replace it, or another folder.")
    absent = [name for name in marks if not (out / name).is_file()]
    if absent:
        raise RunExistsError(f"{out} is not {what} (no {absent[0]} in it), so --overwrite will not delete it.")
