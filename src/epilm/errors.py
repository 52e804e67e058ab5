"""What a user did wrong, as one family of ``ValueError``.

Every message says what is wrong, what was got, what is allowed and how to mend it. ``assert`` is for our own bugs.
"""

from __future__ import annotations

import re


class EpilmError(ValueError):
    """Base of all errors that a user can mend; the command line prints them without a traceback."""


class RecipeError(EpilmError):
    """A recipe or an override is wrong: unknown key, wrong type, values that contradict each other."""


class GenomeError(EpilmError):
    """A genome file is missing, truncated, of another assembly, or not what its name says."""


class CorpusError(EpilmError):
    """A corpus is incomplete, corrupt, or lacks what was asked of it."""


class StorageError(EpilmError):
    """A folder or bucket cannot be read or written."""


class RunExistsError(StorageError):
    """A run folder exists already and neither ``--resume`` nor ``--overwrite`` was given."""


class CheckpointError(EpilmError):
    """A checkpoint belongs to another recipe or corpus, or is unreadable."""


class LeakError(EpilmError):
    """An evaluation would use contigs or cell types that the model has been trained on."""


def user_error(error: BaseException) -> EpilmError | None:
    """The user's error inside what Ray made of an exception in a task or actor; None where there is none.

    Ray wraps exceptions in each other, and some of its actors (the coordinator of a split) pass their text alone on, with
    Ray's advice behind the first line.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        if isinstance(current, EpilmError):
            # Ray's RayTaskError(CorpusError) is one as well, but its text is the worker's whole traceback
            inner = getattr(current, "cause", None)
            return inner if isinstance(inner, EpilmError) else current
        seen.add(id(current))
        pending += [current.__cause__, current.__context__, getattr(current, "cause", None)]
    kinds = {kind.__name__: kind for kind in EpilmError.__subclasses__()}
    named = re.findall(rf"\b({'|'.join(kinds)}): (.+)", str(error))
    return kinds[named[-1][0]](named[-1][1].strip()) if named else None
