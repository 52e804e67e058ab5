"""One line that says how a run is doing."""

from __future__ import annotations

from typing import Any

from epilm.train.recipe import TrainConfig


def progress_line(record: dict[str, Any], config: TrainConfig) -> str:
    """A record of the start, of a training step or of an evaluation in one line."""
    if record["kind"] == "start":
        where = f"from the checkpoint at step {record['step']}" if record["step"] else "from the beginning"
        return f"training {where} to step {config.steps} on {record['num_workers']} worker(s)"
    head = f"step {record['step']}/{config.steps}"
    if record["kind"] == "event":
        return f"{head}: the curriculum moves on: " + "  ".join(
            f"{name} {value:.4g}" for name, value in record.items() if name not in ("kind", "step", "time")
        )
    if record["kind"] == "eval":
        return f"{head} on {record['set']}: " + "  ".join(_metrics(record))
    left = (config.steps - record["step"]) * record["step_time_s"]
    return "  ".join(
        [
            head,
            f"loss {record['loss']:.4f}",
            *_metrics(record, "accuracy"),
            f"lr {record['lr']:.2e}",
            f"{record['tokens_per_s']:,.0f} tok/s",
            f"{record['step_time_s']:.2f} s/step",
            f"data wait {record['data_wait_share']:.0%}",
            f"MFU {record['mfu']:.0%}",
            f"left {_duration(left)}",
        ]
    )


def _metrics(record: dict[str, Any], kind: str = "") -> list[str]:
    """The task's own accuracies, losses and areas under curves; which there are is the task's affair. While training, the
    baselines' (``copy_state_accuracy``: three words) would only fill the line."""
    return [
        f"{name} {value:.4g}"
        for name, value in record.items()
        if name.endswith(kind or ("accuracy", "loss", "auprc", "auroc"))
        and isinstance(value, float)
        and (not kind or name.count("_") == 1)
    ]


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}h{minute:02d}m" if hour else f"{minute}m{second:02d}s"
