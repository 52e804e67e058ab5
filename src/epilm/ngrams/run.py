"""``epilm npmi``: count, score, write ``ngrams.parquet`` and what a report shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from epilm.config import fingerprint
from epilm.errors import CorpusError, RecipeError
from epilm.ngrams.pmi import NgramScores, both_strands, score_ngrams
from epilm.ngrams.recipe import CountConfig, NpmiRecipe, TableSource
from epilm.ngrams.sources import CountPlan, open_source, plan_tasks, shown_names
from epilm.ngrams.table import NGRAMS_FILE, ngram_words, read_table, write_table
from epilm.ngrams.workers import count_on_ray
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

STAGE = "npmi"

Progress = Callable[[str], None]


def check_npmi(recipe: NpmiRecipe) -> CountPlan | tuple[NgramScores, ...]:
    """Open and check the source: what will be counted, or the scores of a table to import.

    Raises:
        GenomeError, CorpusError: the source is missing, damaged, not what it should be, or leaves nothing to count.
        RecipeError: ``listed_n`` asks for a length that the table lacks.
    """
    if not isinstance(recipe.source, TableSource):
        return open_source(recipe.source)
    path = Location(recipe.source.path)
    scores = tuple(read_table(path, columns=recipe.source.columns)[0].values())
    there = [of_n.n for of_n in scores if of_n.scored.any()]
    if not there:
        raise CorpusError(f"{path} holds no NPMI: its column {recipe.source.columns.npmi!r} is empty.")
    for n in recipe.listed_n or ():
        if n not in there:
            raise RecipeError(f"listed_n={n}: {path} has the NPMI of k = {', '.join(map(str, there))} alone.")
    return scores


def run_npmi(
    recipe: NpmiRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Write the n-gram table of the recipe's source into ``<storage>/<name>/``; needs a connected Ray (``ray_session``).

    A run that was cut off is counted again from its beginning on resume; a finished one is left as it is.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: as :func:`check_npmi`; also where no n-gram is common enough to be scored.
    """
    source = check_npmi(recipe)
    if isinstance(source, CountPlan):
        data = source.fingerprints()
    else:
        data = {"table": fingerprint([[s.n, s.count.tolist(), s.npmi.tolist(), s.rank.tolist()] for s in source])}
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=data)
    if run.resumed and run.result.exists():
        progress(f"{run.folder} is finished")
        return run.result.read_json()
    if isinstance(source, CountPlan):
        scores, facts = _count(recipe, source, progress)
        contigs = source.contigs
    else:
        scores, facts, contigs = source, {}, None
    write_table(run.folder / NGRAMS_FILE, scores, contigs=contigs)
    described = describe(scores, listed=recipe.listed, listed_n=recipe.listed_n)
    shares = [f"{len(of_n.npmi[of_n.scored]):,} of {4**of_n.n:,} {of_n.n}-mers" for of_n in scores if of_n.n >= 3]
    progress(f"with an NPMI: {', '.join(shares)}")
    return run.finish({"stage": STAGE, "source": recipe.source.kind, **facts, **described})


def _count(recipe: NpmiRecipe, plan: CountPlan, progress: Progress) -> tuple[tuple[NgramScores, ...], dict[str, Any]]:
    """The scores, and what ``result.json`` says of the counting."""
    config = recipe.source
    assert isinstance(config, CountConfig)
    left_out = f"; left out: {shown_names(plan.left_out)}" if plan.left_out else "; nothing is left out"
    progress(
        f"counting {plan.length_bp / 1e6:,.4g} Mb of {len(plan.contigs)} contigs: {shown_names(plan.contigs)}{left_out}"
    )
    tasks = plan_tasks(plan.regions, config.chunk_bp)
    began = time.monotonic()
    counts = count_on_ray(plan.reader, tasks, max_n=config.max_n, num_workers=config.num_workers, progress=progress)
    seconds = time.monotonic() - began
    num_bases = int(counts[0].sum())
    if config.strand_symmetric:
        counts = both_strands(counts)
    total = int(counts[0].sum()) * (2 if config.total == "twice_bases" else 1)
    scores = score_ngrams(counts, total=total, min_count=config.min_count)
    if not any(of_n.scored.any() for of_n in scores):
        raise CorpusError(
            f"no word of 3 bases or more occurs {config.min_count} times in {num_bases:,} bases, so none has an NPMI. "
            "Count more contigs, or lower source.min_count."
        )
    return scores, {
        "contigs_counted": list(plan.contigs),
        "contigs_left_out": list(plan.left_out),
        "num_regions": len(plan.regions),
        "num_bases": num_bases,
        "num_unknown_bases": plan.length_bp - num_bases,
        "strands": 2 if config.strand_symmetric else 1,
        "total": total,
        "min_count": config.min_count,
        "num_tasks": len(tasks),
        "seconds": round(seconds, 3),
        "mbases_per_s": round(plan.length_bp / 1e6 / max(seconds, 1e-9), 1),
    }


def describe(scores: Sequence[NgramScores], *, listed: int, listed_n: Sequence[int] | None) -> dict[str, Any]:
    """A row a length under ``ngrams``, and ``top_<n>mers`` and ``bottom_<n>mers`` of the lengths to list."""
    with_npmi = [of_n.n for of_n in scores if of_n.scored.any()]
    chosen = with_npmi[-1:] if listed_n is None else listed_n
    described: dict[str, Any] = {"ngrams": {str(of_n.n): _row(of_n) for of_n in scores}}
    for of_n in scores:
        if of_n.n in chosen and of_n.n in with_npmi:
            order = np.argsort(-of_n.npmi, kind="stable")[: np.count_nonzero(of_n.scored)]
            words = ngram_words(of_n.n)
            described[f"top_{of_n.n}mers"] = [_entry(of_n, words, code) for code in order[:listed].tolist()]
            described[f"bottom_{of_n.n}mers"] = [_entry(of_n, words, code) for code in order[::-1][:listed].tolist()]
    return described


def _row(scores: NgramScores) -> dict[str, Any]:
    scored = scores.npmi[scores.scored]
    low, middle, high = np.quantile(scored, [0, 0.5, 1]).tolist() if len(scored) else (None, None, None)
    return {
        "possible": 4**scores.n,
        "seen": int(np.count_nonzero(scores.count)),
        "occurrences": int(scores.count.sum()),
        "scored": len(scored),
        "scored_share": len(scored) / 4**scores.n,
        "lowest_npmi": low,
        "median_npmi": middle,
        "highest_npmi": high,
    }


def _entry(scores: NgramScores, words: list[str], code: int) -> dict[str, Any]:
    values = {"count": int(scores.count[code]), "npmi": float(scores.npmi[code]), "rank": int(scores.rank[code])}
    return {"kmer": words[code], **values}
