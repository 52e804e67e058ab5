"""Runs of TF binding as the stages write them, with figures that can be checked by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import report_runs as runs

METRICS = ("auroc", "auprc", "average_precision", "recall_at_10_fdr", "recall_at_50_fdr")
BOOTSTRAP = {"num": 200, "block_bp": 50_000, "level": 0.95, "num_blocks": 16, "seed": 0}


def finetune_run(folder: Path, *, finished: bool = True) -> Path:
    """Ten evaluations whose AUPRC rises to .40 at step 70 and falls again; the base rate is .02."""
    records: list[dict[str, Any]] = []
    for step in range(10, 101, 10):
        auprc = 0.40 - abs(step - 70) / 200
        records.append({"kind": "train", "step": step, "loss": 1.0 / step, "lr": 1e-3, "time": 1.75e9 + step})
        figures = {
            "auprc": auprc,
            "auroc": 0.5 + auprc,
            "base_rate_auprc": 0.02,
            "auprc.TF1": auprc + 0.1,
            "auprc.TF2": auprc - 0.1,
        }
        records.append(
            {"kind": "eval", "set": "validation", "step": step, "binding_loss": 0.3, "num_samples": 500, **figures}
        )
    evaluations = {
        r["step"]: {k: v for k, v in r.items() if k not in ("kind", "set", "step")} for r in records if "set" in r
    }
    result = {
        "stage": "finetune",
        "steps": 100,
        "stopped_early": True,
        "best_step": 70,
        "best": evaluations[70],
        "final": {"validation": evaluations[100]},
        "parameters": 123_456,
        "positives": 900,
        "trained_contigs": ["chr1"],
        "trained_cell_types": ["blood"],
    }
    recipe = {"name": folder.name, "seed": 0, "train": {"steps": 200}}
    runs.write_run(folder, "finetune", recipe, result if finished else None)
    runs.write_metrics(folder, records)
    return folder


def entry(auprc: float, *, gain: float | None, rank: int, curve: bool = True) -> dict[str, Any]:
    """A submission on a data set: intervals of .05 to each side, of differences .02."""
    metrics = {
        "auroc": 0.9,
        "auprc": auprc,
        "average_precision": auprc - 0.01,
        "recall_at_10_fdr": 0.0,
        "recall_at_50_fdr": 0.25,
    }
    differences = {} if gain is None else {m: {"value": gain, "low": gain - 0.02, "high": gain + 0.02} for m in METRICS}
    points = (
        {"recall": [0.1, 0.5, 1.0], "precision": [1.0, auprc, 0.02]}
        if curve
        else {"recall": [1.0], "precision": [0.02]}
    )
    return {
        "metrics": metrics,
        "intervals": {m: [value - 0.05, value + 0.05] for m, value in metrics.items()},
        "differences": differences,
        "missing_bins": 0,
        "curve": points,
        "metric_rank": rank,
        "dream_rank": float(rank),
    }


def data_set(cell_type: str, target: str) -> dict[str, Any]:
    base_rate = entry(0.02, gain=-0.28, rank=3, curve=False)
    base_rate.pop("metric_rank"), base_rate.pop("dream_rank")
    submissions = {
        "dbert": entry(0.30, gain=None, rank=2),
        "ebert": entry(0.45, gain=0.15, rank=1),
        "base_rate": base_rate,
    }
    published = {
        "name": "EBERT+",
        "kind": "published",
        "comparable": False,
        "auroc": 0.99,
        "auprc": 0.7314,
        "recall_at_10_fdr": 0.7,
        "recall_at_50_fdr": 0.89,
    }
    board = [{"name": name, "kind": "submission", **one["metrics"]} for name, one in submissions.items()]
    return {
        "cell_type": cell_type,
        "target": target,
        "num_positives": 1234,
        "num_negatives": 56_789,
        "submissions": submissions,
        "leaderboard": [published, *board],
    }


def evaluate_result(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    medians = {
        name: {"num_data_sets": len(pairs), **entry(auprc, gain=None, rank=0)["metrics"]}
        for name, auprc in (("dbert", 0.30), ("ebert", 0.45), ("base_rate", 0.02))
    }
    seen = {"known": True, "selected_contigs": [], "allowed_cell_types": [], "predictor": "model"}
    trained = {"contigs": ["chr1", "chr2"], "cell_types": ["blood"]}
    return {
        "stage": "evaluate",
        "assembly": "toy1",
        "evaluated": [{"contig": "chr7", "start": 0, "end": 800_000}],
        "num_bins": 15_997,
        "bin_bp": 200,
        "step_bp": 50,
        "baseline": "dbert",
        "bootstrap": BOOTSTRAP,
        "submissions": ["dbert", "ebert"],
        "data_sets": [data_set(*pair) for pair in pairs],
        "overall": {
            "mean_rank": {"dbert": {"rank": 2, "mean": 2.0}, "ebert": {"rank": 1, "mean": 1.0}},
            "dream": {
                "dbert": {"rank": 2.0, "score": 0.5, "low": 0.4, "high": 0.5},
                "ebert": {"rank": 1.0, "score": 0.3333, "low": 0.3, "high": 0.35},
            },
        },
        "medians": {**medians, "published": {"EBERT+": {"num_data_sets": 1, "auprc": 0.7314}}},
        "skipped": {"TF9:lung": "0 bound and 9 unbound bins: nothing to rank"},
        "leaks": {
            "dbert": {
                **seen,
                "trained_contigs": [],
                "trained_cell_types": ["blood"],
                "allowed_contigs": [],
                "model_trained_on": trained,
            },
            "ebert": {
                **seen,
                "trained_contigs": ["chr7"],
                "trained_cell_types": [],
                "allowed_contigs": ["chr7"],
                "model_trained_on": trained,
            },
            "team": {"known": False, "predictor": "dream", "trained_contigs": [], "model_trained_on": None},
        },
    }


def evaluate_run(folder: Path, num_sets: int = 2) -> Path:
    pairs = [("lung", "TF1"), ("blood", "TF1")] + [(f"cell{i}", "TF1") for i in range(num_sets - 2)]
    return runs.write_run(folder, "evaluate", {"name": folder.name}, evaluate_result(pairs))


def study_arm(name: str, values: list[float], *, kind: str = "model", positives: int = 900) -> dict[str, Any]:
    """An arm whose seeds reached ``values`` on the test, and .1 less in the held-out cell type."""
    keys = {
        "test_contigs/auprc": 0.0,
        "held_out_cell_types/auprc": -0.1,
        "TF1 in lung/auprc": -0.1,
        "test_contigs/auroc": 0.4,
    }
    runs_ = [
        {"seed": seed, "metrics": {key: value + shift for key, shift in keys.items()}, "run": f"runs/{name}-s{seed}"}
        for seed, value in enumerate(values)
    ]
    mean = sum(values) / len(values)
    sd = 0.01 if len(values) > 1 else None
    summary = {
        key: {"mean": mean + shift, "sd": sd, "n": len(values), "low": mean + shift - 0.03, "high": mean + shift + 0.04}
        for key, shift in keys.items()
    }
    summary["test_contigs/base_rate_auprc"] = {"mean": 0.02, "sd": None, "n": 1}
    found = {"name": name, "kind": kind, "overrides": {}, "runs": runs_, "summary": summary}
    return found | ({"positives": positives} if kind == "model" else {})


def margin(first: str, second: str, mean: float, key: str = "test_contigs/auprc") -> dict[str, Any]:
    return {
        "arm": first,
        "baseline": second,
        "metric": key,
        "mean": mean,
        "low": mean - 0.02,
        "high": mean + 0.02,
        "n": 2,
    }


def study_result() -> dict[str, Any]:
    arms = [
        study_arm("dbert", [0.20, 0.22]),
        study_arm("ebert", [0.50, 0.52]),
        study_arm("ebert-plus", [0.51, 0.53]),
        study_arm("kmers", [0.10], kind="rival"),
    ]
    return {
        "stage": "eval-binding",
        "seeds": [0, 1],
        "baseline": "dbert",
        "test": {
            "contigs": ["chr7"],
            "cell_types": ["blood"],
            "held_out_cell_types": ["lung"],
            "means": {"test_contigs": ["TF1 in blood"], "held_out_cell_types": ["TF1 in lung"]},
        },
        "data_sets": [
            {
                "name": "TF1 in lung",
                "cell_type": "lung",
                "target": "TF1",
                "held_out": True,
                "num_positives": 100,
                "num_negatives": 9000,
            }
        ],
        "bootstrap": BOOTSTRAP,
        "arms": arms,
        "margins": [
            margin("ebert", "dbert", 0.30),
            margin("ebert-plus", "dbert", 0.31),
            margin("kmers", "dbert", -0.11),
        ],
        "pairs": [
            margin("ebert-plus", "ebert", 0.01),
            margin("ebert-plus", "ebert", 0.4, "test_contigs/auroc"),
            margin("kmers", "ebert", -0.41),
        ],
    }


def study_run(folder: Path) -> Path:
    return runs.write_run(folder, "eval-binding", {"name": folder.name}, study_result())
