"""The recipe of a table of NPMI: what is counted, what is left out, and how counts become scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from epilm.config import Config
from epilm.ngrams.pmi import MIN_COUNT
from epilm.ngrams.table import TableColumns
from epilm.runs import Recipe
from epilm.tokens.vocab import MAX_K


class CountConfig(Config):
    """How bases are counted and scored."""

    max_n: int = Field(default=6, ge=3, le=MAX_K)
    """Longest n-gram; all of 1 .. max_n are counted, those from 3 on get an NPMI."""
    strand_symmetric: bool = False
    """Count both strands: f(w) + f(reverse complement of w), so that a word and its complement rank alike."""
    min_count: int = Field(default=MIN_COUNT, ge=2)
    """Rarer n-grams have no NPMI; the same number stands in the discount ln f / (ln f + ln min_count)."""
    total: Literal["bases", "twice_bases"] = "bases"
    """N in p(x) = f(x) / N, the same for every length: the number of bases counted, or twice that, which is how the
    published table was made."""
    chunk_bp: int = Field(default=4_000_000, ge=1_000)
    """Bases of a task; the counts do not depend on it."""
    num_workers: int | None = Field(default=None, ge=1)
    """Most tasks at a time, of one CPU each; all CPUs of the cluster where absent."""


class GenomeSource(CountConfig):
    """Count a genome."""

    kind: Literal["genome"] = "genome"
    path: str | tuple[str, ...]
    """FASTA (plain, gzip, bgzip) or .2bit; several files are read as one genome."""
    contigs: tuple[str, ...] | None = None
    """Contigs to count, under any name that means them (``chrII``, ``II``, ``2``); all of the file where absent."""
    exclude_contigs: tuple[str, ...] = ()
    """Contigs to leave out: those that are held out for evaluation, or their words leak into the masks."""

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @model_validator(mode="after")
    def _check_contigs(self) -> GenomeSource:
        both = sorted(set(self.contigs or ()) & set(self.exclude_contigs))
        if both:
            raise ValueError(f"contigs and exclude_contigs both name {', '.join(both)}. Name it in one of them.")
        return self


class CorpusSource(CountConfig):
    """Count the DNA of a corpus."""

    kind: Literal["corpus"] = "corpus"
    path: str
    """Folder or URI of a corpus."""
    held_out: Literal["leave_out", "count"] = "leave_out"
    """What is done with the contigs and regions that the corpus holds out."""


class TableSource(Config):
    """Take over a table of scores that was made elsewhere, such as GeneMask's."""

    kind: Literal["table"] = "table"
    path: str
    """Parquet or csv/tsv file, plain or compressed; a row a k-mer."""
    columns: TableColumns = TableColumns()
    """What its columns are called."""


Source = Annotated[GenomeSource | CorpusSource | TableSource, Field(discriminator="kind")]


class NpmiRecipe(Recipe):
    """One table of n-gram counts and scores, ``ngrams.parquet``."""

    source: Source
    """A genome or a corpus to count, or a table to import."""
    listed: int = Field(default=20, ge=1)
    """How many of the highest and lowest k-mers ``result.json`` lists."""
    listed_n: tuple[int, ...] | None = None
    """Lengths whose k-mers are listed; the longest that has any NPMI where absent."""

    @model_validator(mode="after")
    def _check_listed(self) -> NpmiRecipe:
        longest = getattr(self.source, "max_n", MAX_K)
        wrong = [n for n in self.listed_n or () if not 3 <= n <= longest]
        if wrong:
            raise ValueError(f"listed_n={wrong[0]} has no NPMI here: allowed are 3 to {longest}.")
        return self

    def identity(self) -> dict[str, Any]:
        """Without how the counting is spread, which does not change a number."""
        identity = super().identity()
        for key in ("chunk_bp", "num_workers"):
            identity["source"].pop(key, None)
        return identity
