"""Fixed evaluation sets of a corpus: held-out contigs, held-out cell types, and both at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.order import Samples
from epilm.corpus.source import WindowSource
from epilm.hashing import hash_u64
from epilm.storage import Location

_CELL = 7


@dataclass(frozen=True)
class WindowEvalSet:
    """The first windows of a split (windows are shuffled when written), each with one cell type drawn by hash."""

    source: WindowSource
    max_windows: int
    eval_seed: int

    @property
    def num_samples(self) -> int:
        return min(self.max_windows, self.source.samples_per_pass)

    def read(self, indices: np.ndarray) -> pa.Table:
        unit_rows = np.asarray(self.source.order.unit_rows)
        starts = np.concatenate([[0], np.cumsum(unit_rows)])
        unit = np.searchsorted(starts, indices, side="right") - 1
        cell = hash_u64(self.eval_seed, _CELL, indices) % np.uint64(max(1, len(self.source.cells)))
        return self.source.gather(
            Samples(
                position=indices,
                pass_index=np.zeros_like(indices),
                unit=unit,
                row=indices - starts[unit],
                locus=indices,
                cell=cell.astype(np.int64),
            )
        )


def window_eval_sets(
    corpus: Location, manifest: CorpusManifest, *, uses_states: bool, max_windows: int, eval_seed: int
) -> dict[str, WindowEvalSet]:
    """The sets that the corpus allows.

    ``held_out_contigs``: held-out windows, training cell types. ``held_out_cell_types``: training windows, held-out cell
    types. ``held_out_both``: held-out windows, held-out cell types. A model of DNA alone has only the first.
    """

    def make(split: str, cell_types: tuple[str, ...]) -> WindowEvalSet:
        cells = tuple(manifest.cell_types.index(name) for name in cell_types) if uses_states else ()
        return WindowEvalSet(WindowSource(corpus, manifest, split, cells, eval_seed), max_windows, eval_seed)

    sets = {}
    if manifest.num_windows("held_out"):
        sets["held_out_contigs"] = make("held_out", manifest.train_cell_types)
    if uses_states and manifest.held_out_cell_types:
        sets["held_out_cell_types"] = make("train", manifest.held_out_cell_types)
        if manifest.num_windows("held_out"):
            sets["held_out_both"] = make("held_out", manifest.held_out_cell_types)
    return sets
