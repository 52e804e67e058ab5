"""What a reader of labels gathers on its way, and the names that it gives to factors and cell types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError
from epilm.labels.label_set import Pair
from epilm.labels.recipe import LabelsBase
from epilm.labels.runs import Runs


@dataclass
class Gathered:
    """Runs by (cell type in the corpus, target), as the files say them; :meth:`LabelSet.build` makes them disjoint."""

    bound: dict[Pair, Runs] = field(default_factory=dict)
    ambiguous: dict[Pair, Runs] = field(default_factory=dict)
    unlabelled: dict[Pair, Runs] = field(default_factory=dict)
    excluded: Runs = field(default_factory=Runs.empty)
    contig_names: dict[str, dict[str, str]] = field(default_factory=dict)
    """Path -> name of a contig in the file -> name in the corpus."""
    notes: list[str] = field(default_factory=list)
    """What to log."""


@dataclass(frozen=True)
class Names:
    """Which factors and cell types are read, and what they are called."""

    targets: tuple[str, ...]
    cells: dict[str, str]
    """Name in the labels -> name in the corpus, without those that are left out; in the order of the corpus."""

    @property
    def cell_types(self) -> tuple[str, ...]:
        return tuple(self.cells.values())


def choose_names(
    config: LabelsBase, measured: dict[str, Sequence[str]], manifest: CorpusManifest, *, source: str
) -> Names:
    """The recipe's choice among what was measured.

    Args:
        measured: target -> its cell types, as the labels name them.

    Raises:
        CorpusError: a target or cell type that is not there, two cell types of one name, one renamed to what the corpus
            lacks, or a target of which no cell type is left.
    """
    targets = tuple(measured) if config.targets is None else config.targets
    for target in targets:
        if target not in measured:
            raise CorpusError(f"targets: {source} has no labels of {target!r}.{hint(target, measured)}")
    known = dict.fromkeys(cell for cells in measured.values() for cell in cells)
    for cell in config.cell_types:
        if cell not in known:
            raise CorpusError(f"cell_types: {source} has no labels of cell type {cell!r}.{hint(cell, known)}")
    used = dict.fromkeys(cell for target in targets for cell in measured[target])
    cells: dict[str, str] = {}
    for cell in used:
        name = config.cell_types.get(cell, cell)
        if name is not None:
            cells[cell] = _checked(cell, name, cells, manifest, source)
    for target in targets:
        if not any(cell in cells for cell in measured[target]):
            raise CorpusError(
                f"{source}: cell_types leaves out every cell type that {target} was measured in "
                f"({', '.join(measured[target])}). Keep one of them, or leave {target} out of targets."
            )
    order = {name: number for number, name in enumerate(manifest.cell_types)}
    return Names(targets, dict(sorted(cells.items(), key=lambda item: order.get(item[1], len(order)))))


def _checked(cell: str, name: str, taken: dict[str, str], manifest: CorpusManifest, source: str) -> str:
    """The corpus' name of a cell type, where that is free and, if the recipe gives it, known.

    A cell type that the corpus has no states of keeps its own name: a model of DNA alone may learn from its labels.
    """
    for other, its_name in taken.items():
        if its_name == name:
            raise CorpusError(
                f"{source}: cell types {other!r} and {cell!r} of the labels both mean {name!r} of the corpus. Leave one "
                f"out: cell_types: {{{cell}: null}}."
            )
    if cell != name and manifest.cell_types and name not in manifest.cell_types:
        raise CorpusError(
            f"{source}: the corpus {manifest.name} has no states of cell type {name!r}.{hint(name, manifest.cell_types)} "
            f"Say what it is called there (cell_types: {{{cell}: NAME}}), or leave it out (cell_types: {{{cell}: null}})."
        )
    return name


def hint(name: str, known: Iterable[str], limit: int = 12) -> str:
    """`` Did you mean ...? Allowed: ...``"""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    shown = ", ".join(known[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Allowed: {shown}."
