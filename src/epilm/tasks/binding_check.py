"""Everything that can be wrong with a fine-tuning, found on the driver before any worker starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from epilm.corpus.schema import CONTIGS
from epilm.corpus.source import check_shards
from epilm.errors import RecipeError
from epilm.models.binding import EbertForBinding
from epilm.models.fits_corpus import check_fits_corpus
from epilm.models.folder import check_weights
from epilm.models.provenance import read_provenance
from epilm.tasks.binding_names import check_signals

if TYPE_CHECKING:
    from epilm.tasks.tf_binding import TfBindingTask


def check_binding(task: TfBindingTask) -> None:
    """Refuse labels, splits, tracks and encoders that do not fit each other or the corpus.

    Raises:
        EpilmError: what, got, allowed, how to mend.
    """
    check_shards(task.corpus, task.manifest, CONTIGS)
    task.split.check()
    _check_encoder(task)
    check_signals(task.config.tracks, task.split.train_cell_types, task.manifest, setting="task.tracks")
    task.draw.check()


def _check_encoder(task: TfBindingTask) -> None:
    manifest, model = task.manifest, task.config.encoder.model
    if model is not None and model.kind == "ebert" and not manifest.state_names:
        raise RecipeError(
            f"task.encoder.model.kind=ebert reads states, but the corpus {task.corpus} is DNA alone. Use kind=dbert, or build "
            "the corpus with `states`."
        )
    if task.pretrained is not None:
        check_fits_corpus(read_provenance(task.pretrained), manifest, corpus=task.config.corpus)
        if not task.config.encoder.random_weights:
            check_weights(task.pretrained, task.encoder)
    if task.uses_states:
        lacking = [name for name in task.split.train_cell_types if name not in manifest.cell_types]
        if lacking:
            raise RecipeError(
                f"the encoder reads states, but the corpus {task.corpus} has none of cell type {', '.join(lacking)}; it has "
                f"{', '.join(manifest.cell_types) or 'no cell types'}. Leave the cell type out (task.split.cell_types, or "
                "task.labels.cell_types to rename it), or build the corpus with its states."
            )
    with torch.device("meta"):
        EbertForBinding(task.encoder, task.binding)  # refuses inputs that are longer than the encoder
