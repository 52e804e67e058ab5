"""``epilm export``: a model folder that Hugging Face's ``Auto`` classes load where epilm, Ray and DeepSpeed are absent.

The code travels with the weights: the three files of ``epilm.models`` that import only torch and transformers are copied
beside them and named in ``auto_map`` (Transformers, "Sharing custom models"). The weights' bytes are copied unchanged.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from epilm.errors import CheckpointError, StorageError
from epilm.models import configuration_ebert, modeling_ebert, tokenization_ebert
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE, check_weights, new_folder
from epilm.models.provenance import PROVENANCE_FILE
from epilm.predict.load import copy_file, read_model_info
from epilm.predict.model_card import model_card
from epilm.storage import Location

TOKENIZER_FILE = "tokenizer_config.json"
CODE = (configuration_ebert, modeling_ebert, tokenization_ebert)
MODEL_CLASSES = {
    "AutoConfig": "configuration_ebert.EbertConfig",
    "AutoModel": "modeling_ebert.EbertModel",
    # Not AutoModelForMaskedLM: its users read one `logits`; this model has two, of DNA and of states.
    "AutoModelForPreTraining": "modeling_ebert.EbertForPreTraining",
}
TOKENIZER_CLASSES = {"AutoTokenizer": ["tokenization_ebert.KmerTokenizer", None]}


def export_model(
    model_dir: Location | Path | str, out: Path | str, *, on_existing: Literal["refuse", "overwrite"] = "refuse"
) -> Path:
    """Write a self-contained Hugging Face folder of a model; return it.

    Args:
        model_dir: the folder ``model`` of a pretrain run, local or a URI (or an earlier export).
        out: a local folder; it appears whole or not at all.
        on_existing: ``overwrite`` replaces an earlier export, and nothing else.

    Raises:
        CheckpointError: the model folder is incomplete or contradicts itself.
        RunExistsError: ``out`` exists.
        StorageError: ``out`` cannot be written.
    """
    source = model_dir if isinstance(model_dir, Location) else Location(str(model_dir))
    out = Path(out).expanduser().absolute()
    info = read_model_info(source)
    check_weights(source, info.config)
    tokenizer_files = _tokenizer_files(source)
    if source.is_local and Path(source.path).resolve() == out.resolve():
        raise StorageError(f"the export folder {out} is the model folder itself. Choose another folder.")
    marks = (CONFIG_FILE, PROVENANCE_FILE, "README.md")
    with new_folder(out, what="an export", marks=marks, on_existing=on_existing) as partial:
        for name in (WEIGHTS_FILE, PROVENANCE_FILE, *tokenizer_files):
            copy_file(source / name, partial / name)
        _write_settings(source / CONFIG_FILE, partial / CONFIG_FILE, auto_map=MODEL_CLASSES)
        _write_settings(
            source / TOKENIZER_FILE,
            partial / TOKENIZER_FILE,
            auto_map=TOKENIZER_CLASSES,
            state_names=list(info.provenance.state_names),
            bin_bp=info.layout.bin_bp,
        )
        for module in CODE:
            path = Path(str(module.__file__))
            shutil.copyfile(path, partial / path.name)
        (partial / "README.md").write_text(model_card(info, name=out.name))
    return out


def _tokenizer_files(source: Location) -> list[str]:
    """The tokenizer's files besides its configuration (the vocabulary, the special tokens)."""
    names = source.children()
    if TOKENIZER_FILE not in names:
        raise CheckpointError(
            f"{source} has no {TOKENIZER_FILE}: the model is incomplete. Copy the whole folder `model` of a pretrain run."
        )
    extra = {"vocab.json", "vocab.txt", "special_tokens_map.json", "added_tokens.json"}
    return [name for name in names if name in extra]


def _write_settings(source: Location, target: Path, **changes: Any) -> None:
    settings = source.read_json() | changes
    target.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
