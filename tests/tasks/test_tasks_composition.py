"""The baselines of frequencies: counted slowly, and literal scores."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from epilm.tasks.composition import Composition, measure_composition

BASES = "ACGT"


def slow_counts(task_corpus, cells: tuple[int, ...]) -> tuple[Counter, Counter]:
    """3-mers side by side and the state in the middle of each, over the training windows, one of each a cell type."""
    kmers, states = Counter(), Counter()
    for locus in range(len(task_corpus.windows["train"])):
        dna = task_corpus.dna_of("train", locus)
        for cell in cells or (None,):
            for i in range(0, len(dna) - 2, 3):
                if (dna[i : i + 3] < 4).all():
                    kmers["".join(BASES[b] for b in dna[i : i + 3])] += 1
                if cell is not None:
                    states[int(task_corpus.state_of("train", locus, cell)[i + 1])] += 1
    return kmers, states


@pytest.mark.parametrize("kind", ["ebert", "dbert"])
def test_frequencies_are_those_of_the_training_windows(task_corpus, kind: str) -> None:
    task = task_corpus.task(model={"kind": kind, "hidden_size": 16, "num_layers": 1, "num_heads": 2})
    measured = measure_composition(task.train_source(), task.config.tokens, task.manifest)
    kmers, states = slow_counts(task_corpus, (0, 1) if kind == "ebert" else ())
    total = sum(kmers.values()) + 64
    expected = [math.log((kmers[a + b + c] + 1) / total) for a in BASES for b in BASES for c in BASES]
    assert measured.dna_log_frequency[5:].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.isneginf(measured.dna_log_frequency[:5]).all(), "specials are never the answer"
    if kind == "dbert":
        assert measured.state_log_frequency is None
        return
    total = sum(states[s] for s in range(4)) + 4
    expected = [math.log((states[s] + 1) / total) for s in range(4)]
    assert measured.state_log_frequency[3:].tolist() == pytest.approx(expected, abs=1e-5)
    assert measured.state_log_frequency.argmax() == 3 + 3, "state 3 is drawn most often"


def test_literal_scores() -> None:
    dna = torch.full((9,), -math.inf)
    dna[5:] = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    states = torch.full((6,), -math.inf)
    states[3:] = torch.tensor([0.2, 0.7, 0.1]).log()
    composition = Composition(dna, states)
    found = composition.dna_scores(torch.tensor([[5, -100, 6], [8, 5, -100]]))
    assert float(found["unigram_dna_loss"]) == pytest.approx(-math.log(0.5 * 0.25 * 0.125 * 0.5))
    assert int(found["unigram_dna_accuracy"]) == 2
    found = composition.state_scores(torch.tensor([[-100, 4, -100], [-100, -100, 5], [4, -100, -100]]))
    assert float(found["majority_state_loss"]) == pytest.approx(-math.log(0.7 * 0.1 * 0.7))
    assert int(found["majority_state_accuracy"]) == 2


def test_nothing_scored_costs_nothing() -> None:
    composition = Composition(torch.zeros(9), torch.zeros(6))
    found = composition.dna_scores(torch.full((2, 3), -100))
    assert {name: float(value) for name, value in found.items()} == {"unigram_dna_loss": 0, "unigram_dna_accuracy": 0}
    assert np.isfinite(float(found["unigram_dna_loss"]))


def test_a_hidden_base_by_the_frequencies_of_what_it_would_make() -> None:
    """k = 1: A .5, C .25, G .125, T .125; renormalised over the four candidates, which here are all there is."""
    dna = torch.full((9,), -math.inf)
    dna[5:] = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    candidates = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]])
    found = Composition(dna, None).base_scores(candidates, torch.tensor([0, 2]))
    assert float(found["unigram_base_loss"]) == pytest.approx(-math.log(0.5 * 0.125))
    assert int(found["unigram_base_accuracy"]) == 1
