"""The recipe of ``epilm mutagenesis``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from epilm.config import Config
from epilm.corpus.intervals import BedIntervals, PromoterIntervals
from epilm.models.attribution import Method
from epilm.predict.recipe import PooledRecipe


class TopBins(Config):
    """The bins that a run of ``epilm predict`` (or a baseline) gives the highest probability."""

    kind: Literal["top"] = "top"
    predictions: str
    """Folder of the predictions; local or a URI."""
    n: int = Field(default=20, ge=1)
    """How many bins, no two of which overlap."""
    cell_type: str | None = None
    """Cell type whose predictions rank the bins; the highest over all where absent."""
    target: str | None = None
    """Factor whose predictions rank them; the highest over all where absent."""


MutatedIntervals = Annotated[BedIntervals | PromoterIntervals | TopBins, Field(discriminator="kind")]


class MutagenesisRecipe(PooledRecipe):
    """Which bases a TF-binding prediction rests on: every substitution of some intervals, and attributions."""

    model: str
    """Model folder of a fine-tuning, ``<run>/model``; local or a URI."""
    corpus: str
    """Folder or URI of a corpus of the model's assembly, state alphabet and signals."""
    intervals: MutatedIntervals
    """What to mutate: a BED file, promoters of genes, or the bins of the highest predictions. None may be longer than the model's
    input; what is predicted is the bin in the interval's middle."""
    width_bp: int | None = Field(default=None, ge=1)
    """Mutate so many bases round the middle of each interval in its place: a peak's summit and what lies round it."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to predict in; all of the corpus where absent. A model that reads DNA alone predicts the same for any names,
    and gives one row without a name where absent."""
    targets: tuple[str, ...] | None = None
    """Factors to report; all of the model where absent."""
    attributions: tuple[Method, ...] = ("gradient",)
    """Beside the substitutions: ``gradient`` (times input), ``integrated_gradients``, ``attention`` of the bin's tokens, or
    attention ``rollout``; each a column of the result."""
    both_strands: bool | None = None
    """Average the probabilities of both strands (twice the work); as the model was fine-tuned where absent."""
    bigwig: bool = True
    """Write ``bigwig/<factor>.<cell type>.bw`` of the bases' importance. May be changed when a run is resumed."""
    num_logos: int = Field(default=6, ge=0)
    """Intervals that the report shows as logos, those of the highest predictions. May be changed when a run is resumed."""
    windows_per_part: int = Field(default=8192, ge=1)
    """Windows behind an output file: the unit of work, and what a kill can cost at most."""

    def identity(self) -> dict[str, Any]:
        """What is made of the parts later does not change them."""
        return {key: value for key, value in super().identity().items() if key not in ("bigwig", "num_logos")}
