"""Starting a pre-training from the weights of a model folder: an earlier run, or an imported model."""

from __future__ import annotations

from epilm.errors import RecipeError
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.folder import WEIGHTS_FILE, check_weights, read_config, read_weights
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import read_provenance
from epilm.storage import Location

_POSITIONS = "ebert.encoder.embeddings.position_embeddings.weight"

# Field of the configuration -> where a recipe decides it. Dropout and the stride may differ: they change no weight.
_MUST_AGREE = {
    "k": "task.tokens.k",
    "num_states": "task.model.kind and the corpus' states",
    "state_names": "the corpus' states",
    "hidden_size": "task.model.hidden_size",
    "num_hidden_layers": "task.model.num_layers",
    "num_attention_heads": "task.model.num_heads",
    "intermediate_size": "task.model.feed_forward",
    "combine": "task.model.combine",
}
_NO_SETTING = ("hidden_act", "layer_norm_eps", "tie_word_embeddings")


def check_initial_weights(config: EbertConfig, folder: Location) -> None:
    """Refuse weights that a model of ``config`` cannot start from; the weights themselves are not read.

    Every size must agree; the positions of the file may be more than are needed (the first are taken).

    Raises:
        CheckpointError: the folder is not a whole model folder.
        RecipeError: naming the first setting that differs, with both values.
    """
    read_provenance(folder)  # what the weights have seen must be known, or every held-out figure could leak
    found = read_config(folder)
    check_weights(folder, found)
    fields = [name for name in _MUST_AGREE if name != "combine" or config.num_states]  # a DBERT combines nothing
    for name in fields:
        here, there = getattr(config, name), getattr(found, name)
        if here != there:
            raise RecipeError(
                f"task.model.weights={folder} does not fit: {name} is {_show(there)} there, {_show(here)} here "
                f"({_MUST_AGREE[name]}). Set it to the weights' value, or start from other weights."
            )
    for name in _NO_SETTING:
        here, there = getattr(config, name), getattr(found, name)
        if here != there:
            raise RecipeError(
                f"task.model.weights={folder} does not fit: {name} is {there!r} there; pre-training has only {here!r}. "
                "Start from other weights."
            )
    if found.max_position_embeddings < config.max_position_embeddings:
        raise RecipeError(
            f"task.model.weights={folder} has {found.max_position_embeddings} positions, the windows need "
            f"{config.max_position_embeddings} (k-mers, CLS and SEP). Use a corpus of a smaller window_bp, a larger "
            "task.tokens.stride, or other weights."
        )


def load_initial_weights(model: EbertForPreTraining, folder: Location) -> None:
    """Overwrite a new model's weights, encoder and heads, with those of a model folder.

    Raises:
        EpilmError: as :func:`check_initial_weights`.
    """
    config = model.config
    assert isinstance(config, EbertConfig)
    check_initial_weights(config, folder)
    state = read_weights(folder)
    state[_POSITIONS] = state[_POSITIONS][: config.max_position_embeddings]
    report = model.load_state_dict(state, strict=False)
    tied = set(model._tied_weights_keys)
    assert not report.unexpected_keys, report
    assert set(report.missing_keys) <= tied, report
    model.tie_weights()


def weights_fingerprint(folder: Location) -> str:
    """SHA-256 (16 hex digits) of a model folder's weights, wherever the folder lies.

    Raises:
        CheckpointError: the folder has no weights.
    """
    read_config(folder)
    return (folder / WEIGHTS_FILE).sha256()[:16]


def _show(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:5])) + (f", ... ({len(value)} in all)" if len(value) > 5 else "")
    return repr(value)
