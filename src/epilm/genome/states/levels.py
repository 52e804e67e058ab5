"""States from numeric tracks, for genomes that nobody has segmented: levels at quantiles, crossed into words."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from epilm.errors import GenomeError
from epilm.genome.bigwig import bigwig_contigs, bin_track
from epilm.genome.contigs import Contig, match_contigs
from epilm.genome.intervals import covered_bp
from epilm.genome.states.binning import NO_STATE
from epilm.genome.states.config import TrackLevelStates
from epilm.genome.states.source import MAX_STATES, StateSource, check_grid


def level_words(tracks: Sequence[str], levels: Sequence[str]) -> tuple[str, ...]:
    """``MNase_low|PolII_low``, ``MNase_low|PolII_mid``, ...: the first track varies slowest."""
    return tuple("|".join(word) for word in itertools.product(*[[f"{t}_{level}" for level in levels] for t in tracks]))


def cross_levels(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Words of binned tracks, pure: values float [num_tracks, num_bins], cuts [num_tracks, num_cuts] -> uint8 [num_bins].

    A level is the number of cuts below the value, so that a track that is mostly 0 has its zeros in the lowest level. A
    bin where any track is NaN is 255.
    """
    word = np.zeros(values.shape[1], np.int64)
    for track, cut in zip(values, cuts, strict=True):
        word = word * (cut.size + 1) + np.searchsorted(cut, track, side="left")
    return np.where(np.isnan(values).any(axis=0), NO_STATE, word).astype(np.uint8)


class LevelSource(StateSource):
    """Bins the tracks where they are read; holds only the cuts."""

    def __init__(
        self,
        config: TrackLevelStates,
        *,
        reference: Mapping[str, Contig],
        train_contigs: Sequence[str],
        bin_bp: int,
        held_out: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        required: Collection[str] = (),
    ) -> None:
        self._held_out = held_out or {}
        self.track_names = tuple(next(iter(config.tracks.values())))
        self.cell_types = tuple(config.tracks)
        self.state_names = level_words(self.track_names, config.levels)
        if len(self.state_names) > MAX_STATES:
            raise GenomeError(
                f"{len(self.track_names)} tracks of {len(config.levels)} levels make {len(self.state_names)} states, "
                f"at most {MAX_STATES} are allowed. Take fewer tracks or fewer quantiles."
            )
        self.bin_bp = bin_bp
        self._paths = tuple(tuple(tracks[name] for name in self.track_names) for tracks in config.tracks.values())
        self.source_paths = tuple(dict.fromkeys(path for paths in self._paths for path in paths))
        self._length = {name: contig.length_bp for name, contig in reference.items()}
        self.contig_names = {
            path: match_contigs(self._length, {**bigwig_contigs(path)}, source=path, required=required)
            for path in self.source_paths
        }
        self._their_name = {
            path: {ours: theirs for theirs, ours in names.items()} for path, names in self.contig_names.items()
        }
        quantiles = np.asarray(config.quantiles)
        parts = [(name, reference[name]) for name in train_contigs]
        cuts = {path: self._cuts_of(path, parts, quantiles) for path in self.source_paths}
        self.cuts = np.stack([[cuts[path] for path in paths] for paths in self._paths])
        flat = [path for path in self.source_paths if np.unique(cuts[path]).size < quantiles.size]
        gaps = [name for name in reference if any(name not in self._their_name[path] for path in self.source_paths)]
        self.notes = tuple(f"{path}: two levels are cut at the same value, so one of them is empty." for path in flat)
        if gaps:
            self.notes += (f"no states on {', '.join(gaps)}: a track does not cover these contigs.",)

    def _cuts_of(self, path: str, parts: Sequence[tuple[str, Contig]], quantiles: np.ndarray) -> np.ndarray:
        values = np.concatenate([*(self._teaching(path, *part) for part in parts), np.zeros(0, np.float32)])
        values = values[~np.isnan(values)]
        if not values.size:
            shown = ", ".join(name for name, _ in parts[:8])
            raise GenomeError(
                f"{path} has no data on the training contigs ({shown}); it has {', '.join(self.contig_names[path])}. "
                "Train on contigs that the track covers."
            )
        return np.quantile(values.astype(np.float64), quantiles)

    def _teaching(self, path: str, name: str, contig: Contig) -> np.ndarray:
        """Bins of a training contig without those that touch a held-out region."""
        start_bp, end_bp = _inner_grid(contig, self.bin_bp)
        values = self._bin(path, name, start_bp, end_bp, self.bin_bp)
        if name not in self._held_out:
            return values
        starts = start_bp + np.arange(values.size) * self.bin_bp
        return values[covered_bp(starts, starts + self.bin_bp, *self._held_out[name]) == 0]

    def _bin(self, path: str, contig: str, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
        name = self._their_name[path].get(contig)
        if name is None:
            return np.full(-(-(end_bp - start_bp) // bin_bp), np.nan, np.float32)
        return bin_track(path, name, start_bp, end_bp, bin_bp)

    def read(self, contig: str, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
        check_grid(start_bp, end_bp, bin_bp)
        if bin_bp != self.bin_bp:
            raise GenomeError(f"the levels were cut for bins of {self.bin_bp} bp and cannot be read at {bin_bp} bp.")
        rows = []
        for paths, cuts in zip(self._paths, self.cuts, strict=True):
            values = np.stack([self._bin(path, contig, start_bp, end_bp, bin_bp) for path in paths])
            rows.append(cross_levels(values, cuts))
        return np.stack(rows)


def _inner_grid(contig: Contig, bin_bp: int) -> tuple[int, int]:
    """The stretch that the sequence holds, begun on a bin."""
    return min(-(-contig.start_bp // bin_bp) * bin_bp, contig.end_bp), contig.end_bp
