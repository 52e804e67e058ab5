"""Any result as nested key/value blocks and tables, for stages that the report knows nothing about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epilm.report.text import show, words

MAX_ROWS = 200
MAX_ITEMS = 12
MAX_DEPTH = 5


@dataclass(frozen=True)
class Block:
    """``facts`` first, then ``rows`` under ``columns`` where the value is a table, then the blocks inside it."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    more_rows: int = 0
    children: tuple[Block, ...] = ()


def block(title: str, value: Any, depth: int = 0) -> Block:
    """Lay out a JSON value: scalars as facts, records of scalars as a table, the rest as blocks inside the block."""
    if not isinstance(value, dict):
        value = {"": value}
    facts, children = [], []
    for key, item in value.items():
        name = words(str(key))
        table = _table(name, item)
        if table is not None:
            children.append(table)
        elif isinstance(item, dict) and item and depth < MAX_DEPTH:
            children.append(block(name, item, depth + 1))
        else:
            facts.append((name, _inline(item)))
    return Block(title, facts=tuple(facts), children=tuple(children))


def _table(title: str, value: Any) -> Block | None:
    """A list or mapping of flat records with at least two entries; None of anything else."""
    if isinstance(value, dict):
        records, names = list(value.values()), [str(key) for key in value]
    elif isinstance(value, list):
        records, names = value, None
    else:
        return None
    if len(records) < 2 or not all(isinstance(r, dict) and r and _flat(r) for r in records):
        return None
    keys = list(dict.fromkeys(str(key) for record in records for key in record))
    if len(keys) > 14:
        return None
    rows = [[*([names[i]] if names else []), *(_inline(r.get(key)) for key in keys)] for i, r in enumerate(records)]
    columns = [*([""] if names else []), *map(words, keys)]
    kept = tuple(tuple(row) for row in rows[:MAX_ROWS])
    return Block(title, columns=tuple(columns), rows=kept, more_rows=max(0, len(rows) - MAX_ROWS))


def _flat(record: dict[str, Any]) -> bool:
    return not any(
        isinstance(value, dict) or (isinstance(value, list) and not _scalars(value)) for value in record.values()
    )


def _scalars(values: list[Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in values)


def _inline(value: Any) -> str:
    if isinstance(value, list | tuple):
        shown = ", ".join(_inline(item) for item in value[:MAX_ITEMS])
        return (f"{shown} and {len(value) - MAX_ITEMS} more" if len(value) > MAX_ITEMS else shown) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_inline(item)}" for key, item in list(value.items())[:MAX_ITEMS]) or "none"
    return show(value)
