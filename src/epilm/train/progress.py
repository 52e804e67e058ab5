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
        f"{head}  loss {record['loss']:.4f}  acc {' '.join(accuracies) or '-'}  lr {record['lr']:.2e}  "
        f"{record['tokens_per_s']:,.0f} tok/s  {record['step_time_s']:.2f} s/step  data wait {record['data_wait_share']:.0%}  "
        f"MFU {record['mfu']:.0%}  left {_duration(left)}"
    )


_EVAL = (
    "dna_accuracy",
    "unigram_dna_accuracy",
    "dna_perplexity",
    "state_accuracy",
    "copy_state_accuracy",
    "majority_state_accuracy",
    "state_perplexity",
)


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}h{minute:02d}m" if hour else f"{minute}m{second:02d}s"
