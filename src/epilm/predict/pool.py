"""A fixed pool of actors that write the parts of a run: the driver's side and the actor's frame, shared by the stages.

The driver cuts the work into parts and hands out their numbers; an actor writes its parts itself, so that no result travels
through the object store. What a part holds never depends on which actor writes it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import ray.data

from epilm import errors
from epilm.errors import EpilmError, RecipeError
from epilm.predict.parts import OutputPart
from epilm.predict.recipe import PooledRecipe
from epilm.storage import Location

MAX_BLOCKS = 2000
"""Blocks of a Ray Data dataset; with more, the scheduler itself becomes the limit."""


class PartActor(ABC):
    """What an actor does around the writing of a part: errors travel as rows, because Ray drops an exception's type."""

    @abstractmethod
    def write(self, index: int) -> Mapping[str, object]:
        """Write the part of that number; return its entry, with ``sha256``."""

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Batch ``{"part": [1]}`` -> the part's checksum, or the user's error as text."""
        (index,) = batch["part"].tolist()
        sha256, kind, message = "", "", ""
        try:
            sha256 = self.write(index)["sha256"]
        except EpilmError as error:
            kind, message = type(error).__name__, str(error)
        row = {"part": index, "sha256": sha256, "error_kind": kind, "error": message}
        return {key: np.array([value]) for key, value in row.items()}


def gpus_per_actor(recipe: PooledRecipe) -> float:
    """GPUs of an actor. A Ray that was started here cannot grow, so too large a pool is refused before it waits.

    Raises:
        RecipeError: naming what is short.
    """
    have = ray.cluster_resources()
    num_gpus = recipe.gpus_per_worker
    if num_gpus is None:
        num_gpus = 1.0 if have.get("GPU", 0) >= 1 else 0.0
    for name, each, setting in [("CPU", recipe.cpus_per_worker, "cpus"), ("GPU", num_gpus, "gpus")]:
        wanted = each * recipe.num_workers
        if recipe.ray.address == "local" and wanted > have.get(name, 0):
            raise RecipeError(
                f"num_workers={recipe.num_workers} x {setting}_per_worker={each:g} needs {wanted:g} {name}s, this Ray "
                f"has {have.get(name, 0):g}. Lower num_workers or {setting}_per_worker."
            )
    return num_gpus


def write_parts(
    actor: type[PartActor],
    constructor: Mapping[str, Any],
    recipe: PooledRecipe,
    num_gpus: float,
    pending: Sequence[OutputPart],
    *,
    folder: Location,
    label: str,
    progress: Callable[[str], None],
) -> dict[int, dict[str, object]]:
    """Hand the pending parts to the actors; report each part as it is done. Returns their entries by index.

    Args:
        constructor: the actor's arguments; ``device`` is added.

    Raises:
        EpilmError: what an actor raised; the parts that were finished stay.
    """
    if not pending:
        return {}
    by_index = {part.index: part for part in pending}
    total, done, started = sum(part.sequences for part in pending), 0, time.monotonic()
    entries: dict[int, dict[str, object]] = {}
    dataset = ray.data.from_items(
        [{"part": part.index} for part in pending], override_num_blocks=min(len(pending), MAX_BLOCKS)
    ).map_batches(
        actor,  # pyright: ignore[reportArgumentType]
        # not "auto": an actor without a GPU of its own may still see the machine's
        fn_constructor_kwargs={**constructor, "device": "cuda" if num_gpus else "cpu"},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(recipe.num_workers, len(pending))),
        num_cpus=recipe.cpus_per_worker,
        num_gpus=num_gpus,
    )
    for row in dataset.iter_rows():
        if row["error"]:
            raise getattr(errors, row["error_kind"], EpilmError)(
                f"{row['error']}\nThe finished parts are kept in {folder}; go on with --resume."
            )
        part = by_index[row["part"]]
        entries[part.index] = {"path": part.path, "rows": part.rows, "sha256": row["sha256"]}
        done += part.sequences
        rate = done / (time.monotonic() - started)
        progress(f"{label}: {done:,} of {total:,} windows ({100 * done / total:.0f} %), {rate:,.0f} windows/s")
    return entries
