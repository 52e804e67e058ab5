"""``epilm.json`` beside a model's weights: what the model was trained on, so that no evaluation can leak unnoticed.

Training writes it, export copies it, and prediction and evaluation read it: they refuse another assembly or state
alphabet, and record which of their loci and cell types the model had seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, model_validator

import epilm
from epilm.config import Config
from epilm.corpus.recipe import parse_region
from epilm.errors import CheckpointError, GenomeError
from epilm.genome.contigs import match_contigs
from epilm.genome.intervals import overlaps
from epilm.storage import Location

PROVENANCE_FILE = "epilm.json"
_FAR = 1 << 40
"""Past the end of every contig."""
ALL_CONTIGS = "*"
"""In ``trained_contigs``: the whole assembly, or what is not known and must be taken for it."""


class Provenance(Config):
    """The data, the tokens and the run behind a set of weights."""

    assembly: str
    """Assembly of the corpus, e.g. ``hg19``."""
    trained_contigs: tuple[str, ...]
    """Contigs whose windows the model was trained on, by their names in the corpus; ``*`` = all of the assembly."""
    trained_regions: tuple[tuple[str, int, int], ...] | None = None
    """(contig, start, end), 0-based half-open, of the parts that were trained on; whole contigs where absent."""
    trained_cell_types: tuple[str, ...] = ()
    """Cell types whose states the model was trained on; empty for a model of DNA alone."""
    corpus_fingerprint: str | None
    """Of the training corpus; None where epilm did not train the weights, as with the step, the seed and the recipe."""
    window_bp: int = Field(gt=0)
    """Bases of a training window: the longest input that the model has seen."""
    bin_bp: int = Field(gt=0)
    """Bases of an epigenome bin."""
    state_names: tuple[str, ...] = ()
    """Name of state 0, 1, ...; empty for a model of DNA alone."""
    k: int = Field(ge=1)
    stride: int = Field(ge=1)
    step: int | None = Field(ge=0)
    """Optimizer steps of the run behind the weights."""
    seed: int | None
    recipe_fingerprint: str | None
    imported_from: str | None = None
    """Where weights that epilm did not train come from: the file and its checksum."""
    initial_weights: str | None = None
    """Fingerprint of the weights that training began with; None where it began with random ones. What those had seen is
    among the trained contigs, regions and cell types."""
    epilm_version: str = epilm.__version__

    @model_validator(mode="after")
    def _all_means_all(self) -> Self:
        if self.saw_everything and self.trained_regions is not None:
            raise ValueError("trained_contigs=* is the whole assembly, so that trained_regions must be absent.")
        return self

    @property
    def saw_everything(self) -> bool:
        return ALL_CONTIGS in self.trained_contigs


def write_provenance(model_dir: Location, provenance: Provenance) -> Location:
    """Write ``epilm.json`` into a model folder; return its place."""
    path = model_dir / PROVENANCE_FILE
    path.write_text(provenance.model_dump_json(indent=1) + "\n")
    return path


def read_provenance(model_dir: Location) -> Provenance:
    """Read a model folder's ``epilm.json``.

    Raises:
        CheckpointError: the file is absent, cut short, or of another version of epilm.
    """
    path = model_dir / PROVENANCE_FILE
    if not path.exists():
        what = f"has no {PROVENANCE_FILE}" if model_dir.exists() else "does not exist"
        raise CheckpointError(
            f"no epilm model at {model_dir}: the folder {what}. "
            "Give the folder `model` of a pretrain run, or an export."
        )
    try:
        return Provenance.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path} is not the provenance of an epilm model: {error}") from error


def match_trained(trained: Sequence[str], contigs: Sequence[str], *, source: str) -> dict[str, str]:
    """Name in the training corpus -> name here, of the contigs that both have; of all here where ``*`` was trained on.

    Names are matched as everywhere (``chrXVI`` = ``XVI``), lengths are not compared.
    """
    if ALL_CONTIGS in trained:
        return {name: name for name in contigs}
    ours, theirs = dict.fromkeys(contigs), dict.fromkeys(trained)
    try:
        return match_contigs(ours, theirs, source=source)
    except GenomeError:
        pass  # no contig in common, or one that the training names twice (chr1 and 1), which the other way round may have
    try:
        return {theirs: ours for ours, theirs in match_contigs(theirs, ours, source=source).items()}
    except GenomeError:
        return {}


Span = tuple[str, int, int]
"""(contig, start, end), 0-based half-open."""


def trained_among(
    provenance: Provenance, spans: Sequence[Span], contigs: Sequence[str], *, assembly: str
) -> tuple[str, ...]:
    """Contigs of some spans of which the model was trained on a part, each once, in their order.

    Args:
        contigs: all of the corpus that the spans lie on: what ``X`` means shows beside ``XVI`` alone.
    """
    asked = dict.fromkeys(name for name, _, _ in spans)
    names = match_trained(provenance.trained_contigs, contigs, source=f"the model's {PROVENANCE_FILE}")
    regions = [(name, 0, _FAR) for name in names.values()]
    # coordinates mean nothing in another assembly
    if provenance.trained_regions is not None and provenance.assembly == assembly:
        regions = [(names[chrom], start, end) for chrom, start, end in provenance.trained_regions if chrom in names]
    touched = names_touched(spans, regions)
    return tuple(name for name in asked if name in touched)


def selected_spans(selected_on: Sequence[str], contigs: Sequence[str], *, source: str) -> list[Span]:
    """Contigs and regions (``chrom:start-end``) that a model was chosen on, by the names of a corpus' contigs."""
    spans: list[Span] = []
    for name in selected_on:
        try:
            chrom, start, end = parse_region(name)
        except ValueError:
            chrom, start, end = name, 0, _FAR
        spans.append((chrom, start, end))
    names = match_trained([chrom for chrom, _, _ in spans], contigs, source=source)
    return [(names[chrom], start, end) for chrom, start, end in spans if chrom in names]


def names_touched(spans: Sequence[Span], regions: Sequence[Span]) -> set[str]:
    """Contigs of the spans that share a base with a region."""
    table = pd.DataFrame(list(regions), columns=pd.Index(["chrom", "start", "end"]))
    chrom, start, end = (np.array([span[i] for span in spans], object if i == 0 else np.int64) for i in range(3))
    return set(chrom[overlaps(chrom, start, end, table)])


def with_initial(provenance: Provenance, initial: Provenance, weights_fingerprint: str) -> Provenance:
    """The provenance of a run that began with given weights: it has seen what they had seen.

    Where the regions of the two cannot be joined (another assembly, or whole contigs in one of them), the contigs count
    as seen whole.
    """
    names = match_trained(initial.trained_contigs, provenance.trained_contigs, source="the initial weights")
    everything = initial.saw_everything or provenance.saw_everything
    theirs = [names.get(name, name) for name in initial.trained_contigs]
    contigs = [ALL_CONTIGS] if everything else dict.fromkeys([*provenance.trained_contigs, *theirs])
    regions = None
    mine, other = provenance.trained_regions, initial.trained_regions
    if not everything and mine is not None and other is not None and provenance.assembly == initial.assembly:
        regions = tuple(dict.fromkeys([*mine, *((names.get(name, name), start, end) for name, start, end in other)]))
    return provenance.model_copy(
        update={
            "trained_contigs": tuple(contigs),
            "trained_regions": regions,
            "trained_cell_types": tuple(dict.fromkeys([*provenance.trained_cell_types, *initial.trained_cell_types])),
            "initial_weights": weights_fingerprint,
        }
    )
