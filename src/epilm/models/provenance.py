"""``epilm.json`` beside a model's weights: what the model was trained on, so that no evaluation can leak unnoticed.

Training writes it, export copies it, and prediction and evaluation read it: they refuse another assembly or state
alphabet, and record which of their loci and cell types the model had seen.
"""

from __future__ import annotations

import json

from pydantic import Field, ValidationError

import epilm
from epilm.config import Config
from epilm.errors import CheckpointError
from epilm.storage import Location

PROVENANCE_FILE = "epilm.json"


class Provenance(Config):
    """The data, the tokens and the run behind a set of weights."""

    assembly: str
    """Assembly of the corpus, e.g. ``hg19``."""
    trained_contigs: tuple[str, ...]
    """Contigs whose windows the model was trained on, by their names in the corpus."""
    trained_regions: tuple[tuple[str, int, int], ...] | None = None
    """(contig, start, end), 0-based half-open, of the parts that were trained on; whole contigs where absent."""
    trained_cell_types: tuple[str, ...] = ()
    """Cell types whose states the model was trained on; empty for a model of DNA alone."""
    corpus_fingerprint: str
    window_bp: int = Field(gt=0)
    """Bases of a training window: the longest input that the model has seen."""
    bin_bp: int = Field(gt=0)
    """Bases of an epigenome bin."""
    state_names: tuple[str, ...] = ()
    """Name of state 0, 1, ...; empty for a model of DNA alone."""
    k: int = Field(ge=1)
    stride: int = Field(ge=1)
    step: int = Field(ge=0)
    """Optimizer steps behind the weights."""
    seed: int
    recipe_fingerprint: str
    epilm_version: str = epilm.__version__


def write_provenance(model_dir: Location, provenance: Provenance) -> Location:
    """Write ``epilm.json`` into a model folder; return its place."""
    path = model_dir / PROVENANCE_FILE
    path.write_text(provenance.model_dump_json(indent=1) + "\n")
    return path


def read_provenance(model_dir: Location) -> Provenance:
    """Read a model folder's ``epilm.json``.

    Raises:
        CheckpointError: the file is absent, cut short, or of another version of epilm.
    """
    path = model_dir / PROVENANCE_FILE
    if not path.exists():
        what = f"has no {PROVENANCE_FILE}" if model_dir.exists() else "does not exist"
        raise CheckpointError(
            f"no epilm model at {model_dir}: the folder {what}. "
            "Give the folder `model` of a pretrain run, or an export."
        )
    try:
        return Provenance.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path} is not the provenance of an epilm model: {error}") from error
