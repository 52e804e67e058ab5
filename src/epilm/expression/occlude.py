"""What a fitted row of the table saw: its predictions as a function of marks, and how they change where marks are hidden."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from epilm.errors import user_error
from epilm.expression.both_orders import combine, orders_of
from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.features import Features
from epilm.expression.importance import occlusion, typical
from epilm.expression.plan import RowKey
from epilm.expression.recipe import LevelsArm
from epilm.expression.segments import segment_edges
from epilm.histone.bpe import WordTokenizer
from epilm.histone.words import Cuts, lines_of
from epilm.regress.columns import feature_name
from epilm.storage import Location
from epilm.tasks.expression_model import DeepDiffModel, ExpressionModel
from epilm.tasks.expression_regression import predict_genes
from epilm.tasks.gene_table import Genes, GeneTable

_MOST_GENES = 300
"""Genes that are occluded, evenly spaced over all: the mean over more of them is the same within its error."""


@dataclass(frozen=True)
class FittedRow:
    """A row's fit from one seed; one of ``trained``, ``booster`` and ``pickled`` is where it lies."""

    key: RowKey
    seed: int
    maker: FeatureMaker | None = None
    model: ExpressionModel | None = None
    trained: Location | None = None
    booster: Location | None = None
    pickled: Location | None = None

    @property
    def reads_words(self) -> bool:
        if self.maker is not None:
            return not isinstance(self.maker.arm, LevelsArm)
        return not isinstance(self.model, DeepDiffModel)

    def predict(self, genes: Genes) -> np.ndarray:
        """Targets of n genes -> float64 [n]."""
        if self.trained is not None:
            assert self.model is not None
            return predict_genes(self.model, self.trained, genes)
        assert self.maker is not None
        orders = orders_of(genes, antisymmetric=self.maker.antisymmetric)
        return combine([self._of_features(self.maker.make(order, self.key.inputs)) for order in orders])

    def _of_features(self, features: Features) -> np.ndarray:
        if self.pickled is not None:
            names, chosen = pickle.loads(self.pickled.read_bytes())
            place = {name: index for index, name in enumerate(features.names)}
            return chosen.predict(features.values[:, [place[name] for name in names]])
        assert self.booster is not None
        return _boosted(self.booster, features.values, features.names)


def _boosted(path: Location, values: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(path.read_bytes()))
    place = {feature_name(name): index for index, name in enumerate(names)}
    order = [place[name] for name in booster.feature_names or ()]
    matrix = xgboost.DMatrix(values[:, order], feature_names=booster.feature_names, nthread=1)
    return booster.predict(matrix).astype(np.float64)


@dataclass(frozen=True)
class Reader:
    """Values of marks -> genes with their words, as the study reads them."""

    cuts: Cuts
    tokenizer_json: str
    width: dict[str, int]
    """Tokens of the longest line of all genes, by kind: there are columns for as many, and those behind are left out by
    name."""

    def genes(self, of: Genes, first: np.ndarray, second: np.ndarray, *, words: bool) -> Genes:
        """The genes with other values; without lines where no ``words`` are asked for."""
        tokenizer = WordTokenizer.from_json(self.tokenizer_json)
        lines = {}
        for name, text in lines_of(first, second, self.cuts).items() if words else ():
            lines[name] = tokenizer.encode(text, of.num_bins).widened(self.width[name], tokenizer.pad_id)
        return replace(of, first=first, second=second, lines=lines)


def importances(
    rows: list[FittedRow], table: GeneTable, reader: Reader, *, marks: tuple[str, ...], segments: int
) -> list[dict[str, Any]]:
    """``result.json``'s importances, a task a row; over validation genes, since they explain and do not score.

    Needs a connected Ray.
    """
    task = ray.remote(_importance)
    try:
        found = ray.get([task.remote(row, table, reader, segments) for row in rows])
    except RayError as error:
        raise user_error(error) or error from error
    return [
        {
            "arm": row.key.arm,
            "inputs": row.key.inputs,
            "seed": row.seed,
            "marks": list(marks),
            "edges": segment_edges(table.genes.num_bins, segments).tolist(),
            "values": np.round(values, 6).tolist(),
        }
        for row, values in zip(rows, found, strict=True)
    ]


def _importance(row: FittedRow, table: GeneTable, reader: Reader, segments: int) -> np.ndarray:
    genes = table.genes
    train, chosen = genes.rows("train"), genes.rows("validation")
    if len(chosen) > _MOST_GENES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MOST_GENES).round().astype(np.int64)]
    own = replace(
        genes,
        genes=genes.genes[chosen],
        split=genes.split[chosen],
        first=genes.first[chosen],
        second=genes.second[chosen],
        expression=genes.expression[chosen],
        target=genes.target[chosen],
    )

    def predict(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return row.predict(reader.genes(own, first, second, words=row.reads_words))

    fill = typical(genes.first[train], genes.second[train])
    return occlusion(predict, own.first, own.second, marks=own.first.shape[2], segments=segments, fill=fill)
