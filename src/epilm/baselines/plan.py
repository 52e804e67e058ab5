"""Everything about a baseline that is settled before any work: a recipe, checked against its inputs."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from epilm.baselines.recipe import BaselineRecipe, KmerLogisticConfig, MotifFile, PwmConfig
from epilm.baselines.split import BaselineSplit
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.schema import CONTIGS
from epilm.corpus.source import check_shards
from epilm.errors import RecipeError
from epilm.evaluate.predictions import PredictedColumn
from epilm.genome.motifs import Motif, find_motif, read_motifs
from epilm.labels.codes import BOUND, UNBOUND
from epilm.labels.label_set import LabelSet
from epilm.labels.load import load_labels
from epilm.labels.places import bins_within, read_places
from epilm.labels.runs import Runs
from epilm.models.binding_config import BindingConfig, TrackConfig
from epilm.predict.genome_parts import GenomePart, plan_genome_parts
from epilm.predict.parts import MAX_PART_BYTES
from epilm.storage import Location
from epilm.tasks.binding_check import check_signals
from epilm.tasks.binding_recipe import AccessibleConfig, SplitConfig

_SEED_BP = 6


@dataclass(frozen=True)
class BaselinePlan:
    """A recipe whose corpus, labels, split and motifs are there and fit each other."""

    corpus: Location
    manifest: CorpusManifest
    labels: LabelSet
    """Of the targets asked."""
    split: BaselineSplit
    binding: BindingConfig
    """What is read of a bin: its input and its tracks."""
    cell_types: tuple[str, ...]
    """Predicted in."""
    columns: tuple[PredictedColumn, ...]
    """Cell type by cell type, each with all targets."""
    asked: Runs
    """The bins to predict."""
    parts: list[GenomePart]
    motifs: dict[str, Motif]
    """Read from files, by target."""
    learned: tuple[str, ...]
    """Targets whose motif is to be learned."""
    fingerprints: dict[str, str]

    @property
    def is_trained(self) -> bool:
        """Whether anything is learned from labels: all but matrices that come from files are."""
        return not self.motifs or bool(self.learned)


def check_baseline(recipe: BaselineRecipe) -> BaselinePlan:
    """Refuse what cannot be fitted or predicted; nothing is started and nothing is written.

    Raises:
        EpilmError: corpus, labels, split, motifs, states or signals are wrong or do not fit each other.
    """
    corpus, predictor = Location(recipe.corpus), recipe.predictor
    manifest = read_manifest(corpus)
    check_shards(corpus, manifest, CONTIGS)
    labels = load_labels(recipe.labels, manifest)
    labels = labels.restrict(targets=recipe.targets) if recipe.targets is not None else labels
    _check_cells(recipe.split, labels)
    binding = _binding(recipe, labels, manifest)
    settings = (recipe.split, recipe.sampling, recipe.evaluation)
    split = BaselineSplit(corpus, manifest, labels, *settings, flank_bp=binding.flank_bp, seed=recipe.seed)
    _check_split(split)
    asked = _asked(recipe, labels)
    cell_types = _predicted_cells(recipe, labels, manifest)
    if isinstance(predictor, PwmConfig):
        motifs, learned = _motifs(predictor, labels.targets, binding.input_bp)
        _check_accessible(predictor.gate, cell_types, manifest, "predictor.gate")
    else:
        motifs, learned = {}, ()
        _check_features(predictor, (*split.train_cell_types, *cell_types), manifest)
    plan = BaselinePlan(
        corpus=corpus,
        manifest=manifest,
        labels=labels,
        split=split,
        binding=binding,
        cell_types=cell_types,
        columns=tuple(PredictedColumn(cell_type=cell, target=t) for cell in cell_types for t in labels.targets),
        asked=asked,
        parts=_parts(recipe, labels, asked, len(cell_types) * len(labels.targets)),
        motifs=motifs,
        learned=learned,
        fingerprints={
            "corpus": manifest.fingerprint(),
            "labels": labels.fingerprint(),
            "motifs": _fingerprint(motifs),
        },
    )
    if plan.is_trained:
        _check_accessible(recipe.sampling.accessible, split.train_cell_types, manifest, "sampling.accessible")
        _check_samples(recipe, plan)
    return plan


def _check_cells(split: SplitConfig, labels: LabelSet) -> None:
    for setting in ("cell_types", "held_out_cell_types"):
        for name in getattr(split, setting) or ():
            check_known(name, labels.cell_types, f"split.{setting}", "cell type with labels")
    both = sorted(set(split.cell_types or ()) & set(split.held_out_cell_types))
    if both:
        raise RecipeError(f"split.cell_types and held_out_cell_types both name {', '.join(both)}. Leave it to one.")
    if not split.cell_types and not set(labels.cell_types) - set(split.held_out_cell_types):
        raise RecipeError("split.held_out_cell_types takes all cell types with labels. Leave one to train on.")


def _check_split(split: BaselineSplit) -> None:
    """Contigs and regions are the corpus' own, none is in two splits, and something is left to train on."""
    grid, settings = split.labels.grid, ("validation_contigs", "test_contigs")
    validation, test = (bins_within(grid, split.places(setting)) for setting in settings)
    if both := validation.intersect(test):
        names = sorted(set(grid.names[grid.locate(both.start)[0]].tolist()))
        raise RecipeError(
            f"split.validation_contigs and test_contigs share {both.size:,} bins on {', '.join(names)}. Leave them to one."
        )
    for setting in settings:
        if again := sorted(set(split.split.train_contigs or ()) & set(getattr(split.split, setting))):
            raise RecipeError(f"split.train_contigs and split.{setting} both name {', '.join(again)}. Leave it to one.")
    if not split.train_bins:
        raise RecipeError("split: validation and test leave no bin to train on. Give some of the contigs back.")


def _asked(recipe: BaselineRecipe, labels: LabelSet) -> Runs:
    """The bins to predict."""
    setting, wanted = "contigs", recipe.contigs
    if wanted is None:
        setting, wanted = "split.test_contigs", recipe.split.test_contigs
    if not wanted:
        raise RecipeError("contigs: none to predict, and split.test_contigs names none either. Name at least one.")
    grid = labels.grid
    for place in read_places(wanted, grid.names, setting=setting):
        if not bins_within(grid, [place]):
            raise RecipeError(
                f"{setting}: {place[0]} or the part of it that is named holds no bin of {grid.bin_bp} bp. Leave it out."
            )
    return bins_within(grid, read_places(wanted, grid.names, setting=setting))


def _predicted_cells(recipe: BaselineRecipe, labels: LabelSet, manifest: CorpusManifest) -> tuple[str, ...]:
    if recipe.cell_types is None:
        return labels.cell_types
    for name in recipe.cell_types:
        check_known(name, (*labels.cell_types, *manifest.cell_types), "cell_types", "cell type of labels or corpus")
    if not recipe.cell_types:
        raise RecipeError("cell_types is empty: name at least one, or leave it out for all that have labels.")
    return tuple(dict.fromkeys(recipe.cell_types))


def _binding(recipe: BaselineRecipe, labels: LabelSet, manifest: CorpusManifest) -> BindingConfig:
    predictor, bin_bp = recipe.predictor, labels.grid.bin_bp
    tracks = predictor.tracks if isinstance(predictor, KmerLogisticConfig) else {}
    try:
        return BindingConfig(
            targets=labels.targets,
            bin_bp=bin_bp,
            input_bp=predictor.input_bp or bin_bp,
            tracks=tracks,
            signal_bp=manifest.signal_bp if tracks else None,
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecipeError(f"predictor: {message}") from error


def _check_features(config: KmerLogisticConfig, cell_types: Sequence[str], manifest: CorpusManifest) -> None:
    for cell in dict.fromkeys(cell_types):
        if config.states:
            check_known(cell, manifest.cell_types, "predictor.states", "cell type with states in the corpus")
    check_signals(config.tracks, list(dict.fromkeys(cell_types)), manifest, setting="predictor.tracks")


def _check_accessible(
    accessible: AccessibleConfig | None, cell_types: Sequence[str], manifest: CorpusManifest, setting: str
) -> None:
    if accessible is None:
        return
    for name in accessible.states:
        check_known(name, manifest.state_names, f"{setting}.states", "state of the corpus")
    if accessible.states:
        for cell in cell_types:
            check_known(cell, manifest.cell_types, f"{setting}.states", "cell type with states in the corpus")
    if accessible.signal is not None:
        check_signals({"signal": TrackConfig(signal=accessible.signal)}, cell_types, manifest, setting=setting)


def _motifs(config: PwmConfig, targets: Sequence[str], input_bp: int) -> tuple[dict[str, Motif], tuple[str, ...]]:
    """Motifs from files by target, and the targets whose motif is learned."""
    for name in config.motifs:
        check_known(name, targets, "predictor.motifs", "target")
    missing = tuple(target for target in targets if target not in config.motifs)
    if missing and not config.learned:
        raise RecipeError(
            f"predictor.motifs has none for {', '.join(missing)}. Give a file for each ({{{missing[0]}: path}}), set "
            "predictor.learned=true to learn them from the bound bins, or leave the factor out (targets)."
        )
    found = {}
    for target, given in config.motifs.items():
        path, name = (given.path, given.name) if isinstance(given, MotifFile) else (given, target)
        motifs = read_motifs(path)
        alone = len(motifs) == 1 and not isinstance(given, MotifFile)
        found[target] = motifs[0] if alone else find_motif(motifs, name, source=path)
    widest = max([(motif.width, target) for target, motif in found.items()], default=(0, ""))
    if missing:
        learn = config.learn
        widest = max(widest, (_SEED_BP + learn.max_gap_bp + 2 * learn.flank_bp, "a learned motif"))
    if widest[0] > input_bp:
        raise RecipeError(
            f"predictor.input_bp={input_bp} is shorter than {widest[1]} can be ({widest[0]} bp): no word fits. Widen it."
        )
    return found, missing


def _parts(recipe: BaselineRecipe, labels: LabelSet, asked: Runs, num_columns: int) -> list[GenomePart]:
    rows = min(recipe.rows_per_part, max(1, MAX_PART_BYTES // (4 * num_columns)))
    return plan_genome_parts(labels.grid, asked, rows_per_part=rows, num_cells=1)


def _check_samples(recipe: BaselineRecipe, plan: BaselinePlan) -> None:
    """Each factor has bound and unbound bins to learn from, and bound ones to choose by where something is chosen."""
    split, labels = plan.split, plan.labels
    _check_bound(split, split.train_bins, "training")
    if isinstance(recipe.predictor, KmerLogisticConfig) and len(recipe.predictor.inverse_penalties) > 1:
        _check_bound(split, split.validation_bins, "validation")
    num = min(recipe.max_samples, recipe.epochs * split.sampler.epoch_size)
    bins, cells = split.sampler.locate(np.arange(num))
    codes = labels.codes(bins, np.asarray(split.cells, np.int64)[cells])
    for column, target in enumerate(labels.targets):
        for code, what in ((BOUND, "bound"), (UNBOUND, "unbound")):
            if not (codes[:, column] == code).any():
                raise RecipeError(
                    f"among the {num:,} samples drawn (max_samples={recipe.max_samples:,}, epochs={recipe.epochs}) not one "
                    f"is {what} by {target}. Raise them, or leave the factor out (targets)."
                )


def _check_bound(split: BaselineSplit, within: Runs, what: str) -> None:
    """Every target binds somewhere in the cell types of training."""
    labels = split.labels
    counts = labels.counts(within)
    bound = counts[counts["cell_type"].isin(split.train_cell_types)].groupby("target")["bound"].sum()
    if bare := [target for target in labels.targets if not bound.get(target, 0)]:
        raise RecipeError(
            f"{', '.join(bare)} binds nowhere on the {what} contigs in {', '.join(split.train_cell_types)}: nothing could be "
            "learned or chosen. Choose other contigs (split), or leave the factor out (targets)."
        )


def _fingerprint(motifs: dict[str, Motif]) -> str:
    digest = hashlib.sha256()
    for target in sorted(motifs):
        digest.update(
            f"{target} {motifs[target].num_sites!r} ".encode() + motifs[target].frequencies.astype("<f8").tobytes()
        )
    return digest.hexdigest()[:16]


def check_known(name: str, allowed: Iterable[str], setting: str, what: str) -> None:
    """Refuse a name that is not among those allowed, with the nearest of them.

    Raises:
        RecipeError
    """
    allowed = list(allowed)
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(dict.fromkeys(allowed[:12])) or "none"
        raise RecipeError(f"{setting}: {name!r} is no {what}.{hint} There are: {shown}.")
