"""What a reader of frequencies alone would answer: the unigram and majority baselines of every table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.source import WindowSource, fixed_bytes
from epilm.masking.hidden_bases import score_bases
from epilm.tasks.recipe import TokensConfig
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.vocab import IGNORE, NUM_SPECIAL, NUM_STATE_SPECIAL, dna_vocab_size, state_vocab_size

_MAX_WINDOWS = 16384
_CHUNK = 2048


@dataclass(frozen=True)
class Composition:
    """Smoothed log frequencies of the training windows; tensors on the CPU."""

    dna_log_frequency: Tensor
    state_log_frequency: Tensor | None

    def dna_scores(self, labels: Tensor) -> dict[str, Tensor]:
        """Loss and hits of always answering with the training frequencies; labels [B, L], -100 = not scored."""
        return _scores(self.dna_log_frequency, labels, "unigram_dna")

    def base_scores(self, candidates: Tensor, base: Tensor) -> dict[str, Tensor]:
        """Loss and hits of naming a hidden base by the frequencies of the four k-mers that it may make."""
        loss, hits = score_bases(self.dna_log_frequency.to(candidates.device)[candidates], base)
        return {"unigram_base_loss": loss, "unigram_base_accuracy": hits}

    def state_scores(self, labels: Tensor) -> dict[str, Tensor]:
        assert self.state_log_frequency is not None
        return _scores(self.state_log_frequency, labels, "majority_state")


def _scores(log_frequency: Tensor, labels: Tensor, name: str) -> dict[str, Tensor]:
    scored = labels[labels != IGNORE]
    table = log_frequency.to(labels.device)
    return {f"{name}_loss": -table[scored].sum(), f"{name}_accuracy": (scored == table.argmax()).sum()}


def measure_composition(source: WindowSource, tokens: TokensConfig, manifest: CorpusManifest) -> Composition:
    """Count k-mers and states in the first windows of the first pass (at most 16,384): the same for every worker."""
    num = min(_MAX_WINDOWS, source.samples_per_pass * max(1, len(source.cells)))
    dna_counts = torch.zeros(dna_vocab_size(tokens.k), dtype=torch.float64)
    state_counts = torch.zeros(state_vocab_size(len(manifest.state_names)), dtype=torch.float64)
    for first in range(0, num, _CHUNK):
        table = source.read(np.arange(first, min(first + _CHUNK, num)))
        ids = tokenize_kmers(_tensor(table, "dna"), k=tokens.k, stride=tokens.step_bp)
        dna_counts += torch.bincount(ids.flatten(), minlength=len(dna_counts))
        if source.cells:
            states = tokenize_states(
                _tensor(table, "states"),
                torch.from_numpy(table.column("phase").to_numpy().astype(np.int64)),
                bin_bp=manifest.bin_bp,
                k=tokens.k,
                stride=tokens.step_bp,
                length_bp=manifest.window_bp,
            )
            state_counts += torch.bincount(states.flatten(), minlength=len(state_counts))
    state = _log_frequency(state_counts, NUM_STATE_SPECIAL) if source.cells else None
    return Composition(_log_frequency(dna_counts, NUM_SPECIAL), state)


def _tensor(table, column: str) -> Tensor:
    return torch.from_numpy(fixed_bytes(table.column(column)).copy())


def _log_frequency(counts: Tensor, num_special: int) -> Tensor:
    """Add-one smoothing over what can be scored; specials never are."""
    counts = counts + 1
    counts[:num_special] = 0
    return (counts / counts.sum()).log().float()
