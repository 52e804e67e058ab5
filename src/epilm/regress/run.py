"""``epilm regress``: join, write features, fit boosters, predict the held-out rows, score."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.regress import boost, score
from epilm.regress.prepare import RegressPlan, check_regress, strand_warning
from epilm.regress.recipe import RegressRecipe
from epilm.regress.rows import SPLITS
from epilm.regress.write import FeaturePart, plan_parts, write_features
from epilm.runs import OnExisting, Run, open_run
from epilm.storage import Location

STAGE = "regress"
PREDICTIONS_FILE = "predictions.parquet"
ROWS_FILE = "rows.parquet"

Progress = Callable[[str], None]


def run_regress(
    recipe: RegressRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Regress the target from every feature set and score it on the corpus's held-out contigs.

    Needs a connected Ray (``ray_session``). The run folder gets ``result.json``, ``predictions.parquet`` (test rows, a
    column a feature set and baseline), ``rows.parquet`` (all rows with their split) and the boosters
    (``boosters/<label>/seed-<n>.json``).

    Returns:
        what ``result.json`` holds: ``features`` maps each label and baseline to ``pearson``, ``spearman`` and ``r2``
        (value, low, high), ``rounds``, ``num_train`` and ``num_test``.

    Raises:
        EpilmError: input that is absent, does not join, or leaks; before any worker starts.
    """
    boost.check_resources(recipe.boost, recipe.ray)
    plan = check_regress(recipe)
    rows, num_rows = plan.rows, plan.num_rows
    rows_bytes = _parquet_bytes(rows)
    data = {"corpus": plan.manifest.fingerprint(), "rows": hashlib.sha256(rows_bytes).hexdigest()[:16]}
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=data | plan.fingerprints)
    if run.resumed and run.result.exists():
        progress(f"{run.folder} is finished")
        return run.result.read_json()
    (run.folder / ROWS_FILE).write_bytes(rows_bytes)
    progress("regress on " + ", ".join(f"{count:,} {split}" for split, count in num_rows.items()) + " rows")
    for warning in (strand_warning(plan.strand_check), *(f"allowed overlap: {leak}" for leak in plan.leaks)):
        if warning:
            progress(warning)
    parts = _write(recipe, run, plan, progress)
    boosters, rounds = _fit(recipe, run, parts, progress)
    predictions = _predict(rows, boosters, parts, run)
    features = _score(recipe, rows, predictions, rounds, run, progress)
    result = {
        "stage": STAGE,
        "features": features,
        "differences": _differences(recipe, rows, predictions),
        "num_rows": num_rows,
        "left_out": plan.left_out,
        "test_contigs": sorted(rows.loc[rows["split"] == "test", "chrom"].unique()),
        "held_out_cell_types": list(plan.manifest.held_out_cell_types),
        "overlap": plan.leaks,
        "strand_check": plan.strand_check,
        "transform": recipe.target.transform,
    }
    if not recipe.keep_features:
        (run.folder / "features").delete()
    return run.finish(result)


def _write(recipe: RegressRecipe, run: Run, plan: RegressPlan, progress: Progress) -> list[FeaturePart]:
    parts = plan_parts(
        plan.num_rows,
        {label: len(maker.columns) for label, maker in plan.makers.items()},
        rows_per_part=recipe.rows_per_part,
        num_actors=recipe.boost.num_actors,
    )
    started = time.monotonic()
    written = write_features(plan.rows, plan.makers, parts, run.folder / "features", resumed=run.resumed)
    progress(f"features: wrote {written} of {len(parts)} files in {time.monotonic() - started:.1f} s")
    return parts


def _fit(
    recipe: RegressRecipe, run: Run, parts: list[FeaturePart], progress: Progress
) -> tuple[dict[tuple[str, int], Location], dict[str, list[int]]]:
    """Fit (or, resuming, find) the boosters -> (label, seed) -> file, and label -> rounds of each seed."""
    boosters: dict[tuple[str, int], Location] = {}
    rounds: dict[tuple[str, int], int] = {}
    jobs: list[boost.FitJob] = []
    seeds = range(recipe.seed, recipe.seed + recipe.num_seeds)
    for label in recipe.features:
        files = {
            split: tuple(p.location(run.folder / "features") for p in parts if p.label == label and p.split == split)
            for split in SPLITS
        }
        folder = (run.folder / "boosters" / label).mkdir()
        for seed in seeds:
            path = boosters[label, seed] = folder / f"seed-{seed}.json"
            if run.resumed and path.exists():
                rounds[label, seed] = boost.num_rounds(path.read_bytes())
            else:
                jobs.append(boost.FitJob(label, seed, files["train"], files["validation"]))
    if len(jobs) < len(boosters):
        progress(f"{len(boosters) - len(jobs)} of {len(boosters)} boosters are there already")
    started = time.monotonic()
    for job, fitted in boost.fit_all(jobs, recipe.boost):
        boosters[job.label, job.seed].write_bytes(fitted.booster_json)
        rounds[job.label, job.seed] = fitted.rounds
        progress(
            f"{job.label}, seed {job.seed}: {fitted.rounds} rounds, validation RMSE {fitted.validation_rmse:.4f}, "
            f"{time.monotonic() - started:.1f} s"
        )
    return boosters, {label: [rounds[label, seed] for seed in seeds] for label in recipe.features}


def _predict(
    rows: pd.DataFrame, boosters: dict[tuple[str, int], Location], parts: list[FeaturePart], run: Run
) -> dict[str, dict[int, np.ndarray]]:
    """label -> seed -> prediction of each test row, in the rows' order."""
    test_rows = rows.loc[rows["split"] == "test", "row"].to_numpy()
    names = {f"{label}/{seed}": (label, seed) for label, seed in boosters}
    files: dict[str, list[Location]] = {}
    for part in parts:
        if part.split == "test":
            files.setdefault(part.label, []).append(part.location(run.folder / "features"))
    table = boost.predict(
        {name: boosters[key] for name, key in names.items()},
        files,
        group_of={name: label for name, (label, _) in names.items()},
    )
    result: dict[str, dict[int, np.ndarray]] = {}
    for name, of_booster in table.groupby("booster"):
        label, seed = names[str(name)]
        values = of_booster.set_index("row")["prediction"].reindex(test_rows)
        assert len(of_booster) == len(test_rows)
        assert values.notna().all()
        result.setdefault(label, {})[seed] = values.to_numpy(np.float64)
    return result


def _score(
    recipe: RegressRecipe,
    rows: pd.DataFrame,
    predictions: dict[str, dict[int, np.ndarray]],
    rounds: dict[str, list[int]],
    run: Run,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """Score the mean prediction of each label and the baselines; write ``predictions.parquet``."""
    test = rows[rows["split"] == "test"].reset_index(drop=True)
    truth, group = test["target"].to_numpy(np.float64), test.groupby("id", sort=False).ngroup().to_numpy()
    options = {"num": recipe.num_bootstrap, "seed": recipe.seed, "level": recipe.confidence}
    counts = {"num_train": int((rows["split"] == "train").sum()), "num_test": len(test)}
    several = test["cell_type"].nunique() > 1
    means = {label: np.mean(list(predictions[label].values()), axis=0) for label in recipe.features}
    features: dict[str, dict[str, Any]] = {}
    for label, prediction in {**means, **score.baselines(rows)}.items():
        features[label] = {**score.score(truth, prediction, group, **options), **counts}
        test[label] = prediction.astype(np.float32)
        if label in predictions:
            features[label] |= {
                "rounds": round(float(np.mean(rounds[label])), 1) if len(rounds[label]) > 1 else rounds[label][0],
                "rounds_by_seed": rounds[label],
                "seeds": score.over_seeds(truth, predictions[label]),
                "top_gain": boost.gains((run.folder / "boosters" / label / f"seed-{recipe.seed}.json").read_bytes()),
            }
        if several:
            features[label]["by_cell_type"] = score.by_cell_type(test, prediction)
        progress(f"{label}: " + ", ".join(f"{m} {_shown(features[label][m])}" for m in score.METRICS))
    (run.folder / PREDICTIONS_FILE).write_bytes(_parquet_bytes(test.drop(columns=["row", "split"])))
    return features


def _differences(
    recipe: RegressRecipe, rows: pd.DataFrame, predictions: dict[str, dict[int, np.ndarray]]
) -> list[dict[str, Any]]:
    """Pearson of each feature set minus that of each later one, with paired intervals."""
    test = rows[rows["split"] == "test"]
    truth, group = test["target"].to_numpy(np.float64), test.groupby("id", sort=False).ngroup().to_numpy()
    means = {label: np.mean(list(predictions[label].values()), axis=0) for label in recipe.features}
    options = {"num": recipe.num_bootstrap, "seed": recipe.seed, "level": recipe.confidence}
    return [
        {"first": a, "second": b, "pearson": score.difference(truth, means[a], means[b], group, **options)}
        for a, b in itertools.combinations(means, 2)
    ]


def _shown(scored: dict[str, float | None]) -> str:
    if scored["value"] is None:
        return "undefined"
    return (
        f"{scored['value']:.3f} [{scored['low']:.3f}, {scored['high']:.3f}]"
        if scored["low"] is not None
        else f"{scored['value']:.3f}"
    )


def _parquet_bytes(frame: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink, compression="zstd")
    return sink.getvalue().to_pybytes()
