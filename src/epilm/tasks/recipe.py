"""Settings of masked pre-training on DNA and epigenetic state (EBERT) or DNA alone (DBERT, DNABERT)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.masking.recipe import DnaMaskConfig


class TokensConfig(Config):
    """How DNA is cut into k-mers."""

    k: int = Field(default=7, ge=1, le=8)
    """Bases of a token; the vocabulary has 4^k k-mers and 5 specials."""
    stride: int | None = Field(default=None, ge=1)
    """Bases between the starts of neighbouring tokens; k where absent (non-overlapping, as EBERT)."""

    @property
    def step_bp(self) -> int:
        return self.stride or self.k


class StateMaskConfig(Config):
    """Which states are hidden around the scored one (EBERT, section 3.2)."""

    flank_bp: int = Field(default=100, ge=0)
    """States within this distance of the scored k-mer are hidden too."""
    whole_bin: bool = True
    """Also hide every k-mer of the scored one's bin. The paper's flank alone leaves k-mers of the same 200-bp bin in
    sight, so that the answer can be copied."""


class LengthsConfig(Config):
    """Sequences of varied length (DNABERT, section 2.2): the first k-mers of a window, the rest is padding."""

    full_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the samples that show the whole window; the others' lengths are uniform."""
    min_kmers: int = Field(default=5, ge=1)
    """Fewest k-mers of a shortened sample."""


class ModelConfig(Config):
    """Size of the encoder; the defaults are BERT-base."""

    kind: Literal["ebert", "dbert"] = "ebert"
    """``ebert`` reads DNA and states; ``dbert`` DNA alone."""
    hidden_size: int = Field(default=768, ge=8)
    num_layers: int = Field(default=12, ge=1)
    num_heads: int = Field(default=12, ge=1)
    feed_forward: int | None = Field(default=None, ge=1)
    """Width of the feed-forward layers; 4 x hidden_size where absent."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of attention weights; as ``dropout`` where absent."""
    combine: Literal["sum", "concat"] = "sum"
    """How DNA and state embeddings join: their sum, or side by side through a projection."""
    weights: str | None = None
    """Folder of a model whose weights training starts from (`epilm import-dnabert`, or `model` of a pretrain run); random
    weights where absent."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more work."""

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size={self.hidden_size} is not a multiple of num_heads={self.num_heads}.")
        return self


class EvalConfig(Config):
    """Evaluation on held-out contigs, on training contigs in held-out cell types (whose DNA training saw), and on both.

    Every evaluation hides the same isolated bases, whatever the policy, the k and the stride that a model is trained with.
    """

    max_windows: int = Field(default=4096, ge=1)
    """Windows of each evaluation set (the first of the shuffled held-out ones)."""
    seed: int = 0
    """Seed of the evaluation masks: the same masks at every step and for every model."""
    test_contigs: tuple[str, ...] = ()
    """Held-out contigs that no evaluation reads while a run is chosen; the set `test_contigs`."""
    test: bool = False
    """Evaluate `test_contigs` too, once, after the last step."""

    @model_validator(mode="after")
    def _has_contigs(self) -> Self:
        if self.test and not self.test_contigs:
            raise ValueError("test needs test_contigs: name held-out contigs of the corpus, e.g. [chrXVI].")
        return self


class MaskedEpigenomeConfig(Config):
    """Masked pre-training on a corpus."""

    corpus: str
    """Folder or URI of a corpus (`epilm corpus`)."""
    model: ModelConfig = ModelConfig()
    tokens: TokensConfig = TokensConfig()
    dna_mask: DnaMaskConfig = DnaMaskConfig()
    state_mask: StateMaskConfig = StateMaskConfig()
    lengths: LengthsConfig | None = None
    """Varied lengths of the training samples; whole windows where absent. Evaluations always show whole windows."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Loss = alpha CE(DNA) + (1 - alpha) CE(state)."""
    reverse_complement: bool = False
    """Show each sample as its reverse complement with probability 1/2."""
    evaluation: EvalConfig = EvalConfig()
