"""Run folders of masking: trainings with a curriculum, a sweep, a comparison, and a table of NPMI, with synthetic figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from report_runs import pretrain_records, write_metrics, write_run

from epilm.storage import Location

POLICIES = ("uniform", "span", "genemask", "global", "cm-gems")
SPACE: dict[str, dict[str, Any]] = {
    "task.dna_mask.policy": {"values": list(POLICIES)},
    "task.dna_mask.rate": {"low": 0.1, "high": 0.4},
    "task.dna_mask.cm_gems.window_steps": {
        "low": 50,
        "high": 500,
        "int": True,
        "when": {"task.dna_mask.policy": ["cm-gems"]},
    },
    "task.dna_mask.cm_gems.threshold": {
        "low": 0.01,
        "high": 10,
        "log": True,
        "when": {"task.dna_mask.policy": ["cm-gems"]},
    },
    "task.dna_mask.genemask.centre_probability": {
        "low": 0.01,
        "high": 0.03,
        "when": {"task.dna_mask.policy": ["genemask"]},
    },
    "task.tokens.k": {"values": [3, 4, 6]},
    "train.optimizer.lr": {"low": 1e-5, "high": 3e-3, "log": True},
}
BUDGET_TOKENS = 20_000_000
EVALUATIONS = 8
GAIN = {"uniform": 0.0, "span": 0.006, "genemask": 0.012, "global": 0.009, "cm-gems": 0.02}
UNIGRAM = 1.3571


def _drawn(rng: np.random.Generator) -> dict[str, Any]:
    policy = str(rng.choice(POLICIES))
    drawn: dict[str, Any] = {
        "task.dna_mask.policy": policy,
        "task.dna_mask.rate": round(float(rng.uniform(0.1, 0.4)), 4),
    }
    if policy == "cm-gems":
        drawn["task.dna_mask.cm_gems.window_steps"] = int(rng.integers(50, 500))
        drawn["task.dna_mask.cm_gems.threshold"] = float(10 ** rng.uniform(-2, 1))
    if policy == "genemask":
        drawn["task.dna_mask.genemask.centre_probability"] = 0.0176
    drawn["task.tokens.k"] = int(rng.choice([3, 4, 6]))
    drawn["train.optimizer.lr"] = float(10 ** rng.uniform(-5, -2.5))
    return drawn


def _loss(drawn: dict[str, Any], share: float) -> float:
    """Of a trial after a share of its budget: best near lr 4e-4 and a rate of a quarter."""
    off = abs(np.log10(drawn["train.optimizer.lr"] / 4e-4))
    reach = 0.075 + GAIN[drawn["task.dna_mask.policy"]] - 0.025 * off - 0.1 * abs(drawn["task.dna_mask.rate"] - 0.25)
    return float(1.386 - max(0.002, reach) * (1 - np.exp(-3.2 * share)))


def tune_trials(num_trials: int, seed: int = 5) -> list[dict[str, Any]]:
    """Trials as ``result.json`` has them: a third goes on at each halving, one fails, one diverges."""
    rng = np.random.default_rng(seed)
    trials = []
    for i in range(num_trials):
        drawn = _drawn(rng)
        whole = [_loss(drawn, (e + 1) / EVALUATIONS) + rng.normal(0, 4e-4) for e in range(EVALUATIONS)]
        last = EVALUATIONS if whole[0] < 1.362 else 3 if whole[0] < 1.369 else 1
        status, error = ("finished" if last == EVALUATIONS else "stopped"), None
        if i == 3:
            status, error, last = "failed", "DeviceError: out of memory; halve train.micro_batch.", 0
        evaluations = [
            {"index": e + 1, "tokens": (e + 1) * BUDGET_TOKENS // EVALUATIONS, "value": float(whole[e])}
            for e in range(last)
        ]
        if i == 6:
            status, error = "failed", "the metric is no number at evaluation 2 of 8: training diverged."
            evaluations = [*evaluations[:1], {"index": 2, "tokens": 2 * BUDGET_TOKENS // EVALUATIONS, "value": None}]
        trials.append(
            {
                "id": f"t{i:03d}",
                "status": status,
                "parameters": drawn,
                "evaluations": evaluations,
                "value": evaluations[-1]["value"] if evaluations else None,
                "tokens": evaluations[-1]["tokens"] if evaluations else 0,
                "seconds": 140.0 * max(1, len(evaluations)) + i,
                "error": error,
                "run": f"trials/t{i:03d}",
            }
        )
    return trials


def comparison(arms: dict[str, float], baseline: str, num_seeds: int = 3) -> dict[str, Any]:
    """Arms by the base loss they reach, with the figures of every seed, their summary and the margins to the baseline."""
    rng = np.random.default_rng(11)
    seeds = list(range(1, num_seeds + 1))
    figures: dict[str, list[dict[str, float]]] = {}
    for name, loss in arms.items():
        figures[name] = []
        for _ in seeds:
            own = loss + rng.normal(0, 9e-4)
            figures[name].append(
                {
                    "held_out_contigs/base_loss": own,
                    "held_out_contigs/base_accuracy": 0.25 + (1.386 - own) * 1.9 + rng.normal(0, 4e-4),
                    "held_out_contigs/unigram_base_loss": UNIGRAM,
                    "test_contigs/base_loss": own + 0.006 + rng.normal(0, 9e-4),
                    "test_contigs/base_accuracy": 0.25 + (1.38 - own) * 1.9 + rng.normal(0, 4e-4),
                    "test_contigs/unigram_base_loss": UNIGRAM + 0.004,
                }
            )
    shown = []
    for name, runs in figures.items():
        summary = {}
        for key in runs[0]:
            values = [run[key] for run in runs]
            sd = float(np.std(values, ddof=1)) if num_seeds > 1 else None
            summary[key] = {
                "mean": float(np.mean(values)),
                "sd": sd,
                "min": min(values),
                "max": max(values),
                "n": num_seeds,
            }
        overrides = {} if name == "best" else {"task.dna_mask.policy": name, "task.dna_mask.rate": 0.15}
        of_seeds = [{"seed": s, "metrics": m, "run": f"arms/{name}/seed-{s}"} for s, m in zip(seeds, runs, strict=True)]
        shown.append({"name": name, "overrides": overrides, "runs": of_seeds, "summary": summary})
    margins = []
    for name, runs in figures.items():
        for key in runs[0]:
            if name != baseline and "unigram" not in key:
                differences = [own[key] - other[key] for own, other in zip(runs, figures[baseline], strict=True)]
                mean = float(np.mean(differences))
                half = 2.5 * float(np.std(differences, ddof=1)) if num_seeds > 1 else None
                ends = {"low": None, "high": None} if half is None else {"low": mean - half, "high": mean + half}
                margins.append({"arm": name, "metric": key, "mean": mean, **ends, "n": num_seeds})
    return {"arms": shown, "baseline": baseline, "margins": margins}


def tune_recipe(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "seed": 7,
        "space": SPACE,
        "budget_tokens": BUDGET_TOKENS,
        "evaluations": EVALUATIONS,
        "metric": "held_out_contigs/base_loss",
        "mode": "min",
        "trials": 24,
    }


def tune_run(folder: Path, num_trials: int = 24, *, confirm: bool = True) -> Path:
    trials = tune_trials(num_trials)
    best = min((t for t in trials if t["status"] == "finished"), key=lambda t: t["value"])
    result = {
        "stage": "tune",
        **{k: v for k, v in tune_recipe(folder.name).items() if k != "trials"},
        "trials": trials,
        "best": {"id": best["id"], "parameters": best["parameters"], "value": best["value"], "recipe": "best.yaml"},
        "importance": {
            "train.optimizer.lr": 0.61,
            "task.dna_mask.policy": 0.22,
            "task.dna_mask.rate": 0.13,
            "task.tokens.k": 0.04,
        },
        "importance_note": "PED-ANOVA over 22 trials: with fewer than 40 these shares are a hint, not a measurement.",
        "spent": {
            "tokens": sum(t["tokens"] for t in trials),
            "seconds": sum(t["seconds"] for t in trials),
            "tokens_without_stopping": num_trials * BUDGET_TOKENS,
        },
        "confirm": comparison({"best": 1.2931, "baseline": 1.3082}, "baseline") if confirm else None,
    }
    return write_run(folder, "tune", tune_recipe(folder.name), result)


def killed_tune_run(folder: Path, num_trials: int = 9) -> Path:
    """A sweep that was killed: its log alone; the last trial was on its way."""
    write_run(folder, "tune", tune_recipe(folder.name))
    events: list[dict[str, Any]] = []
    for i, trial in enumerate(tune_trials(num_trials)):
        own = {"kind": "trial", "trial": trial["id"], "time": 1_750_000_000.0 + 100 * i}
        events.append({**own, "event": "started", "config": {"number": i, **trial["parameters"]}})
        events += [{**own, "event": "evaluated", **evaluation} for evaluation in trial["evaluations"]]
        if i < num_trials - 1:
            events.append({**own, "event": trial["status"], "value": trial["value"], "error": trial["error"]})
    write_metrics(folder, events)
    return folder


def compare_run(folder: Path, num_seeds: int = 3) -> Path:
    arms = {"uniform": 1.3082, "span": 1.3049, "genemask": 1.2988, "global": 1.3071, "cm-gems": 1.2941}
    result = {
        "stage": "eval-masking",
        "name": folder.name,
        "seeds": list(range(1, num_seeds + 1)),
        "budget_tokens": BUDGET_TOKENS,
        "table": "held_out_contigs/base_loss\n  arm ...",
        **comparison(arms, "uniform", num_seeds),
    }
    return write_run(folder, "eval-masking", {"name": folder.name, "seed": 0, "baseline": "uniform"}, result)


def killed_compare_run(folder: Path) -> Path:
    write_run(folder, "eval-masking", {"name": folder.name, "seed": 0, "baseline": "uniform"})
    own = {"kind": "arms", "time": 1_750_000_000.0}
    write_metrics(
        folder,
        [
            {**own, "trial": "uniform/seed-0", "event": "started", "config": {"run": "uniform/seed-0"}},
            {**own, "trial": "uniform/seed-0", "event": "finished", "value": 1.31, "error": None},
            {**own, "trial": "span/seed-0", "event": "started", "config": {"run": "span/seed-0"}},
            {**own, "trial": "span/seed-0", "event": "failed", "value": None, "error": "CorpusError: a shard is gone."},
            {**own, "trial": "global/seed-0", "event": "started", "config": {"run": "global/seed-0"}},
        ],
    )
    return folder


def npmi_run(folder: Path) -> Path:
    entry = lambda kmer, count, npmi, rank: {"kmer": kmer, "count": count, "npmi": npmi, "rank": rank}
    result = {
        "stage": "npmi",
        "source": "corpus",
        "contigs_counted": [f"chr{i}" for i in range(1, 17)],
        "contigs_left_out": ["chrM"],
        "num_regions": 16,
        "num_bases": 12_071_326,
        "num_unknown_bases": 0,
        "strands": 2,
        "total": 24_142_652,
        "min_count": 101,
        "num_tasks": 16,
        "seconds": 3.2,
        "mbases_per_s": 3.8,
        "ngrams": {
            str(n): {
                "possible": 4**n,
                "seen": 4**n,
                "occurrences": 24_142_652 - n,
                "scored": 4**n if n > 2 else 0,
                "scored_share": 1.0 if n > 2 else 0.0,
                "lowest_npmi": -0.41 if n > 2 else None,
                "median_npmi": 0.03 if n > 2 else None,
                "highest_npmi": 1.482 if n > 2 else None,
            }
            for n in range(1, 7)
        },
        "top_6mers": [
            entry("AAAAAA", 61_204, 1.482, 1),
            entry("TTTTTT", 61_204, 1.482, 2),
            entry("CACACA", 9_120, 0.91, 3),
        ],
        "bottom_6mers": [entry("TCTAGA", 1_480, -0.41, 4096), entry("GCGCTA", 2_110, -0.3302, 4095)],
    }
    return write_run(folder, "npmi", {"name": folder.name, "seed": 0, "source": {"kind": "corpus"}}, result)


def masked_run(folder: Path, policy: str, *, num_steps: int = 600, switch_at: int | None = None) -> Path:
    """A DNA-only training with the figures of its mask; ``switch_at`` is where a curriculum moves on."""
    rng = np.random.default_rng(len(policy))
    records: list[dict[str, Any]] = []
    for record in pretrain_records(num_steps, with_states=False, seed=3):
        step = record["step"]
        after = switch_at is not None and step > switch_at
        if record["kind"] == "train":
            record |= {
                "mask_rate": 0.15 + 0.01 * after + float(rng.normal(0, 0.004)),
                "top_npmi_masked": 0.19 + 0.3 * after + float(rng.normal(0, 0.02)),
                "masked_that_are_top": 0.15 + 0.25 * after + float(rng.normal(0, 0.02)),
            }
            if switch_at is not None:
                record |= {"global_share": float(after), "switched": float(after)}
            records.append(record)
            continue
        share = step / num_steps
        records.append({**record, **_base_figures(1.386 - (0.07 + GAIN[policy]) * (1 - np.exp(-3 * share)))})
        if switch_at is not None and step == switch_at:
            records.append({"kind": "event", "step": step, "switched": 1.0, "global_share": 1.0, "time": 1.0})
    last = next(r for r in reversed(records) if r["kind"] == "eval")
    test = {**last, "set": "test_contigs", **_base_figures(last["base_loss"] + 0.005)}
    records.append(test)
    write_metrics(folder_of(folder), records)
    final = {r["set"]: {k: v for k, v in r.items() if k not in ("kind", "set", "step")} for r in (last, test)}
    recipe = {
        "name": folder.name,
        "seed": 7,
        "task": {"dna_mask": {"policy": policy, "rate": 0.15}},
        "train": {"lr": 4e-4, "global_batch": 256},
    }
    result = {"stage": "pretrain", "steps": num_steps, "parameters": 3_412_480, "final": final}
    return write_run(folder, "pretrain", recipe, json.loads(json.dumps(result, default=float)))


def folder_of(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _base_figures(loss: float) -> dict[str, float]:
    return {
        "base_loss": float(loss),
        "base_accuracy": float(0.25 + (1.386 - loss) * 1.9),
        "unigram_base_loss": UNIGRAM,
        "unigram_base_accuracy": 0.3127,
    }


def masking_runs(root: Path, num_steps: int = 600) -> list[Location]:
    """Masking as a project: NPMI, trainings, a sweep with its confirmation, a killed one, and a comparison."""
    folders = [
        npmi_run(root / "npmi"),
        masked_run(root / "uniform", "uniform", num_steps=num_steps),
        masked_run(root / "gems", "cm-gems", num_steps=num_steps, switch_at=num_steps // 2),
        tune_run(root / "sweep"),
        killed_tune_run(root / "killed"),
        compare_run(root / "policies"),
    ]
    return [Location(str(folder)) for folder in folders]
