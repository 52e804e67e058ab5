"""Settings of ``epilm regress``: what is regressed (target), from what (features), how (boost) and how it is tested."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from epilm.config import Config
from epilm.corpus.intervals import IntervalsConfig
from epilm.runs import Recipe

BASELINES = ("mean", "mean_of_cell")
"""Rows that every result has besides the feature sets; no feature set may take their names."""

_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")


class Transformed(Config):
    """What is done to the target's values before anything is fitted; scores are on the transformed scale."""

    transform: Literal["none", "log1p", "log2p1", "log10"] = "none"
    """``log1p`` = ln(1 + x), ``log2p1`` = log2(1 + x), ``log10`` = log10(x + pseudocount)."""
    pseudocount: float | None = Field(default=None, gt=0)
    """Added before ``log10``, which needs it; the other transforms have none."""

    @model_validator(mode="after")
    def _pseudocount_fits(self) -> Transformed:
        if (self.transform == "log10") != (self.pseudocount is not None):
            raise ValueError(
                f"transform {self.transform!r} with pseudocount {self.pseudocount}: log10 needs a pseudocount "
                "(a small value of the target's scale, e.g. 0.1), the other transforms take none"
            )
        return self


class TableTarget(Transformed):
    """Values in a table: one row an interval, or one row an (interval, cell type), or one column a cell type."""

    kind: Literal["table"] = "table"
    path: str
    """CSV (``.csv``), tab-separated (any other ending) or parquet; ``.gz``, ``.bz2``, ``.xz`` are unpacked."""
    id: str = "gene_id"
    """Column with the intervals' ids."""
    value: str | dict[str, str] = "expression"
    """Column with the values; or ``{cell type: column}`` for a table with a column for each cell type."""
    cell_type: str | None = None
    """Column with the cell type of each row. Absent: every value is of the recipe's ``cell_type``."""
    id_version: Literal["keep", "strip"] = "keep"
    """``strip`` joins ``ENSG00000000003.9`` with ``ENSG00000000003``: the version is dropped on both sides."""

    @model_validator(mode="after")
    def _one_layout(self) -> TableTarget:
        if isinstance(self.value, dict) and (self.cell_type or not self.value):
            raise ValueError(
                "value names a column for each cell type, so cell_type must be absent and value not empty"
                if self.cell_type
                else "value is empty; give a column or {cell type: column}"
            )
        return self


class TracksTarget(Transformed):
    """The level of two strand-specific bigWig tracks (RNA) over each gene's body, on the gene's own strand."""

    kind: Literal["tracks"]
    forward: str
    """bigWig of one strand."""
    reverse: str
    """bigWig of the other strand."""
    plus_genes: Literal["forward", "reverse"] = "forward"
    """Which track carries the RNA of ``+`` genes. Libraries differ (dUTP reads are antisense): the run compares sense
    with antisense over the genes and says so when the setting looks swapped."""
    genes: str
    """Gene models (GTF, BED, SGD_features) whose bodies are measured; ids join with the intervals' ids."""
    feature: str | None = None
    """Feature type of the gene models, e.g. ``gene`` or ``ORF``; the format's own default where absent."""
    statistic: Literal["mean", "max", "min"] = "mean"
    """Over the bases of the body."""
    nan_policy: Literal["keep", "zero"] = "keep"
    """Bases without data: left out of the statistic (``keep``; a gene without any data has no value) or 0."""
    id_version: Literal["keep", "strip"] = "keep"
    """``strip`` drops the version of Ensembl ids on both sides."""


Target = Annotated[TableTarget | TracksTarget, Field(discriminator="kind")]


class Embeddings(Config):
    """Vectors that ``epilm embed`` wrote for the same intervals (pooling ``mean`` or ``cls``)."""

    kind: Literal["embeddings"]
    path: str
    """Folder of the embed run."""


class Kmers(Config):
    """Counts of the 4^k k-mers in the interval's DNA, read on the interval's strand; k-mers with N are not counted."""

    kind: Literal["kmers"]
    k: int = Field(default=6, ge=1, le=7)


class StateFractions(Config):
    """Share of the interval's bases in each state of the row's cell type, and the share without data."""

    kind: Literal["state_fractions"]


class Join(Config):
    """Several feature sets side by side."""

    kind: Literal["join"]
    of: tuple[str, ...] = Field(min_length=2)
    """Labels of the feature sets to join."""


FeatureSet = Annotated[Embeddings | Kmers | StateFractions | Join, Field(discriminator="kind")]


class Boost(Config):
    """Gradient-boosted trees by xgboost-ray. The number of rounds is chosen on the validation intervals."""

    max_rounds: int = Field(default=300, ge=1)
    """Most boosting rounds; fewer where the validation error stops falling."""
    early_stopping_rounds: int = Field(default=20, ge=1)
    """Rounds without a better validation error before training stops; the best round is kept."""
    learning_rate: float = Field(default=0.1, gt=0, le=1)
    max_depth: int = Field(default=4, ge=1, le=16)
    min_child_weight: float = Field(default=5.0, ge=0)
    """Least number of training rows in a leaf."""
    subsample: float = Field(default=1.0, gt=0, le=1)
    """Share of the rows that each tree sees. Below 1 the booster depends on ``num_actors``: each draws among its own rows."""
    colsample_bytree: float = Field(default=0.3, gt=0, le=1)
    """Share of the features that each tree sees."""
    reg_lambda: float = Field(default=1.0, ge=0)
    """L2 penalty of the leaves."""
    max_bin: int = Field(default=64, ge=2)
    """Histogram bins a feature; 64 costs nothing on counts and fractions and is four times as fast as 256."""
    num_actors: int = Field(default=1, ge=1)
    """Ray actors that share the rows. On one node one is fastest; more hold what one node cannot. On CPUs, and with
    ``subsample`` 1, the booster is the same for any number, and the same as plain xgboost's."""
    cpus_per_actor: int = Field(default=1, ge=1)
    """Threads of an actor. Boosters are fitted side by side as far as the CPUs reach, so 1 is fastest for up to some ten
    thousand rows; raise it for millions."""
    gpus_per_actor: int = Field(default=0, ge=0, le=1)
    """With 1, trees are built on the GPU (``device=cuda``)."""
    max_actor_restarts: int = Field(default=2, ge=0)
    """Actors that may die in a fit and be started again. The fit then begins anew, as a booster that continues draws other
    columns; so on CPUs the result is the same as that of an undisturbed fit."""


class RegressRecipe(Recipe):
    """Regress a value of intervals (expression of genes, say) from features, and score it on held-out contigs."""

    corpus: str
    """Folder of the corpus: its contigs, held-out set, DNA and states."""
    intervals: IntervalsConfig
    """What is regressed on: one row an interval and cell type."""
    target: Target
    cell_type: str | None = None
    """Cell type of a target that names none; the corpus's only cell type where absent."""
    features: dict[str, FeatureSet] = Field(min_length=1)
    """Label -> feature set. Each is regressed by itself, on the same rows."""
    boost: Boost = Boost()
    num_seeds: int = Field(default=1, ge=1, le=100)
    """Boosters a feature set; the scored prediction is their mean, and their spread is reported."""
    validation_fraction: float = Field(default=0.15, gt=0, lt=0.9)
    """Share of the training rows on which the number of rounds is chosen."""
    block_bp: int = Field(default=100_000, ge=1)
    """Validation is drawn as whole blocks of the genome, so that neighbours do not lie on both sides."""
    num_bootstrap: int = Field(default=1000, ge=1)
    """Resamples of the intervals behind each interval of confidence."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    allow_overlap: bool = False
    """Score also where the model behind the embeddings was trained on test contigs. Recorded in the result."""
    rows_per_part: int = Field(default=4096, ge=1)
    """Most rows in one file of features; wide feature sets take fewer, to stay below 64 MB."""
    keep_features: bool = False
    """Keep the feature files; otherwise they are deleted when all is scored."""

    @model_validator(mode="before")
    @classmethod
    def _table_by_default(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("target"), dict) and "kind" not in raw["target"]:
            return {**raw, "target": {"kind": "table", **raw["target"]}}
        return raw

    @field_validator("features")
    @classmethod
    def _labels(cls, features: dict[str, FeatureSet]) -> dict[str, FeatureSet]:
        for label, feature in features.items():
            if not _LABEL.match(label) or label in BASELINES:
                raise ValueError(
                    f"label {label!r}: labels are letters, digits, _ and -, and not {' or '.join(BASELINES)}"
                )
            if isinstance(feature, Join):
                for part in feature.of:
                    if part not in features or isinstance(features[part], Join):
                        plain = [name for name, other in features.items() if not isinstance(other, Join)]
                        raise ValueError(f"{label} joins {part!r}; allowed are the plain feature sets: {plain}")
                if len(set(feature.of)) < len(feature.of):
                    raise ValueError(f"{label} joins a feature set with itself: {list(feature.of)}")
        return features
