"""What went wrong in a Ray task, in the user's terms."""

from __future__ import annotations

from epilm.errors import EpilmError


def user_error(error: BaseException) -> EpilmError | None:
    """The user's error inside what Ray made of an exception in a task."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        item = todo.pop()
        if item is None or id(item) in seen:
            continue
        if isinstance(item, EpilmError):
            return item
        seen.add(id(item))
        todo += [item.__cause__, item.__context__, getattr(item, "cause", None)]
    return None
