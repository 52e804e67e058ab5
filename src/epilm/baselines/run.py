"""``epilm baseline``: fit a simple predictor and predict contigs with it, in the format of ``epilm predict``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.baselines.fit import FIT_FILE, fit, load_predictor
from epilm.baselines.on_ray import run_tasks
from epilm.baselines.plan import BaselinePlan, check_baseline
from epilm.baselines.predictors import Predictor
from epilm.baselines.recipe import BaselineRecipe, KmerLogisticConfig
from epilm.baselines.stretch import read_stretches
from epilm.config import fingerprint
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.evaluate.predictions import PredictedPart, Predictions, predictions_schema, write_predictions
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.models.provenance import Provenance
from epilm.predict.genome_parts import GenomePart
from epilm.predict.parts import finished_parts, remove_leftovers
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

__all__ = ["STAGE", "check_baseline", "run_baseline"]

STAGE = "baseline"


def run_baseline(
    recipe: BaselineRecipe,
    *,
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Fit the recipe's predictor and write ``<storage>/<name>/part-*.parquet`` and ``predictions.json``.

    Needs a connected Ray (``ray_session``): every factor is fitted, and every part written, by a task of one CPU, at most
    ``num_workers`` at a time. Resuming keeps the fit and the finished parts; numbers do not depend on the workers.
    Beside the predictions lie ``fit.json`` and ``weights.parquet`` or ``motifs.meme``.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: corpus, labels, split, motifs, states or signals are wrong or do not fit each other; before any work.
    """
    plan = check_baseline(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=plan.fingerprints)
    remove_leftovers(run.folder)
    fitted = run.resumed and (run.folder / FIT_FILE).exists()
    done = finished_parts(run.folder, plan.parts) if fitted else {}
    record = (run.folder / FIT_FILE).read_json() if fitted else fit(recipe, plan, run.folder, progress)
    predictor = load_predictor(recipe, plan, run.folder, record)
    pending = [part for part in plan.parts if part.index not in done]
    progress(
        f"baseline: {sum(part.rows for part in plan.parts):,} bins x {len(plan.columns)} column(s) in "
        f"{len(plan.parts)} part(s)" + (f"; {len(done)} of them were done before" if done else "")
    )
    started = time.monotonic()
    writer = PartWriter(plan.corpus, plan.manifest, plan.labels.grid, plan.asked, predictor, run.folder, tuple(pending))
    written = run_tasks(
        writer,
        len(pending),
        at_once=recipe.num_workers,
        done=lambda number: progress(f"baseline: wrote {number} of {len(pending)} part(s)"),
    )
    seconds = time.monotonic() - started
    entries = {part.index: str(entry["sha256"]) for part, entry in _numbered(plan, done)}
    entries |= {part.index: sha256 for part, sha256 in zip(pending, written, strict=True)}
    predictions = _predictions(recipe, plan, entries)
    write_predictions(run.folder, predictions)
    bins = sum(part.rows for part in pending)
    return run.finish(
        {
            "stage": STAGE,
            "predictor": recipe.predictor.kind,
            "targets": {target: _shown(entry) for target, entry in record["targets"].items()},
            "cell_types": list(plan.cell_types),
            "contigs": list(predictions.contigs),
            "trained_contigs": list(plan.split.trained_contigs) if plan.is_trained else [],
            "trained_cell_types": list(plan.split.train_cell_types) if plan.is_trained else [],
            "selected_on": list(predictions.selected_on),
            "num_samples": record["num_samples"],
            "num_bins": sum(part.rows for part in plan.parts),
            "parts_kept": len(done),
            "fit_s": record["fit_s"],
            "seconds": round(seconds, 3),
            "bins_per_s": round(bins / seconds) if bins else None,
        }
    )


@dataclass(frozen=True)
class PartWriter:
    """Writes the part of a number; what a Ray task carries."""

    corpus: Location
    manifest: CorpusManifest
    grid: BinGrid
    asked: Runs
    predictor: Predictor
    folder: Location
    parts: tuple[GenomePart, ...]

    @cached_property
    def _reader(self) -> ContigReader:
        return ContigReader(self.corpus, self.manifest, cached_chunks=2)  # a stretch is read once

    def __call__(self, number: int) -> str:
        """Write it whole or not at all; returns its checksum."""
        part, predictor = self.parts[number], self.predictor
        stretches = read_stretches(
            self._reader,
            self.grid,
            part,
            flank_bp=predictor.flank_bp,
            cells=predictor.cells,
            signals=predictor.signals,
        )
        values = np.concatenate([predictor.predict(stretch) for stretch in stretches])
        values[~self.asked.mask(part.first_bin, part.first_bin + part.rows)] = np.nan
        starts = part.first_start + np.arange(part.rows, dtype=np.int64) * self.grid.step_bp
        columns = [pa.array(starts), *(pa.array(np.ascontiguousarray(column)) for column in values.T)]
        sink = pa.BufferOutputStream()
        table = pa.Table.from_arrays(columns, schema=predictions_schema(values.shape[1]))
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        data = sink.getvalue().to_pybytes()
        (self.folder / part.path).write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def _numbered(plan: BaselinePlan, entries: dict[int, dict[str, object]]) -> list[tuple[GenomePart, dict[str, object]]]:
    return [(part, entries[part.index]) for part in plan.parts if part.index in entries]


def _predictions(recipe: BaselineRecipe, plan: BaselinePlan, sha256: dict[int, str]) -> Predictions:
    manifest, predictor = plan.manifest, recipe.predictor
    ends = {contig.name: contig.end_bp for contig in manifest.contigs}
    chosen = isinstance(predictor, KmerLogisticConfig) and len(predictor.inverse_penalties) > 1
    return Predictions(
        assembly=manifest.assembly,
        bin_bp=plan.labels.grid.bin_bp,
        step_bp=plan.labels.grid.step_bp,
        columns=plan.columns,
        parts=tuple(
            PredictedPart(
                path=part.path,
                chrom=part.chrom,
                first_start=part.first_start,
                rows=part.rows,
                sha256=sha256[part.index],
            )
            for part in plan.parts
        ),
        contig_lengths={name: ends[name] for name in dict.fromkeys(part.chrom for part in plan.parts)},
        predictor=predictor.kind,
        provenance=_provenance(recipe, plan) if plan.is_trained else None,
        selected_on=recipe.split.validation_contigs if chosen else (),
        corpus_fingerprint=manifest.fingerprint(),
    )


def _provenance(recipe: BaselineRecipe, plan: BaselinePlan) -> Provenance:
    manifest, predictor = plan.manifest, recipe.predictor
    kmers = isinstance(predictor, KmerLogisticConfig)
    return Provenance(
        assembly=manifest.assembly,
        trained_contigs=plan.split.trained_contigs,
        trained_regions=plan.split.trained_regions,
        trained_cell_types=plan.split.train_cell_types,
        corpus_fingerprint=manifest.fingerprint(),
        window_bp=plan.binding.input_bp,
        bin_bp=manifest.bin_bp,
        state_names=manifest.state_names if kmers and predictor.states else (),
        k=predictor.k if kmers else 1,
        stride=1,
        step=None,
        seed=recipe.seed,
        recipe_fingerprint=fingerprint(recipe.identity()),
    )


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of ``fit.json`` without the matrices."""
    return {key: value for key, value in entry.items() if key not in ("frequencies", "background")}
