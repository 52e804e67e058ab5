"""The k-mer logistic regression: features against slow counterparts, the fit against scikit-learn's pipeline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from epilm.baselines.kmer_features import canonical_names, kmer_matrix, state_shares, track_columns
from epilm.baselines.kmer_logistic import FeatureSpace, LinearModel, fit_target, probabilities, weighted_auprc
from epilm.baselines.plan import check_baseline
from epilm.baselines.recipe import KmerLogisticConfig
from epilm.baselines.samples import Samples, training_samples
from epilm.evaluate.ranking import auprc, count_ranks
from epilm.genome.dna import decode_dna, encode_dna
from epilm.labels.codes import AMBIGUOUS, BOUND, UNBOUND
from epilm.models.binding_config import TrackConfig
from epilm.models.binding_inputs import track_values

COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_canonical_kmers_are_counted_as_by_hand(k):
    rng = np.random.default_rng(k)
    dna = rng.integers(0, 5, (9, 40), dtype=np.uint8)
    names = canonical_names(k)
    assert names == sorted(names)
    found = kmer_matrix(dna, k).toarray()
    for row, text in zip(found, (decode_dna(codes) for codes in dna), strict=True):
        words = [text[i : i + k] for i in range(len(text) - k + 1)]
        expected = [min(word, word.translate(COMPLEMENT)[::-1]) for word in words if "N" not in word]
        assert dict(zip(names, row, strict=True)) == {name: expected.count(name) for name in names}


def test_numbers_of_columns_are_those_of_the_help():
    assert [len(canonical_names(k)) for k in (4, 5, 6)] == [136, 512, 2080]


def test_state_shares_are_those_of_single_bases():
    rng = np.random.default_rng(2)
    states = rng.choice(np.array([0, 1, 2, 255], np.uint8), (6, 9))
    phase = rng.integers(0, 30, 6)
    found = state_shares(states, phase, skip_bp=13, length_bp=100, bin_bp=20, num_states=3)
    for row in range(6):
        bases = np.repeat(states[row], 20)[phase[row] + 13 :][:100]
        expected = [np.mean(bases == code) for code in (0, 1, 2, 255)]
        assert found[row] == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["none", "log1p", "asinh"])
@pytest.mark.parametrize("pool", ["max", "min", "mean"])
def test_tracks_are_pooled_as_a_token_pools_its_bases(pool, scale):
    rng = np.random.default_rng(4)
    signals = rng.normal(1, 2, (3, 2, 12)).astype(np.float32)
    signals[rng.random(signals.shape) < 0.3] = np.nan
    signals[1, 0] = np.nan
    phase = np.array([0, 3, 9])
    track = TrackConfig(signal="s", pool=pool, scale=scale, factor=1.5, missing=-7.0)
    tracks = {"a": track, "b": replace_pool(track)}
    tokens = track_values(
        torch.from_numpy(signals), torch.from_numpy(phase), tracks, signal_bp=10, k=8, stride=5, length_bp=100
    )
    starts = phase[:, None] + np.arange(tokens.shape[1]) * 5
    assert track_columns(signals, starts, tracks, length_bp=8, signal_bp=10) == pytest.approx(tokens.numpy(), rel=1e-5)


def replace_pool(track: TrackConfig) -> TrackConfig:
    return track.model_copy(update={"pool": {"max": "min", "min": "mean", "mean": "max"}[track.pool]})


def samples_with(word: str, num: int = 300, seed: int = 1) -> Samples:
    """Random DNA, one row in five with the word; a tenth of the labels ambiguous."""
    rng = np.random.default_rng(seed)
    dna = rng.integers(0, 4, (num, 60), dtype=np.uint8)
    bound = rng.random(num) < 0.2
    at = rng.integers(0, 60 - len(word), num)
    for row in np.flatnonzero(bound):
        dna[row, at[row] : at[row] + len(word)] = encode_dna(word)
    labels = np.where(bound, BOUND, UNBOUND).astype(np.uint8)
    labels[rng.random(num) < 0.1] = AMBIGUOUS
    return Samples(np.arange(num), dna, labels[:, None], np.ones(num))


def space(**settings: object) -> FeatureSpace:
    config = KmerLogisticConfig(**{"k": 4, "input_bp": 60, **settings})
    return FeatureSpace(config, bin_bp=60, state_bp=20, signal_bp=20, state_names=())


def test_the_regression_tells_bins_with_the_word_from_others():
    made = space(inverse_penalties=(1e-3, 1e-2, 1e-1))
    samples, validation = samples_with("CACGTGAC", 800), samples_with("CACGTGAC", 500, seed=2)
    found = fit_target(made, made.matrix(samples), samples, 0, validation)
    assert found.validation_auprc[f"{found.inverse_penalty:g}"] == max(found.validation_auprc.values()) > 0.9
    assert found.converged
    strongest = [made.names[i] for i in np.argsort(-found.model.weights)[:3]]
    assert set(strongest) <= {"kmer.CACG", "kmer.ACGT", "kmer.CGTG", "kmer.GTGA", "kmer.TGAC", "kmer.GTCA", "kmer.TCAC"}
    assert found.num_bound + found.num_unbound == samples.scored(0).sum() < len(samples)


def test_folded_standardisation_is_that_of_scikit_learn():
    made = space(inverse_penalties=(0.01,), max_iterations=5000)
    samples = samples_with("CACGTGAC")
    features = made.matrix(samples)
    model = fit_target(made, features, samples, 0, None).model
    scored = samples.scored(0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000, tol=1e-8))
    pipeline.fit(features.toarray()[scored], samples.bound(0)[scored])
    expected = pipeline.decision_function(features.toarray())
    assert features @ model.weights + model.intercept == pytest.approx(expected, abs=2e-3)


def test_a_column_that_never_varies_has_no_weight():
    made = space(inverse_penalties=(1.0,))
    samples = samples_with("CACGTGAC")
    samples = replace(samples, dna=np.where(samples.dna == 2, 1, samples.dna).astype(np.uint8))
    model = fit_target(made, made.matrix(samples), samples, 0, None).model
    assert np.isfinite(model.weights).all()
    never, often = (model.weights[made.names.index(f"kmer.{word}")] for word in ("ACGT", "AAAC"))
    assert never == 0
    assert often != 0


def test_auprc_of_a_weighted_draw_is_that_of_the_rows_written_out():
    rng = np.random.default_rng(8)
    samples = replace(samples_with("CACGTGAC", 200), weight=rng.integers(1, 4, 200).astype(float))
    scores = np.round(rng.normal(size=200) + samples.bound(0), 1)
    repeated = np.repeat(np.arange(200), samples.weight.astype(int))
    repeated = repeated[samples.scored(0)[repeated]]
    expected = float(auprc(count_ranks(scores[repeated], samples.bound(0)[repeated])))
    assert weighted_auprc(scores, samples, 0) == pytest.approx(expected, abs=1e-12)


def test_samples_are_scored_without_a_matrix(toy):
    tracks = {"dnase": {"signal": "DNase.{cell_type}", "scale": "log1p", "missing": -1.0}}
    plan = check_baseline(toy.recipe(kind="kmer_logistic", k=3, input_bp=300, states=True, tracks=tracks))
    samples = training_samples(plan.draw, plan.rows, epochs=1, max_samples=400)
    config = KmerLogisticConfig(k=3, input_bp=300, states=True, tracks=plan.binding.tracks)
    made = FeatureSpace(config, 200, 100, 20, plan.manifest.state_names)
    features = made.matrix(samples)
    assert features.shape == (400, len(made.names)) == (400, sum(made.sizes))
    assert made.sizes == (32, 3, 1)
    model = LinearModel(made, np.random.default_rng(0).normal(size=features.shape[1]), 0.3)
    expected = features @ model.weights + 0.3
    assert model.sample_scores(samples, made.wide(samples)) == pytest.approx(expected)


def test_probabilities_stay_within_and_keep_strong_scores_apart():
    found = probabilities(np.array([-900.0, -20.0, 0.0, 10.0, 12.0, 900.0]))
    assert found.dtype == np.float32
    assert (found > 0).all()
    assert (found < 1).all()
    assert (np.diff(found) > 0).all()
