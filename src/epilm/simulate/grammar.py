"""The planted truth: how a locus' class shapes its states, its DNA, its tracks and the genes' expression.

A locus has a *class*, the state it can take when it is active; all cell types share the class, and so does the DNA. In
each cell type the locus takes the class's own state or falls back to a closed one. DNA thus tells what a locus can be,
and only the cell's epigenome tells what it is.

Axes: C classes, S states, T transcription factors, M marks, P positions of a motif.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epilm.simulate.recipe import SimulateRecipe

STATE_NAMES = ("1_TssA", "2_Enh", "3_Tx", "4_ReprPC", "5_Het", "6_Quies")
"""State 0, 1, ...; the classes have the same names."""
TSS, ENH, TX, REPR, HET, QUIES = range(6)
OPEN_STATES = (TSS, ENH)
"""States in which transcription factors bind."""

NUM_BASES = 4

# Row = class, column = state it takes in a cell type. Quies is the common fallback, which makes it the majority state.
_REALISED = np.array(
    [
        [0.50, 0.10, 0.00, 0.20, 0.00, 0.20],
        [0.00, 0.55, 0.00, 0.10, 0.00, 0.35],
        [0.00, 0.00, 0.65, 0.00, 0.00, 0.35],
        [0.00, 0.00, 0.00, 0.75, 0.00, 0.25],
        [0.00, 0.00, 0.00, 0.00, 0.85, 0.15],
        [0.00, 0.00, 0.00, 0.00, 0.00, 1.00],
    ]
)
# Of the stretches between genes; promoters (class TssA) are planted at the genes.
_BACKBONE = np.array([0.00, 0.22, 0.24, 0.20, 0.17, 0.17])
# GC share of each class: promoters are GC-rich, quiescent stretches AT-rich, as in vertebrates.
_GC = np.array([0.62, 0.52, 0.45, 0.56, 0.34, 0.38])
# Mean log expression by the promoter's state.
_STATE_EFFECT = np.array([8.0, 6.6, 6.0, 4.6, 5.0, 5.2])

_PREFERENCE = 0.85  # P(preferred base | pair) of a class at full strength, before the other bases' shares
_BACKGROUND = np.array([0.29, 0.21, 0.21, 0.29])  # base frequencies that all classes share
_MOTIF_FIDELITY = 0.97  # a motif's base is the consensus base with this probability, else any other
_MOTIF_AT_PROMOTER = 0.5
_MOTIF_RATE = np.array([0.0, 0.25, 0.01, 0.01, 0.01, 0.01])  # sites a bin and factor outside promoters, by class
_TRACK_SD = 0.35  # of the log of a step's level; the steps of a bin share half of the variance


@dataclass(frozen=True)
class Grammar:
    """Everything that generates the epigenome, drawn from the recipe's seed."""

    transitions: NDArray[np.float64]
    """[C, 4, 4, 4] P(third base | class, first, second) on the strand that a bin is written on."""
    motifs: NDArray[np.float64]
    """[T, P, 4] base probabilities of each factor's motif."""
    motif_effect: NDArray[np.float64]
    """[T] added to the log expression by a factor that is bound at the promoter."""
    track_level: NDArray[np.float64]
    """[M, S] mean signal of a mark in a state."""
    noise_sd: float
    """Of the log expression; set so that the noiseless expression and the written one correlate at ``expression_r``."""
    bin_bp: int
    realised: NDArray[np.float64]
    """[C, S] P(state in a cell type | class)."""
    backbone: NDArray[np.float64]
    """[C] class of a random stretch."""
    state_effect: NDArray[np.float64]
    """[S] mean log expression by the promoter's state."""
    motif_at_promoter: float = _MOTIF_AT_PROMOTER
    """P(a promoter carries a given factor's motif)."""

    @property
    def num_tfs(self) -> int:
        return len(self.motifs)

    @property
    def motif_rate(self) -> NDArray[np.float64]:
        """[C] motif sites a bin and factor, outside promoters."""
        return _MOTIF_RATE

    @property
    def track_sd(self) -> float:
        return _TRACK_SD

    @cached_property
    def dinucleotides(self) -> NDArray[np.float64]:
        """[C, 16] stationary distribution of the first two bases of a bin."""
        return np.stack([_stationary(chain) for chain in self.transitions])

    def to_json(self) -> dict[str, Any]:
        """The truth as plain lists, for ``truth.json``."""
        return {
            "state_names": list(STATE_NAMES),
            "open_states": [STATE_NAMES[s] for s in OPEN_STATES],
            "realised": self.realised.tolist(),
            "backbone": self.backbone.tolist(),
            "transitions": self.transitions.tolist(),
            "motifs": self.motifs.tolist(),
            "motif_effect": self.motif_effect.tolist(),
            "state_effect": self.state_effect.tolist(),
            "track_level": self.track_level.tolist(),
            "noise_sd": self.noise_sd,
            "bin_bp": self.bin_bp,
        }


def make_grammar(recipe: SimulateRecipe) -> Grammar:
    """Draw the grammar; it depends on the seed and on the counts, not on the contigs."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(recipe.seed, spawn_key=(0,))))
    motif_effect = rng.uniform(1.0, 1.6, recipe.num_tfs) / np.sqrt(recipe.num_tfs / 3)
    variance = expression_variance(_REALISED[TSS], _STATE_EFFECT, motif_effect, _MOTIF_AT_PROMOTER)
    return Grammar(
        transitions=_class_chains(rng, recipe.composition_strength),
        motifs=_motifs(rng, recipe.num_tfs, recipe.motif_bp),
        motif_effect=motif_effect,
        track_level=_track_levels(rng, recipe.tracks),
        noise_sd=float(np.sqrt(variance * (1 / recipe.expression_r**2 - 1))),
        bin_bp=recipe.bin_bp,
        realised=_REALISED,
        backbone=_BACKBONE,
        state_effect=_STATE_EFFECT,
    )


def expression_variance(
    promoter_states: NDArray[np.float64],
    state_effect: NDArray[np.float64],
    motif_effect: NDArray[np.float64],
    motif_share: float,
) -> float:
    """Variance of the noiseless expression over genes and cells, exactly, from the shares of promoter states [S]."""
    is_open = np.isin(np.arange(len(state_effect)), OPEN_STATES)
    bound_mean = motif_share * motif_effect.sum()
    bound_var = motif_share * (1 - motif_share) * (motif_effect**2).sum()
    mean = state_effect + is_open * bound_mean
    overall = promoter_states @ mean
    return float(promoter_states @ (mean**2 + is_open * bound_var) - overall**2)


def _class_chains(rng: np.random.Generator, strength: float) -> NDArray[np.float64]:
    """[C, 4, 4, 4] second-order chains: each class prefers one base after every pair of bases.

    What is preferred runs through long cycles, so that a masked k-mer can be told from its neighbours and its class,
    while no single k-mer is frequent.
    """
    base = np.stack([(1 - _GC) / 2, _GC / 2, _GC / 2, (1 - _GC) / 2], axis=1)  # [C, 4]
    preferred = np.stack([_preferred_bases(rng, share) for share in base])  # [C, 4, 4]
    one_hot = preferred[..., None] == np.arange(NUM_BASES)
    own = _PREFERENCE * one_hot + (1 - _PREFERENCE) * base[:, None, None, :]
    return strength * own + (1 - strength) * _BACKGROUND


def _preferred_bases(rng: np.random.Generator, share: NDArray[np.float64]) -> NDArray[np.int64]:
    """[4, 4] the base preferred after each pair, redrawn from the shares until every cycle has five pairs or more."""
    while True:
        preferred = rng.choice(NUM_BASES, size=(NUM_BASES, NUM_BASES), p=share)
        following = (np.arange(16) % 4) * 4 + preferred.reshape(-1)  # pair ab -> pair bc
        at = np.arange(16)
        for _ in range(4):
            at = following[at]
            if (at == np.arange(16)).any():
                break
        else:
            return preferred


def _stationary(chain: NDArray[np.float64]) -> NDArray[np.float64]:
    """[16] stationary distribution over dinucleotides of a second-order chain [4, 4, 4]."""
    step = np.zeros((16, 16))
    for a in range(4):
        for b in range(4):
            step[4 * a + b, 4 * b : 4 * b + 4] = chain[a, b]
    # the mean of many powers: converges even where a chain is nearly periodic
    powers = np.linalg.matrix_power(step, 512)
    mean = sum((powers := powers @ step)[0] for _ in range(64)) / 64
    return np.asarray(mean) / np.sum(mean)


def _motifs(rng: np.random.Generator, num_tfs: int, motif_bp: int) -> NDArray[np.float64]:
    consensus = rng.integers(NUM_BASES, size=(num_tfs, motif_bp))
    others = (1 - _MOTIF_FIDELITY) / (NUM_BASES - 1)
    return np.where(np.arange(NUM_BASES) == consensus[..., None], _MOTIF_FIDELITY, others)


_KNOWN_MARKS = {  # mean level in TssA, Enh, Tx, ReprPC, Het, Quies
    "H3K4me3": (12.0, 2.5, 0.6, 0.8, 0.3, 0.3),
    "H3K4me1": (2.0, 9.0, 1.2, 0.7, 0.3, 0.4),
    "H3K27ac": (9.0, 7.0, 0.8, 0.3, 0.2, 0.3),
    "H3K36me3": (0.4, 0.8, 8.0, 0.4, 0.5, 0.4),
    "H3K27me3": (0.5, 0.8, 0.4, 8.0, 0.6, 0.5),
    "H3K9me3": (0.3, 0.4, 0.5, 0.8, 8.0, 0.5),
    "DNase": (4.0, 3.0, 0.7, 0.4, 0.2, 0.3),
}


def _track_levels(rng: np.random.Generator, tracks: tuple[str, ...]) -> NDArray[np.float64]:
    """[M, S]; marks that the table does not know get levels drawn at random."""
    drawn = rng.choice([0.3, 0.6, 3.0, 9.0], size=(len(tracks), len(STATE_NAMES)))
    rows = [_KNOWN_MARKS.get(mark, tuple(drawn[i])) for i, mark in enumerate(tracks)]
    return np.array(rows, dtype=np.float64).reshape(len(tracks), len(STATE_NAMES))
