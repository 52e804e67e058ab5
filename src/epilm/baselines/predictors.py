"""A fitted baseline, ready to score stretches: picklable, so that a task carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from epilm.baselines.kmer_logistic import LinearModel, probabilities, stretch_tracks
from epilm.baselines.pwm import PwmModel, open_mask
from epilm.baselines.stretch import Stretch
from epilm.labels.runs import Runs


class Predictor(Protocol):
    """Scores all targets in all cell types."""

    @property
    def flank_bp(self) -> int:
        """Bases beside a bin that are read."""
        ...

    @property
    def cells(self) -> tuple[int, ...]:
        """Places of the cell types in the manifest whose states are read."""
        ...

    @property
    def signals(self) -> tuple[int, ...]:
        """Places of the signals that are read, those of one cell type after those of another."""
        ...

    def predict(self, stretch: Stretch) -> np.ndarray:
        """float32 [rows, num_cells * num_targets], cell type by cell type; NaN for bins without a known base."""
        ...


@dataclass(frozen=True)
class KmerPredictor:
    """Logistic regressions of all targets."""

    models: tuple[LinearModel, ...]
    num_cells: int
    cells: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()

    @property
    def flank_bp(self) -> int:
        return self.models[0].space.flank_bp

    def predict(self, stretch: Stretch) -> np.ndarray:
        space = self.models[0].space
        of_dna = [model.kmer_scores(stretch) for model in self.models]
        result = np.empty((stretch.rows, self.num_cells, len(self.models)), np.float32)
        num_tracks = len(space.config.tracks)
        for cell in range(self.num_cells):
            tracks = stretch_tracks(space, stretch, slice(cell * num_tracks, (cell + 1) * num_tracks))
            for number, model in enumerate(self.models):
                result[:, cell, number] = probabilities(of_dna[number] + model.cell_scores(stretch, cell, tracks))
        result[~stretch.known()] = np.nan
        return result.reshape(stretch.rows, -1)


@dataclass(frozen=True)
class PwmPredictor:
    """Matrices of all targets."""

    models: tuple[PwmModel, ...]
    flank_bp: int
    num_cells: int
    gates: tuple[Runs | None, ...]
    """Open bins of each cell type; None without a gate."""
    cells: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()

    def predict(self, stretch: Stretch) -> np.ndarray:
        bits = [model.stretch_scores(stretch) for model in self.models]
        result = np.empty((stretch.rows, self.num_cells, len(self.models)), np.float32)
        for cell, gate in enumerate(self.gates):
            is_open = open_mask(gate, stretch)
            for number, model in enumerate(self.models):
                result[:, cell, number] = model.probabilities(bits[number], is_open)
        result[~stretch.known()] = np.nan
        return result.reshape(stretch.rows, -1)
