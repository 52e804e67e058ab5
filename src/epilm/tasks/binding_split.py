"""Which bins and cell types are trained on, which decide when to stop, and what is kept for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import RecipeError
from epilm.labels.label_set import LabelSet
from epilm.labels.places import Place, bins_near, bins_within, read_places
from epilm.labels.runs import Runs
from epilm.tasks.binding_names import check_known
from epilm.tasks.binding_recipe import SplitConfig


@dataclass(frozen=True)
class BindingSplit:
    """A recipe's split on a corpus and its labels.

    Args:
        flank_bp: bases of an input on either side of its bin.
        setting: what gave the split, for messages.
    """

    config: SplitConfig
    manifest: CorpusManifest
    labels: LabelSet
    flank_bp: int
    setting: str = "task.split"

    def beside(self, name: str) -> str:
        """A setting beside the split, as messages name it: ``task.targets``."""
        return self.setting.removesuffix("split") + name

    def places(self, names: Sequence[str], setting: str) -> list[Place]:
        """Contigs and regions that a setting of the split names.

        Raises:
            RecipeError: one is not in the corpus.
        """
        known = [contig.name for contig in self.manifest.contigs]
        return read_places(names, known, setting=f"{self.setting}.{setting}")

    @cached_property
    def train_places(self) -> list[Place]:
        names, kept = self.config.train_contigs, {*self.config.validation_contigs, *self.config.test_contigs}
        if names is None:
            names = tuple(contig.name for contig in self.manifest.contigs if contig.name not in kept)
        return self.places(names, "train_contigs")

    @cached_property
    def held_places(self) -> list[Place]:
        """Of validation and test."""
        config = self.config
        validation = self.places(config.validation_contigs, "validation_contigs")
        return validation + self.places(config.test_contigs, "test_contigs")

    @cached_property
    def train_bins(self) -> Runs:
        """Bins that may be trained on: of the training contigs, and whose input meets nothing that is held out."""
        grid = self.labels.grid
        return bins_within(grid, self.train_places).subtract(bins_near(grid, self.held_places, self.flank_bp))

    @cached_property
    def validation_bins(self) -> Runs:
        return bins_within(self.labels.grid, self.places(self.config.validation_contigs, "validation_contigs"))

    @cached_property
    def train_cells(self) -> tuple[int, ...]:
        """Places in ``labels.cell_types`` of the cell types that are trained on."""
        names, held_out = self.labels.cell_types, self.config.held_out_cell_types
        chosen = self.config.cell_types or tuple(name for name in names if name not in held_out)
        return tuple(names.index(name) for name in chosen)

    @property
    def train_cell_types(self) -> tuple[str, ...]:
        return tuple(self.labels.cell_types[cell] for cell in self.train_cells)

    @property
    def trained_contigs(self) -> tuple[str, ...]:
        """Contigs with training bins, for the provenance."""
        return tuple(dict.fromkeys(name for name, _, _ in self.train_places))

    @property
    def trained_regions(self) -> tuple[tuple[str, int, int], ...] | None:
        """What the training inputs cover, where parts of contigs are held out; None for whole contigs."""
        if all(start is None for _, start, _ in self.train_places + self.held_places):
            return None
        grid = self.labels.grid
        contig, start, num = grid.split(self.train_bins)
        ends = start + (num - 1) * grid.step_bp + grid.bin_bp + self.flank_bp
        firsts = np.maximum(start - self.flank_bp, 0)
        return tuple(zip(grid.names[contig].tolist(), firsts.tolist(), ends.tolist(), strict=True))

    # -- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Contigs, regions and cell types are known, none is in two splits, and something is left to train on.

        Raises:
            RecipeError
        """
        self._check_contigs()
        self._check_cells()

    def _check_contigs(self) -> None:
        config, grid = self.config, self.labels.grid
        lists = {"validation_contigs": config.validation_contigs, "test_contigs": config.test_contigs}
        if config.train_contigs is not None:
            lists["train_contigs"] = config.train_contigs
        for setting, names in lists.items():
            for name, place in zip(names, self.places(names, setting), strict=True):
                if not bins_within(grid, [place]):
                    raise RecipeError(
                        f"{self.setting}.{setting}: not one bin of {grid.bin_bp} bp lies in {name} of the corpus. Coordinates "
                        "are those of the whole contig, 0-based half-open."
                    )
        bins = {setting: bins_within(grid, self.places(names, setting)) for setting, names in lists.items()}
        both = bins["validation_contigs"].intersect(bins["test_contigs"])
        if both:
            names = sorted(set(grid.names[grid.locate(both.start)[0]].tolist()))
            raise RecipeError(
                f"{self.setting}.validation_contigs and test_contigs share {both.size:,} bins on {', '.join(names)}. Leave "
                "them to one."
            )
        for setting in ("validation_contigs", "test_contigs"):
            again = sorted(set(config.train_contigs or ()) & set(lists[setting]))
            if again:
                raise RecipeError(
                    f"{self.setting}.train_contigs and {self.setting}.{setting} both name {', '.join(again)}. Leave it to one."
                )
        if not self.train_bins:
            raise RecipeError(
                f"no bin is left to train on: validation and test take all of {', '.join(grid.names)}. Give some of them "
                "back."
            )

    def _check_cells(self) -> None:
        chosen, held_out, labelled = (
            self.config.cell_types or (),
            self.config.held_out_cell_types,
            self.labels.cell_types,
        )
        for setting, names in (("cell_types", chosen), ("held_out_cell_types", held_out)):
            for name in names:
                check_known(name, labelled, f"{self.setting}.{setting}", "cell type with labels")
        both = sorted(set(chosen) & set(held_out))
        if both:
            raise RecipeError(
                f"{self.setting}.cell_types and held_out_cell_types both name {', '.join(both)}. Leave it to one."
            )
        if not self.train_cells:
            raise RecipeError(
                f"no cell type is left to train on: the labels have {', '.join(labelled)}, and all are held out. Give one back."
            )

    def check_bound(self, part: Literal["training", "validation"]) -> None:
        """Every factor binds somewhere in that part, in the cell types that are trained on.

        Raises:
            RecipeError
        """
        within = self.train_bins if part == "training" else self.validation_bins
        counts = self.labels.counts(within)
        bound = counts[counts["cell_type"].isin(self.train_cell_types)].groupby("target")["bound"].sum()
        missing = [target for target in self.labels.targets if not bound.get(target, 0)]
        if missing:
            raise RecipeError(
                f"{', '.join(missing)} binds nowhere on the {part} contigs ({within.size:,} bins) in "
                f"{', '.join(self.train_cell_types)}: nothing could be learnt or measured. Choose other contigs, or leave the "
                f"factor out ({self.beside('targets')})."
            )
