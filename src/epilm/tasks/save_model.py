"""A trained model as a folder: weights, configuration, tokenizer, and what it was trained on."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from epilm.corpus.manifest import CorpusManifest
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, with_initial, write_provenance
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.storage import Location


def save_model(
    folder: Path,
    config: EbertConfig,
    state: dict[str, Tensor],
    manifest: CorpusManifest,
    *,
    step: int,
    seed: int,
    recipe_fingerprint: str,
    initial: tuple[Provenance, str] | None,
) -> None:
    """Write fp32 weights (``state`` by parameter name) and what is needed to load them into an existing local folder.

    Args:
        initial: provenance and fingerprint of the weights that training began with: what those had seen, these have too.
    """
    model = EbertForPreTraining(config)
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys, missing
    model.tie_weights()
    model.save_pretrained(folder)
    state_names = manifest.state_names if config.num_states else ()
    tokens = {"k": config.k, "stride": config.stride, "bin_bp": manifest.bin_bp, "state_names": state_names}
    KmerTokenizer(**tokens).save_pretrained(folder)
    provenance = Provenance(
        assembly=manifest.assembly,
        trained_contigs=manifest.train_contigs,
        trained_regions=manifest.train_regions,
        trained_cell_types=manifest.train_cell_types if config.num_states else (),
        corpus_fingerprint=manifest.fingerprint(),
        window_bp=manifest.window_bp,
        step=step,
        seed=seed,
        recipe_fingerprint=recipe_fingerprint,
        **tokens,
    )
    if initial is not None:
        provenance = with_initial(provenance, *initial)
    write_provenance(Location(str(folder)), provenance)
