"""Position-weight matrices as a predictor: the best match in the bin, optionally only where chromatin is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epilm.baselines.stretch import Stretch
from epilm.genome.motifs import Motif, scan, window_max
from epilm.labels.runs import Runs

_EDGE = 1e-3


@dataclass(frozen=True)
class PwmModel:
    """The motif of one factor as log-odds."""

    log_odds: np.ndarray
    """float32 [width, 4], bits."""
    input_bp: int

    @property
    def limits(self) -> tuple[float, float]:
        """Scores of the worst and of the best word."""
        return float(self.log_odds.min(axis=1).sum()), float(self.log_odds.max(axis=1).sum())

    def stretch_scores(self, stretch: Stretch) -> np.ndarray:
        """Best score in the input of every bin, in bits: float32 [rows]; that of the worst word where all have an N."""
        first = stretch.starts() - stretch.flank_bp
        scores = scan(stretch.dna, self.log_odds)
        best = window_max(scores, first, self.input_bp - len(self.log_odds) + 1)
        return np.nan_to_num(best, nan=self.limits[0])

    def probabilities(self, bits: np.ndarray, is_open: np.ndarray | None) -> np.ndarray:
        """Scores as numbers within (0, 1), linear in bits so that float32 keeps their order; float32 [rows].

        They rank, but are no probabilities. With a gate, closed bins lie below 1/2 and open ones above.
        """
        low, high = self.limits
        place = (bits.astype(np.float64) - low) / (high - low) if high > low else np.zeros(bits.shape)
        place = _EDGE + (1 - 2 * _EDGE) * np.clip(place, 0, 1)
        if is_open is not None:
            place = place / 2 + np.where(is_open, 0.5, 0.0)
        return place.astype(np.float32)


def open_mask(gate: Runs | None, stretch: Stretch) -> np.ndarray | None:
    """bool [rows]: the stretch's bins that are among the open ones; None without a gate."""
    return None if gate is None else gate.mask(stretch.first_bin, stretch.first_bin + stretch.rows)


def write_meme(motifs: dict[str, Motif], background: dict[str, np.ndarray]) -> str:
    """Motifs in MEME's minimal format, which :func:`~epilm.genome.motifs.read_motifs` and the tools of that suite read.

    The file has one background, the mean of the motifs'.
    """
    mean = np.mean([background[name] for name in motifs], axis=0)
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", "", "Background letter frequencies"]
    lines.append(" ".join(f"{letter} {share:.6f}" for letter, share in zip("ACGT", mean, strict=True)))
    for name, motif in motifs.items():
        sites = f"alength= 4 w= {motif.width} nsites= {motif.num_sites:.1f} E= 0"
        rows = [" ".join(f"{value:.6f}" for value in row) for row in motif.frequencies]
        lines += ["", f"MOTIF {name.replace(' ', '_')}", f"letter-probability matrix: {sites}", *rows]
    return "\n".join(lines) + "\n"
