"""Regression of differential expression by a network: DeepDiff, or a head on a histone language model.

The loss is the squared error of the target standardised by the training genes (of an antisymmetric model: of both orders of
the cell types); the weights of the best validation r are the result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch
from torch import Tensor, nn

from epilm.errors import RecipeError
from epilm.masking.contract import Moment
from epilm.models.folder import WEIGHTS_FILE
from epilm.storage import Location
from epilm.tasks.expression_model import ExpressionModel
from epilm.tasks.expression_rows import GeneSet, GeneSource
from epilm.tasks.gene_table import Genes, GeneTable
from epilm.tasks.protocol import EvalSet, Prepared

VALIDATION = "validation"
SCALE_FILE = "scale.json"
"""Mean and standard deviation of the training targets, beside the weights."""
_MOMENTS = 6


@dataclass(frozen=True)
class ExpressionTask:
    """The task of one regressor from one seed.

    Args:
        patience: evaluations without a better validation r before the run ends; None = never.
    """

    table: GeneTable
    model: ExpressionModel
    seed: int
    patience: int | None

    @property
    def sum_counts(self) -> Mapping[str, str]:
        return {"squared_error": "genes"} | ({"aux_squared_error": "genes"} if self.model.aux_weight else {})

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"squared_error": 1.0} | ({"aux_squared_error": self.model.aux_weight} if self.model.aux_weight else {})

    # -- data ---------------------------------------------------------------------------------------------------------

    @property
    def genes(self) -> Genes:
        return self.table.genes

    @cached_property
    def scale(self) -> np.ndarray:
        """float64 [2, 3]: mean and standard deviation, over the training genes, of the target and of log2(expression + 1) in
        each cell type. Over both orders of the cell types the target's mean is 0."""
        truth = self._truth[self.genes.rows("train")]
        scale = standardise(truth)
        if self.model.antisymmetric:
            scale[:, 0] = 0.0, np.sqrt((truth[:, 0] ** 2).mean()) or 1.0
        return scale

    @cached_property
    def _truth(self) -> np.ndarray:
        return np.column_stack([self.genes.target, np.log2(self.genes.expression + 1)])

    def check(self) -> None:
        for split in ("train", "validation"):
            if len(self.genes.rows(split)) < 2:
                raise RecipeError(f"{split} has {len(self.genes.rows(split))} gene(s); at least 2 are needed.")

    def data_fingerprint(self) -> str:
        return self.table.fingerprint

    def train_source(self) -> GeneSource:
        return GeneSource(self.table, self.seed)

    def eval_sets(self, *, final: bool) -> Mapping[str, EvalSet]:
        return {VALIDATION: GeneSet(self.table, VALIDATION)}

    def collate(self, table: pa.Table) -> dict[str, Tensor]:
        rows = table.column("gene").to_numpy()
        truth = (self._truth[rows] - self.scale[0]) / self.scale[1]
        return {
            "position": torch.from_numpy(table.column("position").to_numpy().copy()),
            "truth": torch.from_numpy(truth),
            **self.model.features(self.genes, rows),
        }

    # -- early stopping -----------------------------------------------------------------------------------------------

    def initial_state(self) -> dict[str, Any]:
        return {"best": None, "since": 0}

    def observe(
        self, state: Mapping[str, Any], *, step: int, evaluations: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        r = evaluations[VALIDATION]["pearson"]
        if math.isfinite(r) and (state["best"] is None or r > state["best"]):
            return {"best": r, "since": 0}
        return {"best": state["best"], "since": state["since"] + 1}

    def moment_metrics(self, moment: Moment) -> dict[str, float]:
        return {}

    def finished(self, state: Mapping[str, Any]) -> bool:
        return self.patience is not None and state["since"] >= self.patience

    def score(self, evaluations: Mapping[str, Mapping[str, float]]) -> float | None:
        return evaluations[VALIDATION]["pearson"] if VALIDATION in evaluations else math.nan

    # -- step ---------------------------------------------------------------------------------------------------------

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        truth = batch["truth"]
        inputs = {name: value for name, value in batch.items() if name != "position"}
        inputs["evaluate"] = torch.tensor(moment is None)
        values = sum(value[0].numel() for name, value in inputs.items() if name in ("ids", "first", "second"))
        return Prepared(
            inputs, {"genes": torch.tensor(len(truth), device=truth.device)}, len(truth), len(truth) * values
        )

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        inputs = dict(prepared.inputs)
        truth, evaluate = inputs.pop("truth"), bool(inputs.pop("evaluate"))
        dtype = next(model.parameters()).dtype
        out = model(**{name: v.to(dtype) if v.is_floating_point() else v for name, v in inputs.items()}).float()
        out = out[:, None] if out.ndim == 1 else out
        error = (out - truth[:, : out.shape[1]].float()) ** 2
        sums = {"squared_error": error[:, 0].sum()}
        if self.model.aux_weight:
            sums["aux_squared_error"] = error[:, 1:].sum()
        if evaluate:
            x, y = out[:, 0].double(), truth[:, 0].double()
            sums["moments"] = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]).sum(1)
        return sums

    def summarise(self, sums: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, float]:
        metrics = {name: sums[name] / counts["genes"] for name in self.sum_counts}
        if "moments" in sums:
            metrics["pearson"] = pearson_of_moments(np.asarray(sums["moments"]))
        return metrics

    # -- model --------------------------------------------------------------------------------------------------------

    def build_model(self) -> nn.Module:
        return self.model.begin()

    def rate_factor(self, parameter: str) -> float:
        return 1.0

    def flops_per_row(self) -> float:
        genes = self.genes
        return self.model.flops(genes.num_bins, genes.first.shape[2], genes.lines["first"].ids.shape[1])

    def tokens_per_row(self) -> int:
        return self.genes.num_bins

    def describe(self) -> dict[str, object]:
        return {"inputs": self.model.inputs}

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        module = self.model.build()
        missing = module.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        assert all("lm_head" in name for name in missing.missing_keys), missing  # tied to the embedding
        whole = {name: value.contiguous().clone() for name, value in module.state_dict().items()}
        safetensors.torch.save_file(whole, folder / WEIGHTS_FILE)
        scale = {
            "mean": self.scale[0, 0],
            "sd": self.scale[1, 0],
            "step": step,
            "recipe_fingerprint": recipe_fingerprint,
        }
        (folder / SCALE_FILE).write_text(json.dumps(scale))


def load_regressor(model: ExpressionModel, folder: Location) -> tuple[nn.Module, float, float]:
    """A trained module in evaluation mode, and the mean and standard deviation that its output is in."""
    module = model.build()
    module.load_state_dict(safetensors.torch.load((folder / WEIGHTS_FILE).read_bytes()))
    scale = (folder / SCALE_FILE).read_json()
    return module.eval(), scale["mean"], scale["sd"]


@torch.no_grad()
def predict_genes(
    model: ExpressionModel, folder: Location, genes: Genes, *, batch: int = 64, device: str = "cpu"
) -> np.ndarray:
    """Predicted targets of all genes in their order -> float64 [n]."""
    module, mean, sd = load_regressor(model, folder)
    module.to(device)
    parts = []
    for begin in range(0, len(genes.genes), batch):
        rows = np.arange(begin, min(begin + batch, len(genes.genes)))
        features = model.features(genes, rows)
        out = module(**{name: value.to(device) for name, value in features.items()}).double().cpu().numpy()
        parts.append(out if out.ndim == 1 else out[:, 0])
    return np.concatenate(parts) * sd + mean


def standardise(values: np.ndarray) -> np.ndarray:
    """[n, k] -> float64 [2, k]: mean and standard deviation; 1 where a column is constant."""
    sd = values.std(axis=0)
    return np.stack([values.mean(axis=0), np.where(sd > 0, sd, 1.0)])


def pearson_of_moments(moments: np.ndarray) -> float:
    """Pearson r from (n, sum x, sum y, sum x^2, sum y^2, sum xy); NaN where a side is constant.

    The sums are of standardised values, so that nothing cancels.
    """
    assert moments.shape == (_MOMENTS,)
    n, x, y, xx, yy, xy = moments / moments[0]
    n = moments[0]
    var_x, var_y = xx - x * x, yy - y * y
    if n < 2 or var_x <= 1e-12 or var_y <= 1e-12:
        return math.nan
    return float((xy - x * y) / math.sqrt(var_x * var_y))
