"""One line that says how a run is doing."""

from __future__ import annotations

from typing import Any

from epilm.train.recipe import TrainConfig


def progress_line(record: dict[str, Any], config: TrainConfig) -> str:
    """A train or evaluation record in one line."""
    head = f"step {record['step']}/{config.steps}"
    if record["kind"] == "eval":
        parts = [f"{name}={record[name]:.4f}" for name in _EVAL if record.get(name) is not None]
        return f"{head}  {record['set']}  " + "  ".join(parts)
    accuracies = [
        f"{n.split('_')[0]} {record[n]:.3f}" for n in ("dna_accuracy", "state_accuracy") if record.get(n) is not None
    ]
    left = (config.steps - record["step"]) * record["step_time_s"]
    return (
        f"{head}  loss {record['loss']:.4f}  {' '.join(accuracies)}  lr {record['lr']:.2e}  "
        f"{record['tokens_per_s']:,.0f} tok/s  {record['step_time_s']:.2f} s/step  data wait {record['data_wait_share']:.0%}  "
        f"MFU {record['mfu']:.0%}  left {_duration(left)}"
    )


def _numbers(record: dict[str, Any], wanted: str) -> list[str]:
    """The model's own metrics of a record, short; counts and baselines' losses are in metrics.jsonl."""
    skipped = ("num_samples", "_scored", "time", "unigram_dna_loss", "majority_state_loss")
    return [
        f"{name}={value:.4g}"
        for name, value in record.items()
        if isinstance(value, float)
        and wanted in name
        and not name.endswith(skipped)
        and (not wanted or name.count("_") == 1)
    ]


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}h{minute:02d}m" if hour else f"{minute}m{second:02d}s"
