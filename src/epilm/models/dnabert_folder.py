"""Folders of published DNABERT checkpoints: read, imported as an epilm model, and written again.

A published folder has ``config.json``, ``vocab.txt`` and ``model.safetensors`` or ``pytorch_model.bin``. ``vocab.txt`` decides
which row is which k-mer; where it is absent, the order is taken to be DNABERT's.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from epilm.errors import CheckpointError, RecipeError, StorageError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.dnabert import read_settings, read_tensors, write_settings, write_tensors
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE, check_weights, new_folder, read_config, read_weights
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import ALL_CONTIGS, PROVENANCE_FILE, Provenance, read_provenance, write_provenance
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.storage import Location
from epilm.tokens.orders import published_rows, published_words, read_vocab_rows

VOCAB_FILE = "vocab.txt"
PICKLE_FILE = "pytorch_model.bin"

OnExisting = Literal["refuse", "overwrite"]


@dataclass(frozen=True)
class Dnabert:
    """A published checkpoint, read."""

    model: EbertForPreTraining
    """In evaluation mode, in our k-mer order."""
    config: EbertConfig
    weights: Location
    """The file that the weights were read from."""
    has_vocab: bool
    """False where the folder has no ``vocab.txt``, so that DNABERT's order was assumed."""


def read_dnabert(folder: Location, *, k: int | None = None) -> Dnabert:
    """Read a published DNABERT checkpoint.

    Args:
        folder: local or a URI.
        k: the wanted k; None takes that of the checkpoint.

    Raises:
        CheckpointError: not such a checkpoint, damaged, or of another k.
    """
    weights = _weights_file(folder)
    try:
        raw = (folder / CONFIG_FILE).read_json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} holds no settings. Copy the folder again.")
    config = read_settings(raw, k, source=str(folder / CONFIG_FILE))
    vocab = folder / VOCAB_FILE
    has_vocab = vocab.exists()
    rows = read_vocab_rows(vocab, config.k) if has_vocab else published_rows(config.k)
    state, config.tie_word_embeddings = read_tensors(_read_weights(weights), config, rows, source=str(weights))
    model = EbertForPreTraining(config)
    model.load_state_dict(state)
    return Dnabert(model=model.eval(), config=config, weights=weights, has_vocab=has_vocab)


def import_dnabert(
    folder: Location | Path | str,
    out: Path | str,
    *,
    k: int,
    assembly: str,
    trained_contigs: Sequence[str] = (ALL_CONTIGS,),
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> Path:
    """Write a published DNABERT checkpoint as an epilm model folder; return it.

    Args:
        out: a local folder; it appears whole or not at all.
        assembly: what the checkpoint was trained on, e.g. ``hg38``; evaluations compare it.
        trained_contigs: of that assembly; all of it unless you know better, for no evaluation on them is held out.
        on_existing: ``overwrite`` replaces an earlier model folder, and nothing else.

    Raises:
        CheckpointError: not such a checkpoint, damaged, or of another k.
        RecipeError: no assembly, or no contig.
        RunExistsError: ``out`` exists.
        StorageError: ``out`` cannot be written.
    """
    source, out = _location(folder), _fresh(folder, out)
    if not assembly or not trained_contigs or not all(trained_contigs):
        raise RecipeError(
            f"assembly={assembly!r}, trained_contigs={list(trained_contigs)}: say what the checkpoint has seen, as "
            f"assembly=hg38 and contigs by name, or {ALL_CONTIGS!r} for all of them."
        )
    read = read_dnabert(source, k=k)
    config = read.config
    if not read.has_vocab:
        progress(f"{source} has no {VOCAB_FILE}: its k-mers are taken to be in DNABERT's order (A, T, C, G)")
    with new_folder(out, what="an epilm model", marks=_MODEL_MARKS, on_existing=on_existing) as partial:
        read.model.save_pretrained(partial)
        KmerTokenizer(k=config.k, stride=config.stride, bin_bp=config.bin_bp).save_pretrained(partial)
        provenance = Provenance(
            assembly=assembly,
            trained_contigs=(ALL_CONTIGS,) if ALL_CONTIGS in trained_contigs else tuple(trained_contigs),
            corpus_fingerprint=None,
            window_bp=config.max_position_embeddings - 2 + config.k - 1,
            bin_bp=config.bin_bp,
            k=config.k,
            stride=config.stride,
            step=None,
            seed=None,
            recipe_fingerprint=None,
            imported_from=f"{source.name}/{read.weights.name} (sha256 {read.weights.sha256()[:16]})",
        )
        write_provenance(Location(str(partial)), provenance)
    progress(_summary(config, provenance, out))
    return out


def write_dnabert(model_dir: Location | Path | str, out: Path | str, *, on_existing: OnExisting = "refuse") -> Path:
    """Write an epilm DBERT of stride 1 in the published layout, which ``BertForMaskedLM`` loads; return the folder.

    The folder also holds ``epilm.json``, so that what the model has seen travels with it.

    Args:
        model_dir: the folder ``model`` of a pretrain run, an export or an import; local or a URI.
        out: a local folder; it appears whole or not at all.
        on_existing: ``overwrite`` replaces an earlier one, and nothing else.

    Raises:
        CheckpointError: the model folder is incomplete, or a model that DNABERT's layout cannot hold.
        RunExistsError: ``out`` exists.
        StorageError: ``out`` cannot be written.
    """
    source, out = _location(model_dir), _fresh(model_dir, out)
    provenance, config = read_provenance(source), read_config(source)
    if config.num_states:
        raise CheckpointError(
            f"{source} is an EBERT of {config.num_states} states, which DNABERT's layout cannot hold. Give a DBERT "
            "(task.model.kind=dbert), or write the EBERT with `epilm export`."
        )
    if config.stride != 1:
        raise CheckpointError(
            f"{source} reads a {config.k}-mer every {config.stride} bp, DNABERT every base. Give a model of "
            "task.tokens.stride=1, or write this one with `epilm export`."
        )
    check_weights(source, config)
    tensors = write_tensors(read_weights(source), config, published_rows(config.k))
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": False,
        "model_max_length": config.max_position_embeddings,
    }
    with new_folder(out, what="a DNABERT folder of epilm", marks=_PUBLISHED_MARKS, on_existing=on_existing) as partial:
        target = Location(str(partial))
        safetensors.torch.save_file(tensors, partial / WEIGHTS_FILE, metadata={"format": "pt"})
        (target / CONFIG_FILE).write_json(write_settings(config))
        (target / "tokenizer_config.json").write_json(tokenizer)
        (target / VOCAB_FILE).write_text("\n".join(published_words(config.k)) + "\n")
        write_provenance(target, provenance)
    return out


_MODEL_MARKS = (CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE, "tokenizer_config.json")
_PUBLISHED_MARKS = (CONFIG_FILE, WEIGHTS_FILE, PROVENANCE_FILE, VOCAB_FILE)


def _location(folder: Location | Path | str) -> Location:
    return folder if isinstance(folder, Location) else Location(str(folder))


def _fresh(source: Location | Path | str, out: Path | str) -> Path:
    location, out = _location(source), Path(out).expanduser().absolute()
    if location.is_local and Path(location.path).resolve() == out.resolve():
        raise StorageError(f"the folder to write, {out}, is the one to read. Choose another folder.")
    return out


def _summary(config: EbertConfig, provenance: Provenance, out: Path) -> str:
    return (
        f"{out}: a DBERT of {config.num_hidden_layers} x {config.num_attention_heads} x {config.hidden_size}, "
        f"{config.k}-mers at stride 1, at most {provenance.window_bp} bp; trained on {provenance.assembly}, "
        f"{'all contigs' if provenance.saw_everything else ', '.join(provenance.trained_contigs)}"
    )


def _weights_file(folder: Location) -> Location:
    names = folder.children() if folder.exists() else []
    found = next((name for name in (WEIGHTS_FILE, PICKLE_FILE) if name in names), None)
    if CONFIG_FILE not in names or found is None:
        what = "does not exist" if not folder.exists() else f"holds {', '.join(names[:5]) or 'nothing'}"
        raise CheckpointError(
            f"{folder} is not a DNABERT checkpoint: it {what}. Such a folder has {CONFIG_FILE}, {VOCAB_FILE} and "
            f"{WEIGHTS_FILE} or {PICKLE_FILE}."
        )
    return folder / found


def _read_weights(path: Location) -> dict[str, Tensor]:
    """Tensors of a file by name, on the CPU; a pickle is read with torch's restricted unpickler."""
    data = path.read_bytes()
    try:
        if path.name == WEIGHTS_FILE:
            return safetensors.torch.load(data)
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read: {reason}. Copy it again.") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds no tensors by name. Give the weights alone, not a training's checkpoint.")
    return dict(tensors)
