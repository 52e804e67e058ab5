"""Everything that can be wrong with a fine-tuning, found on the driver before any worker starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.schema import CONTIGS
from epilm.corpus.source import check_shards
from epilm.errors import RecipeError
from epilm.labels.places import bins_within
from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import TrackConfig
from epilm.models.fits_corpus import check_fits_corpus
from epilm.models.folder import check_weights
from epilm.models.provenance import read_provenance
from epilm.tasks.binding_rows import split_bins

if TYPE_CHECKING:
    from epilm.tasks.tf_binding import TfBindingTask


def check_binding(task: TfBindingTask) -> None:
    """Refuse labels, splits, tracks and encoders that do not fit each other or the corpus.

    Raises:
        EpilmError: what, got, allowed, how to mend.
    """
    manifest = task.manifest
    check_shards(task.corpus, manifest, CONTIGS)
    _check_contigs(task)
    _check_cells(task)
    _check_encoder(task)
    check_signals(task.config.tracks, task.split.train_cell_types, manifest, setting="task.tracks")
    _check_accessible(task, manifest)
    _check_counts(task)


def _check_contigs(task: TfBindingTask) -> None:
    """Contigs and regions are the corpus' own, and none is in two splits."""
    split, grid = task.config.split, task.labels.grid
    lists = {"validation_contigs": split.validation_contigs, "test_contigs": split.test_contigs}
    if split.train_contigs is not None:
        lists["train_contigs"] = split.train_contigs
    bins = {setting: bins_within(grid, task.split.places(names, setting)) for setting, names in lists.items()}
    both = bins["validation_contigs"].intersect(bins["test_contigs"])
    if both:
        names = sorted(set(grid.names[grid.locate(both.start)[0]].tolist()))
        raise RecipeError(
            f"task.split.validation_contigs and test_contigs share {both.size:,} bins on {', '.join(names)}. Leave them to one."
        )
    for setting in ("validation_contigs", "test_contigs"):
        again = sorted(set(split.train_contigs or ()) & set(lists[setting]))
        if again:
            raise RecipeError(
                f"task.split.train_contigs and task.split.{setting} both name {', '.join(again)}. Leave it to one."
            )
    if not task.split.train_bins:
        raise RecipeError(
            f"no bin is left to train on: validation and test take all of {', '.join(grid.names)}. Give some of them back."
        )


def _check_cells(task: TfBindingTask) -> None:
    split, labelled = task.config.split, task.labels.cell_types
    for setting, names in (("cell_types", split.cell_types or ()), ("held_out_cell_types", split.held_out_cell_types)):
        for name in names:
            _known(name, labelled, f"task.split.{setting}", "cell type with labels")
    both = sorted(set(split.cell_types or ()) & set(split.held_out_cell_types))
    if both:
        raise RecipeError(
            f"task.split.cell_types and held_out_cell_types both name {', '.join(both)}. Leave it to one."
        )
    if not task.split.train_cells:
        raise RecipeError(
            f"no cell type is left to train on: the labels have {', '.join(labelled)}, and all are held out. Give one back."
        )


def _check_encoder(task: TfBindingTask) -> None:
    manifest = task.manifest
    if task.pretrained is not None:
        check_fits_corpus(read_provenance(task.pretrained), manifest, corpus=task.config.corpus)
        if not task.config.encoder.random_weights:
            check_weights(task.pretrained, task.encoder)
    if task.uses_states:
        lacking = [name for name in task.split.train_cell_types if name not in manifest.cell_types]
        if lacking:
            raise RecipeError(
                f"the encoder reads states, but the corpus {task.corpus} has none of cell type {', '.join(lacking)}; it has "
                f"{', '.join(manifest.cell_types) or 'no cell types'}. Leave the cell type out (task.split.cell_types, or "
                "task.labels.cell_types to rename it), or build the corpus with its states."
            )
    with torch.device("meta"):
        EbertForBinding(task.encoder, task.binding)  # refuses inputs that are longer than the encoder


def check_signals(
    tracks: dict[str, TrackConfig], cell_types: Sequence[str], manifest: CorpusManifest, *, setting: str
) -> None:
    """Every track has its signal in the corpus for every cell type, measured in that cell type.

    Raises:
        RecipeError: naming the signal that is missing or another cell type's.
    """
    by_name = {signal.name: signal for signal in manifest.signals}
    for name, track in tracks.items():
        for cell in cell_types:
            signal = track.signal_for(cell)
            _known(signal, by_name, f"{setting}.{name}.signal (for {cell})", "signal of the corpus")
            measured = by_name[signal].cell_type
            if measured is not None and measured != cell:
                raise RecipeError(
                    f"{setting}.{name}: the signal {signal!r} was measured in {measured}, and would be read for {cell} too. "
                    "Write {cell_type} in its name, so that each cell type has its own, or train on that cell type alone."
                )


def _check_accessible(task: TfBindingTask, manifest: CorpusManifest) -> None:
    accessible = task.config.sampling.accessible
    if accessible is None:
        return
    setting = "task.sampling.accessible"
    for name in accessible.states:
        _known(name, manifest.state_names, f"{setting}.states", "state of the corpus")
    cells = task.split.train_cell_types
    if accessible.states:
        for cell in cells:
            _known(
                cell, manifest.cell_types, f"{setting}.states (cell type {cell})", "cell type with states in the corpus"
            )
    if accessible.signal is not None:
        check_signals({"signal": TrackConfig(signal=accessible.signal)}, cells, manifest, setting=setting)


def _check_counts(task: TfBindingTask) -> None:
    """Each factor has a positive to learn from and one to be judged by; there are negatives."""
    labels, names = task.labels, task.split.train_cell_types
    for split, within in (("training", task.split.train_bins), ("validation", task.split.validation_bins)):
        counts = labels.counts(within)
        counts = counts[counts["cell_type"].isin(names)].groupby("target")["bound"].sum()
        missing = [target for target in labels.targets if not counts.get(target, 0)]
        if missing:
            raise RecipeError(
                f"{', '.join(missing)} binds nowhere on the {split} contigs ({within.size:,} bins) in {', '.join(names)}: "
                "nothing could be learnt or measured. Choose other contigs, or leave the factor out (task.targets)."
            )
    _, negatives, _ = split_bins(labels, task.split.train_cells, task.split.train_bins)
    if not negatives.size:
        raise RecipeError(
            "not a single bin of the training contigs is unbound: the labels leave nothing to tell apart."
        )
    _ = task.sampler  # the strata of negatives; their errors are the user's


def _known(name: str, allowed: Iterable[str], setting: str, what: str) -> None:
    allowed = list(allowed)
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(allowed[:12]) or "none"
        raise RecipeError(f"{setting}: {name!r} is no {what}.{hint} There are: {shown}.")
