"""The recipe of ``epilm predict``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from epilm.config import Config
from epilm.predict.recipe import PooledRecipe


class OutputsConfig(Config):
    """What is written beside the parquet parts, one file a (cell type, factor). May be changed when a run is resumed."""

    bigwig: bool = True
    """``bigwig/<factor>.<cell type>.bw``: each base shows the bin whose centre is nearest."""
    dream: bool = False
    """``dream/F.<factor>.<cell type>.tab.gz``: submissions of ENCODE-DREAM, ``chr start stop probability``."""


class PredictRecipe(PooledRecipe):
    """Probabilities of TF binding of all bins of some contigs, by a fine-tuned model."""

    model: str
    """Model folder of a fine-tuning, ``<run>/model``; local or a URI."""
    corpus: str
    """Folder or URI of a corpus of the model's assembly, state alphabet and signals."""
    contigs: tuple[str, ...] | None = None
    """Contigs to predict; all held-out ones of the corpus that the model was neither trained nor selected on where absent."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to predict in; all of the corpus where absent. A model that reads DNA alone predicts the same for any
    names, and has one column without a name where absent."""
    targets: tuple[str, ...] | None = None
    """Factors to predict; all of the model where absent."""
    step_bp: int = Field(default=50, ge=1)
    """Distance of the bins' starts; their length is the model's."""
    regions: str | tuple[str, ...] | None = None
    """Regions to predict in place of whole contigs: a BED file, or a list of ``chrom:start-end`` (0-based half-open)."""
    region_bins: Literal["inside", "touching"] = "inside"
    """Which bins a region asks for: those wholly ``inside`` regions that overlap or touch (the test regions of ENCODE-DREAM
    come out as they are), or all that share a base with one (peaks shorter than a bin)."""
    both_strands: bool | None = None
    """Average the probabilities of both strands (twice the work); as the model was fine-tuned where absent."""
    rows_per_part: int = Field(default=20_000, ge=1)
    """Bins of an output file: the unit of work, and what a kill can cost at most. 20,000 every 50 bp are 1 Mb."""
    outputs: OutputsConfig = OutputsConfig()
    """Files for genome browsers and for the challenge."""

    def identity(self) -> dict[str, Any]:
        """What is written of the parts later does not change them."""
        return {key: value for key, value in super().identity().items() if key != "outputs"}
