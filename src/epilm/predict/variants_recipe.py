"""The recipe of ``epilm variants``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from epilm.predict.recipe import PooledRecipe


class VariantsRecipe(PooledRecipe):
    """What variants do to TF binding as a fine-tuned model predicts it. Only the DNA changes: states and signals stay where
    they were measured, in the reference's coordinates."""

    model: str
    """Model folder of a fine-tuning, ``<run>/model``; local or a URI."""
    corpus: str
    """Folder or URI of a corpus of the model's assembly, state alphabet and signals."""
    vcf: str
    """Variants: VCF, plain or compressed. A row with several alternatives gives a result an allele."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to predict in; all of the corpus where absent. A model that reads DNA alone predicts the same for any names,
    and gives one row without a name where absent."""
    targets: tuple[str, ...] | None = None
    """Factors to report; all of the model where absent."""
    bins: Literal["all", "centre"] = "all"
    """``centre``: the bin whose centre is nearest to the variant. ``all``: also the largest change over the bins that hold it."""
    step_bp: int = Field(default=50, ge=1)
    """Distance of the bins' starts."""
    both_strands: bool | None = None
    """Average the probabilities of both strands (twice the work); as the model was fine-tuned where absent."""
    on_mismatch: Literal["error", "skip"] = "error"
    """Variants whose reference allele is not what the corpus has there: stop before anything starts, or leave out and count."""
    max_allele_bp: int = Field(default=500, ge=1)
    """Alleles of more bases are left out and counted."""
    tsv: bool = True
    """Write ``variants.tsv.gz`` beside the parquet files. May be changed when a run is resumed."""
    windows_per_part: int = Field(default=8192, ge=1)
    """Windows behind an output file: the unit of work, and what a kill can cost at most."""

    def identity(self) -> dict[str, Any]:
        """The table that is written of the parts later does not change them."""
        return {key: value for key, value in super().identity().items() if key != "tsv"}
