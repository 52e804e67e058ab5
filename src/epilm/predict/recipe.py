"""The recipe of ``epilm embed``, and the settings of all stages that run a model in a pool of actors."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from epilm.corpus.intervals import IntervalsConfig
from epilm.predict.encode import Pooling
from epilm.predict.load import Dtype
from epilm.runs import Recipe


class PooledRecipe(Recipe):
    """What a stage needs to run a model over parts of its work in a pool of actors."""

    batch_size: int = Field(default=64, ge=1)
    """Windows in a forward pass."""
    dtype: Dtype = "float32"
    """Arithmetic of the model; numbers are written as float32 in any case."""
    num_workers: int = Field(default=1, ge=1)
    """Actors, each with a copy of the model."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """Cores, and threads, of an actor."""
    gpus_per_worker: float | None = Field(default=None, ge=0)
    """GPUs of an actor; 1 where the cluster has any, otherwise 0, where absent."""

    def identity(self) -> dict[str, Any]:
        """The numbers do not depend on how many actors compute them."""
        places = {"num_workers", "cpus_per_worker", "gpus_per_worker"}
        return {key: value for key, value in super().identity().items() if key not in places}


class EmbedRecipe(PooledRecipe):
    """Embeddings of a list of intervals from a pre-trained model."""

    model: str
    """Model folder: ``<pretrain run>/model``, or an export; local or a URI."""
    corpus: str
    """Folder or URI of a corpus of the model's assembly and state alphabet."""
    intervals: IntervalsConfig
    """What to embed: promoters of genes, a BED file, or the corpus' own windows."""
    cell_types: tuple[str, ...] | None = None
    """Cell types to read states of, one row each; all of the corpus where absent. Not for models of DNA alone."""
    pooling: Pooling = "mean"
    """``mean`` over the k-mers of the interval, the state at CLS (``cls``), or every token (``tokens``)."""
    sequences_per_part: int = Field(default=4096, ge=1)
    """Windows (times cell types) behind an output file: the unit of work, and what a kill can cost at most."""
