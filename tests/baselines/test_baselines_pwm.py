"""The scan of bins, the gate and the mapping into (0, 1), and stretches read from a corpus, against slow counterparts."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.baselines.fit import feature_space
from epilm.baselines.kmer_logistic import LinearModel
from epilm.baselines.plan import check_baseline
from epilm.baselines.predictors import KmerPredictor, PwmPredictor
from epilm.baselines.pwm import PwmModel
from epilm.baselines.stretch import read_stretches
from epilm.corpus.gather import ContigReader
from epilm.genome.dna import encode_dna, reverse_complement
from epilm.labels.runs import Runs

WORD = "TTGACGTCGA"


def sharp_matrix(word: str = WORD) -> np.ndarray:
    matrix = np.full((len(word), 4), -4.0, np.float32)
    matrix[np.arange(len(word)), encode_dna(word)] = 1.9
    return matrix


def stretches(plan, flank_bp, **asked):
    reader = ContigReader(plan.corpus, plan.manifest)
    return [
        s for part in plan.parts for s in read_stretches(reader, plan.labels.grid, part, flank_bp=flank_bp, **asked)
    ]


def padded(values: np.ndarray, first: int, last: int, empty: float) -> np.ndarray:
    """values[first:last], with what lies outside filled in."""
    index = np.arange(first, last)
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.clip(index, 0, len(values) - 1)], empty)


def slow_best(dna: np.ndarray, matrix: np.ndarray) -> float:
    best = float(matrix.min(axis=1).sum())
    for start in range(len(dna) - len(matrix) + 1):
        word = dna[start : start + len(matrix)]
        for strand in (word, reverse_complement(word[None])[0]):
            if (strand < 4).all():
                best = max(best, sum(float(matrix[i, base]) for i, base in enumerate(strand)))
    return best


def test_scores_of_bins_are_those_of_a_slow_scan(toy):
    plan = check_baseline(toy.recipe("contigs=['chr3:5000-7500']", learned=True))
    matrix = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    model, flank_bp = PwmModel(matrix, 240), 20
    row = 0
    for stretch in stretches(plan, flank_bp):
        scores, known = model.stretch_scores(stretch), stretch.known()
        for i in range(0, stretch.rows, 3):
            start = 5000 + (row + i) * 50
            dna = padded(toy.dna["chr3"], start - 20, start + 220, 4).astype(np.uint8)
            assert scores[i] == pytest.approx(slow_best(dna, matrix), abs=1e-4)
            assert known[i] == (dna[20:220] < 4).any()
        row += stretch.rows
    assert row == (2500 - 200) // 50 + 1


def test_a_planted_motif_ranks_first(toy):
    plan = check_baseline(toy.recipe(learned=True))
    predictor = PwmPredictor((PwmModel(sharp_matrix(), 200),), 0, 1, (None,))
    found = np.concatenate([predictor.predict(stretch)[:, 0] for stretch in stretches(plan, 0)])
    starts = np.arange(len(found)) * 50
    sites = toy.sites["chr3"]
    sites = sites[(sites < 5_900) | (sites >= 6_600)]
    holds = ((sites[:, None] >= starts) & (sites[:, None] + len(WORD) <= starts + 200)).any(axis=0)
    unknown = (starts >= 6_000) & (starts + 200 <= 6_600)
    assert np.array_equal(np.isnan(found), unknown)
    assert found[holds].min() > found[~holds & ~unknown].max()


def test_the_gate_ranks_every_open_bin_above_every_closed_one_and_keeps_the_order_within():
    model = PwmModel(sharp_matrix(), 200)
    low, high = model.limits
    assert (low, high) == pytest.approx((-40, 19))
    bits = np.linspace(low, high, 2000).astype(np.float32)
    plain = model.probabilities(bits, None)
    gated = model.probabilities(bits, np.arange(2000) % 2 == 0)
    for values in (plain, gated[::2], gated[1::2]):
        assert (np.diff(values) > 0).all()
    assert 0 < plain.min() < plain.max() < 1
    assert 0 < gated[1::2].max() < 0.5 < gated[::2].min() < 1


def test_a_gate_is_of_its_cell_type(toy):
    plan = check_baseline(toy.recipe(learned=True))
    open_bins = Runs.of(np.array([plan.parts[0].first_bin]), np.array([plan.parts[0].first_bin + 10]))
    predictor = PwmPredictor((PwmModel(sharp_matrix(), 200),), 0, 2, (open_bins, Runs.empty()))
    found = predictor.predict(stretches(plan, 0)[0])
    assert (found[:10, 0] > 0.5).all()
    assert not (found[10:, 0] > 0.5).any()
    assert not (found[:, 1] > 0.5).any()


def test_a_linear_model_scores_a_stretch_as_its_bins_one_by_one(toy):
    """Features written out base by base: k-mers of the wide input, states and signals of the bin alone."""
    tracks = {"dnase": {"signal": "DNase.{cell_type}", "pool": "max", "missing": -1.0}}
    recipe = toy.recipe(
        "contigs=['chr3:0-3000', 'chr3:14000-15230']",
        kind="kmer_logistic",
        k=2,
        input_bp=300,
        states=True,
        tracks=tracks,
    )
    plan = check_baseline(recipe)
    space = feature_space(recipe.predictor, plan)
    weights = np.random.default_rng(1).normal(size=sum(space.sizes)) / 20
    predictor = KmerPredictor((LinearModel(space, weights, 0.2),), 2, (0, 1), (0, 1))
    by_name = dict(zip(space.names, weights, strict=True))
    for part, stretch in zip(plan.parts, stretches(plan, 50, cells=(0, 1), signals=(0, 1)), strict=True):
        found = predictor.predict(stretch)
        for i in range(0, stretch.rows, 4):
            start = part.first_start + i * 50
            for cell in range(2):
                expected = 0.2 + slow_sum(toy, start, cell, by_name)
                assert found[i, cell] == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-4)


def slow_sum(toy, start: int, cell: int, weights: dict[str, float]) -> float:
    text = "".join("ACGTN"[int(code)] for code in padded(toy.dna["chr3"], start - 50, start + 250, 4))
    total = 0.0
    for i in range(len(text) - 1):
        word = text[i : i + 2]
        if "N" not in word:
            total += weights[f"kmer.{min(word, word.translate(str.maketrans('ACGT', 'TGCA'))[::-1])}"]
    states = padded(np.repeat(toy.states["chr3"][cell], 100), start, start + 200, 255)
    for code, name in ((0, "open"), (1, "closed"), (255, "no_data")):
        total += weights[f"state.{name}"] * np.mean(states == code)
    signal = np.repeat(toy.signals["chr3"][cell], 20)[start : start + 200]
    signal = signal[~np.isnan(signal)]
    return total + weights["track.dnase"] * (signal.max() if len(signal) else -1.0)


def test_stretches_are_cut_without_a_seam(toy, monkeypatch):
    plan = check_baseline(toy.recipe(learned=True))
    model = PwmModel(sharp_matrix(), 200)
    whole = [model.stretch_scores(stretch) for stretch in stretches(plan, 0)]
    monkeypatch.setattr("epilm.baselines.stretch.STRETCH_BP", 1_000)
    pieces = [model.stretch_scores(stretch) for stretch in stretches(plan, 0)]
    assert len(pieces) > 4 * len(whole)
    assert np.array_equal(np.concatenate(pieces), np.concatenate(whole))
