"""A fine-tuned TF-binding model on a corpus: windows of any bins, and their probabilities.

Genome-wide prediction, variant effects and mutagenesis all score through here, so that a bin has one probability.
Shapes: B = windows, C = cell types, T = tracks, F = targets (factors).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.schema import bins_per_window
from epilm.errors import CheckpointError, CorpusError, RecipeError
from epilm.models.binding import binding_probabilities
from epilm.models.binding_config import CELL_TYPE, BindingConfig
from epilm.models.binding_folder import BindingInfo, load_binding, read_binding_info
from epilm.models.binding_inputs import BindingWindows
from epilm.models.fits_corpus import check_fits_corpus
from epilm.predict.load import Dtype, resolve_device
from epilm.storage import Location
from epilm.tokens.vocab import BASE_N


def reads_cell_type(info: BindingInfo) -> bool:
    """Whether a model's prediction depends on the cell type: it reads states, or a track of the cell type."""
    return bool(info.config.num_states) or any(CELL_TYPE in track.signal for track in info.binding.tracks.values())


def cell_types_of(manifest: CorpusManifest) -> tuple[str, ...]:
    """Cell types that a model can be asked for on a corpus: those with states, or where it has none, with signals."""
    return manifest.cell_types or tuple(dict.fromkeys(s.cell_type for s in manifest.signals if s.cell_type))


def check_binding_corpus(info: BindingInfo, manifest: CorpusManifest, *, corpus: str) -> None:
    """A TF-binding model may read a corpus only of its assembly, states, bin size and resolution of signals.

    Raises:
        CheckpointError: naming what differs.
    """
    check_fits_corpus(info.provenance, manifest, corpus=corpus)
    binding = info.binding
    if not binding.tracks:
        return
    if not manifest.signals:
        raise CheckpointError(
            f"the model reads the tracks {', '.join(binding.tracks)}, but the corpus {corpus} keeps no signals. "
            "Build the corpus with `signals`, or use a model without tracks."
        )
    if binding.signal_bp != manifest.signal_bp:
        raise CheckpointError(
            f"the model reads signals of {binding.signal_bp} bp a bin, the corpus {corpus} has {manifest.signal_bp} bp. "
            f"Build the corpus with signal_bp={binding.signal_bp}."
        )


def choose_binding_cells(
    wanted: Sequence[str] | None, info: BindingInfo, manifest: CorpusManifest, *, corpus: str
) -> tuple[str, ...]:
    """Names of the wanted cell types; all of the corpus for None, and ``("",)`` for a model that reads nothing of them.

    Such a model may be asked for any names: its prediction is the same for each.

    Raises:
        RecipeError: an unknown or repeated cell type, or none at all.
        CorpusError: a track's signal is missing for one of them.
    """
    if wanted is not None and not wanted:
        raise RecipeError("cell_types is empty: name at least one, or leave it out for all of the corpus.")
    if wanted is not None and len(set(wanted)) != len(wanted):
        twice = next(name for i, name in enumerate(wanted) if name in wanted[:i])
        raise RecipeError(f"cell_types: {twice!r} is named twice. Name each cell type once.")
    if not reads_cell_type(info):
        names = tuple(wanted) if wanted else ("",)
    else:
        known = cell_types_of(manifest)
        for name in wanted or ():
            if name not in known and (info.config.num_states or manifest.cell_types):
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(known[:8]) or 'none'}."
                raise RecipeError(f"cell_types: the corpus {corpus} has no states of {name!r}. {hint}")
        names = tuple(wanted) if wanted else known
        if not names:
            raise RecipeError(
                f"the corpus {corpus} names no cell types. Give cell_types, by the names in the tracks' signals."
            )
    rows = signal_rows(info.binding, manifest, names)
    refuse_missing_signals(rows, info.binding, manifest, names, corpus=corpus)
    return names


def signal_rows(binding: BindingConfig, manifest: CorpusManifest, cell_types: Sequence[str]) -> np.ndarray:
    """Place of every track's signal in the corpus for every cell type: int64 [C, T], -1 where the corpus lacks it."""
    places = {signal.name: place for place, signal in enumerate(manifest.signals)}
    tracks = binding.tracks.values()
    rows = [[places.get(track.signal_for(cell), -1) for track in tracks] for cell in cell_types]
    return np.array(rows, np.int64).reshape(len(cell_types), len(binding.tracks))


def refuse_missing_signals(
    rows: np.ndarray, binding: BindingConfig, manifest: CorpusManifest, cell_types: Sequence[str], *, corpus: str
) -> None:
    """Refuse ``rows`` (of :func:`signal_rows`) with a gap.

    Raises:
        CorpusError: naming the track, the cell type and the signal.
    """
    absent = np.argwhere(rows < 0)
    if not len(absent):
        return
    names = [signal.name for signal in manifest.signals]
    cell, (track, config) = cell_types[absent[0, 0]], list(binding.tracks.items())[absent[0, 1]]
    signal = config.signal_for(cell)
    near = difflib.get_close_matches(signal, names, n=2)
    hint = f" (nearest: {', '.join(near)})" if near else ""
    more = f"; {len(absent)} are missing in all" if len(absent) > 1 else ""
    raise CorpusError(
        f"track {track!r} of the model needs the signal {signal!r}{f' for cell type {cell}' if cell else ''}, which the "
        f"corpus {corpus} lacks{hint}{more}. Build the corpus with it, or leave the cell type out."
    )


@dataclass(frozen=True)
class Stretch:
    """A stretch of a contig for some cell types, on a device; its windows are views until they are taken.

    Windows start every ``step_bp`` bases from the stretch's first base.
    """

    dna: Tensor
    """uint8 [bases]"""
    bins: Tensor | None
    """uint8 [C, bins]"""
    phase: int
    """Bases from the start of the first bin to the stretch's first base."""
    signals: Tensor | None
    """float32 [C, T, signal bins]"""
    signal_phase: int
    binding: BindingConfig
    step_bp: int
    bin_bp: int
    """Of the states."""

    def known(self, num_rows: int) -> Tensor:
        """bool [num_rows]: whether the labelled bin in the middle of each window has a known base."""
        before = torch.nn.functional.pad((self.dna < BASE_N).cumsum(0), (1, 0))
        first = torch.arange(num_rows, device=self.dna.device) * self.step_bp + self.binding.flank_bp
        return before[first + self.binding.bin_bp] > before[first]

    def windows(self, rows: Tensor, cells: Tensor) -> BindingWindows:
        """The windows number ``rows`` in the cell types ``cells`` of the stretch: int64 [B] each."""
        length_bp = self.binding.input_bp
        dna = self.dna.unfold(0, length_bp, self.step_bp)[rows]
        bins = phase = signals = signal_phase = None
        if self.bins is not None:
            base = self.phase + rows * self.step_bp
            views = self.bins.unfold(1, bins_per_window(length_bp, self.bin_bp), 1)
            bins, phase = views[cells, base // self.bin_bp], base % self.bin_bp
        if self.signals is not None:
            signal_bp = self.binding.signal_bp
            assert signal_bp is not None
            base = self.signal_phase + rows * self.step_bp
            views = self.signals.unfold(2, bins_per_window(length_bp, signal_bp), 1)
            # the track's axis lies between the two that are indexed, so that torch puts those in front
            signals, signal_phase = views[cells, :, base // signal_bp], base % signal_bp
        return BindingWindows(dna, bins, phase, signals, signal_phase)


class BindingScorer:
    """A fine-tuned model and the corpus that it reads.

    Args:
        model: folder of a fine-tuned model; local or a URI.
        corpus: a corpus of the model's assembly, states and resolution of signals.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is one.
        batch_size: windows in a forward pass; probabilities depend on it only by rounding.
        both_strands: average the probabilities of both strands; as the model was fine-tuned where None.
        cell_types: what ``cells`` index into; all of the corpus (:func:`cell_types_of`) where None. A model that reads
            nothing of cell types takes any.
        cached_chunks: of the corpus kept in memory; few will do where bins are asked for in order.

    Raises:
        CheckpointError: no fine-tuned model lies there, or it does not fit the corpus.
        CorpusError: no finished corpus lies there.
    """

    def __init__(
        self,
        model: Location,
        corpus: Location,
        *,
        device: str = "cpu",
        dtype: Dtype = "float32",
        batch_size: int = 64,
        both_strands: bool | None = None,
        cell_types: Sequence[str] | None = None,
        cached_chunks: int | None = None,
    ) -> None:
        self.info = read_binding_info(model)
        self.manifest = read_manifest(corpus)
        check_binding_corpus(self.info, self.manifest, corpus=str(corpus))
        self.binding = self.info.binding
        if both_strands is not None:
            self.binding = self.binding.model_copy(update={"both_strands": both_strands})
        self.cell_types = cell_types_of(self.manifest) if cell_types is None else tuple(cell_types)
        self.batch_size = batch_size
        self.device = resolve_device(device)
        self.model = load_binding(model, device=self.device, dtype=dtype)
        self.model.binding = self.binding
        self.reader = ContigReader(corpus, self.manifest, cached_chunks)
        self._corpus = str(corpus)
        self._signal_rows = signal_rows(self.binding, self.manifest, self.cell_types or ("",))
        names = self.manifest.cell_types
        self._state_rows = np.array([names.index(n) if n in names else -1 for n in self.cell_types or ("",)], np.int64)

    def windows(self, chrom: np.ndarray, bin_start: np.ndarray, cells: np.ndarray) -> BindingWindows:
        """Gather the input round each bin; N and no data where it leaves the contig. The caller may edit the windows.

        Args:
            chrom: object [B], contigs by their names in the corpus.
            bin_start: int64 [B], first base of each bin, 0-based.
            cells: int64 [B], index into ``cell_types``; zeros for a model that reads nothing of them.

        Raises:
            CorpusError: a contig, a cell type's states or a track's signal that the corpus lacks.
        """
        binding, starts = self.binding, np.asarray(bin_start, np.int64) - self.binding.flank_bp
        states, tracks = self._channels(np.asarray(cells, np.int64))
        gathered = self.reader.gather(chrom, starts, binding.input_bp, cells=states[:, None], tracks=tracks)
        windows = BindingWindows(
            dna=torch.from_numpy(gathered.dna),
            bins=torch.from_numpy(gathered.states[:, 0])
            if self._reads_states and gathered.states is not None
            else None,
            phase=torch.from_numpy(gathered.phase.astype(np.int64)),
            signals=torch.from_numpy(gathered.signals) if binding.tracks and gathered.signals is not None else None,
            signal_phase=None
            if gathered.signal_phase is None
            else torch.from_numpy(gathered.signal_phase.astype(np.int64)),
        )
        return windows.to(self.device)

    def stretch(self, chrom: str, bin_start: int, num_bins: int, step_bp: int, cells: Sequence[int]) -> Stretch:
        """Gather once what ``num_bins`` bins every ``step_bp`` bases from ``bin_start`` on need, in the given cell types."""
        manifest, binding = self.manifest, self.binding
        states, tracks = self._channels(np.asarray(cells, np.int64))
        # one more bin than the last window needs: windows begin anywhere in a bin
        length_bp = (num_bins - 1) * step_bp + binding.input_bp + manifest.bin_bp
        start = np.array([bin_start - binding.flank_bp], np.int64)
        gathered = self.reader.gather([chrom], start, length_bp, cells=states[None], tracks=tracks.reshape(1, -1))
        bins = signals = None
        if self._reads_states and gathered.states is not None:
            bins = torch.from_numpy(gathered.states[0]).to(self.device)
        if binding.tracks and gathered.signals is not None:
            signals = torch.from_numpy(gathered.signals[0].reshape(len(cells), len(binding.tracks), -1)).to(self.device)
        return Stretch(
            dna=torch.from_numpy(gathered.dna[0]).to(self.device),
            bins=bins,
            phase=int(gathered.phase[0]),
            signals=signals,
            signal_phase=0 if gathered.signal_phase is None else int(gathered.signal_phase[0]),
            binding=binding,
            step_bp=step_bp,
            bin_bp=manifest.bin_bp,
        )

    @torch.inference_mode()
    def forward(self, windows: BindingWindows) -> Tensor:
        """Probabilities float32 [B, F] of one batch, on the device."""
        return binding_probabilities(self.model, windows)

    def probabilities(self, windows: BindingWindows) -> np.ndarray:
        """Probabilities of every target: float32 [B, F], batch by batch."""
        parts = [self.forward(_rows(windows, at, self.batch_size)) for at in range(0, len(windows), self.batch_size)]
        if not parts:
            return np.zeros((0, len(self.binding.targets)), np.float32)
        return torch.cat(parts).cpu().numpy()

    @property
    def _reads_states(self) -> bool:
        return bool(self.info.config.num_states)

    def _channels(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the corpus' states int64 [B] and signals int64 [B, T] for cell types; zeros where they are not read."""
        if not reads_cell_type(self.info):
            cells = np.zeros_like(cells)
        tracks = self._signal_rows[cells]
        if (tracks < 0).any():
            names = [self.cell_types[cell] if self.cell_types else "" for cell in cells]
            refuse_missing_signals(tracks, self.binding, self.manifest, names, corpus=self._corpus)
        states = self._state_rows[cells] if self._reads_states else np.zeros_like(cells)
        if (states < 0).any():
            name = self.cell_types[cells[np.argmax(states < 0)]]
            raise CorpusError(f"the corpus {self._corpus} has no states of cell type {name!r}, which the model reads.")
        return states, tracks


def _rows(windows: BindingWindows, first: int, count: int) -> BindingWindows:
    given = {field.name: getattr(windows, field.name) for field in fields(windows)}
    return replace(windows, **{name: part[first : first + count] for name, part in given.items() if part is not None})
