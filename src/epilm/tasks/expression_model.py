"""The two regressors that the loop trains, behind one face: genes in, standardised differences of expression out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from epilm.histone.words import EXCHANGED, INPUT_LINES
from epilm.models.deepdiff import DeepDiff
from epilm.models.folder import WEIGHTS_FILE
from epilm.models.histone_lm import LanguageModelSpec
from epilm.models.line_regressor import LineRegressor
from epilm.storage import Location
from epilm.tasks.expression_recipe import DeepDiffShape, EndToEndHead, Inputs
from epilm.tasks.gene_table import Genes


class ExpressionModel(Protocol):
    """How a regressor is built and fed; picklable."""

    @property
    def inputs(self) -> Inputs: ...

    @property
    def antisymmetric(self) -> bool:
        """Whether the prediction changes its sign, exactly, when the cell types change places."""
        ...

    @property
    def aux_weight(self) -> float | None:
        """Weight of the auxiliary heads; None where there are none."""
        ...

    def build(self) -> nn.Module:
        """A module with random weights; it takes what :meth:`features` gives and returns [n] or [n, 3] (difference, first,
        second)."""
        ...

    def begin(self) -> nn.Module:
        """The same as its training begins."""
        ...

    def features(self, genes: Genes, rows: np.ndarray) -> dict[str, Tensor]:
        """Tensors of chosen genes, one row a gene."""
        ...

    def flops(self, num_bins: int, num_marks: int, line_length: int) -> float:
        """Of a forward and backward pass over one gene."""
        ...


@dataclass(frozen=True)
class DeepDiffModel:
    """DeepDiff on raw values."""

    shape: DeepDiffShape
    inputs: Inputs
    num_marks: int
    antisymmetric: bool = False

    @property
    def aux_weight(self) -> float | None:
        return self.shape.aux_weight if self.shape.aux else None

    def build(self) -> nn.Module:
        return _DeepDiffScores(
            DeepDiff(
                num_marks=self.num_marks,
                inputs=self.inputs,
                bin_hidden=self.shape.bin_hidden,
                mark_hidden=self.shape.mark_hidden,
                aux=self.shape.aux,
            ),
            self.antisymmetric,
        )

    def begin(self) -> nn.Module:
        return self.build()

    def features(self, genes: Genes, rows: np.ndarray) -> dict[str, Tensor]:
        return {"first": torch.from_numpy(genes.first[rows]), "second": torch.from_numpy(genes.second[rows])}

    def flops(self, num_bins: int, num_marks: int, line_length: int) -> float:
        encoders = num_marks * {"raw_d": 1, "raw_c": 2, "raw": 3}[self.inputs] * (1 + self.antisymmetric)
        return 6.0 * encoders * num_bins * 2 * 4 * self.shape.bin_hidden * (self.shape.bin_hidden + 1)


class _DeepDiffScores(nn.Module):
    def __init__(self, model: DeepDiff, antisymmetric: bool) -> None:
        super().__init__()
        self.model, self.antisymmetric = model, antisymmetric

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        if self.antisymmetric:
            both = self.model(torch.cat([first, second]), torch.cat([second, first]))
            given, exchanged = both.difference.chunk(2)
            return (given - exchanged) / 2
        out = self.model(first, second)
        if out.first is None:
            return out.difference
        return torch.stack([out.difference, out.first, out.second], dim=1)


@dataclass(frozen=True)
class EndToEndModel:
    """A regression head on a language model.

    Args:
        pretrained: model folder of the language model; None begins with random weights.
    """

    spec: LanguageModelSpec
    head: EndToEndHead
    inputs: Inputs
    num_bins: int
    pretrained: Location | None
    antisymmetric: bool = False

    aux_weight: None = None

    @property
    def _orders(self) -> list[tuple[str, ...]]:
        """Lines that the head sees side by side: as given and, of an antisymmetric one, with the cell types exchanged."""
        given = INPUT_LINES[self.inputs]
        return [given, tuple(EXCHANGED[name] for name in given)] if self.antisymmetric else [given]

    @property
    def lines(self) -> list[str]:
        """Lines that the language model reads, each once."""
        return list(dict.fromkeys(name for order in self._orders for name in order))

    def build(self) -> LineRegressor:
        return LineRegressor(
            self.spec,
            orders=[[self.lines.index(name) for name in order] for order in self._orders],
            num_bins=self.num_bins,
            segments=self.head.segments,
            head_hidden=self.head.hidden,
            head_dropout=self.head.dropout,
        )

    def begin(self) -> nn.Module:
        model = self.build()
        if self.pretrained is not None:
            load_language_model(model.language_model, self.pretrained)
        return model

    def features(self, genes: Genes, rows: np.ndarray) -> dict[str, Tensor]:
        chosen = [genes.lines[name] for name in self.lines]
        width = max(line.ids.shape[1] for line in chosen)

        def stacked(arrays: list[np.ndarray], fill: int) -> Tensor:
            padded = [np.pad(a[rows], ((0, 0), (0, width - a.shape[1])), constant_values=fill) for a in arrays]
            return torch.from_numpy(np.stack(padded, axis=1).astype(np.int64))

        return {
            "ids": stacked([line.ids for line in chosen], self.spec.pad_id),
            "bins": stacked([line.bins for line in chosen], -1),
            "lengths": torch.from_numpy(np.stack([line.lengths[rows] for line in chosen], axis=1).astype(np.int64)),
        }

    def flops(self, num_bins: int, num_marks: int, line_length: int) -> float:
        spec = self.spec
        per_token = 6 * 12 * spec.layers * spec.hidden**2 + 12 * spec.layers * spec.context * spec.hidden
        return float(len(self.lines) * line_length * per_token)


def load_language_model(model: nn.Module, folder: Location) -> None:
    """Overwrite a new language model's weights with those of a model folder."""
    import safetensors.torch

    state = safetensors.torch.load((folder / WEIGHTS_FILE).read_bytes())
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys, report
    model.tie_weights()  # pyright: ignore[reportCallIssue]
