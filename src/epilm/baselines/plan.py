"""Everything about a baseline that is settled before any work: a recipe, checked against its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from epilm.baselines.recipe import BaselineRecipe, KmerLogisticConfig, MotifFile, PwmConfig
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
from epilm.models.binding_config import BindingConfig
from epilm.predict.genome_parts import GenomePart, plan_genome_parts
from epilm.predict.parts import MAX_PART_BYTES
from epilm.storage import Location
from epilm.tasks.binding_draw import BindingDraw
from epilm.tasks.binding_names import check_accessible, check_known, check_signals
from epilm.tasks.binding_rows import BindingRows
from epilm.tasks.binding_split import BindingSplit

_SEED_BP = 6


@dataclass(frozen=True)
class BaselinePlan:
    """A recipe whose corpus, labels, split and motifs are there and fit each other."""

    corpus: Location
    manifest: CorpusManifest
    labels: LabelSet
    """Of the targets asked."""
    draw: BindingDraw
    """That of a fine-tuning with the same settings."""
    binding: BindingConfig
    """What is read of a bin: its input and its tracks."""
    uses_states: bool
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
    def split(self) -> BindingSplit:
        return self.draw.split

    @property
    def rows(self) -> BindingRows:
        """Made anew, for it keeps what it has read."""
        return BindingRows(self.corpus, self.manifest, self.labels, self.binding, self.uses_states)

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
    binding = _binding(recipe, labels, manifest)
    split = BindingSplit(recipe.split, manifest, labels, binding.flank_bp, setting="split")
    split.check()
    asked = _asked(recipe, labels)
    cell_types = _predicted_cells(recipe, labels, manifest)
    if isinstance(predictor, PwmConfig):
        motifs, learned = _motifs(predictor, labels.targets, binding.input_bp)
        check_accessible(predictor.gate, cell_types, manifest, setting="predictor.gate")
    else:
        motifs, learned = {}, ()
        _check_features(predictor, (*split.train_cell_types, *cell_types), manifest)
    plan = BaselinePlan(
        corpus=corpus,
        manifest=manifest,
        labels=labels,
        draw=BindingDraw(corpus, split, recipe.sampling, recipe.evaluation, recipe.seed),
        binding=binding,
        uses_states=isinstance(predictor, KmerLogisticConfig) and predictor.states,
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
        _check_samples(recipe, plan)
    return plan


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
    predictor, labels = recipe.predictor, plan.labels
    plan.draw.check(validated=isinstance(predictor, KmerLogisticConfig) and len(predictor.inverse_penalties) > 1)
    num = min(recipe.max_samples, recipe.epochs * plan.draw.sampler.epoch_size)
    codes = labels.codes(*plan.draw.source(plan.rows).members(np.arange(num)))
    for column, target in enumerate(labels.targets):
        for code, what in ((BOUND, "bound"), (UNBOUND, "unbound")):
            if not (codes[:, column] == code).any():
                raise RecipeError(
                    f"among the {num:,} samples drawn (max_samples={recipe.max_samples:,}, epochs={recipe.epochs}) not one "
                    f"is {what} by {target}. Raise them, or leave the factor out (targets)."
                )


def _fingerprint(motifs: dict[str, Motif]) -> str:
    digest = hashlib.sha256()
    for target in sorted(motifs):
        digest.update(
            f"{target} {motifs[target].num_sites!r} ".encode() + motifs[target].frequencies.astype("<f8").tobytes()
        )
    return digest.hexdigest()[:16]
