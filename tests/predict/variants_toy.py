"""A small random TF-binding model on the toy corpus, and its prediction of any sequence, one window at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig
from epilm.models.binding_folder import write_binding
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.provenance import Provenance
from epilm.tokens.vocab import dna_vocab_size

BIN_BP, INPUT_BP, STEP_BP = 20, 90, 10
FLANK_BP = (INPUT_BP - BIN_BP) // 2
TARGETS = ("CTCF", "REST")
LETTERS = "ACGTN"


def write_model(folder: Path, corpus, *, states: bool = True, both_strands: bool = False) -> Path:
    """A model with large random weights, so that every base counts."""
    names = list(corpus.manifest.state_names) if states else []
    config = EbertConfig(
        dna_vocab_size=dna_vocab_size(3),
        num_states=len(names),
        state_names=names,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=INPUT_BP,
        k=3,
        stride=2,
        bin_bp=corpus.manifest.bin_bp,
        initializer_range=0.5,
    )
    head = {"conv_channels": (8, 8), "conv_widths": (3, 3), "segments": 6, "dense_size": 8}
    binding = BindingConfig.model_validate(
        {"targets": TARGETS, "bin_bp": BIN_BP, "input_bp": INPUT_BP, "head": head, "both_strands": both_strands}
    )
    torch.manual_seed(5)
    model = EbertForBinding(config, binding).eval()
    provenance = Provenance(
        assembly="toy1",
        trained_contigs=("chr1",),
        trained_cell_types=("liver", "lung") if states else (),
        corpus_fingerprint=corpus.manifest.fingerprint(),
        window_bp=INPUT_BP,
        bin_bp=corpus.manifest.bin_bp,
        state_names=tuple(names),
        k=3,
        stride=2,
        step=1,
        seed=1,
        recipe_fingerprint="recipe",
    )
    extra = {"train_cell_types": ("liver",), "selected_on": (), "labels_fingerprint": "", "corpus_fingerprint": ""}
    folder.mkdir(parents=True)
    write_binding(folder, config, binding, model.state_dict(), provenance, extra=extra)
    return folder


class SlowPredictor:
    """Predicts one window of one sequence at a time, from plain arrays."""

    def __init__(self, model: EbertForBinding, corpus) -> None:
        self.model, self.corpus = model, corpus

    def odds(self, chrom: str, dna: np.ndarray, bin_start: int, cell: str) -> list[float]:
        """Log-odds of every target in the bin of ``dna``, a sequence of the contig; states lie where the corpus has them."""
        first = bin_start - FLANK_BP
        places = range(first, first + INPUT_BP)
        window = [int(dna[i]) if 0 <= i < len(dna) else 4 for i in places]
        states = self.corpus.states[chrom][self.corpus.manifest.cell_types.index(cell)]
        bin_bp = self.corpus.manifest.bin_bp
        bins = [
            int(states[b]) if 0 <= b < len(states) else 255
            for b in range(first // bin_bp, (first + INPUT_BP) // bin_bp + 1)
        ]
        windows = BindingWindows(
            torch.tensor([window], dtype=torch.uint8),
            torch.tensor([bins], dtype=torch.uint8),
            torch.tensor([first % bin_bp]),
        )
        chances = [self._chance(windows, None)]
        if self.model.binding.both_strands:
            chances.append(self._chance(windows, torch.tensor([True])))
        mean = np.mean(chances, axis=0)
        return [math.log(p / (1 - p)) for p in mean]

    @torch.no_grad()
    def _chance(self, windows: BindingWindows, reverse: torch.Tensor | None) -> np.ndarray:
        inputs = binding_inputs(windows, encoder=self.model.config, config=self.model.binding, reverse=reverse)
        return self.model(**inputs).double().sigmoid().numpy()[0]


def letters(dna: np.ndarray) -> str:
    return "".join(LETTERS[code] for code in dna)


def codes(text: str) -> np.ndarray:
    return np.array([LETTERS.index(letter) for letter in text], np.uint8)
