"""Fitting a baseline, and the files of the run that hold what was fitted; a predictor is always made from those files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from epilm.baselines.kmer_logistic import FeatureSpace, Fitted, LinearModel, fit_target
from epilm.baselines.learn_motif import consensus, information, learn_motif
from epilm.baselines.on_ray import run_tasks
from epilm.baselines.plan import BaselinePlan
from epilm.baselines.predictors import KmerPredictor, Predictor, PwmPredictor
from epilm.baselines.pwm import PwmModel, write_meme
from epilm.baselines.recipe import BaselineRecipe, KmerLogisticConfig, PwmConfig
from epilm.baselines.samples import Samples, training_samples, validation_samples
from epilm.genome.motifs import Motif
from epilm.labels.runs import Runs
from epilm.storage import Location
from epilm.tasks.binding_sampling import CellBins
from epilm.tasks.binding_strata import accessible_bins

FIT_FILE = "fit.json"
"""What was fitted, of each target; written last, so that a run folder with it has a whole fit."""
WEIGHTS_FILE = "weights.parquet"
MOTIFS_FILE = "motifs.meme"
_TOP = 10
_CONTIG_SHIFT = 1 << 40

Progress = Callable[[str], None]


def fit(recipe: BaselineRecipe, plan: BaselinePlan, folder: Location, progress: Progress) -> dict[str, Any]:
    """Fit all targets and write ``fit.json`` with its files; return its content."""
    started = time.monotonic()
    if isinstance(recipe.predictor, KmerLogisticConfig):
        record = _fit_kmers(recipe, recipe.predictor, plan, folder, progress)
    else:
        record = _fit_motifs(recipe, recipe.predictor, plan, folder, progress)
    record["fit_s"] = round(time.monotonic() - started, 2)
    (folder / FIT_FILE).write_json(record)
    return record


def load_predictor(recipe: BaselineRecipe, plan: BaselinePlan, folder: Location, record: dict[str, Any]) -> Predictor:
    """The predictor that a run folder holds, for the plan's cell types."""
    config, num_cells = recipe.predictor, len(plan.cell_types)
    if isinstance(config, PwmConfig):
        models = []
        for target in plan.labels.targets:
            entry = record["targets"][target]
            motif = Motif(target, target, np.array(entry["frequencies"], np.float64), entry["num_sites"])
            models.append(PwmModel(motif.log_odds(background=np.array(entry["background"])), plan.binding.input_bp))
        return PwmPredictor(tuple(models), plan.binding.flank_bp, num_cells, _gates(config, plan))
    table = pq.read_table(pa.py_buffer((folder / WEIGHTS_FILE).read_bytes()))
    space = feature_space(config, plan)
    models = []
    for target in plan.labels.targets:
        intercept, *weights = table.column(target).to_numpy().tolist()
        models.append(LinearModel(space, np.array(weights), intercept))
    cells, signals = (), ()
    if config.states:
        cells = tuple(plan.manifest.cell_types.index(name) for name in plan.cell_types)
    if config.tracks:
        names = [signal.name for signal in plan.manifest.signals]
        signals = tuple(names.index(t.signal_for(c)) for c in plan.cell_types for t in config.tracks.values())
    return KmerPredictor(tuple(models), num_cells, cells, signals)


@dataclass(frozen=True)
class _FitTask:
    """Fits the target of a number; what a Ray task carries."""

    space: FeatureSpace
    matrix: sparse.csr_matrix
    samples: Samples
    validation: Samples | None

    def __call__(self, number: int) -> Fitted:
        return fit_target(self.space, self.matrix, self.samples, number, self.validation)


def _fit_kmers(
    recipe: BaselineRecipe, config: KmerLogisticConfig, plan: BaselinePlan, folder: Location, progress: Progress
) -> dict[str, Any]:
    space, targets = feature_space(config, plan), plan.labels.targets
    samples = _training(recipe, plan)
    validation = None
    if len(config.inverse_penalties) > 1:
        validation = validation_samples(plan.draw, plan.rows)
    matrix = space.matrix(samples)
    progress(
        f"baseline: {len(samples):,} samples x {len(space.names):,} features, "
        f"{len(validation) if validation is not None else 0:,} validation bins, {len(targets)} factor(s)"
    )
    found: list[Fitted] = run_tasks(
        _FitTask(space, matrix, samples, validation),
        len(targets),
        at_once=recipe.num_workers,
        done=lambda number: progress(f"baseline: fitted {number} of {len(targets)} factor(s)"),
    )
    names = space.names
    table = {"feature": ["intercept", *names]}
    table |= {
        target: np.append(fitted.model.intercept, fitted.model.weights)
        for target, fitted in zip(targets, found, strict=True)
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(table), sink, compression="zstd")
    (folder / WEIGHTS_FILE).write_bytes(sink.getvalue())
    entries = {target: _kmer_entry(fitted, names) for target, fitted in zip(targets, found, strict=True)}
    return {"num_samples": len(samples), "num_features": len(names), "targets": entries}


def _kmer_entry(fitted: Fitted, names: list[str]) -> dict[str, Any]:
    weights = fitted.model.weights
    strongest = np.argsort(-weights, kind="stable")[:_TOP]
    return {
        "inverse_penalty": fitted.inverse_penalty,
        "validation_auprc": fitted.validation_auprc,
        "converged": fitted.converged,
        "num_bound": fitted.num_bound,
        "num_unbound": fitted.num_unbound,
        "strongest": {names[i]: round(float(weights[i]), 4) for i in strongest},
    }


@dataclass(frozen=True)
class _LearnTask:
    """Learns the motif of the target of a number."""

    config: PwmConfig
    samples: Samples
    place: np.ndarray
    """int64 [n], position of each sample's first base."""
    targets: tuple[str, ...]
    columns: tuple[int, ...]
    """Place of each target in the samples' labels."""

    def __call__(self, number: int) -> dict[str, Any]:
        column = self.columns[number]
        scored, bound = self.samples.scored(column), self.samples.bound(column)
        found = learn_motif(
            self.targets[number],
            self.samples.dna[bound],
            self.samples.dna[scored & ~bound],
            self.config.learn,
            place=self.place[bound],
        )
        return _motif_entry(found.motif, found.background) | {
            "origin": "learned",
            "seed": found.seed,
            "rounds": found.rounds,
            "training_auprc": found.training_auprc,
            "num_bound": found.num_bound,
        }


def _fit_motifs(
    recipe: BaselineRecipe, config: PwmConfig, plan: BaselinePlan, folder: Location, progress: Progress
) -> dict[str, Any]:
    uniform = np.array([1 - config.gc, config.gc, config.gc, 1 - config.gc]) / 2
    entries: dict[str, dict[str, Any]]
    entries = {target: _motif_entry(motif, uniform) | {"origin": "file"} for target, motif in plan.motifs.items()}
    num_samples = 0
    if plan.learned:
        samples = _training(recipe, plan)
        num_samples = len(samples)
        contig, start = plan.labels.grid.locate(samples.bins)
        columns = tuple(plan.labels.targets.index(target) for target in plan.learned)
        progress(f"baseline: motifs of {len(plan.learned)} factor(s) from {num_samples:,} samples")
        task = _LearnTask(config, samples, contig * _CONTIG_SHIFT + start, plan.learned, columns)
        learned = run_tasks(
            task,
            len(plan.learned),
            at_once=recipe.num_workers,
            done=lambda number: progress(f"baseline: learned {number} of {len(plan.learned)} motif(s)"),
        )
        entries |= dict(zip(plan.learned, learned, strict=True))
    motifs = {
        target: Motif(target, target, np.array(entry["frequencies"]), entry["num_sites"])
        for target, entry in entries.items()
    }
    text = write_meme(motifs, {target: np.array(entry["background"]) for target, entry in entries.items()})
    (folder / MOTIFS_FILE).write_text(text)
    return {"num_samples": num_samples, "targets": {target: entries[target] for target in plan.labels.targets}}


def _motif_entry(motif: Motif, background: np.ndarray) -> dict[str, Any]:
    return {
        "consensus": consensus(motif),
        "information_bits": round(float(information(motif.frequencies, background).sum()), 2),
        "num_sites": motif.num_sites,
        "background": background.tolist(),
        "frequencies": motif.frequencies.tolist(),
    }


def _training(recipe: BaselineRecipe, plan: BaselinePlan) -> Samples:
    return training_samples(plan.draw, plan.rows, epochs=recipe.epochs, max_samples=recipe.max_samples)


def feature_space(config: KmerLogisticConfig, plan: BaselinePlan) -> FeatureSpace:
    manifest = plan.manifest
    names = manifest.state_names if config.states else ()
    return FeatureSpace(config, plan.labels.grid.bin_bp, manifest.bin_bp, manifest.signal_bp, names)


def _gates(config: PwmConfig, plan: BaselinePlan) -> tuple[Runs | None, ...]:
    """Open bins of each predicted cell type, by the rule by which negatives are drawn from open chromatin."""
    if config.gate is None:
        return (None,) * len(plan.cell_types)
    within = CellBins((plan.asked,) * len(plan.cell_types))
    return accessible_bins(plan.corpus, plan.manifest, plan.labels.grid, within, plan.cell_types, config.gate)
