"""Names that a recipe of TF binding gives, held against what corpus and labels have: cell types, states, signals."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import RecipeError
from epilm.models.binding_config import TrackConfig
from epilm.tasks.binding_recipe import AccessibleConfig


def check_known(name: str, allowed: Iterable[str], setting: str, what: str) -> None:
    """Refuse a name that is not among those allowed, with the nearest of them.

    Raises:
        RecipeError
    """
    allowed = list(dict.fromkeys(allowed))
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(allowed[:12]) or "none"
        raise RecipeError(f"{setting}: {name!r} is no {what}.{hint} There are: {shown}.")


def check_signals(
    tracks: Mapping[str, TrackConfig], cell_types: Sequence[str], manifest: CorpusManifest, *, setting: str
) -> None:
    """Every track has its signal in the corpus for every cell type, measured in that cell type.

    Raises:
        RecipeError: naming the signal that is missing or another cell type's.
    """
    by_name = {signal.name: signal for signal in manifest.signals}
    for name, track in tracks.items():
        for cell in cell_types:
            signal = track.signal_for(cell)
            check_known(signal, by_name, f"{setting}.{name}.signal (for {cell})", "signal of the corpus")
            measured = by_name[signal].cell_type
            if measured is not None and measured != cell:
                raise RecipeError(
                    f"{setting}.{name}: the signal {signal!r} was measured in {measured}, and would be read for {cell} too. "
                    "Write {cell_type} in its name, so that each cell type has its own, or train on that cell type alone."
                )


def check_accessible(
    accessible: AccessibleConfig | None, cell_types: Sequence[str], manifest: CorpusManifest, *, setting: str
) -> None:
    """The states or the signal that say where chromatin is open are in the corpus for every cell type.

    Raises:
        RecipeError: an unknown state, a cell type without states, or see :func:`check_signals`.
    """
    if accessible is None:
        return
    for name in accessible.states:
        check_known(name, manifest.state_names, f"{setting}.states", "state of the corpus")
    if accessible.states:
        for cell in cell_types:
            check_known(cell, manifest.cell_types, f"{setting}.states", "cell type with states in the corpus")
    if accessible.signal is not None:
        check_signals({"signal": TrackConfig(signal=accessible.signal)}, cell_types, manifest, setting=setting)
