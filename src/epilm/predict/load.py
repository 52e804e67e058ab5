"""A model folder (of a pretrain run, or an export) as a model on a device, with its token geometry and provenance."""

from __future__ import annotations

import difflib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CheckpointError, RecipeError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE, check_weights, read_config
from epilm.models.modeling_ebert import EbertForPreTraining, EbertModel
from epilm.models.provenance import PROVENANCE_FILE, Provenance, read_provenance
from epilm.predict.tiles import count_tokens, span_bp
from epilm.storage import Location

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TokenLayout:
    """How a model sees DNA: ``max_tokens`` k-mers at most, CLS in front of them and SEP behind."""

    k: int
    stride: int
    bin_bp: int
    max_tokens: int
    """Tokens of the window that the model was trained on, CLS and SEP not counted."""
    hidden_size: int
    num_states: int
    """States of the alphabet; 0 for a model of DNA alone."""

    @property
    def window_bp(self) -> int:
        """Bases that ``max_tokens`` tokens cover."""
        return span_bp(self.max_tokens, k=self.k, stride=self.stride)


@dataclass(frozen=True)
class ModelInfo:
    """What a model folder says of itself, read without its weights."""

    layout: TokenLayout
    provenance: Provenance
    config: EbertConfig


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode."""

    model: EbertModel
    layout: TokenLayout
    provenance: Provenance
    device: torch.device


def read_model_info(model_dir: Location) -> ModelInfo:
    """Read and check ``config.json`` and ``epilm.json``.

    Raises:
        CheckpointError: a file is missing, is not of an epilm model, or the two contradict each other.
    """
    provenance = read_provenance(model_dir)
    config = read_config(model_dir)
    for name, here, there in [
        ("k", config.k, provenance.k),
        ("stride", config.stride, provenance.stride),
        ("number of states", config.num_states, len(provenance.state_names)),
    ]:
        if here != there:
            raise CheckpointError(
                f"{model_dir}: the {name} is {here} in {CONFIG_FILE} and {there} in {PROVENANCE_FILE}; "
                "the files belong to different models. Copy both from one run."
            )
    max_tokens = int(count_tokens(provenance.window_bp, k=provenance.k, stride=provenance.stride))
    layout = TokenLayout(
        k=config.k,
        stride=config.stride,
        bin_bp=provenance.bin_bp,
        max_tokens=max_tokens,
        hidden_size=config.hidden_size,
        num_states=config.num_states,
    )
    return ModelInfo(layout=layout, provenance=provenance, config=config)


def load_model(model_dir: Location, *, device: str = "cpu", dtype: Dtype = "float32") -> LoadedModel:
    """Load the encoder of a model folder, in evaluation mode.

    Args:
        model_dir: a local folder or a URI; files of a URI are fetched into a temporary folder first.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is one.

    Raises:
        CheckpointError: as :func:`read_model_info`, or weights that do not fit the configuration.
    """
    info = read_model_info(model_dir)
    place = resolve_device(device)
    check_weights(model_dir, info.config)
    with local_copy(model_dir, (CONFIG_FILE, WEIGHTS_FILE)) as folder:
        try:
            # with its heads, though only the encoder is kept: loading the encoder alone would warn of them
            model = EbertForPreTraining.from_pretrained(folder, dtype=torch.float32)
        except (OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the weights in {model_dir} cannot be loaded: {error}") from error
    encoder = model.ebert.eval().to(device=place, dtype=getattr(torch, dtype))  # pyright: ignore
    return LoadedModel(model=encoder, layout=info.layout, provenance=info.provenance, device=place)


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        RecipeError: CUDA was asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(f"device={device!r}, but this machine has no CUDA device. Use auto or cpu.")
    return torch.device(device)


@contextmanager
def local_copy(folder: Location, names: Sequence[str]):
    """The path of a local folder that holds the named files: the folder itself, or a temporary copy from a URI."""
    if folder.is_local:
        yield Path(folder.path)
        return
    with tempfile.TemporaryDirectory(prefix="epilm-model-") as temporary:
        for name in names:
            copy_file(folder / name, Path(temporary) / name)
        yield Path(temporary)


def copy_file(source: Location, target: Path) -> None:
    """Copy a file from anywhere to a local path, by and by: weights may be larger than the memory."""
    with source.fs.open_input_stream(source.path, compression=None) as stream, target.open("wb") as sink:
        shutil.copyfileobj(stream, sink, 1 << 22)


def choose_cells(wanted: Sequence[str] | None, provenance: Provenance, manifest: CorpusManifest) -> tuple[int, ...]:
    """Indices into ``manifest.cell_types`` of the wanted cell types, in the wanted order; all of them for None.

    A model of DNA alone has no cell types: the result is empty.

    Raises:
        RecipeError: an unknown or repeated cell type, none at all, or cell types for a model of DNA alone.
    """
    if not provenance.state_names:
        if wanted:
            raise RecipeError(
                f"cell_types={list(wanted)} has no effect: the model reads DNA alone. Remove the setting cell_types."
            )
        return ()
    if wanted is None:
        return tuple(range(len(manifest.cell_types)))
    if not wanted:
        raise RecipeError("cell_types is empty: name at least one, or leave it out for all of the corpus.")
    for position, name in enumerate(wanted):
        if name not in manifest.cell_types:
            near = difflib.get_close_matches(name, manifest.cell_types, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(manifest.cell_types[:8])}."
            raise RecipeError(f"cell_types: {name!r} is not a cell type of the corpus {manifest.name!r}. {hint}")
        if name in wanted[:position]:
            raise RecipeError(f"cell_types: {name!r} is named twice. Name each cell type once.")
    return tuple(manifest.cell_types.index(name) for name in wanted)
