"""Intervals through a model, in one process: gather, orient, tokenise, run, pool. Knows nothing of Ray or files.

Shapes: N = intervals, T = tiles, C = cell types (1 for a model of DNA alone), L = tokens of a tile, D = hidden size,
S = T * C sequences in the order (tile, cell).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from epilm.predict.load import LoadedModel
from epilm.predict.tiles import Tiles, count_tokens, genomic_starts, plan_tiles, span_bp
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.strand import reverse_bins, reverse_complement
from epilm.tokens.vocab import CLS, NUM_SPECIAL, PAD, SEP, STATE_PAD

Pooling = Literal["mean", "cls", "tokens"]


class Gathered(Protocol):
    """What a reader returns: see ``epilm.corpus.gather.GatheredIntervals``."""

    @property
    def dna(self) -> np.ndarray: ...
    @property
    def states(self) -> np.ndarray | None: ...
    @property
    def phase(self) -> np.ndarray: ...


class Reader(Protocol):
    """Gathers equally long stretches of a corpus; N and "no data" where they leave the contig."""

    def gather(self, chroms: np.ndarray, starts: np.ndarray, length_bp: int) -> Gathered: ...


@dataclass(frozen=True)
class Intervals:
    """Columns of N intervals, 0-based half-open."""

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    reverse: np.ndarray
    """bool; True on the ``-`` strand."""


@dataclass(frozen=True)
class Encoded:
    """Embeddings of N intervals.

    ``values`` is float32 ``[N * C, D]`` in the order (interval, cell); for ``tokens`` it is ``[sum of tokens, D]`` and
    ``offsets`` (int64 ``[N * C + 1]``) says where each row's tokens begin.
    """

    values: np.ndarray
    offsets: np.ndarray | None
    num_known: np.ndarray
    """int64 ``[N]``: k-mers of the interval without an N, inside the contig; where 0, ``mean`` is NaN."""


@dataclass(frozen=True)
class _Tokens:
    """The model's input of all tiles, on the device."""

    dna: Tensor  # int64 [T, L]
    bins: Tensor | None  # uint8 [T, C, num_bins]
    phase: Tensor | None  # int64 [T]
    reverse: Tensor  # bool [T]; the bins still run in genome order, the DNA does not
    num_tokens: Tensor  # int64 [T]
    skip: Tensor  # int64 [T]
    length_bp: int


@torch.inference_mode()
def encode_intervals(
    loaded: LoadedModel,
    reader: Reader,
    intervals: Intervals,
    *,
    cells: tuple[int, ...],
    pooling: Pooling,
    batch_size: int,
) -> Encoded:
    """Embed intervals of any length, each read along its strand.

    ``mean`` is the average of the last hidden states over the k-mers without N that lie inside the interval; every
    token of a tiled interval counts once. ``tokens`` keeps all tokens: token ``i`` covers the bases ``[i * stride,
    i * stride + k)`` of the interval read along its strand. ``cls`` is the state at CLS, for intervals of one tile.

    Args:
        cells: indices into the corpus' cell types; empty for a model of DNA alone.
        batch_size: sequences in a forward pass. Results depend on it only by rounding.
    """
    layout = loaded.layout
    num_tokens = count_tokens(intervals.end - intervals.start, k=layout.k, stride=layout.stride)
    assert num_tokens.min() > 0
    tiles = plan_tiles(num_tokens, layout.max_tokens)
    assert pooling != "cls" or len(tiles) == len(num_tokens)
    tokens = _tokenize(loaded, reader, intervals, tiles, cells)
    num_cells = max(1, len(cells))
    known = tokens.dna >= NUM_SPECIAL
    own = _own_tokens(tokens)
    num_known = np.add.reduceat((known & own).sum(1).cpu().numpy(), _first_tiles(tiles))
    sink = _TokenSink(tiles, num_tokens, num_cells, layout.hidden_size) if pooling == "tokens" else None
    pooled = np.empty((0 if sink else len(tiles) * num_cells, layout.hidden_size), np.float32)
    for rows, hidden_BLD in _forward(loaded, tokens, num_cells, batch_size):
        tile = rows // num_cells
        width = hidden_BLD.shape[1] - 2  # CLS in front, SEP behind
        inner_BLD = hidden_BLD[:, 1:-1]
        if sink is not None:
            sink.put(rows, inner_BLD, own[tile, :width])
        elif pooling == "cls":
            pooled[rows.cpu().numpy()] = hidden_BLD[:, 0].float().cpu().numpy()
        else:
            weight_BL1 = (known & own)[tile, :width, None].to(hidden_BLD.dtype)
            pooled[rows.cpu().numpy()] = (inner_BLD * weight_BL1).float().sum(1).cpu().numpy()
    if sink is not None:
        return Encoded(values=sink.values, offsets=sink.offsets, num_known=num_known)
    if pooling == "mean":
        pooled = _mean_over_tiles(pooled, tiles, num_known, num_cells)
    return Encoded(values=pooled, offsets=None, num_known=num_known)


def _tokenize(
    loaded: LoadedModel, reader: Reader, intervals: Intervals, tiles: Tiles, cells: tuple[int, ...]
) -> _Tokens:
    """Read every tile with one length, turn it to its strand, and tokenise its DNA (states follow batch by batch)."""
    layout, device, row = loaded.layout, loaded.device, tiles.interval
    length_bp = span_bp(int(tiles.num_tokens.max()), k=layout.k, stride=layout.stride)
    reverse = intervals.reverse[row]
    starts = genomic_starts(
        intervals.start[row],
        intervals.end[row],
        reverse,
        tiles.first_token,
        stride=layout.stride,
        length_bp=length_bp,
    )
    gathered = reader.gather(intervals.chrom[row], starts, length_bp)
    turned = torch.from_numpy(reverse).to(device)
    dna = reverse_complement(torch.from_numpy(gathered.dna).to(device), turned)
    bins = phase = None
    if cells:
        assert gathered.states is not None
        bins = torch.from_numpy(gathered.states[:, list(cells)]).to(device)
        phase = torch.from_numpy(gathered.phase.astype(np.int64)).to(device)
    return _Tokens(
        dna=tokenize_kmers(dna, k=layout.k, stride=layout.stride),
        bins=bins,
        phase=phase,
        reverse=turned,
        num_tokens=torch.from_numpy(tiles.num_tokens).to(device),
        skip=torch.from_numpy(tiles.skip).to(device),
        length_bp=length_bp,
    )


def _forward(loaded: LoadedModel, tokens: _Tokens, num_cells: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(sequence rows ``[B]``, hidden states ``[B, L + 2, D]`` with CLS first) of all sequences, shortest tiles first.

    Sequences are sorted by length, so that few batches need padding; a batch of one length gets no attention mask.
    """
    order = torch.argsort(tokens.num_tokens, stable=True)
    cell_offsets = torch.arange(num_cells, device=order.device)
    rows_all = (order[:, None] * num_cells + cell_offsets).reshape(-1)
    lengths = tokens.num_tokens[order].cpu().numpy().repeat(num_cells)
    for first in range(0, len(rows_all), batch_size):
        rows = rows_all[first : first + batch_size]
        shortest, longest = int(lengths[first]), int(lengths[min(first + batch_size, len(lengths)) - 1])
        yield rows, _run(loaded, tokens, rows, num_cells, longest, padded=shortest != longest)


def _run(loaded: LoadedModel, tokens: _Tokens, rows: Tensor, num_cells: int, width: int, *, padded: bool) -> Tensor:
    """Hidden states of a batch; input is CLS, ``num_tokens`` tokens, SEP, then padding up to ``width + 2``."""
    layout = loaded.layout
    tile = rows // num_cells
    length_B1 = tokens.num_tokens[tile, None]
    place_L = torch.arange(width + 2, device=rows.device)
    inside_BL = (place_L >= 1) & (place_L <= length_B1)
    input_ids = torch.nn.functional.pad(tokens.dna[tile, :width], (1, 1)).masked_fill(~inside_BL, PAD)
    input_ids = torch.where(place_L == 0, CLS, torch.where(place_L == length_B1 + 1, SEP, input_ids))
    state_ids = None
    if tokens.bins is not None and tokens.phase is not None:
        bins, phase = reverse_bins(
            tokens.bins[tile, rows % num_cells],
            tokens.phase[tile],
            bin_bp=layout.bin_bp,
            length_bp=tokens.length_bp,
            rows=tokens.reverse[tile],
        )
        length_bp = span_bp(width, k=layout.k, stride=layout.stride)
        states = tokenize_states(
            bins, phase, bin_bp=layout.bin_bp, k=layout.k, stride=layout.stride, length_bp=length_bp
        )
        state_ids = torch.nn.functional.pad(states, (1, 1)).masked_fill(~inside_BL, STATE_PAD)
    mask = (place_L <= length_B1 + 1).to(torch.int64) if padded else None
    return loaded.model(input_ids=input_ids, state_ids=state_ids, attention_mask=mask).last_hidden_state


def _own_tokens(tokens: _Tokens) -> Tensor:
    """bool ``[T, L]``: the tokens that this tile contributes to its interval."""
    place_L = torch.arange(tokens.dna.shape[1], device=tokens.dna.device)
    return (place_L >= tokens.skip[:, None]) & (place_L < tokens.num_tokens[:, None])


def _first_tiles(tiles: Tiles) -> np.ndarray:
    return np.flatnonzero(np.diff(tiles.interval, prepend=-1))


def _mean_over_tiles(sums: np.ndarray, tiles: Tiles, num_known: np.ndarray, num_cells: int) -> np.ndarray:
    """Sums over tiles ``[T * C, D]`` to means over intervals ``[N * C, D]``; NaN where nothing is known."""
    totals = np.add.reduceat(sums.reshape(len(tiles), num_cells, -1), _first_tiles(tiles), axis=0)
    counts = np.where(num_known > 0, num_known, np.nan).astype(np.float32)
    return (totals / counts[:, None, None]).reshape(-1, sums.shape[1])


class _TokenSink:
    """Puts the tokens of tiles, in any order of batches, at their places in one array."""

    def __init__(self, tiles: Tiles, num_tokens: np.ndarray, num_cells: int, dim: int):
        self.offsets = np.concatenate([[0], np.cumsum(np.repeat(num_tokens, num_cells))])
        self.values = np.empty((self.offsets[-1], dim), np.float32)
        cell = np.tile(np.arange(num_cells), len(tiles))
        self._begin = self.offsets[np.repeat(tiles.interval, num_cells) * num_cells + cell] + np.repeat(
            tiles.first_token, num_cells
        )  # [S]: where token 0 of the sequence's tile belongs

    def put(self, rows: Tensor, inner_BLD: Tensor, own_BL: Tensor) -> None:
        begin = torch.from_numpy(self._begin)[rows.cpu()]
        place_BL = begin[:, None] + torch.arange(own_BL.shape[1])
        self.values[place_BL[own_BL.cpu()].numpy()] = inner_BLD[own_BL].float().cpu().numpy()
