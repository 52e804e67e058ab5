"""Run folders as the stages write them, with synthetic curves: what the report's tests read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, SignalTrack, write_manifest
from epilm.storage import Location

CELLS = ("K562", "HepG2", "GM12878", "H1")
STATES = ("1_TssA", "2_TssFlnk", "3_Tx", "4_Enh", "5_TssBiv", "6_ReprPC", "7_Het", "8_Quies")

FILES: tuple[tuple[Literal["windows", "contigs"], Literal["train", "held_out"], int], ...] = (
    ("windows", "train", 5_380),
    ("windows", "held_out", 3_980),
    ("contigs", "train", 56),
)


def write_run(folder: Path, stage: str, recipe: dict[str, Any], result: dict[str, Any] | None = None) -> Path:
    """A run folder with its resolved recipe, and ``result.json`` where it is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "stage": stage,
        "epilm_version": "0.1.0",
        "recipe_fingerprint": "5f1a2b3c4d5e6f70",
        "data_fingerprints": {} if stage == "corpus" else {"corpus": "0123456789abcdef"},
    }
    (folder / "recipe.resolved.yaml").write_text(
        yaml.safe_dump({"run": header}, sort_keys=False) + yaml.safe_dump(recipe, sort_keys=False)
    )
    if result is not None:
        stamped = {**result, "epilm_version": "0.1.0", "finished": "2026-07-01T12:00:00+00:00"}
        (folder / "result.json").write_text(json.dumps(stamped))
    return folder


def write_metrics(folder: Path, records: list[dict[str, Any]]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def pretrain_records(num_steps: int, *, with_states: bool, seed: int) -> list[dict[str, Any]]:
    """Falling losses with noise, a warm-up schedule, and evaluations on two sets."""
    rng = np.random.default_rng(seed)
    steps = np.arange(1, num_steps + 1)
    fall = np.exp(-4 * steps / num_steps)
    noise = rng.normal(0, 0.05, (4, num_steps))
    dna = 8.1 + 0.25 * fall + 0.4 * noise[0]
    state = 0.75 + 1.5 * fall + noise[1]
    lr = 4e-4 * np.minimum(steps / (0.1 * num_steps), (num_steps - steps) / (0.9 * num_steps))
    records: list[dict[str, Any]] = []
    for i, step in enumerate(steps.tolist()):
        record = {
            "kind": "train",
            "step": step,
            "loss": dna[i],
            "dna_loss": dna[i],
            "dna_accuracy": 0.004 * (1 - fall[i]),
        }
        if with_states:
            record |= {"loss": (dna[i] + state[i]) / 2, "state_loss": state[i]}
            record |= {"state_accuracy": float(np.clip(0.81 - 0.5 * fall[i] + noise[2, i], 0, 1))}
        records.append(
            record
            | {
                "lr": lr[i],
                "grad_norm": 1 + abs(noise[3, i]) * 8,
                "step_time_s": 0.31 + abs(noise[2, i]),
                "tokens_per_s": 57_000 / (1 + abs(noise[2, i])),
                "data_wait_share": 0.01 + abs(noise[3, i]) / 10,
                "mfu": 0.41 - abs(noise[3, i]),
                "time": 1_750_000_000 + 0.3 * step,
            }
        )
        if step % max(1, num_steps // 12) == 0:
            sets = ("held_out_contigs", "held_out_cell_types") if with_states else ("held_out_contigs",)
            records += [_evaluation(step, name, fall[i], with_states, 0.04 * at) for at, name in enumerate(sets)]
    return json.loads(json.dumps(records, default=float))


def _evaluation(step: int, name: str, fall: float, with_states: bool, worse: float) -> dict[str, Any]:
    record = {
        "kind": "eval",
        "step": step,
        "set": name,
        "dna_loss": 8.12 + 0.2 * fall,
        "dna_perplexity": float(np.exp(8.12 + 0.2 * fall)),
        "dna_accuracy": 0.0039 * (1 - fall),
        "unigram_dna_accuracy": 0.0021,
        "unigram_dna_perplexity": 3710.0,
        "num_scored": 20480,
    }
    if with_states:
        record |= {
            "state_loss": 0.8 + 1.5 * fall + worse,
            "state_perplexity": float(np.exp(0.8 + 1.5 * fall + worse)),
            "state_accuracy": 0.79 - 0.5 * fall - worse,
            "copy_state_accuracy": 0.71 - worse / 2,
            "majority_state_accuracy": 0.42,
        }
    return record


def pretrain_run(
    folder: Path, *, with_states: bool, num_steps: int = 600, finished: bool = True, name: str = ""
) -> Path:
    recipe = {
        "name": name or folder.name,
        "storage": "runs",
        "seed": 7,
        "model": {"hidden_size": 256, "num_layers": 4, "states": with_states, "k": 6, "stride": 6},
        "train": {"lr": 4e-4, "warmup_steps": num_steps // 10, "global_batch": 256, "zero_stage": 1},
    }
    records = pretrain_records(num_steps, with_states=with_states, seed=1 + with_states)
    last = {r["set"]: {k: v for k, v in r.items() if k not in ("kind", "set", "step")} for r in records if "set" in r}
    result = {
        "stage": "pretrain",
        "steps": num_steps,
        "seen_samples": 256 * num_steps,
        "parameters": 3_412_480,
        "matmul_peak_gflops": 212.4,
        "tokens_per_s": 55_100.0,
        "data_wait_share": 0.013,
        "mfu": 0.39,
        "final": last,
        "trained_contigs": ["chr2", "chr3"],
        "trained_cell_types": list(CELLS[:3]) if with_states else [],
    }
    write_run(folder, "pretrain", recipe, result if finished else None)
    write_metrics(folder, records)
    return folder


def regress_run(folder: Path, num_seeds: int = 3) -> Path:
    """Scores as ``epilm regress`` writes them; the baseline has neither rounds nor seeds, and no correlation."""

    def score(value: float, half: float) -> dict[str, Any]:
        return {"value": value, "low": value - half, "high": value + half}

    def over_seeds(value: float) -> dict[str, Any]:
        values = [value + 0.006 * (i - 1) for i in range(num_seeds)]
        return {"mean": value, "sd": 0.006 if num_seeds > 1 else None, "values": values}

    values = {"ebert": 0.74, "dbert": 0.41, "kmers": 0.38, "state_fractions": 0.69}
    features: dict[str, Any] = {}
    for label, r in values.items():
        scores = {"pearson": (r, 0.05), "spearman": (r - 0.03, 0.06), "r2": (r * r - 0.25 * (label == "kmers"), 0.07)}
        features[label] = {key: score(*given) for key, given in scores.items()}
        features[label] |= {"seeds": {key: over_seeds(given[0]) for key, given in scores.items()}}
        features[label] |= {"rounds": 180, "num_train": 1420, "num_test": 410}
    undefined = {"value": None, "low": None, "high": None}
    features["mean"] = {"pearson": undefined, "spearman": undefined, "r2": score(-0.002, 0.01)}
    features["mean"] |= {"num_train": 1420, "num_test": 410}
    differences = [
        {"first": "ebert", "second": "dbert", "pearson": score(0.33, 0.06)},
        {"first": "ebert", "second": "state_fractions", "pearson": score(0.05, 0.07)},
    ]
    recipe = {"name": folder.name, "seed": 7, "target": {"path": "expression.tsv", "transform": "log1p"}}
    result = {"stage": "regress", "features": features, "differences": differences}
    return write_run(folder, "regress", recipe, result)


def corpus_run(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    composition = {
        cell: dict(zip(STATES, rng.dirichlet([2, 2, 6, 3, 1, 3, 3, 14]).tolist(), strict=True)) for cell in CELLS
    }
    result = {"stage": "corpus", "windows": 7980, "state_composition": composition}
    write_run(folder, "corpus", {"name": folder.name, "seed": 7, "window_bp": 1000, "bin_bp": 200}, result)
    lengths = {"chr1": 4_000_000, "chr2": 3_100_000, "chr3": 2_400_000, "chrM": 16_500}
    manifest = CorpusManifest(
        name=folder.name,
        assembly="toy1",
        contigs=tuple(
            CorpusContig(name=name, end_bp=end, split="held_out" if name == "chr1" else "train")
            for name, end in lengths.items()
        ),
        window_bp=1000,
        step_bp=1000,
        bin_bp=200,
        chunk_bp=100_000,
        max_n_fraction=0.1,
        cell_types=CELLS,
        held_out_cell_types=CELLS[3:],
        state_names=STATES,
        signals=(SignalTrack(name="H3K27ac", cell_type="K562"),),
        files=tuple(
            CorpusFile(
                path=f"{view}/{split}/part-00000.parquet",
                view=view,
                split=split,
                rows=rows,
                row_group_rows=(rows,),
                bytes=rows * 900,
                sha256="0" * 64,
            )
            for view, split, rows in FILES
        ),
        windows_dropped={"n_fraction": 112, "blacklist": 31, "no_state": 0},
    )
    write_manifest(Location(str(folder)), manifest)
    return folder


def bench_run(folder: Path) -> Path:
    rows = [
        {"name": "tokenise", "peer": "WordLevel", "ratio": 84.2, "target": 70.0, "ok": True, "spread": 1.9},
        {"name": "bigwig", "peer": "stats", "ratio": 51.0, "target": 45.0, "ok": True, "spread": 0.8},
    ]
    return write_run(
        folder, "bench", {"name": folder.name}, {"stage": "bench", "results": rows, "machine": {"cores": 2}}
    )


def all_runs(root: Path, num_steps: int = 600) -> list[Location]:
    """A project's worth of runs: every stage, one unfinished and one that is not there."""
    folders = [
        corpus_run(root / "corpus"),
        pretrain_run(root / "ebert", with_states=True, num_steps=num_steps),
        pretrain_run(root / "dbert", with_states=False, num_steps=num_steps),
        pretrain_run(root / "ebert-large", with_states=True, num_steps=num_steps // 3, finished=False),
        regress_run(root / "expression"),
        bench_run(root / "bench"),
        root / "never-started",
    ]
    return [Location(str(folder)) for folder in folders]
