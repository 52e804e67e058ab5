"""Everything about an evaluation that is settled before Ray does anything: a recipe, checked against its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.recipe import parse_region
from epilm.errors import CorpusError, RecipeError
from epilm.evaluate.blocks import Blocks
from epilm.evaluate.leaks import check_leaks, seen_by
from epilm.evaluate.predictions import PREDICTIONS_FILE, Predictions, read_predictions
from epilm.evaluate.recipe import BootstrapConfig, DreamSubmission, EvaluateRecipe
from epilm.evaluate.submission_files import check_submission_file
from epilm.evaluate.submissions import ScoreColumn, place_columns
from epilm.genome import files
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import LabelSet, Pair
from epilm.labels.load import load_labels
from epilm.labels.places import bins_within
from epilm.labels.runs import Runs
from epilm.models.provenance import Span
from epilm.storage import Location

MIN_BLOCKS = 10
MAX_BLOCKS = 20_000
"""Blocks keep a histogram each: with more, the resamples of one data set would not fit a small memory."""


@dataclass(frozen=True)
class EvaluatePlan:
    """A recipe whose labels and submissions are there and fit each other."""

    manifest: CorpusManifest
    labels: LabelSet
    spans: tuple[Span, ...]
    """(contig, start, end) of what is evaluated."""
    bins: Runs
    """Bins that lie in them."""
    blocks: Blocks
    pairs: tuple[Pair, ...]
    """Data sets, (cell type, target), in the labels' order."""
    skipped: dict[str, str]
    """``target:cell`` -> why it is no data set."""
    columns: dict[str, dict[Pair, ScoreColumn]]
    """Submission -> its scores by data set; those of submission files are not there yet."""
    files: dict[str, dict[Pair, str]]
    """Submission -> paths of ENCODE-DREAM files by data set."""
    leaks: dict[str, Any]
    """What each submission has seen."""
    fingerprints: dict[str, str]

    @property
    def contigs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(span[0] for span in self.spans))

    def has(self, name: str, pair: Pair) -> bool:
        return pair in self.columns.get(name, {}) or pair in self.files.get(name, {})


def check_evaluate(recipe: EvaluateRecipe) -> EvaluatePlan:
    """Refuse what cannot be evaluated; nothing is started and nothing is written.

    Raises:
        LeakError: a model has seen what it would be scored on.
        EpilmError: labels or submissions are wrong or do not fit each other.
    """
    manifest = read_manifest(Location(recipe.corpus))
    predictions = {
        name: read_predictions(Location(given)) for name, given in recipe.submissions.items() if isinstance(given, str)
    }
    spans = _spans(recipe, manifest)
    labels = load_labels(recipe.labels, manifest)
    bins = bins_within(labels.grid, spans)
    blocks = check_blocks(recipe.bootstrap, bins, labels.grid)
    pairs, skipped = _pairs(recipe, labels, bins)
    columns, paths = _submissions(recipe, predictions, labels.grid, manifest)
    plan = EvaluatePlan(
        manifest=manifest,
        labels=labels,
        spans=spans,
        bins=bins,
        blocks=blocks,
        pairs=pairs,
        skipped=skipped,
        columns=columns,
        files=paths,
        leaks=_leaks(recipe, predictions, spans, labels, pairs, manifest),
        fingerprints=_fingerprints(recipe, manifest, labels),
    )
    _check_coverage(plan)
    return plan


def _spans(recipe: EvaluateRecipe, manifest: CorpusManifest) -> tuple[Span, ...]:
    contigs = {contig.name: contig for contig in manifest.contigs}
    if recipe.regions is not None:
        spans = tuple(parse_region(region) for region in recipe.regions)
        given, key = [span[0] for span in spans], "regions"
    elif recipe.contigs is not None:
        given, key = list(recipe.contigs), "contigs"
        spans = tuple((name, contigs[name].start_bp, contigs[name].end_bp) for name in given if name in contigs)
    else:
        held = [(name, contigs[name].start_bp, contigs[name].end_bp) for name in manifest.held_out_contigs]
        spans = (*held, *((region.chrom, region.start, region.end) for region in manifest.held_out_regions))
        given, key = [], "contigs"
        if not spans:
            raise RecipeError("the corpus holds out no contig and no region. Say where to score: contigs or regions.")
    unknown = [name for name in given if name not in contigs]
    if unknown:
        raise RecipeError(f"{key}: the corpus has no contig {unknown[0]!r}. It has: {', '.join(list(contigs)[:20])}.")
    asked = {span[0] for span in spans}
    idle = [name for name in recipe.allow_overlap.contigs if name not in asked]
    if idle:
        raise RecipeError(
            f"allow_overlap.contigs names {idle[0]!r}, which is not evaluated, so that it allows nothing."
        )
    return spans


def check_blocks(bootstrap: BootstrapConfig, bins: Runs, grid: BinGrid) -> Blocks:
    """The blocks that some bins are cut into.

    Raises:
        RecipeError: not one bin, or too few or too many blocks for intervals.
    """
    if not bins:
        raise RecipeError(
            f"not one bin of {grid.bin_bp} bp lies in what is to be evaluated. Give longer regions or contigs."
        )
    blocks = Blocks.cut(bins, grid, bootstrap.block_bp)
    block_bp, total_bp = bootstrap.block_bp, bins.size * grid.step_bp
    if bootstrap.num and len(blocks) < MIN_BLOCKS:
        raise RecipeError(
            f"bootstrap.block_bp={block_bp:,} cuts the {total_bp:,} bp that are evaluated into {len(blocks)} blocks; intervals "
            f"need {MIN_BLOCKS} or more. Try {_round_down(total_bp // (2 * MIN_BLOCKS)):,}, or bootstrap.num=0 for none."
        )
    if bootstrap.num and len(blocks) > MAX_BLOCKS:
        raise RecipeError(
            f"bootstrap.block_bp={block_bp:,} cuts the {total_bp:,} bp that are evaluated into {len(blocks):,} blocks, at most "
            f"{MAX_BLOCKS:,} are kept. Try {total_bp // MAX_BLOCKS * 2:,} or more."
        )
    return blocks


def _round_down(value: int) -> int:
    """To one digit."""
    unit = 10 ** max(0, len(str(value)) - 1)
    return max(1, value // unit * unit)


def _pairs(recipe: EvaluateRecipe, labels: LabelSet, bins: Runs) -> tuple[tuple[Pair, ...], dict[str, str]]:
    chosen = labels.restrict(recipe.cell_types, recipe.targets)
    pairs, skipped = [], {}
    for cell_type in chosen.cell_types:
        for target in chosen.targets:
            if not chosen.measured(cell_type, target):
                continue
            bound = chosen.bound[cell_type, target].intersect(bins).size
            unbound = chosen.unbound(cell_type, target).intersect(bins).size
            if bound and unbound:
                pairs.append((cell_type, target))
            else:
                skipped[f"{target}:{cell_type}"] = f"{bound:,} bound and {unbound:,} unbound bins: nothing to rank"
    for key, given, place in (("cell_types", recipe.cell_types, 0), ("targets", recipe.targets, 1)):
        absent = [name for name in given or () if name not in {pair[place] for pair in pairs}]
        if absent:
            raise RecipeError(
                f"{key}: {absent[0]!r} has no bound bin in what is evaluated, so that nothing can be scored. Leave it out, or "
                "score on more contigs."
            )
    if not pairs:
        raise RecipeError(
            f"nothing can be scored: {'; '.join(f'{k}: {v}' for k, v in skipped.items()) or 'no labels'}."
        )
    wrong = [name for name in recipe.held_out_cell_types if name not in {cell for cell, _ in pairs}]
    if wrong:
        raise RecipeError(f"held_out_cell_types names {wrong[0]!r}, which is not scored, so that it guards nothing.")
    return tuple(pairs), skipped


def _submissions(
    recipe: EvaluateRecipe, predictions: dict[str, Predictions], grid: BinGrid, manifest: CorpusManifest
) -> tuple[dict[str, dict[Pair, ScoreColumn]], dict[str, dict[Pair, str]]]:
    columns, paths = {}, {}
    for name, given in recipe.submissions.items():
        if isinstance(given, DreamSubmission):
            paths[name] = {
                # absolute: a worker on a cluster has a folder of its own
                (cell_type, target): str(files.find(path).absolute())
                for cell_type, of in given.dream.items()
                for target, path in of.items()
            }
            for path in paths[name].values():
                check_submission_file(path, grid)
        else:
            columns[name] = place_columns(Location(given), predictions[name], grid, manifest)
    return columns, paths


def _check_coverage(plan: EvaluatePlan) -> None:
    """Every submission has a data set, every data set a submission, and every column a bin."""
    names = [*plan.columns, *plan.files]
    wanted = ", ".join(f"{target}:{cell_type}" for cell_type, target in plan.pairs[:10])
    for name in names:
        if not any(plan.has(name, pair) for pair in plan.pairs):
            unnamed = "" in {cell_type for cell_type, _ in plan.columns.get(name, {})}
            hint = (
                " Its column has no cell type: predict with cell_types, for all of which DNA says the same."
                if unnamed
                else ""
            )
            raise RecipeError(f"submission {name!r} predicts none of the data sets that are scored ({wanted}).{hint}")
    bare = [f"{pair[1]}:{pair[0]}" for pair in plan.pairs if not any(plan.has(name, pair) for name in names)]
    if bare:
        raise RecipeError(f"no submission predicts {bare[0]}. Leave it out with cell_types and targets.")
    ranges = list(zip(plan.bins.start.tolist(), plan.bins.end.tolist(), strict=True))
    for name, columns in plan.columns.items():
        column = next(iter(columns.values()))
        if not sum(column.covered(first, last) for first, last in ranges):
            raise CorpusError(
                f"submission {name!r} predicts no bin of {', '.join(plan.contigs)}. Predict these contigs, or score on others."
            )


def _leaks(
    recipe: EvaluateRecipe,
    predictions: dict[str, Predictions],
    spans: tuple[Span, ...],
    labels: LabelSet,
    pairs: tuple[Pair, ...],
    manifest: CorpusManifest,
) -> dict[str, Any]:
    cells = tuple(cell for cell in labels.cell_types if cell in {pair[0] for pair in pairs})
    contigs = [contig.name for contig in manifest.contigs]
    seen = {
        name: seen_by(predictions.get(name), spans, cells, contigs=contigs, assembly=manifest.assembly)
        for name in recipe.submissions
    }
    summary = check_leaks(seen, recipe.held_out_cell_types, recipe.allow_overlap)
    for name, entry in summary.items():
        given = predictions.get(name)
        provenance = given.provenance if given else None
        entry["predictor"] = given.predictor if given else "dream"
        entry["model_trained_on"] = (
            {"contigs": list(provenance.trained_contigs), "cell_types": list(provenance.trained_cell_types)}
            if provenance
            else None
        )
    return summary


def _fingerprints(recipe: EvaluateRecipe, manifest: CorpusManifest, labels: LabelSet) -> dict[str, str]:
    result = {"corpus": manifest.fingerprint(), "labels": labels.fingerprint()}
    for name, given in recipe.submissions.items():
        if isinstance(given, str):
            result[f"submission {name}"] = (Location(given) / PREDICTIONS_FILE).sha256()
        else:
            sizes = [files.find(path).stat().st_size for of in given.dream.values() for path in of.values()]
            result[f"submission {name}"] = f"{sum(sizes)} bytes in {len(sizes)} files"
    return result
