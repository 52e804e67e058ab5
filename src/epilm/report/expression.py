"""Differential expression from histone marks (``epilm expression``): models over inputs with intervals and seeds, margins, the
paper's own protocol beside its figures, and heat maps of what matters where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from epilm.report.axes import Scale, cover, linear_ticks
from epilm.report.collect import RunRecord, as_dict, as_list
from epilm.report.comparisons import ArmRow, MetricPanel, margin_verdict, percent, ticks_of
from epilm.report.text import ABSENT, number, setting, show

INPUTS = {"raw_d": "Raw D", "raw_c": "Raw C", "raw": "Raw"}
"""Inputs and their names, in the paper's order."""
KINDS = {
    "tokens": "baseline: token ids",
    "levels": "baseline: bins' values",
    "static": "input embedding of {model}",
    "contextual": "hidden states of {model}",
    "end_to_end": "{model} with a head, trained together",
    "deepdiff": "DeepDiff",
}
"""Kind of an arm -> what it sees; those without a language model are baselines."""
REGRESSORS = {"boost": "xgboost-ray", "svr": "SVR", "ridge": "ridge"}

# Of a heat map's drawing; units are about a pixel each on a wide page.
FIELD_WIDTH, ROW_HEIGHT = 840.0, 26.0
TOP, RIGHT, AXIS_HEIGHT = 18.0, 24.0, 40.0
LETTER_WIDTH, MAX_LETTERS = 8.4, 26
MAX_BINS, MAX_BIN_BP = 10**7, 10**6

Table = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]
"""(headings, rows)."""


@dataclass(frozen=True)
class RCell:
    """Test r of an arm with an input; ``text`` is empty where the arm has no such row."""

    text: str
    interval: str = ""
    detail: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class ArmLine:
    arm: str
    what: str
    baseline: bool
    cells: tuple[RCell, ...]
    """One an input."""


@dataclass(frozen=True)
class PublishedTable:
    heads: tuple[str, ...]
    lines: tuple[ArmLine, ...]
    """With two cells an input: ours and the paper's. Arms that only the paper has come last."""
    remark: str


@dataclass(frozen=True)
class HeatMap:
    """A drawing of importances, marks down and places across; sizes are units of the drawing."""

    title: str
    width: float
    height: float
    cells: tuple[tuple[float, float, float, float, float, str], ...]
    """(left, top, width, height, percentage of the highest, words)."""
    marks: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    tss: float | None
    """Place of the transcription start, where the bins' width is known."""
    axis: str
    most: str
    """The highest value: the end of the colour scale."""
    summary: str
    table: Table


@dataclass(frozen=True)
class ExpressionView:
    name: str
    facts: tuple[tuple[str, str], ...]
    heads: tuple[str, ...]
    lines: tuple[ArmLine, ...]
    chosen: bool
    """Whether one of the cells is marked as the best on validation."""
    panels: tuple[MetricPanel, ...]
    """One an input, each before the margins to rows with that input."""
    details: Table
    published: PublishedTable | None
    heats: tuple[HeatMap, ...]


@dataclass(frozen=True)
class _Row:
    arm: str
    inputs: str
    entry: Mapping[str, Any]
    test: Mapping[str, Any]
    mean: float | None
    low: float | None
    high: float | None
    sd: float | None
    seeds: tuple[float | None, ...] = field(default=())

    @property
    def key(self) -> tuple[str, str]:
        return self.arm, self.inputs


def expression_view(record: RunRecord) -> ExpressionView | None:
    """The view of an ``expression`` run; None where its result holds no row. What is damaged in it is left out."""
    result = record.result
    rows = _read_rows(result.get("rows"))
    if not rows:
        return None
    shown = _inputs(row.inputs for row in rows)
    best = _key(result.get("best"))
    return ExpressionView(
        name=record.name,
        facts=tuple(_facts(result, rows, best)),
        heads=tuple(INPUTS.get(inputs, inputs) for inputs in shown),
        lines=tuple(_lines(rows, shown, best)),
        chosen=any(row.key == best for row in rows),
        panels=tuple(_panels(rows, shown, best, _margins(result.get("margins")))),
        details=_details(rows),
        published=_published(as_dict(result.get("published"))),
        heats=tuple(heat for entry in as_list(result.get("importance")) if (heat := heat_map(entry, result))),
    )


def _read_rows(value: Any) -> list[_Row]:
    """The rows that are rows, in their order; the first of those that have one arm and input."""
    rows = {}
    for entry in as_list(value):
        key, test = _key(entry), as_dict(as_dict(entry).get("test"))
        if key is not None and key not in rows:
            mean, low, high = (_r(test.get(name)) for name in ("mean", "low", "high"))
            seeds = tuple(_r(value) for value in as_list(test.get("values")))
            rows[key] = _Row(*key, entry, test, mean, low, high, _r(test.get("sd")), seeds)
    return list(rows.values())


def _key(value: Any) -> tuple[str, str] | None:
    found = as_dict(value)
    return (str(found["arm"]), str(found["inputs"])) if "arm" in found and "inputs" in found else None


def _inputs(found: Iterable[str]) -> list[str]:
    """Inputs in the paper's order; what it does not know comes last."""
    names = list(dict.fromkeys(found))
    return [*(name for name in INPUTS if name in names), *(name for name in names if name not in INPUTS)]


def _r(value: Any, most: float = 1.0) -> float | None:
    """A correlation (or, with ``most`` 2, a difference of two); what lies beyond is damaged."""
    found = number(value)
    return None if found is None or abs(found) > most else found


def _three(value: float | None, sign: str = "") -> str:
    return ABSENT if value is None else f"{value:{sign}.3f}".replace("-", "−")


def _ends(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"[{_three(low, sign)}, {_three(high, sign)}]"


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}, {INPUTS.get(key[1], key[1])}"


def _what(entry: Mapping[str, Any]) -> str:
    """``hidden states of gpt2, xgboost-ray, both orders of the cell types``."""
    kind, regressor = str(entry.get("kind") or ""), entry.get("regressor")
    text = KINDS[kind].format(model=entry.get("model") or "the language model") if kind in KINDS else kind
    fitted = REGRESSORS.get(str(regressor), str(regressor)) if regressor else ""
    orders = "both orders of the cell types" if entry.get("antisymmetric") else ""
    return ", ".join(part for part in (text, fitted, orders) if part)


def _is_baseline(entry: Mapping[str, Any]) -> bool:
    return entry.get("kind") in ("tokens", "levels")


def _lines(rows: Sequence[_Row], shown: Sequence[str], best: tuple[str, str] | None) -> Iterator[ArmLine]:
    found = {row.key: row for row in rows}
    for arm in dict.fromkeys(row.arm for row in rows):
        entry = next(row.entry for row in rows if row.arm == arm)
        cells = tuple(_cell(found.get((arm, inputs)), best) for inputs in shown)
        yield ArmLine(arm, _what(entry), _is_baseline(entry), cells)


def _cell(row: _Row | None, best: tuple[str, str] | None) -> RCell:
    if row is None:
        return RCell("")
    detail = "" if row.sd is None else f"sd {_three(row.sd)}"
    return RCell(_three(row.mean), _ends(row.low, row.high), detail, row.key == best)


def _panels(
    rows: Sequence[_Row], shown: Sequence[str], best: tuple[str, str] | None, margins: Mapping[str, list[MetricPanel]]
) -> Iterator[MetricPanel]:
    """Levels on one axis, so that they can be compared by eye, and margins on another."""
    scale = cover([v for row in rows for v in (row.mean, row.low, row.high, *row.seeds) if v is not None])
    for inputs in shown:
        yield MetricPanel(
            title=f"Test r, {INPUTS.get(inputs, inputs)}",
            remark=_remark(inputs),
            ticks=ticks_of(scale, "number"),
            zero=percent(scale, 0.0) if scale.low < 0 < scale.high else None,
            rows=tuple(_arm_row(row, scale, row.key == best) for row in rows if row.inputs == inputs),
        )
        yield from margins.get(inputs, ())
    for inputs, panels in margins.items():
        yield from panels if inputs not in shown else ()


def _remark(inputs: str) -> str:
    seen = {"raw_d": "the cell types' difference", "raw_c": "both cell types", "raw": "both and their difference"}
    return f"{seen[inputs]}; higher is better" if inputs in seen else "higher is better"


def _arm_row(row: _Row, scale: Scale, chosen: bool) -> ArmRow:
    return ArmRow(
        label=row.arm,
        text=_three(row.mean),
        detail=_ends(row.low, row.high),
        at=percent(scale, row.mean),
        low=percent(scale, row.low),
        high=percent(scale, row.high),
        dots=tuple(at for value in row.seeds if (at := percent(scale, value)) is not None),
        remark="best on validation" if chosen else "baseline" if _is_baseline(row.entry) else "",
        verdict="best" if chosen else "",
    )


def _margins(value: Any) -> dict[str, list[MetricPanel]]:
    """Input -> panels: one for each second row with that input, of all margins to it with their paired intervals."""
    found: dict[tuple[str, str], dict[tuple[str, str], list[float | None]]] = {}
    for entry in map(as_dict, as_list(value)):
        first, second, score = _key(entry.get("first")), _key(entry.get("second")), as_dict(entry.get("pearson"))
        if first is not None and second is not None:
            found.setdefault(second, {})[first] = [_r(score.get(key), 2.0) for key in ("value", "low", "high")]
    ends = [end for of_second in found.values() for score in of_second.values() for end in score if end is not None]
    scale = cover([0.0, *ends])
    panels: dict[str, list[MetricPanel]] = {}
    for second, of_second in found.items():
        rows = tuple(_margin_row(first, second, score, scale) for first, score in of_second.items())
        title, remark = f"Margin to {_name(second)}", "paired by resampled genes; above zero is better"
        panel = MetricPanel(title, remark, ticks_of(scale, "number"), percent(scale, 0.0), rows)
        panels.setdefault(second[1], []).append(panel)
    return panels


def _margin_row(first: tuple[str, str], second: tuple[str, str], score: Sequence[float | None], scale: Scale) -> ArmRow:
    verdict, told = margin_verdict(score[1], score[2], "higher")
    return ArmRow(
        label=first[0] if first[1] == second[1] else _name(first),
        text=_three(score[0], "+"),
        detail=_ends(score[1], score[2], "+"),
        at=percent(scale, score[0]),
        low=percent(scale, score[1]),
        high=percent(scale, score[2]),
        dots=(),
        remark=told,
        verdict=verdict,
    )


def _details(rows: Sequence[_Row]) -> Table:
    heads = ("Arm", "Inputs", "Features", "Seeds", "Validation r", "Test r", "Each seed", "Mean prediction", "Chosen")
    return heads, tuple(
        (
            row.arm,
            INPUTS.get(row.inputs, row.inputs),
            show(row.entry.get("num_features")),
            ", ".join(map(show, as_list(row.entry.get("seeds")))) or ABSENT,
            _with_sd(as_dict(row.entry.get("validation"))),
            f"{_with_sd(row.test)} {_ends(row.low, row.high)}".strip(),
            ", ".join(map(_three, row.seeds)) or ABSENT,
            _ensemble(as_dict(row.test.get("ensemble"))),
            _choices(as_list(row.entry.get("chosen"))),
        )
        for row in rows
    )


def _with_sd(score: Mapping[str, Any]) -> str:
    mean, sd = _r(score.get("mean")), _r(score.get("sd"))
    return _three(mean) + ("" if sd is None else f" ± {_three(sd)}")


def _ensemble(score: Mapping[str, Any]) -> str:
    value, low, high = (_r(score.get(key)) for key in ("value", "low", "high"))
    return f"{_three(value)} {_ends(low, high)}".strip()


def _choices(chosen: Sequence[Any]) -> str:
    """``depth 4, rounds 30 / 45``: every setting with the seeds' values, equal ones once."""
    found: dict[str, dict[str, None]] = {}
    for of_seed in map(as_dict, chosen):
        for key, value in of_seed.items():
            found.setdefault(str(key), {})[setting(value)] = None
    return ", ".join(f"{key.replace('_', ' ')} {' / '.join(values)}" for key, values in found.items()) or ABSENT


def _published(published: Mapping[str, Any]) -> PublishedTable | None:
    rows = _read_rows(published.get("rows"))
    printed = {key: _r(one.get("r")) for one in map(as_dict, as_list(published.get("paper"))) if (key := _key(one))}
    keys = [*(row.key for row in rows), *printed]
    if not rows:
        return None
    found, shown = {row.key: row for row in rows}, _inputs(inputs for _, inputs in keys)
    lines = []
    for arm in dict.fromkeys(arm for arm, _ in keys):
        entry = next((row.entry for row in rows if row.arm == arm), {})
        cells: list[RCell] = []
        for inputs in shown:
            cells += [
                _cell(found.get((arm, inputs)), None),
                RCell(_three(r) if (r := printed.get((arm, inputs))) else ""),
            ]
        lines.append(ArmLine(arm, _what(entry) if entry else "the paper's alone", _is_baseline(entry), tuple(cells)))
    fit_on = " and ".join(map(str, as_list(published.get("fit_on"))))
    apart = "The paper gives r without seeds or intervals, in part the best of a sweep on its test genes"
    return PublishedTable(
        heads=tuple(INPUTS.get(inputs, inputs) for inputs in shown),
        lines=tuple(lines),
        remark=f"{apart}; here nothing was chosen" + (f", and the fit is on {fit_on} genes." if fit_on else "."),
    )


def _facts(result: Mapping[str, Any], rows: Sequence[_Row], best: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
    pair, genes = as_list(result.get("pair")), as_dict(result.get("num_genes"))
    yield "Cell types", " against ".join(map(str, pair)) or ABSENT
    yield "Target", "ln((first + 1) / (second + 1)) of the expression"
    yield "Marks", ", ".join(map(str, as_list(result.get("marks")))) or ABSENT
    width = number(result.get("bin_bp"))
    yield "Bins of a gene", show(result.get("num_bins")) + (f" of {show(width, 'bp')}" if width else "")
    yield "Genes", ", ".join(f"{show(count)} {split}" for split, count in genes.items()) or ABSENT
    for reason, count in as_dict(result.get("left_out")).items():
        yield "Left out", f"{show(count)}: {reason}"
    words = as_dict(result.get("vocabulary"))
    if words:
        span = [show(value) for value in as_list(words.get("tokens_per_line"))]
        each = f"; a line has {span[0]} to {span[2]}, {span[1]} on average" if len(span) == 3 else ""
        yield "Vocabulary", f"{show(words.get('size'))} tokens{each}"
    for row in rows:
        if row.key == best:
            validation = _with_sd(as_dict(row.entry.get("validation")))
            yield "Best on validation", f"{_name(row.key)}: r {validation} there, {_three(row.mean)} on the test genes"


def _axis(*, in_bp: bool, oriented: Any) -> str:
    what = "Distance from the transcription start (TSS)" if in_bp else "Bin of the gene's window"
    if oriented is True:
        return f"{what}, upstream on the left"
    return f"{what} as the files order the bins (DeepDiff's: along the genome, on both strands)"


def heat_map(entry: Any, result: Mapping[str, Any]) -> HeatMap | None:
    """The drawing of one entry of ``importance``; None where its marks, edges and values do not fit together.

    Places are bp from the transcription start (bin 0 begins at -num_bins / 2 x bin_bp) where the bins' width is known, bins
    otherwise. Colours run from 0 to the highest value.
    """
    key, entry = _key(entry), as_dict(entry)
    marks, edges = [str(mark) for mark in as_list(entry.get("marks"))], as_list(entry.get("edges"))
    values = [[_importance(value) for value in as_list(of_mark)] for of_mark in as_list(entry.get("values"))]
    rising = all(type(edge) is int and 0 <= edge <= MAX_BINS for edge in edges) and sorted(set(edges)) == edges
    if key is None or not marks or len(edges) < 2 or not rising:
        return None
    if [len(of_mark) for of_mark in values] != [len(edges) - 1] * len(marks):
        return None
    bin_bp = number(result.get("bin_bp"))
    bin_bp = bin_bp if bin_bp and 0 < bin_bp <= MAX_BIN_BP else None
    num_bins = result.get("num_bins")
    middle = (num_bins if type(num_bins) is int and 0 < num_bins <= MAX_BINS else edges[-1]) / 2
    places = [(edge - middle) * bin_bp for edge in edges] if bin_bp else [float(edge) for edge in edges]
    stretches = [_stretch(begin, end, bin_bp is not None) for begin, end in pairwise(places)]
    most = max((value for of_mark in values for value in of_mark if value is not None), default=0.0)
    left = 16 + LETTER_WIDTH * min(MAX_LETTERS, max(map(len, marks)))

    def across(place: float) -> float:
        return round(left + FIELD_WIDTH * (place - places[0]) / (places[-1] - places[0]), 2)

    cells, labels = [], []
    for i, (mark, of_mark) in enumerate(zip(marks, values, strict=True)):
        top = TOP + ROW_HEIGHT * i
        labels.append((top + ROW_HEIGHT / 2 + 4, mark if len(mark) <= MAX_LETTERS else f"{mark[: MAX_LETTERS - 1]}…"))
        for j, value in enumerate(of_mark):
            begin, end = across(places[j]), across(places[j + 1])
            share = 100 * value / most if value is not None and most > 0 else 0.0
            words = f"{mark}, {stretches[j]}: {show(value)}"
            cells.append((begin, top, round(end - begin, 2), ROW_HEIGHT, round(share, 1), words))
    return HeatMap(
        title=_name(key),
        width=left + FIELD_WIDTH + RIGHT,
        height=TOP + ROW_HEIGHT * len(marks) + AXIS_HEIGHT,
        cells=tuple(cells),
        marks=tuple(labels),
        ticks=tuple((across(tick), text) for tick, text in _ticks(places[0], places[-1], bin_bp is not None)),
        tss=across(0.0) if bin_bp and places[0] < 0 < places[-1] else None,
        axis=_axis(in_bp=bin_bp is not None, oriented=result.get("oriented")),
        most=show(most),
        summary=_summary(marks, stretches, values),
        table=(("Place", *marks), tuple((at, *(show(row[j]) for row in values)) for j, at in enumerate(stretches))),
    )


def _importance(value: Any) -> float | None:
    found = number(value)
    return None if found is None else max(0.0, found)


def _ticks(low: float, high: float, of_bp: bool) -> list[tuple[float, str]]:
    return [(tick, _place(tick) if of_bp else f"{tick:,.0f}") for tick in linear_ticks(low, high, most=12)]


def _place(bp: float) -> str:
    """``-2000.0`` -> ``−2 kb``; 0 is the TSS."""
    return "TSS" if bp == 0 else f"{'−' if bp < 0 else '+'}{show(abs(bp), 'bp')}"


def _stretch(begin: float, end: float, of_bp: bool) -> str:
    return f"{_place(begin)} to {_place(end)}" if of_bp else f"bins {begin:,.0f} to {end - 1:,.0f}"


def _summary(marks: Sequence[str], stretches: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    known = [(value, i, j) for i, row in enumerate(values) for j, value in enumerate(row) if value is not None]
    if not known:
        return f"Importance of {len(marks)} marks; no value is known."
    value, i, j = max(known, key=lambda one: one[0])
    highest = f"the highest is {marks[i]}, {stretches[j]}: {show(value)}"
    return f"Importance of {len(marks)} marks in {len(stretches)} stretches; {highest}."
