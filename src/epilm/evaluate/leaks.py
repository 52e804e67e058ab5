"""The leak guard: which of the evaluated contigs and cell types a submission's model has seen. Pure.

Two rules, for the two questions that are asked of a model:

- A contig is seen where the model, or its pre-training, was trained on any part of what is evaluated of it, or where
  training was stopped or settings were chosen on it. It is refused whatever the cell type.
- A cell type that was trained on is refused only where the recipe holds it out (``held_out_cell_types``): the benchmark
  within cell types trains on the very cell types that it tests, on other contigs.

What ``allow_overlap`` names is let through and reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from epilm.errors import LeakError
from epilm.evaluate.predictions import Predictions
from epilm.evaluate.recipe import AllowOverlap
from epilm.genome.intervals import overlaps
from epilm.models.provenance import PROVENANCE_FILE, Provenance, match_trained

Span = tuple[str, int, int]
"""(contig, start, end) of what is evaluated, 0-based half-open."""


@dataclass(frozen=True)
class Seen:
    """What a submission's model has seen of an evaluation, by the names of the evaluation's corpus."""

    known: bool
    """Whether anything is known: files of a challenge tell nothing of their model."""
    trained_contigs: tuple[str, ...] = ()
    """Evaluated contigs of which a part that is evaluated was trained on."""
    selected_contigs: tuple[str, ...] = ()
    """Evaluated contigs on which the model was chosen."""
    trained_cell_types: tuple[str, ...] = ()
    """Evaluated cell types that were trained on."""

    @property
    def contigs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.trained_contigs, *self.selected_contigs]))


def seen_by(predictions: Predictions | None, spans: Sequence[Span], cell_types: Sequence[str], assembly: str) -> Seen:
    """What the model behind some predictions has seen of the spans and cell types; None = files of unknown origin."""
    if predictions is None:
        return Seen(known=False)
    contigs = tuple(dict.fromkeys(span[0] for span in spans))
    selected = match_trained(predictions.selected_on, contigs, source="selected_on").values()
    provenance = predictions.provenance
    return Seen(
        known=True,
        trained_contigs=_trained(provenance, spans, contigs, assembly) if provenance else (),
        selected_contigs=tuple(name for name in contigs if name in set(selected)),
        trained_cell_types=tuple(c for c in cell_types if provenance and c in provenance.trained_cell_types),
    )


def _trained(provenance: Provenance, spans: Sequence[Span], contigs: Sequence[str], assembly: str) -> tuple[str, ...]:
    names = match_trained(provenance.trained_contigs, contigs, source=f"the model's {PROVENANCE_FILE}")
    whole = provenance.trained_regions is None or provenance.assembly != assembly  # coordinates mean nothing elsewhere
    if whole:
        return tuple(name for name in contigs if name in set(names.values()))
    regions = pd.DataFrame(
        [(names[chrom], start, end) for chrom, start, end in provenance.trained_regions or () if chrom in names],
        columns=pd.Index(["chrom", "start", "end"]),
    )
    chrom, start, end = (np.array([span[i] for span in spans], object if i == 0 else np.int64) for i in range(3))
    touched = set(chrom[overlaps(chrom, start, end, regions)])
    return tuple(name for name in contigs if name in touched)


def check_leaks(seen: Mapping[str, Seen], held_out_cell_types: Sequence[str], allow: AllowOverlap) -> dict[str, Any]:
    """Refuse what was seen and is not allowed; say what was seen.

    Returns:
        by submission, for the result: known, trained_contigs, selected_contigs, trained_cell_types, allowed_contigs,
        allowed_cell_types.

    Raises:
        LeakError: naming every submission with what it has seen.
    """
    lines, summary = [], {}
    for name, what in seen.items():
        cells = tuple(c for c in what.trained_cell_types if c in held_out_cell_types)
        trained = [c for c in what.trained_contigs if c not in allow.contigs]
        selected = [c for c in what.selected_contigs if c not in allow.contigs]
        refused = [c for c in cells if c not in allow.cell_types]
        faults = [
            f"{verb} {', '.join(names)}"
            for verb, names in (
                ("was trained on", trained),
                ("was chosen on", selected),
                ("has seen the held-out cell types", refused),
            )
            if names
        ]
        if faults:
            lines.append(f"{name!r} {' and '.join(faults)}")
        summary[name] = {
            "known": what.known,
            "trained_contigs": list(what.trained_contigs),
            "selected_contigs": list(what.selected_contigs),
            "trained_cell_types": list(what.trained_cell_types),
            "allowed_contigs": [c for c in what.contigs if c in allow.contigs],
            "allowed_cell_types": [c for c in cells if c in allow.cell_types],
        }
    if lines:
        raise LeakError(
            f"the evaluation would use what models have seen: {'; '.join(lines)}. Score other contigs or cell types, or "
            "name these in allow_overlap.contigs or allow_overlap.cell_types; the result then says so."
        )
    return summary
