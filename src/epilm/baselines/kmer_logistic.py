"""Logistic regression on k-mer counts: the fit of one factor, and the scores of samples and of whole stretches.

Standardising is folded into the weights: they apply to raw counts, shares and pooled signals. (A feature's mean is left
where it is: the intercept, which carries no penalty, takes it up, so that the model is the one of centred features.)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from epilm.baselines.kmer_features import (
    canonical_columns,
    canonical_names,
    kmer_matrix,
    state_columns,
    state_shares,
    track_columns,
)
from epilm.baselines.recipe import KmerLogisticConfig
from epilm.baselines.samples import Samples
from epilm.baselines.stretch import Stretch
from epilm.evaluate.ranking import RankCounts, auprc, count_negatives, count_positives, positive_thresholds
from epilm.tokens.kmers_numpy import kmer_tokens

_BASES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class FeatureSpace:
    """Which features there are, and how long the bins of states and signals are."""

    config: KmerLogisticConfig
    bin_bp: int
    """Bases of a labelled bin; the state shares and signals are of it."""
    state_bp: int
    signal_bp: int
    state_names: tuple[str, ...]
    """Empty where states are not read."""

    @property
    def input_bp(self) -> int:
        return self.config.input_bp or self.bin_bp

    @property
    def flank_bp(self) -> int:
        return (self.input_bp - self.bin_bp) // 2

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of k-mers, of states with "no data", and of tracks."""
        num_kmers = int(canonical_columns(self.config.k).max()) + 1
        return num_kmers, len(self.state_names) + 1 if self.state_names else 0, len(self.config.tracks)

    @property
    def names(self) -> list[str]:
        """Of every feature, in the order of the weights."""
        states = [*self.state_names, "no_data"] if self.state_names else []
        kmers = [f"kmer.{name}" for name in canonical_names(self.config.k)]
        return kmers + [f"state.{name}" for name in states] + [f"track.{name}" for name in self.config.tracks]

    def matrix(self, samples: Samples) -> sparse.csr_matrix:
        """All features of samples, float64 [n, D]."""
        wide = self.wide(samples)
        kmers = kmer_matrix(samples.dna, self.config.k)
        return sparse.csr_matrix(sparse.hstack([kmers, wide], format="csr")) if wide.shape[1] else kmers

    def wide(self, samples: Samples) -> np.ndarray:
        """The features that are no k-mers: float64 [n, states + tracks]."""
        columns = [np.zeros((len(samples), 0))]
        if self.state_names:
            assert samples.states is not None
            assert samples.phase is not None
            columns.append(
                state_shares(
                    samples.states,
                    samples.phase,
                    skip_bp=self.flank_bp,
                    length_bp=self.bin_bp,
                    bin_bp=self.state_bp,
                    num_states=len(self.state_names),
                )
            )
        if self.config.tracks:
            assert samples.signals is not None
            assert samples.signal_phase is not None
            start = samples.signal_phase[:, None] + self.flank_bp
            found = track_columns(
                samples.signals, start, self.config.tracks, length_bp=self.bin_bp, signal_bp=self.signal_bp
            )
            columns.append(found[:, 0])
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class LinearModel:
    """Weights of one factor, on raw features."""

    space: FeatureSpace
    weights: np.ndarray
    """float64 [D], in the order of ``space.names``."""
    intercept: float

    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num_kmers, num_states, _ = self.space.sizes
        return tuple(np.split(self.weights, [num_kmers, num_kmers + num_states]))  # pyright: ignore[reportReturnType]

    def _of_tokens(self) -> np.ndarray:
        """Weight of every k-mer token id, 0 for those with N: float64 [4^k + specials]."""
        return np.append(self._parts()[0], 0.0)[canonical_columns(self.space.config.k)]

    def sample_scores(self, samples: Samples, wide: np.ndarray) -> np.ndarray:
        """Log-odds of samples, float64 [n]; ``wide`` as from :meth:`FeatureSpace.wide`."""
        weight, k = self._of_tokens(), self.space.config.k
        scores = np.full(len(samples), self.intercept)
        step = max(1, _BASES_AT_ONCE // max(1, samples.dna.shape[1]))
        for first in range(0, len(samples), step):
            tokens = kmer_tokens(samples.dna[first : first + step], k=k, stride=1)
            scores[first : first + step] += weight[tokens].sum(axis=1)
        _, of_states, of_tracks = self._parts()
        return scores + wide @ np.concatenate([of_states, of_tracks])

    def kmer_scores(self, stretch: Stretch) -> np.ndarray:
        """The part of the log-odds that DNA gives, the same in all cell types: float64 [rows]."""
        k = self.space.config.k
        per_base = self._of_tokens()[kmer_tokens(stretch.dna, k=k, stride=1)]
        first = stretch.starts() - stretch.flank_bp
        return self.intercept + stretch.sums(per_base, first, stretch.input_bp - k + 1)

    def cell_scores(self, stretch: Stretch, cell: int, tracks: np.ndarray) -> np.ndarray:
        """The part that the states and signals of a cell type give: float64 [rows].

        Args:
            cell: place of the cell type in ``stretch.states``.
            tracks: float64 [rows, num_tracks], its signals pooled over each bin (:func:`stretch_tracks`).
        """
        _, of_states, of_tracks = self._parts()
        scores = tracks @ of_tracks
        if len(of_states):
            assert stretch.states is not None
            of_bin = of_states[state_columns(stretch.states[cell], len(of_states) - 1)]
            per_base = np.repeat(of_bin, self.space.state_bp)
            scores = scores + stretch.sums(per_base, stretch.phase + stretch.starts(), stretch.bin_bp) / stretch.bin_bp
        return scores


@dataclass(frozen=True)
class Fitted:
    """What a fit came to."""

    model: LinearModel
    inverse_penalty: float
    validation_auprc: dict[str, float]
    """AUPRC on the validation bins by strength; empty where there was nothing to choose."""
    converged: bool
    num_bound: int
    num_unbound: int


def fit_target(
    space: FeatureSpace, matrix: sparse.csr_matrix, samples: Samples, target: int, validation: Samples | None
) -> Fitted:
    """Fit one factor for every strength and keep the one that ranks the validation bins best (the weaker of equals first).

    Args:
        matrix: float64 [n, D] of all samples.
        validation: absent where there is one strength.
    """
    scored, bound = samples.scored(target), samples.bound(target)
    features, labels = matrix[scored], bound[scored]
    scale = _deviations(features)
    features = features @ sparse.diags(np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0.0))
    wide = space.wide(validation) if validation is not None else None
    config = space.config
    regression = LogisticRegression(solver="lbfgs", max_iter=config.max_iterations, warm_start=True, tol=1e-4)
    best: tuple[float, float, LinearModel, bool] | None = None
    found: dict[str, float] = {}
    for strength in sorted(config.inverse_penalties):
        regression.set_params(C=strength)
        with warnings.catch_warnings():  # told by `converged`
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(features, labels)
        weights = np.where(scale > 0, regression.coef_[0] / np.where(scale > 0, scale, 1), 0.0)
        model = LinearModel(space, weights, float(np.ravel(regression.intercept_)[0]))
        score = 0.0
        if validation is not None and wide is not None:
            score = weighted_auprc(model.sample_scores(validation, wide), validation, target)
            found[f"{strength:g}"] = score
        if best is None or score > best[0]:
            best = (score, strength, model, int(np.max(regression.n_iter_)) < config.max_iterations)
    assert best is not None
    num_bound = int(labels.sum())
    return Fitted(best[2], best[1], found, best[3], num_bound, len(labels) - num_bound)


def weighted_auprc(scores: np.ndarray, samples: Samples, target: int) -> float:
    """AUPRC of a factor over bins of which each stands for ``samples.weight`` ones."""
    scored, bound = samples.scored(target), samples.bound(target)
    thresholds = positive_thresholds([scores[bound]])
    totals = np.zeros((3, len(thresholds)))
    num = np.zeros(2)
    for weight in np.unique(samples.weight):
        mine = samples.weight == weight
        inside, outside = scores[mine & bound], scores[mine & scored & ~bound]
        totals += weight * np.stack([count_positives(inside, thresholds), *count_negatives(outside, thresholds)])
        num += weight * np.array([len(inside), len(outside)])
    positives, above, ties = totals
    counts = RankCounts(thresholds.astype(np.float64), positives, above, ties, np.asarray(num[0]), np.asarray(num[1]))
    return float(auprc(counts))


def stretch_tracks(space: FeatureSpace, stretch: Stretch, signals: slice) -> np.ndarray:
    """Signals of a cell type (a slice of the stretch's) pooled over every bin: float64 [rows, num_tracks]."""
    if not space.config.tracks:
        return np.zeros((stretch.rows, 0))
    assert stretch.signals is not None
    start = stretch.signal_phase + stretch.starts()[None]
    found = track_columns(
        stretch.signals[None, signals],
        start,
        space.config.tracks,
        length_bp=stretch.bin_bp,
        signal_bp=space.signal_bp,
    )
    return found[0]


def probabilities(log_odds: np.ndarray) -> np.ndarray:
    """float32, strictly within 0 and 1, so that strong scores stay apart as far as float32 can tell them."""
    eps = np.finfo(np.float32).epsneg
    return np.clip(expit(log_odds), 1e-30, 1 - eps).astype(np.float32)


def _deviations(features: sparse.csr_matrix) -> np.ndarray:
    """Standard deviation of each column, float64 [D]."""
    mean = np.asarray(features.mean(axis=0)).ravel()
    square = np.asarray(features.multiply(features).mean(axis=0)).ravel()
    return np.sqrt(np.maximum(square - mean**2, 0))
