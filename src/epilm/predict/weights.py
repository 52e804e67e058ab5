"""Do a model folder's weights fit its configuration? Answered from the file's header, without reading the weights."""

from __future__ import annotations

import json
import struct

import torch

from epilm.errors import CheckpointError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.storage import Location

WEIGHTS_FILE = "model.safetensors"

_MAX_HEADER_BYTES = 100_000_000
"""As in safetensors itself."""


def check_weights(model_dir: Location, config: EbertConfig) -> None:
    """Refuse weights that are cut short, or whose names and shapes are not those of the configuration's model.

    Raises:
        CheckpointError: naming up to three of the weights.
    """
    shapes = read_shapes(model_dir / WEIGHTS_FILE)
    with torch.device("meta"):
        model = EbertForPreTraining(config)
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    strays = sorted({name for name in expected.keys() - tied if name not in shapes} | (shapes.keys() - expected.keys()))
    strays += [f"{name} {shapes[name]}" for name in shapes if name in expected and shapes[name] != expected[name]]
    if strays:
        raise CheckpointError(
            f"the weights in {model_dir} do not fit its config.json: {', '.join(strays[:3])}"
            f"{' and others' if len(strays) > 3 else ''} are missing, left over or of another shape. "
            "Copy both files from one run."
        )


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
