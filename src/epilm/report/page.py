"""One self-contained HTML page from the result files of any runs. It recomputes nothing.

The page holds its styles, its script and its data; a content security policy with the scripts' own hashes keeps
everything else from running or loading, so that a name in a recipe can do no harm and the page works offline.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import jinja2

import epilm
from epilm.errors import StorageError
from epilm.report import (
    binding,
    binding_curves,
    binding_study,
    comparisons,
    corpora,
    curves,
    expression,
    generic,
    learning,
    logos,
    ngrams,
    regression,
    settings,
    sweeps,
    text,
)
from epilm.report.collect import RunRecord, collect_run
from epilm.runs import RECIPE_FILE
from epilm.storage import Location

LAID_OUT = ("corpus", "pretrain", "finetune", "regress")
"""Stages with a section of their own, as ``tune``, ``eval-masking``, ``eval-binding``, ``evaluate``, ``npmi``, ``mutagenesis``
and ``expression`` where there is something in it; every other result is shown key by key."""
COMPARED = {"eval-masking": comparisons.run_view, "eval-binding": binding_study.study_view}
"""Stages that compare arms, and their views."""

SCRIPTS = ("kit.js", "charts.js", "stages.js", "sweeps.js", "binding.js", "page.js")
"""Parts of the page's script; each uses only what those before it define."""


def build_report(run_folders: Sequence[Location], out: Location, title: str) -> Location:
    """Write the page that shows these runs, in their order, to ``out`` and return it.

    Missing, unfinished and damaged runs are shown as such.

    Raises:
        StorageError: no folder is a run, or ``out`` cannot be written.
    """
    records = unique_names([collect_run(folder) for folder in run_folders])
    if all(record.is_empty for record in records):
        listed = ", ".join(record.folder for record in records) or "no folder was given"
        raise StorageError(
            f"no run to report on: {listed}. A run folder, <storage>/<name>, holds {RECIPE_FILE}; give one or more."
        )
    out.write_text(render(records, title, written=datetime.datetime.now(datetime.UTC)))
    return out


def unique_names(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs that share a name are told apart by their number in the list."""
    seen: dict[str, int] = {}
    result = []
    for record in records:
        count = seen[record.name] = seen.get(record.name, 0) + 1
        result.append(record if count == 1 else replace(record, name=f"{record.name} ({count})"))
    return result


def render(records: Sequence[RunRecord], title: str, *, written: datetime.datetime) -> str:
    """The page as text; pure but for the packaged template, style and script files."""
    stages = curves.stage_curves(records)
    names = list(dict.fromkeys(name for stage in stages.values() for name in stage["runs"]))
    colours = {name: index % 8 for index, name in enumerate(names)}
    trained = [r for r in records if learning.final_metrics(r)]
    regressed = [r for r in records if r.stage == "regress"]
    sets = regression.feature_sets(regressed)
    tables = learning.final_tables(trained)
    swept = {r.folder: view for r in records if r.stage == "tune" and (view := sweeps.sweep_view(r))}
    compared = {r.folder: view for r in records if r.stage in COMPARED and (view := COMPARED[r.stage](r))}
    pairs = {r.name: table for r in records if r.stage == "eval-binding" and (table := binding_study.pair_table(r))[1]}
    evaluated = [r for r in records if r.stage == "evaluate"]
    scored = binding.evaluation_views(evaluated)
    counted = {r.folder: view for r in records if r.stage == "npmi" and (view := ngrams.ngram_view(r))}
    mutated = {r.folder: view for r in records if r.stage == "mutagenesis" and (view := logos.logo_group(r))}
    expressed = {r.folder: view for r in records if r.stage == "expression" and (view := expression.expression_view(r))}
    shown = {*swept, *compared, *counted, *mutated, *scored, *expressed}
    scripts = {"uplot": _asset("vendor/uPlot.iife.min.js"), "page": _page_script()}
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            written=written.strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
            version=epilm.__version__,
            records=records,
            colours=colours,
            tiles=learning.headline_tiles(trained),
            panels=regression.panels(sets),
            score_table=regression.score_table(sets),
            paired=regression.differences(regressed),
            has_seeds=any(score.seeds for item in sets for score in item.scores.values()),
            tables=tables,
            has_base_loss=any(group.metric.key == "base_loss" for table in tables for group in table.groups),
            sweeps=list(swept.values()),
            comparisons=list(compared.values()),
            pairs=pairs,
            binding=list(scored.values()),
            ngrams=list(counted.values()),
            length_heads=ngrams.LENGTH_HEADS,
            logos=list(mutated.values()),
            expression=list(expressed.values()),
            glance=settings.glance(trained),
            differences=settings.differences(trained),
            corpora=[view for record in records if (view := corpora.corpus_view(record))],
            others=[
                generic.block(r.name, r.result)
                for r in records
                if r.result and r.stage not in LAID_OUT and r.folder not in shown
            ],
            notes=[n for r in records for n in (*curves.non_finite_notes(r), *sweeps.pending_notes(r))],
            marks=[mark for stage in stages.values() for mark in stage["marks"]],
            stages=list(stages),
            data=_script_json(
                {
                    "stages": stages,
                    "colours": colours,
                    "sweeps": [v.data for v in swept.values()],
                    "binding": binding_curves.chart_data(evaluated),
                }
            ),
            provenance=[(record, settings.provenance(record)) for record in records],
            scripts=scripts,
            policy=_policy(scripts),
            styles=[_asset("vendor/uPlot.min.css"), _asset("assets/page.css")],
            licence=_asset("vendor/LICENSE.uPlot"),
        )
    )


def _asset(name: str) -> str:
    return resources.files("epilm.report").joinpath(name).read_text(encoding="utf-8").strip()


def _page_script() -> str:
    """The page's own scripts as one, in a scope of its own."""
    parts = "\n\n".join(_asset(f"assets/{name}") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();'


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _asset(f"assets/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show=text.show, words=text.words)
    return environment


def _script_json(value: Any) -> str:
    """JSON that may stand inside a script element: no ``<`` can close it, and no NaN breaks the parser."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _policy(scripts: dict[str, str]) -> str:
    """Nothing is loaded from anywhere, and only the page's own scripts run."""
    digests = (hashlib.sha256(f"\n{script}\n".encode()).digest() for script in scripts.values())
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {sources}"
