"""Free the CPUs and GPUs of a trial that was stopped early.

Tune ends a trial by killing its process; the nested training's controller dies with it, its workers' placement group does
not. Ray Train has a cleaner for that, which asks the dashboard whether the controller lives, and gives up where more than
one Ray runs on the machine ("Found multiple active Ray instances"): the group's CPUs are then lost until the sweep ends, and
later trials wait for ever. So a trial tells which group is its own, and the sweep removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group

PLACEMENT_GROUP = "placement_group"
"""Key of the group's id in what a trial reports."""


class NotePlacementGroup(WorkerGroupCallback):
    """Keeps the id of the group that the workers run in, in the controller's process; an elastic training has several in
    turn."""

    id_hex: str | None = None

    def after_worker_group_start(self, worker_group: Any) -> None:
        handle = worker_group.get_worker_group_state().placement_group_handle
        self.id_hex = handle.placement_group.id.hex()


def release(result: Mapping[str, Any]) -> None:
    """Remove the placement group that a trial's last report names; nothing happens where it is gone."""
    id_hex = result.get(PLACEMENT_GROUP)
    if id_hex:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(id_hex))))
