"""Fine-tuning for TF binding: (bin, cell type) -> probability that each factor binds there (EBERT, section 2.2).

Ambiguous bins, excluded ones, and factors that were not measured in a cell type are never scored.
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

from epilm.config import fingerprint, parse_recipe
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.schema import BASE_N
from epilm.corpus.source import fixed_bytes
from epilm.labels.codes import BOUND, UNBOUND
from epilm.labels.label_set import LabelSet
from epilm.labels.load import load_labels
from epilm.masking.contract import Moment
from epilm.masking.hashing import uniform
from epilm.models.adapt import apply_adapt, merged_state, rate_factor
from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig
from epilm.models.binding_folder import load_encoder, write_binding
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.flops import train_flops_per_sequence
from epilm.models.folder import read_config
from epilm.models.initial import weights_fingerprint
from epilm.models.provenance import Provenance, read_provenance, trained_among, with_initial
from epilm.storage import Location
from epilm.tasks.binding_check import check_binding
from epilm.tasks.binding_draw import BindingDraw
from epilm.tasks.binding_recipe import TfBindingConfig
from epilm.tasks.binding_rows import BindingEvalSet, BindingRows, BindingSource
from epilm.tasks.binding_sampling import BindingSampler
from epilm.tasks.binding_scores import histogram_metrics, logit_histogram
from epilm.tasks.binding_split import BindingSplit
from epilm.tasks.encoder_config import encoder_config
from epilm.tasks.protocol import Prepared
from epilm.tasks.recipe import TokensConfig
from epilm.tokens.vocab import num_tokens

VALIDATION = "validation"
"""Name of the evaluation set that training is stopped by."""
_STRAND = 51


@dataclass(frozen=True)
class TfBindingTask:
    """The task of ``epilm finetune``."""

    config: TfBindingConfig
    seed: int

    sum_counts: Mapping[str, str] = None  # type: ignore[assignment]
    loss_weights: Mapping[str, float] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sum_counts", {"binding_loss": "labels"})
        object.__setattr__(self, "loss_weights", {"binding_loss": 1.0})

    # -- data ---------------------------------------------------------------------------------------------------------

    @cached_property
    def corpus(self) -> Location:
        return Location(self.config.corpus)

    @cached_property
    def manifest(self) -> CorpusManifest:
        return read_manifest(self.corpus)

    @cached_property
    def labels(self) -> LabelSet:
        """Of the targets asked; read once, on the driver, and sent along."""
        found = load_labels(self.config.labels, self.manifest)
        return found.restrict(targets=self.config.targets) if self.config.targets else found

    @cached_property
    def pretrained(self) -> Location | None:
        """Resolved on the driver: workers have another working directory."""
        folder = self.config.encoder.pretrained
        return Location(folder) if folder else None

    @cached_property
    def encoder(self) -> EbertConfig:
        """The encoder's sizes and tokens."""
        settings = self.config.encoder
        if self.pretrained is None:
            assert settings.model is not None
            return encoder_config(
                settings.model, settings.tokens or TokensConfig(), self.manifest, input_bp=self.config.input_bp
            )
        found = read_config(self.pretrained)
        if settings.dropout is not None:
            found.hidden_dropout_prob = found.attention_probs_dropout_prob = settings.dropout
        if settings.attention_dropout is not None:
            found.attention_probs_dropout_prob = settings.attention_dropout
        return found

    @cached_property
    def _initial(self) -> tuple[Provenance, str] | None:
        """What the pre-trained weights have seen, and their fingerprint; None for random ones."""
        if self.pretrained is None or self.config.encoder.random_weights:
            return None
        return read_provenance(self.pretrained), weights_fingerprint(self.pretrained)

    @property
    def uses_states(self) -> bool:
        return bool(self.encoder.num_states)

    @cached_property
    def binding(self) -> BindingConfig:
        config = self.config
        settings = {
            "targets": self.labels.targets,
            "bin_bp": self.labels.grid.bin_bp,
            "input_bp": config.input_bp,
            "tracks": config.tracks,
            "signal_bp": self.manifest.signal_bp if config.tracks else None,
            "head": config.head,
            "both_strands": config.both_strands,
        }
        return parse_recipe(BindingConfig, settings, source="task")

    @cached_property
    def split(self) -> BindingSplit:
        return BindingSplit(self.config.split, self.manifest, self.labels, self.binding.flank_bp)

    def check(self) -> None:
        check_binding(self)

    def data_fingerprint(self) -> str:
        encoder = {name: value for name, value in self.encoder.to_dict().items() if name != "transformers_version"}
        parts = {"corpus": self.manifest.fingerprint(), "labels": self.labels.fingerprint(), "encoder": encoder}
        return fingerprint(parts | ({"weights": self._initial[1]} if self._initial else {}))

    @cached_property
    def _rows(self) -> BindingRows:
        return BindingRows(self.corpus, self.manifest, self.labels, self.binding, self.uses_states)

    @cached_property
    def draw(self) -> BindingDraw:
        return BindingDraw(self.corpus, self.split, self.config.sampling, self.config.evaluation, self.seed)

    @property
    def sampler(self) -> BindingSampler:
        return self.draw.sampler

    def train_source(self) -> BindingSource:
        return self.draw.source(self._rows)

    def eval_sets(self, *, final: bool) -> dict[str, BindingEvalSet]:
        return {VALIDATION: self._validation}

    @cached_property
    def _validation(self) -> BindingEvalSet:
        return self.draw.validation(self._rows)

    # -- early stopping -----------------------------------------------------------------------------------------------

    def initial_state(self) -> dict[str, Any]:
        return {"best_auprc": None, "without_gain": 0}

    def observe(
        self, state: Mapping[str, Any], *, step: int, evaluations: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        score = self.score(evaluations)
        if score is None or np.isnan(score):
            return dict(state)
        min_gain = self.config.early_stop.min_gain if self.config.early_stop else 0.0
        if state["best_auprc"] is None or score > state["best_auprc"] + min_gain:
            return {"best_auprc": score, "without_gain": 0}
        return {**state, "without_gain": state["without_gain"] + 1}

    def moment_metrics(self, moment: Moment) -> dict[str, float]:
        return {}

    def finished(self, state: Mapping[str, Any]) -> bool:
        stop = self.config.early_stop
        return stop is not None and state["without_gain"] >= stop.patience

    def score(self, evaluations: Mapping[str, Mapping[str, float]]) -> float | None:
        """AUPRC on the validation contigs, the mean over the factors."""
        return evaluations.get(VALIDATION, {}).get("auprc", float("nan"))

    # -- batch -> model inputs ----------------------------------------------------------------------------------------

    def collate(self, table: pa.Table) -> dict[str, Tensor]:
        """``position`` int64 [B], ``dna`` uint8 [B, input_bp], ``labels`` uint8 [B, targets], ``weight`` float64 [B]; with
        states ``states`` uint8 [B, bins] and ``phase``; with tracks ``signals`` float32 [B, T, bins] and ``signal_phase``."""

        def numbers(name: str) -> Tensor:
            return torch.from_numpy(table.column(name).to_numpy().copy())

        batch = {
            "position": numbers("position"),
            "dna": torch.from_numpy(fixed_bytes(table.column("dna")).copy()),
            "labels": torch.from_numpy(fixed_bytes(table.column("labels")).copy()),
        }
        if "weight" in table.column_names:
            batch["weight"] = numbers("weight")
        if self.uses_states:
            batch |= {"states": torch.from_numpy(fixed_bytes(table.column("states")).copy()), "phase": numbers("phase")}
        if self.binding.tracks:
            signals = fixed_bytes(table.column("signals")).copy().view("<f4")
            batch["signals"] = torch.from_numpy(signals.reshape(len(signals), len(self.binding.tracks), -1))
            batch["signal_phase"] = numbers("signal_phase")
        return batch

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        """Orient, tokenise and pool; in an evaluation of both strands the reverse complements follow as further rows."""
        windows = BindingWindows(
            batch["dna"], batch.get("states"), batch.get("phase"), batch.get("signals"), batch.get("signal_phase")
        )
        labels, num = batch["labels"], len(batch["labels"])
        reverse = None
        if moment is not None and self.config.reverse_complement:
            reverse = uniform(self.seed, _STRAND, batch["position"], 1)[:, 0] < 0.5
        inputs = binding_inputs(windows, encoder=self.encoder, config=self.binding, reverse=reverse)
        if moment is None and self.config.both_strands:
            turned = binding_inputs(
                windows,
                encoder=self.encoder,
                config=self.binding,
                reverse=torch.ones_like(labels[:, 0], dtype=torch.bool),
            )
            inputs = {name: torch.cat([inputs[name], turned[name]]) for name in inputs}
        middle = batch["dna"][:, self.binding.flank_bp : self.binding.flank_bp + self.binding.bin_bp]
        known = (middle < BASE_N).any(1, keepdim=True)  # a bin in a gap of the assembly is not predicted either
        scored = ((labels == BOUND) | (labels == UNBOUND)) & known
        count, tokens = scored.sum(), num * inputs["input_ids"].shape[1]
        inputs |= {"bound": labels == BOUND, "scored": scored}
        if moment is None:
            inputs["weight"] = batch["weight"]
            count = (scored * batch["weight"][:, None]).sum()
        return Prepared(inputs, {"labels": count}, num, tokens)

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        inputs = dict(prepared.inputs)
        bound, scored, weight = inputs.pop("bound"), inputs.pop("scored"), inputs.pop("weight", None)
        logits = model(**inputs)
        if len(logits) > len(bound):  # both strands: probabilities are averaged
            forward, turned = logits.sigmoid().chunk(2)
            logits = torch.logit((forward + turned) / 2, eps=1e-7)
        loss = F.binary_cross_entropy_with_logits(logits, bound.float(), reduction="none")
        if weight is None:
            return {"binding_loss": (loss * scored).sum()}
        return {
            "binding_loss": (loss * scored * weight[:, None]).sum(),
            "histogram": logit_histogram(logits, bound, scored, weight),
        }

    def summarise(self, sums: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, float]:
        """Loss per label; in an evaluation the metrics of each factor (``auprc.CTCF``) and their means (``auprc``)."""
        metrics = {"binding_loss": sums["binding_loss"] / counts["labels"] if counts["labels"] else float("nan")}
        if "histogram" in sums:
            metrics |= histogram_metrics(sums["histogram"], self.binding.targets)
        return metrics

    # -- model --------------------------------------------------------------------------------------------------------

    def build_model(self) -> EbertForBinding:
        model = EbertForBinding(self.encoder, self.binding)
        if self._initial is not None:
            assert self.pretrained is not None
            load_encoder(model, self.pretrained)
        model.set_prior(self.sampler.positives.size / self.sampler.epoch_size)
        settings = self.config.encoder.model
        if settings is not None and settings.gradient_checkpointing:
            model.ebert.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        apply_adapt(model, self.config.adapt)
        return model

    def rate_factor(self, parameter: str) -> float:
        return rate_factor(parameter, self.encoder, self.config.adapt)

    @property
    def _length(self) -> int:
        return num_tokens(self.config.input_bp, self.encoder.k, self.encoder.stride) + 2

    def flops_per_row(self) -> float:
        """Of the encoder; a frozen one runs forward alone, a third of it."""
        whole = train_flops_per_sequence(self.encoder, self._length, scored_dna=0.0, scored_state=0.0)
        return whole / 3 if self.config.adapt.mode == "frozen" else whole

    def tokens_per_row(self) -> int:
        return self._length - 2

    # -- what is kept -------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        sampler, kind = self.sampler, "EBERT" if self.uses_states else "DBERT"
        return {
            "model_kind": kind + ("+" if self.binding.tracks else ""),
            "pretrained": str(self.pretrained) if self._initial else None,
            "assembly": self.manifest.assembly,
            "corpus": str(self.corpus),
            "corpus_fingerprint": self.manifest.fingerprint(),
            "labels_fingerprint": self.labels.fingerprint(),
            "targets": list(self.labels.targets),
            "tracks": list(self.binding.tracks),
            "trained_contigs": list(self.split.trained_contigs),
            "validation_contigs": list(self.config.split.validation_contigs),
            "test_contigs": list(self.config.split.test_contigs),
            "trained_cell_types": list(self.split.train_cell_types),
            "held_out_cell_types": list(self.config.split.held_out_cell_types),
            "held_out_but_seen": self.held_out_but_seen(),
            "positives": sampler.positives.size,
            "samples_per_epoch": sampler.epoch_size,
            "validation_positives": self._validation.positives.size,
            "validation_bins": self._validation.positives.size + self._validation.others.size,
            "tokens_per_sample": self._length,
        }

    def held_out_but_seen(self) -> list[str]:
        """Validation and test contigs, and held-out cell types, that the pre-trained weights were trained on."""
        if self._initial is None:
            return []
        split, provenance = self.config.split, self._initial[0]
        lengths = {contig.name: contig.end_bp for contig in self.manifest.contigs}
        spans = [(name, start or 0, end or lengths[name]) for name, start, end in self.split.held_places]
        contigs = trained_among(provenance, spans, list(lengths), assembly=self.manifest.assembly)
        cells = [name for name in split.held_out_cell_types if name in provenance.trained_cell_types]
        return sorted(set(contigs)) + cells

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        encoder, manifest = self.encoder, self.manifest
        provenance = Provenance(
            assembly=manifest.assembly,
            trained_contigs=self.split.trained_contigs,
            trained_regions=self.split.trained_regions,
            trained_cell_types=self.split.train_cell_types,
            corpus_fingerprint=manifest.fingerprint(),
            window_bp=self.config.input_bp,
            bin_bp=manifest.bin_bp,
            state_names=manifest.state_names if self.uses_states else (),
            k=encoder.k,
            stride=encoder.stride,
            step=step,
            seed=self.seed,
            recipe_fingerprint=recipe_fingerprint,
        )
        if self._initial is not None:
            provenance = with_initial(provenance, *self._initial)
        model = EbertForBinding(encoder, self.binding)
        apply_adapt(model, self.config.adapt)
        write_binding(
            folder,
            encoder,
            self.binding,
            merged_state(model, state),
            provenance,
            extra={
                "train_cell_types": list(self.split.train_cell_types),
                "selected_on": list(self.config.split.validation_contigs),
                "labels_fingerprint": self.labels.fingerprint(),
                "corpus_fingerprint": manifest.fingerprint(),
            },
        )
