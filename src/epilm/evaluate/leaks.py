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

from epilm.errors import LeakError
from epilm.evaluate.predictions import Predictions
from epilm.evaluate.recipe import AllowOverlap
from epilm.models.provenance import Span, names_touched, selected_spans, trained_among


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


def seen_by(
    predictions: Predictions | None,
    spans: Sequence[Span],
    cell_types: Sequence[str],
    *,
    contigs: Sequence[str],
    assembly: str,
) -> Seen:
    """What the model behind some predictions has seen of the spans and cell types; None = files of unknown origin.

    Args:
        contigs: all of the corpus.
    """
    if predictions is None:
        return Seen(known=False)
    selected = names_touched(spans, selected_spans(predictions.selected_on, contigs, source="selected_on"))
    provenance = predictions.provenance
    return Seen(
        known=True,
        trained_contigs=trained_among(provenance, spans, contigs, assembly=assembly) if provenance else (),
        selected_contigs=tuple(name for name in dict.fromkeys(span[0] for span in spans) if name in selected),
        trained_cell_types=tuple(c for c in cell_types if provenance and c in provenance.trained_cell_types),
    )


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
