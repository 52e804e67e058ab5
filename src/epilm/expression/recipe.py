"""The recipe of ``epilm expression``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from epilm.config import Config
from epilm.histone.config import CountFiles, ExpressionData, MarksData, WordsConfig
from epilm.regress.classic import RidgeConfig, SvrConfig
from epilm.regress.recipe import Boost
from epilm.runs import Recipe
from epilm.tasks.expression_recipe import DeepDiffShape, EndToEndHead, Inputs, LanguageModelShape
from epilm.train.recipe import OptimizerConfig, TrainConfig, drop_placement
from epilm.tune.recipe import check_arm_names, check_seeds

ALL_INPUTS: tuple[Inputs, ...] = ("raw_c", "raw_d", "raw")
Regressor = Literal["boost", "svr", "ridge"]


def _each_once(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) < len(value):
        raise ValueError("has one twice; give each once.")
    return value


EachOnce = AfterValidator(_each_once)


class LanguageModelOptimizer(OptimizerConfig):
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate (GeneGPT-2: 1e-3)."""


class LanguageModelTrain(TrainConfig):
    """GeneGPT-2's training: 1,000 steps of 64."""

    steps: int = Field(default=1000, ge=1)
    global_batch: int = Field(default=64, ge=1)
    micro_batch: int = Field(default=64, ge=1)
    optimizer: LanguageModelOptimizer = LanguageModelOptimizer()
    num_workers: int | tuple[int, int] = 1
    checkpoint_every_steps: int | None = Field(default=250, ge=1)
    log_every_steps: int = Field(default=50, ge=1)


class LanguageModel(LanguageModelShape):
    """A histone language model and how it is trained."""

    texts: Annotated[tuple[Literal["cells", "difference"], ...], EachOnce] = Field(
        default=("cells", "difference"), min_length=1
    )
    """Lines that it learns: those of both cell types, those of their difference (the paper: cells)."""
    genes: Annotated[tuple[Literal["train", "validation"], ...], EachOnce] = Field(default=("train",), min_length=1)
    """Whose lines (the paper: train and validation)."""
    train: LanguageModelTrain = LanguageModelTrain()


class EndToEndOptimizer(OptimizerConfig):
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_steps: int = Field(default=20, ge=0)


class EndToEndTrain(TrainConfig):
    """Of a regression head and the language model below it; the weights of the best validation r are kept."""

    steps: int = Field(default=400, ge=1)
    global_batch: int = Field(default=32, ge=1)
    micro_batch: int = Field(default=32, ge=1)
    optimizer: EndToEndOptimizer = EndToEndOptimizer()
    num_workers: int | tuple[int, int] = 1
    eval_every_steps: int | None = Field(default=20, ge=1)
    log_every_steps: int = Field(default=20, ge=1)
    checkpoints_kept: int = Field(default=1, ge=1)


class DeepDiffOptimizer(OptimizerConfig):
    """Adam at 1e-4, gradients clipped at 1."""

    lr: float = Field(default=1e-4, gt=0, allow_inf_nan=False)
    schedule: Literal["linear", "cosine", "constant"] = "constant"
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class DeepDiffTrain(TrainConfig):
    """DeepDiff's training: batches of 10; the weights of the best validation r are kept."""

    steps: int = Field(default=4000, ge=1)
    global_batch: int = Field(default=10, ge=1)
    micro_batch: int = Field(default=10, ge=1)
    optimizer: DeepDiffOptimizer = DeepDiffOptimizer()
    num_workers: int | tuple[int, int] = 1
    eval_every_steps: int | None = Field(default=100, ge=1)
    log_every_steps: int = Field(default=100, ge=1)
    checkpoints_kept: int = Field(default=1, ge=1)


class _Arm(Config):
    inputs: Annotated[tuple[Inputs, ...], EachOnce] = Field(default=ALL_INPUTS, min_length=1)
    """Rows' variants: raw_c (both cell types), raw_d (their difference), raw (all three)."""
    antisymmetric: bool = False
    """Learn from each gene in both orders of its cell types, and predict half the difference of the two predictions: the
    target changes its sign when the cell types change places. It helps trees on few genes; where the cell types were
    measured differently (in depth, say), it keeps a model from learning how."""


class _OnFeatures(_Arm):
    regressor: Regressor = "boost"
    """xgboost-ray, support vector regression or ridge."""
    segments: int | None = Field(default=None, ge=1)
    """Average neighbouring bins to so many segments; absent: every bin (or token) for itself. It bounds the width."""


class TokensArm(_OnFeatures):
    """Raw token ids, as numbers: the paper's baseline."""

    kind: Literal["tokens"]
    segments: None = None


class LevelsArm(_OnFeatures):
    """The bins' raw values."""

    kind: Literal["levels"]


class StaticArm(_OnFeatures):
    """Rows of the language model's input embedding, one a token."""

    kind: Literal["static"]
    model: str = "gpt2"
    """Name of a language model of the recipe."""


class ContextualArm(_OnFeatures):
    """Hidden states of the language model's last layer."""

    kind: Literal["contextual"]
    model: str = "gpt2"
    pooling: Literal["bins", "mean", "last"] = "bins"
    """A mean a bin, one mean over the line, or the last token's."""

    @model_validator(mode="after")
    def _segments_of_bins(self) -> Self:
        if self.segments is not None and self.pooling != "bins":
            raise ValueError(f"segments={self.segments} are of bins, but pooling={self.pooling} has one vector a line.")
        return self


class EndToEndArm(_Arm):
    """A regression head on the language model, both trained."""

    kind: Literal["end_to_end"]
    model: str = "gpt2"
    pretrained: bool = True
    """Begin with the language model's weights; false: with random ones."""
    head: EndToEndHead = EndToEndHead()
    patience: int | None = Field(default=8, ge=1)
    """Evaluations without a better validation r before the training ends."""
    train: EndToEndTrain = EndToEndTrain()


class DeepDiffArm(_Arm):
    """DeepDiff on the bins' raw values."""

    kind: Literal["deepdiff"]
    shape: DeepDiffShape = DeepDiffShape()
    patience: int | None = Field(default=10, ge=1)
    train: DeepDiffTrain = DeepDiffTrain()

    @model_validator(mode="after")
    def _aux_has_cells(self) -> Self:
        if self.shape.aux and "raw_d" in self.inputs:
            raise ValueError("shape.aux needs the cell types' own marks: use inputs: [raw_c, raw].")
        if self.shape.aux and self.antisymmetric:
            raise ValueError("shape.aux tells the cell types apart, antisymmetric exchanges them; use one of the two.")
        if self.train.bf16:
            raise ValueError("train.bf16=true would round counts above 256 before they are read; use false.")
        return self


Arm = Annotated[
    TokensArm | LevelsArm | StaticArm | ContextualArm | EndToEndArm | DeepDiffArm, Field(discriminator="kind")
]

PAPER_ARMS: dict[str, Any] = {
    "raw_tokens": {"kind": "tokens"},
    "gpt2_static": {"kind": "static"},
    "gpt2_contextual": {"kind": "contextual"},
    "gpt2_end_to_end": {"kind": "end_to_end"},
    "roberta_static": {"kind": "static", "model": "roberta"},
    "levels": {"kind": "levels"},
    "ridge": {"kind": "levels", "regressor": "ridge"},
    "svr": {"kind": "levels", "regressor": "svr"},
    "deepdiff": {"kind": "deepdiff"},
}


class PublishedProtocol(Config):
    """The paper's own protocol as a second table: static embeddings and token ids of a line's first tokens, xgboost with its
    defaults, the language model and the fit on train and validation genes, nothing chosen."""

    num_tokens: int = Field(default=207, ge=1)
    """Tokens of a line that are features; the published lines end in ``<mask>``, which is seven tokens of the BPE."""
    fit_on: Annotated[tuple[Literal["train", "validation"], ...], EachOnce] = Field(
        default=("train", "validation"), min_length=1
    )
    """Genes on which xgboost is fitted: the paper does not say."""
    model: LanguageModel = LanguageModel(texts=("cells",), genes=("train", "validation"))
    """GPT-2 of width 32, context 64, 8 layers and heads, 1,000 steps of 64 at 1e-3 (sections 6.2 and 6.3), on the lines of both
    cell types."""

    @model_validator(mode="after")
    def _is_gpt2(self) -> Self:
        if self.model.kind != "gpt2":
            raise ValueError("published.model.kind: the protocol's tokenizer has no mask token; use gpt2.")
        return self


class ExpressionRecipe(Recipe):
    """``epilm expression``: from files to the table of models x inputs, chosen on validation, tested once."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the bootstrap alone: what is trained and fitted takes each of ``seeds``."""
    data: MarksData
    """Marks of genes in two or more cell types."""
    expression: ExpressionData
    """Expression of the same genes in the same cell types."""
    pair: tuple[str, str]
    """Cell types that are compared: the target is ln((first + 1) / (second + 1))."""
    marks: tuple[str, ...] | None = None
    """Marks that are used, by name; all where absent."""
    words: WordsConfig = WordsConfig()
    models: dict[str, LanguageModel] = {"gpt2": LanguageModel(), "roberta": LanguageModel(kind="roberta")}
    """Language models by name."""
    arms: dict[str, Arm] = Field(default=PAPER_ARMS, min_length=1, validate_default=True)
    """Rows of the table by name."""
    boost: Boost = Boost()
    svr: SvrConfig = SvrConfig()
    ridge: RidgeConfig = RidgeConfig()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Every arm is fitted from each, its language model with it."""
    published: PublishedProtocol | None = None
    """Also make the table of the paper's own protocol."""
    importance: dict[str, Inputs] = {}
    """Arm -> input whose importances are mapped to marks and bins; the best arm on validation where empty."""
    importance_segments: int = Field(default=20, ge=1)
    """Stretches of bins that are occluded one after the other, in each mark."""
    num_bootstrap: int = Field(default=1000, ge=1)
    """Resamples of the test genes, the same for all rows."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    max_concurrent: int = Field(default=1, ge=1)
    """Trainings that run side by side; each needs its workers' CPUs."""
    keep_features: bool = False
    """Keep the parquet files of features, by gene id; otherwise they are deleted when an arm is fitted."""

    def identity(self) -> dict[str, Any]:
        identity = super().identity()
        for key in ("data", "expression"):
            del identity[key]  # compared by their fingerprint, wherever they lie
        for key in ("max_concurrent", "keep_features"):
            del identity[key]
        if (
            self.boost.subsample == 1 and not self.boost.gpus_per_actor
        ):  # then the boosters are the same for any of these
            for key in ("num_actors", "cpus_per_actor", "max_actor_restarts"):
                del identity["boost"][key]
        published = [identity["published"]["model"]] if identity["published"] else []
        for trained in (*identity["models"].values(), *identity["arms"].values(), *published):
            if "train" in trained:
                drop_placement(trained["train"])
        return identity

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        check_seeds(value)
        return value

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        check_arm_names([*self.arms, *self.models])
        if self.pair[0] == self.pair[1]:
            raise ValueError(f"pair={list(self.pair)}: give two different cell types.")
        named = self.expression.files if isinstance(self.expression, CountFiles) else self.expression.columns
        for cell in self.pair:
            if cell not in named:
                raise ValueError(f"pair: the expression has no cell type {cell!r}; it has {', '.join(named)}.")
        for name, arm in self.arms.items():
            if isinstance(arm, StaticArm | ContextualArm | EndToEndArm) and arm.model not in self.models:
                raise ValueError(f"arms.{name}.model={arm.model!r} is no model; there are {', '.join(self.models)}.")
        for name, inputs in self.importance.items():
            if name not in self.arms or inputs not in self.arms[name].inputs:
                raise ValueError(f"importance: there is no row {name!r} with {inputs}.")
        return self
