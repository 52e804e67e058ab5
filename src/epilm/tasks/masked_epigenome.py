"""Masked pre-training: EBERT on DNA and states, DBERT on DNA alone (EBERT, section 3).

Everything random in a sample (mask, 80/10/10, scored state, strand) is a hash of (seed, position in the run).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epilm.config import fingerprint
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.source import WindowSource, check_shards, fixed_bytes
from epilm.errors import CorpusError, RecipeError
from epilm.masking.contract import MaskPolicy, Moment
from epilm.masking.hidden_bases import base_candidates, score_bases
from epilm.masking.policy import build_policy
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.flops import train_flops_per_sequence
from epilm.models.initial import check_initial_weights, load_initial_weights, weights_fingerprint
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, match_trained, read_provenance
from epilm.ngrams.table import KmerScores, read_scores
from epilm.storage import Location
from epilm.tasks import lengths
from epilm.tasks.composition import Composition, measure_composition
from epilm.tasks.encoder_config import encoder_config
from epilm.tasks.eval_sets import TEST_SET, WindowEvalSet, check_test_contigs, contigs_held_out, window_eval_sets
from epilm.tasks.mask_report import MaskReport, mask_metrics
from epilm.tasks.masked_inputs import MaskedInputs
from epilm.tasks.protocol import Prepared, mean_metrics
from epilm.tasks.recipe import MaskedEpigenomeConfig
from epilm.tasks.save_model import save_model
from epilm.tokens.vocab import IGNORE, num_tokens


@dataclass(frozen=True)
class MaskedEpigenomeTask:
    """The task of ``epilm pretrain``."""

    config: MaskedEpigenomeConfig
    seed: int

    sum_counts: Mapping[str, str] = None  # type: ignore[assignment]
    loss_weights: Mapping[str, float] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        parts = {"dna": "dna", "unigram_dna": "dna", "base": "base", "unigram_base": "base"}
        sums = {f"{part}_{what}": count for part, count in parts.items() for what in ("loss", "accuracy")}
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

    @cached_property
    def initial_weights(self) -> Location | None:
        """Resolved on the driver, as the corpus: workers have another working directory."""
        return Location(self.config.model.weights) if self.config.model.weights else None

    @cached_property
    def _initial(self) -> tuple[Provenance, str] | None:
        """What the initial weights had seen, and their fingerprint; read once, before days of training."""
        folder = self.initial_weights
        return (read_provenance(folder), weights_fingerprint(folder)) if folder else None

    @cached_property
    def scores(self) -> KmerScores | None:
        """The table of NPMI, where the recipe names one."""
        table = self.config.dna_mask.table
        return read_scores(Location(table), self.config.tokens.k) if table else None

    @cached_property
    def policy(self) -> MaskPolicy:
        return build_policy(self.config.dna_mask, scores=self.scores)

    @property
    def length(self) -> int:
        """Model positions of a sample: CLS + k-mers + SEP."""
        return self._kmers + 2

    def tokens_per_row(self) -> int:
        return self._kmers

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
        check_test_contigs(self.config.evaluation, manifest)
        for name, found in self._eval_sets.items():
            if not found.num_samples:
                raise RecipeError(
                    f"the evaluation set {name} has no window: its contigs ({', '.join(found.contigs or ())}) gave none to the "
                    "corpus (too short, N, or the blacklist). Change task.evaluation.test_contigs or what the corpus holds out."
                )
        if self.config.lengths and self.config.lengths.min_kmers > self._kmers:
            raise RecipeError(
                f"task.lengths.min_kmers={self.config.lengths.min_kmers}, but a window has {self._kmers} k-mers. Give fewer."
            )
        tokens = self.config.tokens
        num_kmers = num_tokens(manifest.window_bp, tokens.k, 1)
        self.policy.check(num_tokens=self._kmers, num_kmers=num_kmers, k=tokens.k, stride=tokens.step_bp)
        if self.initial_weights:
            check_initial_weights(self.model_config(), self.initial_weights)

    def data_fingerprint(self) -> str:
        corpus = self.manifest.fingerprint()
        further = {
            **({"table": self.scores.fingerprint} if self.scores else {}),
            **({"weights": self._initial[1]} if self._initial else {}),
        }
        return fingerprint({"corpus": corpus, **further}) if further else corpus

    def train_source(self) -> WindowSource:
        return WindowSource(self.corpus, self.manifest, "train", self._train_cells, self.seed)

    @property
    def _train_cells(self) -> tuple[int, ...]:
        manifest = self.manifest
        return tuple(manifest.cell_types.index(c) for c in manifest.train_cell_types) if self.uses_states else ()

    def eval_sets(self, *, final: bool) -> dict[str, WindowEvalSet]:
        return {name: found for name, found in self._eval_sets.items() if final or name != TEST_SET}

    @cached_property
    def _eval_sets(self) -> dict[str, WindowEvalSet]:
        evaluation = self.config.evaluation
        return window_eval_sets(
            self.corpus,
            self.manifest,
            uses_states=self.uses_states,
            max_windows=evaluation.max_windows,
            eval_seed=evaluation.seed,
            test_contigs=evaluation.test_contigs,
            test=evaluation.test,
        )

    # -- curriculum ---------------------------------------------------------------------------------------------------

    def initial_state(self) -> dict[str, Any]:
        return self.policy.initial_state()

    def observe(
        self, state: Mapping[str, Any], *, step: int, evaluations: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        """Curricula follow the perplexity of k-mers on held-out contigs."""
        if "held_out_contigs" not in evaluations:
            return dict(state)
        return self.policy.observe(state, step=step, perplexity=evaluations["held_out_contigs"]["dna_perplexity"])

    def moment_metrics(self, moment: Moment) -> dict[str, float]:
        return self.policy.describe(moment)

    def finished(self, state: Mapping[str, Any]) -> bool:
        return False

    def score(self, evaluations: Mapping[str, Mapping[str, float]]) -> float | None:
        return None

    def rate_factor(self, parameter: str) -> float:
        return 1.0

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

    @cached_property
    def _inputs(self) -> MaskedInputs:
        return MaskedInputs(self.config, self.manifest, self.policy, MaskReport(self.scores), self.seed)

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        return self._inputs.prepare(batch, moment)

    # -- model --------------------------------------------------------------------------------------------------------

    def model_config(self) -> EbertConfig:
        return encoder_config(self.config.model, self.config.tokens, self.manifest, input_bp=self.manifest.window_bp)

    def build_model(self) -> EbertForPreTraining:
        model = EbertForPreTraining(self.model_config())
        if self.initial_weights:
            load_initial_weights(model, self.initial_weights)
        if self.config.model.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        inputs = dict(prepared.inputs)
        copied, base_offsets = inputs.pop("copied_states", None), inputs.pop("base_offsets", None)
        output = model(**inputs)
        composition, dna_labels = self.composition, inputs["dna_labels"]
        sums = _scores(output.dna_logits, dna_labels, "dna") | composition.dna_scores(dna_labels)
        if base_offsets is not None:
            sums |= self._base_scores(output.dna_logits, dna_labels[dna_labels != IGNORE], base_offsets)
        if self.uses_states:
            labels = inputs["state_labels"]
            sums |= _scores(output.state_logits, labels, "state") | composition.state_scores(labels)
            sums["copy_state_accuracy"] = (labels[labels != IGNORE] == copied).sum()
        return sums

    def _base_scores(self, logits: Tensor, labels: Tensor, offsets: Tensor) -> dict[str, Tensor]:
        """The hidden bases of an evaluation; logits [n, V], labels [n], offsets [n] at the scored tokens."""
        asked = (offsets >= 0).nonzero()[:, 0]
        candidates, base = base_candidates(labels[asked], offsets[asked], k=self.config.tokens.k)
        loss, hits = score_bases(logits[asked].gather(1, candidates), base)
        return {"base_loss": loss, "base_accuracy": hits, **self.composition.base_scores(candidates, base)}

    @cached_property
    def composition(self) -> Composition:
        """Frequencies of k-mers and states in the training windows: what the baselines know."""
        return measure_composition(self.train_source(), self.config.tokens, self.manifest)

    def summarise(self, sums: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
        metrics = mean_metrics(sums, counts, self.sum_counts) | mask_metrics(counts)
        for name in ("dna", "unigram_dna", "state", "majority_state"):
            if f"{name}_loss" in metrics:
                metrics[f"{name}_perplexity"] = float(np.exp(min(metrics[f"{name}_loss"], 700.0)))
        return metrics

    def flops_per_row(self) -> float:
        varied = self.config.lengths
        num = lengths.mean_length(varied, self._kmers) if varied else float(self._kmers)
        scored = self.config.dna_mask.rate * num
        return train_flops_per_sequence(
            self.model_config(), num + 2, scored_dna=scored, scored_state=1.0 if self.uses_states else 0.0
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
            "held_out_but_seen": self.held_out_but_seen(),
            "npmi_counted_on": list(self.scores.contigs or ["unknown"]) if self.scores else [],
            "held_out_cell_types": list(manifest.held_out_cell_types),
            "train_windows": manifest.num_windows("train"),
            "samples_per_epoch": manifest.num_windows("train") * max(1, len(self._train_cells)),
            "tokens_per_sample": self.length,
        }

    def held_out_but_seen(self) -> list[str]:
        """Contigs with held-out windows that the initial weights were trained on, or whose k-mers the table of NPMI
        counted: figures on them may not be those of unseen DNA."""
        held_out, seen = contigs_held_out(self.manifest), []
        if self._initial:
            seen += match_trained(self._initial[0].trained_contigs, held_out, source="the initial weights").values()
        if self.scores and self.scores.contigs:
            seen += match_trained(self.scores.contigs, held_out, source="the table of NPMI").values()
        return sorted(set(seen))

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        run = {"step": step, "seed": self.seed, "recipe_fingerprint": recipe_fingerprint}
        save_model(folder, self.model_config(), state, self.manifest, initial=self._initial, **run)


def _scores(logits: Tensor, labels: Tensor, name: str) -> dict[str, Tensor]:
    """Cross-entropy and correct answers, summed over the scored positions; logits [num_scored, V], labels [B, L]."""
    scored = labels[labels != IGNORE]
    loss = F.cross_entropy(logits.float(), scored, reduction="sum")
    return {f"{name}_loss": loss, f"{name}_accuracy": (logits.argmax(dim=-1) == scored).sum()}
