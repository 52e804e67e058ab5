"""What a regression needs before any worker starts: checks, and the makers of the feature sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from epilm.corpus.gather import ContigReader
from epilm.corpus.intervals import load_intervals
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import RecipeError
from epilm.regress.embeddings import EmbeddingMaker, find_leak, locate, read_index, read_info, refuse_leaks
from epilm.regress.features import JoinMaker, KmerMaker, Maker, StateMaker
from epilm.regress.recipe import Embeddings, FeatureSet, Join, Kmers, RegressRecipe
from epilm.regress.rows import SPLITS, build_rows
from epilm.regress.target import read_target
from epilm.storage import Location


@dataclass(frozen=True)
class RegressPlan:
    """A checked regression: what runs need, and what the result says of the input."""

    manifest: CorpusManifest
    rows: pd.DataFrame
    """As in :mod:`epilm.regress.rows`; all feature sets have all of them."""
    makers: dict[str, Maker]
    """Label -> feature set."""
    leaks: list[str]
    """Overlaps of test rows and trained contigs that the recipe allows."""
    fingerprints: dict[str, str]
    """Of the embeddings."""
    left_out: dict[str, Any]
    """Rows, intervals and values that are not used, by reason."""
    strand_check: dict[str, Any] | None
    """Sense and antisense levels of a ``tracks`` target."""

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: int((self.rows["split"] == split).sum()) for split in SPLITS}


def check_regress(recipe: RegressRecipe) -> RegressPlan:
    """Read the target and the intervals, join, split, and find the features of every row; needs no Ray.

    Raises:
        EpilmError: input that is absent, does not join, is too little, or leaks.
    """
    manifest = read_manifest(Location(recipe.corpus))
    check_features(recipe, manifest)
    target, seen = read_target(recipe.target)
    intervals = load_intervals(recipe.intervals, manifest, corpus=Location(recipe.corpus)).to_pandas()
    rows, counts = build_rows(recipe, intervals, target, manifest)
    rows, makers, leaks, fingerprints, without = make_makers(recipe, rows, manifest)
    counts |= {key: value for key, value in seen.items() if isinstance(value, int)}
    plan = RegressPlan(
        manifest=manifest,
        rows=rows,
        makers=makers,
        leaks=leaks,
        fingerprints=fingerprints,
        left_out={**counts, "rows_without_embedding": without},
        strand_check=seen.get("strand_check"),
    )
    for split in ("train", "validation"):
        if plan.num_rows[split] < recipe.boost.num_actors:
            raise RecipeError(
                f"{plan.num_rows[split]} {split} rows for boost.num_actors={recipe.boost.num_actors}: use fewer actors."
            )
    return plan


def make_makers(
    recipe: RegressRecipe, rows: pd.DataFrame, manifest: CorpusManifest
) -> tuple[pd.DataFrame, dict[str, Maker], list[str], dict[str, str], dict[str, int]]:
    """Makers of every feature set for the rows that all of them have.

    Returns:
        The rows (renumbered), label -> maker, leaks that were allowed, fingerprints of the embeddings, and
        label -> rows without an embedding.

    Raises:
        LeakError: a model behind the embeddings was trained on test contigs.
        RecipeError: embeddings are absent or do not join, or a split is empty without the rows that lack one.
    """
    places, infos, without = {}, {}, {}
    present = np.ones(len(rows), bool)
    for label, feature in recipe.features.items():
        if isinstance(feature, Embeddings):
            infos[label] = read_info(Location(feature.path))
            places[label] = locate(rows, read_index(infos[label]), source=f"features.{label} ({feature.path})")
            without[label] = int((places[label][0] < 0).sum())
            present &= places[label][0] >= 0
    rows = rows[present].assign(row=np.arange(int(present.sum()), dtype=np.int64)).reset_index(drop=True)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            raise RecipeError(
                f"no {split} row has all the embeddings (missing: {dict(without)}). "
                "Embed all the intervals and cell types of the regression."
            )
    test = rows[rows["split"] == "test"]
    contigs = [contig.name for contig in manifest.contigs]
    found = {label: find_leak(info, test, contigs=contigs, assembly=manifest.assembly) for label, info in infos.items()}
    leaks = [f"features.{label}: {leak}" for label, leak in found.items() if leak]
    refuse_leaks(leaks, allow_overlap=recipe.allow_overlap)
    reader = ContigReader(Location(recipe.corpus), manifest)

    def plain(label: str, feature: FeatureSet) -> Maker:
        if isinstance(feature, Embeddings):
            file, place = places[label]
            return EmbeddingMaker(infos[label], file[present], place[present])
        return KmerMaker(reader, feature.k) if isinstance(feature, Kmers) else StateMaker(reader)

    makers: dict[str, Maker] = {
        label: JoinMaker({part: plain(part, recipe.features[part]) for part in feature.of})
        if isinstance(feature, Join)
        else plain(label, feature)
        for label, feature in recipe.features.items()
    }
    return rows, makers, leaks, {f"embeddings:{label}": info.fingerprint for label, info in infos.items()}, without


def strand_warning(check: Mapping[str, Any] | None) -> str | None:
    """What a ``tracks`` target shows: RNA lies on the sense strand of most genes, or the setting is swapped."""
    if check is None:
        return None
    share = check["sense_above_antisense"]
    text = (
        f"target: sense above antisense in {100 * share:.0f} % of {check['genes']:,} genes, medians "
        f"{check['median_sense']:.3g} and {check['median_antisense']:.3g}"
    )
    return text if share >= 0.5 else f"{text}: target.plus_genes looks swapped, try the other track"


def check_features(recipe: RegressRecipe, manifest: CorpusManifest) -> None:
    """Refuse feature sets that the corpus cannot give."""
    for label, feature in recipe.features.items():
        if feature.kind == "state_fractions" and not manifest.cell_types:
            raise RecipeError(
                f"features.{label}: the corpus {recipe.corpus} has no states. Build one with `states`, or leave this "
                "set out."
            )
