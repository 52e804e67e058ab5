"""Settings of ``epilm baseline``: which simple predictor, what it learns from, and what it predicts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.labels.recipe import LabelsConfig
from epilm.models.binding_config import TrackConfig
from epilm.runs import Recipe
from epilm.tasks.binding_recipe import AccessibleConfig, BindingEvalConfig, SamplingConfig, SplitConfig


class KmerLogisticConfig(Config):
    """Logistic regression on the counts of k-mers, both strands of a k-mer being one; a model for each factor."""

    kind: Literal["kmer_logistic"] = "kmer_logistic"
    k: int = Field(default=6, ge=1, le=6)
    """Bases of a k-mer; 6 are 2,080 columns, 5 are 512, 4 are 136. A k-mer with N is not counted."""
    input_bp: int | None = Field(default=None, ge=1)
    """Bases in which k-mers are counted, the bin in their middle; the bin alone where absent."""
    states: bool = False
    """Add the share of the bin's bases in each state of the cell type."""
    tracks: dict[str, TrackConfig] = {}
    """Add signals, pooled over the bin (as a token of a model pools its bases)."""
    inverse_penalties: tuple[float, ...] = Field(default=(1e-5, 1e-4, 1e-3, 1e-2), min_length=1)
    """Strengths to choose from (scikit-learn's ``C``; features are standardised): the one of the highest AUPRC on the
    validation contigs, for each factor. A single one is taken as it is, and the validation contigs are not looked at."""
    max_iterations: int = Field(default=200, ge=1)
    """Most steps of L-BFGS for each strength."""

    @model_validator(mode="after")
    def _strengths(self) -> Self:
        given = self.inverse_penalties
        if min(given) <= 0 or len(set(given)) != len(given):
            raise ValueError(f"inverse_penalties={list(given)}: each is above 0 and stands once.")
        return self


class MotifFile(Config):
    """One motif of a file that holds several."""

    path: str
    """MEME, JASPAR or TRANSFAC text, plain or gzip."""
    name: str
    """Identifier of the motif, or its second name."""


class LearnMotifConfig(Config):
    """How a motif is learned from bound bins: a seed of two 3-mers at a fixed distance, then rounds of alignment."""

    max_gap_bp: int = Field(default=12, ge=0, le=30)
    """Largest distance between the two 3-mers of a seed; 0 alone makes every seed a 6-mer."""
    flank_bp: int = Field(default=5, ge=0, le=20)
    """Positions on either side of a seed that the matrix may grow into."""
    num_seeds: int = Field(default=10, ge=1)
    """Most enriched seeds that are refined; the matrix that ranks the training bins best is kept."""
    max_rounds: int = Field(default=30, ge=1)
    """Most rounds of alignment; fewer where the matrix stops changing."""
    min_information: float = Field(default=0.25, ge=0, le=2)
    """Positions at the ends with fewer bits than this are cut off."""


class PwmConfig(Config):
    """The best match of a motif in the bin, on either strand."""

    kind: Literal["pwm"] = "pwm"
    motifs: dict[str, str | MotifFile] = {}
    """``{FACTOR: path}`` of a file with one motif, or with one of the factor's name; or ``{FACTOR: {path, name}}``."""
    learned: bool = False
    """Learn the motif of every factor without a file from the bound bins of the training contigs."""
    learn: LearnMotifConfig = LearnMotifConfig()
    """How, where `learned` is on."""
    input_bp: int | None = Field(default=None, ge=1)
    """Bases that are searched, the bin in their middle; the bin alone where absent."""
    gc: float = Field(default=0.5, gt=0, lt=1)
    """Share of G and C in the background of motifs from files; learned ones take that of the unbound bins."""
    gate: AccessibleConfig | None = None
    """Rank every bin with open chromatin above every other one: a motif in open chromatin, strong and simple."""


PredictorConfig = Annotated[KmerLogisticConfig | PwmConfig, Field(discriminator="kind")]


class BaselineRecipe(Recipe):
    """A baseline of TF binding: fitted on the bins that a fine-tuning would see, and predicted as a model is."""

    corpus: str
    """Folder or URI of a corpus: DNA, states and signals come from its contigs."""
    labels: LabelsConfig
    """Where factors bind."""
    targets: tuple[str, ...] | None = None
    """Factors to predict; all of the labels where absent."""
    split: SplitConfig
    """Contigs and cell types of training and validation, as in fine-tuning."""
    sampling: SamplingConfig = SamplingConfig()
    """Positives and negatives of an epoch, as in fine-tuning."""
    epochs: int = Field(default=1, ge=1)
    """Draws of negatives that the fit sees; the positives are in each."""
    max_samples: int = Field(default=100_000, ge=2)
    """Most samples of the fit, a random part of the draws: they lie in memory, at up to 12 bytes a base of ``input_bp``."""
    evaluation: BindingEvalConfig = BindingEvalConfig()
    """Draw of validation bins on which settings are chosen."""
    predictor: PredictorConfig
    contigs: tuple[str, ...] | None = None
    """Contigs to predict, or parts of them (``chrom:start-end``); the split's test contigs where absent."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to predict in, also ones without labels; all that have labels where absent."""
    rows_per_part: int = Field(default=200_000, ge=1)
    """Bins of an output file: the unit of work, and what a kill can cost at most. 200,000 every 50 bp are 10 Mb."""
    num_workers: int = Field(default=2, ge=1)
    """Ray tasks of one CPU at a time, each fitting a factor or writing a part."""

    def identity(self) -> dict[str, Any]:
        """The numbers do not depend on how many tasks compute them."""
        return {key: value for key, value in super().identity().items() if key != "num_workers"}
