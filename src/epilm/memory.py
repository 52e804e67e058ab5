"""Memory that a process has freed, given back to the system."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import gc
from collections.abc import Callable

import pyarrow as pa


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``; None with another C library."""
    name = ctypes.util.find_library("c")
    return getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None


def give_back() -> None:
    """For the end of a task that made large tables.

    Ray's worker processes run one task after the other. What the many small objects of a wide table leave behind, freed but
    in pieces, stays with the process, and the next task, which may last for hours, is seen to hold gigabytes.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    if (trim := _trim()) is not None:
        trim(0)
