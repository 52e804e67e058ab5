"""Settings of fine-tuning for cell-type-specific TF binding: DBERT, EBERT, EBERT+ (EBERT, section 2.2)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.labels.recipe import LabelsConfig
from epilm.models.adapt_config import AdaptConfig
from epilm.models.binding_config import HeadConfig, TrackConfig
from epilm.tasks.recipe import ModelConfig, TokensConfig


class EncoderConfig(Config):
    """The encoder under the head: a pre-trained one, one of the same shape with random weights, or one of a stated size."""

    pretrained: str | None = None
    """Folder `model` of a pretrain run (or an export): its kind says DBERT or EBERT, its sizes and tokens are taken over."""
    random_weights: bool = False
    """Take only the sizes of `pretrained` and begin with random weights: the paper's comparison (figure S1)."""
    model: ModelConfig | None = None
    """Kind and size where there is no `pretrained`; the weights are random."""
    tokens: TokensConfig | None = None
    """k-mers where there is no `pretrained`."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of the encoder; that of the pre-training where absent."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of attention weights; as `dropout` where absent."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.pretrained is None) == (self.model is None):
            raise ValueError(
                "give either pretrained (a model folder) or model (sizes of an encoder with random weights)."
            )
        if self.pretrained is not None and self.tokens is not None:
            raise ValueError("tokens are those of the pretrained encoder: leave the setting out.")
        if self.model is not None and (self.model.weights is not None or self.random_weights):
            raise ValueError("model states sizes alone. For weights of a model folder use pretrained.")
        if self.model is not None and (self.dropout is not None or self.attention_dropout is not None):
            raise ValueError(
                "dropout and attention_dropout change those of `pretrained`; with model set them there (model.dropout)."
            )
        return self


class AccessibleConfig(Config):
    """Where chromatin is open: by the states of a cell type, or by a signal."""

    states: tuple[str, ...] = ()
    """Names of states; a bin is accessible if it overlaps one of them in the sample's cell type."""
    signal: str | None = None
    """A signal of the corpus (`{cell_type}` = the sample's); a bin is accessible if it reaches `at_least` in it."""
    at_least: float = Field(default=1.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.states) == (self.signal is not None):
            raise ValueError("give either states or signal.")
        return self


class SamplingConfig(Config):
    """What an epoch shows: all positives once, and negatives drawn afresh (EBERT, section 2.2.1)."""

    negatives_per_positive: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Negatives of an epoch for each of its positives. A positive is a (bin, cell type) that any of the factors binds; a
    negative is bound by none, nor ambiguous for any."""
    max_positives: int | None = Field(default=None, ge=1)
    """Train on so many positive bins alone, the same ones in every epoch: what few labels allow."""
    subset_seed: int = 0
    """Chooses them; runs of another `seed` keep them."""
    accessible: AccessibleConfig | None = None
    """Draw `accessible_share` of the negatives from accessible bins: harder ones. Uniform over the genome where absent."""
    accessible_share: float = Field(default=0.5, gt=0, lt=1)


class SplitConfig(Config):
    """Contigs and cell types of training and validation. The test is `epilm evaluate`'s.

    Where a corpus has too few contigs, a contig's part may stand for one: ``chrom:start-end``. Training then keeps away from
    the parts that are held out by the length of its input.
    """

    validation_contigs: tuple[str, ...] = Field(min_length=1)
    """Contigs on which AUPRC is followed and training is stopped; none of their bins is trained on, nor may a test use them."""
    test_contigs: tuple[str, ...] = ()
    """Contigs that are kept for the test: neither trained on nor looked at."""
    train_contigs: tuple[str, ...] | None = None
    """Contigs trained on; all others of the corpus where absent."""
    cell_types: tuple[str, ...] | None = None
    """Cell types trained on; all that have labels, but for those held out, where absent."""
    held_out_cell_types: tuple[str, ...] = ()
    """Cell types that are kept for the test."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key in ("validation_contigs", "test_contigs", "train_contigs", "cell_types", "held_out_cell_types"):
            names = getattr(self, key)
            if names is not None and len(set(names)) != len(names):
                raise ValueError(f"{key} names one twice: {', '.join(names)}.")
        for key in ("train_contigs", "cell_types"):
            if getattr(self, key) == ():
                raise ValueError(f"{key} is empty: name one or more, or leave it out for all.")
        return self


class BindingEvalConfig(Config):
    """Evaluation while training."""

    max_positives: int = Field(default=50_000, ge=1)
    """Most positive bins of the validation set, drawn by hash; they are weighted up to all of them."""
    max_negatives: int = Field(default=200_000, ge=1)
    """Most other bins; they are weighted up to all of them, so that AUPRC is that at the true base rate."""
    seed: int = 0


class EarlyStopConfig(Config):
    """Stop when AUPRC on the validation contigs has reached its plateau."""

    patience: int = Field(default=5, ge=1)
    """Evaluations without a gain after which training ends."""
    min_gain: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """AUPRC must exceed the best by more than this."""


class TfBindingConfig(Config):
    """Fine-tuning on the bins of a label set."""

    corpus: str
    """Folder or URI of a corpus (`epilm corpus`): DNA, states and signals come from its contigs."""
    labels: LabelsConfig
    """Where factors bind: peaks, or label files."""
    targets: tuple[str, ...] | None = None
    """Factors to learn, all at once (one output each); all of the labels where absent."""
    encoder: EncoderConfig
    adapt: AdaptConfig = AdaptConfig()
    """What of the encoder is trained: all of it, with rates by layer, low-rank updates, or nothing."""
    head: HeadConfig = HeadConfig()
    tracks: dict[str, TrackConfig] = {}
    """Signals that the head reads beside the encoder's states (EBERT+: DNase and mappability); none for DBERT and EBERT."""
    input_bp: int = Field(default=1000, ge=1)
    """Bases of the input, the bin in its middle."""
    split: SplitConfig
    sampling: SamplingConfig = SamplingConfig()
    reverse_complement: bool = True
    """Show each training sample as its reverse complement with probability 1/2."""
    both_strands: bool = False
    """Average both strands wherever the model predicts, in evaluations too: twice the work."""
    evaluation: BindingEvalConfig = BindingEvalConfig()
    early_stop: EarlyStopConfig | None = EarlyStopConfig()
    """null = train to the last step; the best checkpoint by validation AUPRC is the result in either case."""
