"""Masked pre-training: EBERT on DNA and states, DBERT on DNA alone (EBERT, section 3).

Everything random in a sample (mask, 80/10/10, scored state, strand) is a hash of (seed, position in the run).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.source import WindowSource, check_shards, fixed_bytes
from epilm.errors import CorpusError, RecipeError
from epilm.masking.hashing import uniform
from epilm.masking.mlm import corrupt, uniform_mask
from epilm.masking.state_mask import copy_nearest_visible, hide_states, state_mask
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.flops import train_flops_per_sequence
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, write_provenance
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.storage import Location
from epilm.tasks.composition import Composition, measure_composition
from epilm.tasks.eval_sets import WindowEvalSet, window_eval_sets
from epilm.tasks.protocol import Prepared, mean_metrics
from epilm.tasks.recipe import MaskedEpigenomeConfig
from epilm.tokens.kmers import add_cls_sep, tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.strand import reverse_bins, reverse_complement
from epilm.tokens.vocab import IGNORE, STATE_PAD, dna_vocab_size, num_tokens

# Streams of the stateless hash, one a purpose.
_MASK, _CHOICE, _RANDOM, _CENTRE, _STRAND = 11, 12, 13, 14, 15


@dataclass(frozen=True)
class MaskedEpigenomeTask:
    """The task of ``epilm pretrain``."""

    config: MaskedEpigenomeConfig
    seed: int

    sum_counts: Mapping[str, str] = None  # type: ignore[assignment]
    loss_weights: Mapping[str, float] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        sums = {"dna_loss": "dna", "dna_accuracy": "dna", "unigram_dna_loss": "dna", "unigram_dna_accuracy": "dna"}
        weights = {"dna_loss": 1.0}
        if self.uses_states:
            names = (
                "state_loss",
                "state_accuracy",
                "copy_state_accuracy",
                "majority_state_accuracy",
                "majority_state_loss",
            )
            sums |= dict.fromkeys(names, "state")
            weights = {"dna_loss": self.config.alpha, "state_loss": 1 - self.config.alpha}
        object.__setattr__(self, "sum_counts", sums)
        object.__setattr__(self, "loss_weights", weights)

    @property
    def uses_states(self) -> bool:
        return self.config.model.kind == "ebert"

    @cached_property
    def corpus(self) -> Location:
        return Location(self.config.corpus)

    @cached_property
    def manifest(self) -> CorpusManifest:
        return read_manifest(self.corpus)

    @property
    def length(self) -> int:
        """Model positions of a sample: CLS + k-mers + SEP."""
        return self._kmers + 2

    @property
    def _kmers(self) -> int:
        tokens = self.config.tokens
        return num_tokens(self.manifest.window_bp, tokens.k, tokens.step_bp)

    # -- data ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        manifest = self.manifest
        check_shards(self.corpus, manifest)
        if self._kmers < 1:
            raise RecipeError(
                f"task.tokens.k={self.config.tokens.k} is longer than the windows ({manifest.window_bp} bp)."
            )
        if not manifest.num_windows("train"):
            raise CorpusError(f"corpus {self.corpus} has no training window; see windows_dropped in its manifest.")
        if self.uses_states and not manifest.train_cell_types:
            have = (
                f"all of its cell types are held out ({', '.join(manifest.cell_types)})"
                if manifest.cell_types
                else "it has no states"
            )
            raise RecipeError(
                f"task.model.kind=ebert needs states of a training cell type in {self.corpus}, but {have}. Use kind=dbert."
            )

    def data_fingerprint(self) -> str:
        return self.manifest.fingerprint()

    def train_source(self) -> WindowSource:
        return WindowSource(self.corpus, self.manifest, "train", self._train_cells, self.seed)

    @property
    def _train_cells(self) -> tuple[int, ...]:
        manifest = self.manifest
        return tuple(manifest.cell_types.index(c) for c in manifest.train_cell_types) if self.uses_states else ()

    def eval_sets(self) -> dict[str, WindowEvalSet]:
        evaluation = self.config.evaluation
        return window_eval_sets(
            self.corpus,
            self.manifest,
            uses_states=self.uses_states,
            max_windows=evaluation.max_windows,
            eval_seed=evaluation.seed,
        )

    def collate(self, table: pa.Table) -> dict[str, Tensor]:
        """``position`` int64 [B], ``phase`` int32 [B], ``dna`` uint8 [B, window_bp], ``states`` uint8 [B, bins]."""
        batch = {
            "position": torch.from_numpy(table.column("position").to_numpy().copy()),
            "phase": torch.from_numpy(table.column("phase").to_numpy().copy()),
            "dna": torch.from_numpy(fixed_bytes(table.column("dna")).copy()),
        }
        if self.uses_states:
            batch["states"] = torch.from_numpy(fixed_bytes(table.column("states")).copy())
        return batch

    # -- batch -> model inputs ----------------------------------------------------------------------------------------

    def prepare(self, batch: dict[str, Tensor], *, training: bool) -> Prepared:
        """Tokenise, mask, and compute the baselines' answers; all on the batch's device."""
        config, tokens = self.config, self.config.tokens
        seed = self.seed if training else config.evaluation.seed + 2**31  # evaluation masks are their own
        position, dna, phase = batch["position"], batch["dna"], batch["phase"].long()
        bins = batch.get("states")
        if training and config.reverse_complement:
            flip = uniform(seed, _STRAND, position, 1)[:, 0] < 0.5
            dna = reverse_complement(dna, flip)
            if bins is not None:
                geometry = {"bin_bp": self.manifest.bin_bp, "length_bp": self.manifest.window_bp}
                bins, phase = reverse_bins(bins, phase, rows=flip, **geometry)
        ids = tokenize_kmers(dna, k=tokens.k, stride=tokens.step_bp)
        num = ids.shape[1]
        mask = uniform_mask(ids, rate=config.dna_mask.rate, uniforms=uniform(seed, _MASK, position, num))
        input_ids, labels = corrupt(
            ids,
            mask,
            vocab_size=dna_vocab_size(tokens.k),
            u_choice=uniform(seed, _CHOICE, position, num),
            u_random=uniform(seed, _RANDOM, position, num),
            # an evaluation hides all that it scores: k-mers shown unchanged would be "predicted" by copying them
            mask_frac=config.dna_mask.mask_fraction if training else 1.0,
            random_frac=config.dna_mask.random_fraction if training else 0.0,
        )
        inputs = {"input_ids": add_cls_sep(input_ids), "dna_labels": add_cls_sep(labels, cls=IGNORE, sep=IGNORE)}
        counts = {"dna": mask.sum()}
        if self.uses_states:
            assert bins is not None
            state_inputs, counts["state"] = self._prepare_states(bins, phase, mask, seed, position)
            inputs |= state_inputs
        return Prepared(inputs, counts, num_rows=len(ids), num_tokens=len(ids) * self.length)

    def _prepare_states(
        self, bins: Tensor, phase: Tensor, dna_mask: Tensor, seed: int, position: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        tokens, manifest = self.config.tokens, self.manifest
        geometry = {"k": tokens.k, "stride": tokens.step_bp, "bin_bp": manifest.bin_bp}
        states = tokenize_states(bins, phase, length_bp=manifest.window_bp, **geometry)
        hidden, centre = state_mask(
            dna_mask,
            states,
            phase_bp=phase,
            flank_bp=self.config.state_mask.flank_bp,
            whole_bin=self.config.state_mask.whole_bin,
            u_centre=uniform(seed, _CENTRE, position, 1)[:, 0],
            **geometry,
        )
        copied = copy_nearest_visible(states, hidden, centre)
        shown, labels = hide_states(states, hidden, centre)
        inputs = {
            "state_ids": add_cls_sep(shown, cls=STATE_PAD, sep=STATE_PAD),
            "state_labels": add_cls_sep(labels, cls=IGNORE, sep=IGNORE),
            "copied_states": copied[centre.any(dim=1)],
        }
        return inputs, centre.sum()

    # -- model --------------------------------------------------------------------------------------------------------

    def model_config(self) -> EbertConfig:
        model, tokens, manifest = self.config.model, self.config.tokens, self.manifest
        return EbertConfig(
            dna_vocab_size=dna_vocab_size(tokens.k),
            num_states=len(manifest.state_names) if self.uses_states else 0,
            state_names=list(manifest.state_names) if self.uses_states else [],
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.num_heads,
            intermediate_size=model.feed_forward or 4 * model.hidden_size,
            max_position_embeddings=self.length,
            hidden_dropout_prob=model.dropout,
            attention_probs_dropout_prob=model.dropout if model.attention_dropout is None else model.attention_dropout,
            combine=model.combine,
            k=tokens.k,
            stride=tokens.step_bp,
            bin_bp=manifest.bin_bp,
        )

    def build_model(self) -> EbertForPreTraining:
        model = EbertForPreTraining(self.model_config())
        if self.config.model.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        inputs = dict(prepared.inputs)
        copied = inputs.pop("copied_states", None)
        output = model(**inputs)
        composition = self.composition
        sums = _scores(output.dna_logits, inputs["dna_labels"], "dna") | composition.dna_scores(inputs["dna_labels"])
        if self.uses_states:
            labels = inputs["state_labels"]
            sums |= _scores(output.state_logits, labels, "state") | composition.state_scores(labels)
            sums["copy_state_accuracy"] = (labels[labels != IGNORE] == copied).sum()
        return sums

    @cached_property
    def composition(self) -> Composition:
        """Frequencies of k-mers and states in the training windows: what the baselines know."""
        return measure_composition(self.train_source(), self.config.tokens, self.manifest)

    def summarise(self, sums: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
        metrics = mean_metrics(sums, counts, self.sum_counts)
        for name in ("dna", "unigram_dna", "state", "majority_state"):
            if f"{name}_loss" in metrics:
                metrics[f"{name}_perplexity"] = float(np.exp(min(metrics[f"{name}_loss"], 700.0)))
        return metrics

    def flops_per_row(self) -> float:
        scored = self.config.dna_mask.rate * self._kmers
        return train_flops_per_sequence(
            self.model_config(), self.length, scored_dna=scored, scored_state=1.0 if self.uses_states else 0.0
        )

    # -- what is kept -------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        manifest = self.manifest
        return {
            "model_kind": self.config.model.kind,
            "assembly": manifest.assembly,
            "corpus": str(self.corpus),
            "corpus_fingerprint": manifest.fingerprint(),
            "trained_contigs": list(manifest.train_contigs),
            "trained_cell_types": list(manifest.train_cell_types) if self.uses_states else [],
            "held_out_contigs": list(manifest.held_out_contigs),
            "held_out_cell_types": list(manifest.held_out_cell_types),
            "train_windows": manifest.num_windows("train"),
            "samples_per_epoch": manifest.num_windows("train") * max(1, len(self._train_cells)),
            "tokens_per_sample": self.length,
        }

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        model = EbertForPreTraining(self.model_config())
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        model.tie_weights()
        model.save_pretrained(folder)
        tokens, manifest = self.config.tokens, self.manifest
        KmerTokenizer(
            k=tokens.k,
            stride=tokens.step_bp,
            state_names=manifest.state_names if self.uses_states else (),
            bin_bp=manifest.bin_bp,
        ).save_pretrained(folder)
        provenance = Provenance(
            assembly=manifest.assembly,
            trained_contigs=manifest.train_contigs,
            trained_regions=manifest.train_regions,
            trained_cell_types=manifest.train_cell_types if self.uses_states else (),
            corpus_fingerprint=manifest.fingerprint(),
            window_bp=manifest.window_bp,
            bin_bp=manifest.bin_bp,
            state_names=manifest.state_names if self.uses_states else (),
            k=tokens.k,
            stride=tokens.step_bp,
            step=step,
            seed=self.seed,
            recipe_fingerprint=recipe_fingerprint,
        )
        write_provenance(Location(str(folder)), provenance)


def _scores(logits: Tensor, labels: Tensor, name: str) -> dict[str, Tensor]:
    """Cross-entropy and correct answers, summed over the scored positions; logits [num_scored, V], labels [B, L]."""
    scored = labels[labels != IGNORE]
    loss = F.cross_entropy(logits.float(), scored, reduction="sum")
    return {f"{name}_loss": loss, f"{name}_accuracy": (logits.argmax(dim=-1) == scored).sum()}
