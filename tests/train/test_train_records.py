"""metrics.jsonl has each step once, whatever was killed when."""

from __future__ import annotations

from epilm.runs import read_metrics
from epilm.storage import Location
from epilm.train.board import _worth_showing
from epilm.train.progress import progress_line
from epilm.train.recipe import TrainConfig
from epilm.train.records import Records

TRAIN = {
    "kind": "train",
    "loss": 1.25,
    "dna_accuracy": 0.5,
    "copy_state_accuracy": 0.75,
    "lr": 3e-4,
    "step_time_s": 2.0,
    "tokens_per_s": 12345.6,
    "data_wait_share": 0.1,
    "mfu": 0.31,
}


def train(step: int, **changes: object) -> dict[str, object]:
    return {**TRAIN, "step": step, **changes}


def test_a_resumed_run_writes_its_steps_again(tmp_path) -> None:
    folder = Location(str(tmp_path))
    first = Records(folder, 0)
    for step in range(1, 8):
        first.write(train(step, loss=float(step)))
    first.write({"kind": "eval", "step": 7, "set": "held_out", "dna_loss": 2.0})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st')  # killed while it wrote
    second = Records(folder, 5)  # the last checkpoint
    for step in range(6, 10):
        second.write(train(step, loss=10.0 * step))
    second.close()
    records = read_metrics(folder)
    assert [r["step"] for r in records] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [r["loss"] for r in records] == [1, 2, 3, 4, 5, 60, 70, 80, 90]


def test_tensorboard_has_the_numbers(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = Records(Location(str(tmp_path)), 0)
    records.write(train(1))
    records.write({"kind": "eval", "step": 1, "set": "held_out", "dna_loss": 2.0, "time": 1.0})
    records.close()
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "train/tokens_per_s", "eval/held_out/dna_loss"} <= set(board.Tags()["scalars"])
    assert "train/step" not in board.Tags()["scalars"]
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [(1, 1.25)]


def test_progress_shows_the_last_training_step_and_every_evaluation() -> None:
    evaluation = {"kind": "eval", "step": 2, "set": "held_out", "dna_loss": 2.0, "num_samples": 17}
    assert _worth_showing([train(1), train(2), evaluation, train(3)]) == [evaluation, train(3)]
    assert _worth_showing([]) == []


def test_progress_line() -> None:
    config = TrainConfig(steps=100, global_batch=4)
    assert progress_line(train(40), config) == (
        "step 40/100  loss 1.2500  dna_accuracy 0.5  lr 3.00e-04  12,346 tok/s  2.00 s/step  data wait 10%  MFU 31%  left 2m00s"
    )
    evaluation = {"kind": "eval", "step": 40, "set": "held_out", "dna_loss": 2.0, "copy_state_accuracy": 0.5}
    assert progress_line(evaluation, config) == "step 40/100 on held_out: dna_loss 2  copy_state_accuracy 0.5"
    assert "left 1h30m" in progress_line(train(1, step_time_s=54.55), config)
