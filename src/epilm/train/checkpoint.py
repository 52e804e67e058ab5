"""Checkpoints that load on any number of workers, and fp32 weights out of them.

Ray copies each rank's files into one folder and registers it when all have reported; a kill in between leaves the
former checkpoint in force. The state of the data is the optimizer step alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray.train import Checkpoint
from torch import Tensor

from epilm.errors import CheckpointError

_META = "epilm-checkpoint.json"
_TAG = "state"
_MODULE = "mp_rank_00_model_states.pt"
"""DeepSpeed's file of the module, of ranks that do not split it."""


@dataclass(frozen=True)
class CheckpointMeta:
    """What must match to go on from a checkpoint."""

    step: int
    """Optimizer steps done; the next one is ``step``."""
    num_workers: int
    zero_stage: int
    recipe_fingerprint: str
    data_fingerprint: str
    task_state: dict[str, Any] = field(default_factory=dict)
    """What the task has learnt of its run (a curriculum's evaluations and its switch)."""


def save_checkpoint(engine: Any, folder: str, meta: CheckpointMeta, *, rank: int) -> None:
    """Write this rank's part into a local folder; every rank calls it."""
    Path(folder, _TAG).mkdir(parents=True, exist_ok=True)
    engine.save_checkpoint(folder, tag=_TAG)
    if rank == 0:
        Path(folder, _META).write_text(json.dumps(asdict(meta)))


def read_meta(folder: str | Path) -> CheckpointMeta:
    path = Path(folder, _META)
    try:
        return CheckpointMeta(**json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, TypeError) as error:
        raise CheckpointError(f"{folder} is not an epilm checkpoint: {error}") from error


def check_meta(meta: CheckpointMeta, *, recipe_fingerprint: str, data_fingerprint: str) -> None:
    """Raises CheckpointError where the checkpoint belongs to another recipe or corpus."""
    for what, got, expected in [
        ("recipe", meta.recipe_fingerprint, recipe_fingerprint),
        ("corpus", meta.data_fingerprint, data_fingerprint),
    ]:
        if got != expected:
            raise CheckpointError(
                f"the checkpoint at step {meta.step} was written for another {what} ({got}; this run's is {expected}). "
                "Use the recipe it was written with, or start anew with another name."
            )


def check_stage(meta: CheckpointMeta, zero_stage: int) -> None:
    """ZeRO 3 cuts parameters, 1 and 2 do not; DeepSpeed's universal format does not lead from one to the other.

    Raises:
        CheckpointError: names the stages that the checkpoint can go on under.
    """
    if (meta.zero_stage == 3) != (zero_stage == 3):
        allowed = "train.zero_stage=3" if meta.zero_stage == 3 else "train.zero_stage=1 or 2"
        raise CheckpointError(
            f"train.zero_stage={zero_stage}, but the checkpoint at step {meta.step} was written under ZeRO "
            f"{meta.zero_stage}. Resume with {allowed}, on any number of workers."
        )


def restore(
    checkpoint: Checkpoint,
    build: Callable[[bool], Any],
    *,
    num_workers: int,
    zero_stage: int,
    local_rank: int,
    node_rank: int,
) -> tuple[Any, CheckpointMeta]:
    """Build the engine and load a checkpoint into it, whatever number of workers wrote it.

    DeepSpeed loads its own format only at the same world size and stage; else one process a node converts it to the
    universal format first, in a temporary folder.

    Args:
        build: makes the engine; its argument says whether a universal checkpoint will be loaded.
    """
    with checkpoint.as_directory() as folder:
        meta = read_meta(folder)
        check_stage(meta, zero_stage)
        if (meta.num_workers, meta.zero_stage) == (num_workers, zero_stage):
            engine = build(False)
            _load(engine, folder, _TAG)
        else:
            engine = build(True)
            with _universal_folder(folder, local_rank, node_rank) as converted:
                _load(engine, converted, _TAG)
    return engine, meta


def _load(engine: Any, folder: str, tag: str) -> None:
    groups = engine.deepspeed.optimizer.param_groups
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    path, _ = engine.deepspeed.load_checkpoint(folder, tag=tag)
    if path is None:
        raise CheckpointError(f"DeepSpeed found no checkpoint {tag!r} in {folder}.")
    # the recipe states them; a universal checkpoint of ZeRO 3 would give the first group's weight decay to all
    for group, own in zip(engine.deepspeed.optimizer.param_groups, settings, strict=True):
        group.update(own)
    # nor may groups share a step: ZeRO 3 hands one tensor to all, and AdamW would count it up once a group and step
    inner = getattr(engine.deepspeed.optimizer, "optimizer", engine.deepspeed.optimizer)
    for state in inner.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].clone()


@contextlib.contextmanager
def _universal_folder(source: str, local_rank: int, node_rank: int) -> Iterator[str]:
    """A temporary universal copy, converted by one process of each node and shared by its others."""
    with tempfile.TemporaryDirectory(prefix="epilm-universal-") as own:
        if local_rank == 0:
            _to_universal(f"{source}/{_TAG}", f"{own}/{_TAG}")
        places: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(places, (node_rank, own if local_rank == 0 else None))
        yield next(path for node, path in places if node == node_rank and path)
        dist.barrier()  # nobody deletes what another still reads


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """DeepSpeed's converters print a progress bar a parameter."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _to_universal(source: str, target: str) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    options = argparse.Namespace(
        input_folder=source,
        output_folder=target,
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with _quiet():
        main(options)


def fp32_weights(folder: str | Path) -> dict[str, Tensor]:
    """Full fp32 weights of a checkpoint of any ZeRO stage, by parameter name; those that are not trained too, as they were
    used (a bf16 training has rounded them)."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    with _quiet():
        weights = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=_TAG)
    found = {name: weight.float() for name, weight in (weights or {}).items()}
    path = Path(folder, _TAG, _MODULE)
    if not path.exists():  # ZeRO 3 has none, and keeps all weights with the ranks
        return found
    # under ZeRO 1 DeepSpeed leaves what has no gradient with the module alone
    module = torch.load(path, map_location="cpu", weights_only=False)["module"]
    return {name: weight.float() for name, weight in module.items()} | found
