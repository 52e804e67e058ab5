"""Fixed evaluation sets of a corpus: held-out contigs, held-out cell types, both at once, and the contigs of the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.order import Samples
from epilm.corpus.source import WindowSource
from epilm.errors import RecipeError
from epilm.hashing import hash_u64
from epilm.storage import Location
from epilm.tasks.recipe import EvalConfig

_CELL = 7
TEST_SET = "test_contigs"


@dataclass(frozen=True)
class WindowEvalSet:
    """The first windows of a split (windows are shuffled when written), each with one cell type drawn by hash.

    Args:
        contigs: only windows of these; None = of all.
    """

    source: WindowSource
    max_windows: int
    eval_seed: int
    contigs: tuple[str, ...] | None = None

    @property
    def num_samples(self) -> int:
        return min(self.max_windows, self.source.samples_per_pass if self._loci is None else len(self._loci))

    @cached_property
    def _loci(self) -> np.ndarray | None:
        """Loci of the chosen contigs, as many as are needed; int64 [n]."""
        return None if self.contigs is None else self.source.find_loci(self.contigs, at_most=self.max_windows)

    def read(self, indices: np.ndarray) -> pa.Table:
        unit_rows = np.asarray(self.source.order.unit_rows)
        starts = np.concatenate([[0], np.cumsum(unit_rows)])
        locus = np.asarray(indices, dtype=np.int64) if self._loci is None else self._loci[indices]
        unit = np.searchsorted(starts, locus, side="right") - 1
        cell = hash_u64(self.eval_seed, _CELL, indices) % np.uint64(max(1, len(self.source.cells)))
        return self.source.gather(
            Samples(
                position=indices,
                pass_index=np.zeros_like(indices),
                unit=unit,
                row=locus - starts[unit],
                locus=locus,
                cell=cell.astype(np.int64),
            )
        )


def window_eval_sets(
    corpus: Location,
    manifest: CorpusManifest,
    *,
    uses_states: bool,
    max_windows: int,
    eval_seed: int,
    test_contigs: Sequence[str] = (),
    test: bool = False,
) -> dict[str, WindowEvalSet]:
    """The sets that the corpus allows.

    ``held_out_contigs``: held-out windows, training cell types. ``held_out_cell_types``: training windows, held-out cell
    types. ``held_out_both``: held-out windows, held-out cell types. A model of DNA alone has only the first.
    ``test_contigs`` are kept out of all of these; with ``test`` the set of that name reads them (training cell types).
    """
    held_out = contigs_held_out(manifest)
    validation = tuple(name for name in held_out if name not in test_contigs) if test_contigs else None

    def make(split: str, cell_types: tuple[str, ...], contigs: tuple[str, ...] | None) -> WindowEvalSet:
        cells = tuple(manifest.cell_types.index(name) for name in cell_types) if uses_states else ()
        source = WindowSource(corpus, manifest, split, cells, eval_seed)
        return WindowEvalSet(source, max_windows, eval_seed, contigs)

    sets = {}
    if manifest.num_windows("held_out"):
        sets["held_out_contigs"] = make("held_out", manifest.train_cell_types, validation)
    if uses_states and manifest.held_out_cell_types:
        sets["held_out_cell_types"] = make("train", manifest.held_out_cell_types, None)
        if manifest.num_windows("held_out"):
            sets["held_out_both"] = make("held_out", manifest.held_out_cell_types, validation)
    if test and test_contigs:
        sets[TEST_SET] = make("held_out", manifest.train_cell_types, tuple(test_contigs))
    return sets


def contigs_held_out(manifest: CorpusManifest) -> list[str]:
    """Contigs that have held-out windows: those held out whole, then those of held-out regions."""
    regions = (region.chrom for region in manifest.held_out_regions)
    return list(dict.fromkeys([*manifest.held_out_contigs, *regions]))


def check_test_contigs(config: EvalConfig, manifest: CorpusManifest) -> None:
    """The test needs held-out contigs, and must leave some of them for validation.

    Raises:
        RecipeError: names the contigs that are held out.
    """
    held_out = contigs_held_out(manifest)
    wrong = [name for name in config.test_contigs if name not in held_out]
    if wrong:
        raise RecipeError(
            f"task.evaluation.test_contigs names {', '.join(wrong)}, which this corpus does not hold out. "
            f"Held out: {', '.join(held_out) or 'none'}."
        )
    if config.test_contigs and len(set(config.test_contigs)) == len(held_out):
        raise RecipeError(
            f"task.evaluation.test_contigs names all held-out contigs ({', '.join(held_out)}), so none is left for "
            "validation. Leave one out, or build a corpus that holds out more."
        )
