"""DNABERT's weights as ours and back: settings, names and k-mer rows, in memory (Ji et al. 2021; Hugging Face's BERT layout).

DNABERT is a BERT over overlapping k-mers (stride 1), so that only the order of the vocabulary, the names and the second row of
the segment embedding differ. ``rows`` is an order of :mod:`epilm.tokens.orders`. V = vocabulary, H = hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.activations import ACT2FN

from epilm.errors import CheckpointError
from epilm.models.configuration_ebert import NUM_DNA_SPECIAL, EbertConfig
from epilm.models.folder import expected_shapes
from epilm.tokens.orders import inverse
from epilm.tokens.vocab import MAX_K

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
"""Settings that a BERT's config.json must have, beside vocab_size; they are named alike in ours."""
CHOICES = ("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps")
"""Settings that it may have; the defaults are BERT's in both."""
_FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
"""Settings of other kinds of BERT: only these values are ours."""

_PREFIXES = (
    ("bert.embeddings.", "ebert.encoder.embeddings."),
    ("bert.encoder.", "ebert.encoder.encoder."),
    ("cls.predictions.transform.", "dna_head."),
    ("cls.predictions.decoder.", "dna_head.decoder."),
)
_DROPPED = re.compile(r"^bert\.pooler\.|^cls\.seq_relationship\.|^bert\.embeddings\.(position|token_type)_ids$")
"""What pre-training on k-mers alone does not use."""
_BIAS, _DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"
_DECODER, _WORDS = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
_SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
_VOCABULARY_ROWS = (_WORDS, _DECODER, _DECODER_BIAS)


def read_settings(raw: Mapping[str, Any], k: int | None, *, source: str) -> EbertConfig:
    """Our settings of a BERT's ``config.json``; ``tie_word_embeddings`` is settled with the weights.

    Args:
        k: the wanted k, which the vocabulary must have; None takes the vocabulary's.

    Raises:
        CheckpointError: another kind of model, a setting that is absent, or a vocabulary that is not 5 + 4^k.
    """
    if raw.get("model_type", "bert") != "bert":
        raise CheckpointError(
            f"{source}: model_type is {raw['model_type']!r}, allowed: 'bert'. Give a DNABERT checkpoint."
        )
    absent = [name for name in ("vocab_size", *SIZES) if not isinstance(raw.get(name), int)]
    if absent:
        raise CheckpointError(
            f"{source} has no number for {', '.join(absent)}: it is no BERT's. Copy the folder again."
        )
    sizes = {NUM_DNA_SPECIAL + 4**k: k for k in range(1, MAX_K + 1)}
    found = sizes.get(raw["vocab_size"])
    if found is None or k not in (None, found):
        wanted = "5 + 4^k (4101 for k=6)" if k is None else f"{NUM_DNA_SPECIAL + 4**k} (5 + 4^k for k={k})"
        raise CheckpointError(
            f"{source}: vocab_size is {raw['vocab_size']}"
            f"{'' if found is None else f', which is that of k={found}'}; expected {wanted}. "
            "Give the k of the checkpoint, and a DNABERT (models with another tokenizer, as DNABERT-2, are not read)."
        )
    for name, ours in _FIXED.items():
        if raw.get(name, ours) != ours:
            raise CheckpointError(f"{source}: {name} is {raw[name]!r}, allowed: {ours!r}.")
    if raw.get("hidden_act", "gelu") not in ACT2FN:
        raise CheckpointError(f"{source}: hidden_act is {raw['hidden_act']!r}, which transformers does not know.")
    if raw["max_position_embeddings"] < 3:
        raise CheckpointError(
            f"{source}: max_position_embeddings is {raw['max_position_embeddings']}; CLS, SEP and one k-mer need 3."
        )
    kept = {name: raw[name] for name in (*SIZES, *CHOICES) if name in raw}
    try:
        return EbertConfig(
            k=found, stride=1, num_states=0, tie_word_embeddings=raw.get("tie_word_embeddings", True), **kept
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source} is not a configuration of a BERT: {error}") from error


def read_tensors(
    tensors: Mapping[str, Tensor], config: EbertConfig, rows: np.ndarray, *, source: str
) -> tuple[dict[str, Tensor], bool]:
    """Our state dict (float32, our k-mer order) of a BERT's tensors, and whether the decoder is tied to the embedding.

    The segment embedding's row 0, which every k-mer of DNABERT has, is kept.

    Raises:
        CheckpointError: tensors that are absent, left over, or of another shape than ``config`` has, by name.
    """
    tensors = {_modern(name): tensor for name, tensor in tensors.items() if not _DROPPED.match(name)}
    bias = tensors.pop(_BIAS, None)
    if bias is not None:
        tensors.setdefault(_DECODER_BIAS, bias)  # where a file has both, transformers adds the decoder's
    tied = config.tie_word_embeddings
    if _DECODER not in tensors and _WORDS in tensors and tied:
        tensors[_DECODER] = tensors[_WORDS]
    _check_tensors(tensors, config, source=source)
    tied = tied and torch.equal(tensors[_DECODER], tensors[_WORDS])
    tensors[_SEGMENTS] = tensors[_SEGMENTS][:1]
    order = torch.from_numpy(rows)
    for name in _VOCABULARY_ROWS:
        tensors[name] = tensors[name][order]
    return {_our_name(name): tensor.to(torch.float32).contiguous() for name, tensor in tensors.items()}, tied


def write_settings(config: EbertConfig) -> dict[str, Any]:
    """``config.json`` of the published layout: a :class:`transformers.BertForMaskedLM` with two segments."""
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": config.dna_vocab_size,
        "type_vocab_size": 2,
        "pad_token_id": config.pad_token_id,
        "tie_word_embeddings": config.tie_word_embeddings,
        **{name: getattr(config, name) for name in (*SIZES, *CHOICES)},
    }


def write_tensors(state: Mapping[str, Tensor], config: EbertConfig, rows: np.ndarray) -> dict[str, Tensor]:
    """Tensors of the published layout from our state dict; what is tied is left out, as transformers does.

    The second segment, which no k-mer has, is zeros.
    """
    order = torch.from_numpy(inverse(rows))
    tensors = {_their_name(name): tensor for name, tensor in state.items()}
    for name in _VOCABULARY_ROWS:
        if name in tensors:
            tensors[name] = tensors[name][order]
    tensors[_BIAS] = tensors[_DECODER_BIAS].clone()
    if config.tie_word_embeddings:
        del tensors[_DECODER_BIAS]
        tensors.pop(_DECODER, None)
    tensors[_SEGMENTS] = torch.cat([tensors[_SEGMENTS], torch.zeros_like(tensors[_SEGMENTS])])
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _modern(name: str) -> str:
    """TensorFlow's names of a LayerNorm's weights, which BERTs of before 2020 have, as torch's."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))


def _our_name(name: str) -> str:
    return next((ours + name.removeprefix(theirs) for theirs, ours in _PREFIXES if name.startswith(theirs)), name)


def _their_name(name: str) -> str:
    # the decoder's prefix contains that of the head
    return next(theirs + name.removeprefix(ours) for theirs, ours in reversed(_PREFIXES) if name.startswith(ours))


def _check_tensors(tensors: Mapping[str, Tensor], config: EbertConfig, *, source: str) -> None:
    expected = {_their_name(name): shape for name, shape in expected_shapes(config).items()}
    absent = sorted(expected.keys() - tensors.keys())
    if absent:
        raise CheckpointError(
            f"{source} lacks {_some(absent)}. Give a checkpoint of the masked language model (BertForMaskedLM), "
            "not of an encoder or a classifier, with the config.json it was saved with."
        )
    extra = sorted(tensors.keys() - expected.keys())
    if extra:
        raise CheckpointError(
            f"{source} has {_some(extra)}, for which its config.json has no place. Copy both files from one folder."
        )
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    got[_SEGMENTS] = (min(got[_SEGMENTS][0], 1), *got[_SEGMENTS][1:])  # any number of segments: the first is kept
    wrong = [f"{name} {got[name]}, not {shape}" for name, shape in expected.items() if got[name] != shape]
    if wrong:
        raise CheckpointError(
            f"{source} has other sizes than its config.json says: {_some(wrong)}. Copy both files from one folder."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
