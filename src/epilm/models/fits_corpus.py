"""Whether a model can read a corpus: one assembly, one bin size, one alphabet of states."""

from __future__ import annotations

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CheckpointError
from epilm.models.provenance import Provenance


def check_fits_corpus(provenance: Provenance, manifest: CorpusManifest, *, corpus: str) -> None:
    """A model may read a corpus only of its own assembly, bin size and state alphabet.

    Raises:
        CheckpointError: naming what differs.
    """
    if provenance.assembly != manifest.assembly:
        raise CheckpointError(
            f"the model was trained on assembly {provenance.assembly!r}, the corpus {corpus} is {manifest.assembly!r}. "
            f"Build a corpus of {provenance.assembly}, or use a model trained on {manifest.assembly}."
        )
    if not provenance.state_names:
        return
    if not manifest.cell_types:
        raise CheckpointError(
            f"the model reads states ({len(provenance.state_names)} of them), but the corpus {corpus} is DNA alone. "
            "Build the corpus with `states`, or use a model of DNA alone."
        )
    if provenance.bin_bp != manifest.bin_bp:
        raise CheckpointError(
            f"the model was trained on bins of {provenance.bin_bp} bp, the corpus {corpus} has {manifest.bin_bp} bp. "
            f"Build the corpus with bin_bp={provenance.bin_bp}."
        )
    if provenance.state_names != manifest.state_names:
        ours, theirs = provenance.state_names, manifest.state_names
        first = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        detail = (
            f"{len(ours)} states against {len(theirs)}"
            if first is None
            else f"state {first} is {ours[first]!r} in the model, {theirs[first]!r} there"
        )
        raise CheckpointError(
            f"the corpus {corpus} has another state alphabet than the model: {detail}. "
            "Build the corpus with the model's `state_names` (they are in its epilm.json)."
        )
