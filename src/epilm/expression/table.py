"""The result of ``epilm expression`` as plain text: models over inputs, margins to DeepDiff, and the paper's own protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {"raw_d": "Raw D", "raw_c": "Raw C", "raw": "Raw"}
"""Inputs and their headings, in the paper's order."""


def format_expression(result: Mapping[str, Any]) -> str:
    """Blocks of lines: test r of every arm and input, margins, and the published protocol beside the paper's figures."""
    cells = " against ".join(map(str, result["pair"]))
    genes = result["num_genes"]
    heading = (
        f"Pearson r of predicted and measured differential expression, {cells}, on {genes['test']:,} test genes\n"
        f"({genes['train']:,} for training, {genes['validation']:,} for validation): mean over seeds, [interval over genes], "
        "(sd over seeds)."
    )
    blocks = [[heading], _rows(result["rows"], result.get("best")), _margins(result["margins"])]
    if result.get("published"):
        heading = "The paper's protocol, beside the r that the paper gives:"
        blocks.append([heading, *_rows(result["published"]["rows"], None, result["published"]["paper"])])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _rows(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None, paper: Sequence[Mapping[str, Any]] | None = None
) -> list[str]:
    """A line an arm, a column an input; the paper's figures in a column of their own behind each."""
    scores = {(row["arm"], row["inputs"]): row["test"] for row in rows}
    printed = {(one["arm"], one["inputs"]): one["r"] for one in paper or ()}
    every = [*scores, *printed]
    shown = [inputs for inputs in COLUMNS if any(key[1] == inputs for key in every)]
    chosen = None if best is None else (best["arm"], best["inputs"])
    heads = [text for inputs in shown for text in ([COLUMNS[inputs]] if paper is None else [COLUMNS[inputs], "paper"])]
    table = [["", *heads]]
    for arm in dict.fromkeys(key[0] for key in every):
        line = [arm]
        for inputs in shown:
            line.append(_score(scores.get((arm, inputs))) + " *" * ((arm, inputs) == chosen))
            if paper is not None:
                line.append(_r(printed[arm, inputs]) if (arm, inputs) in printed else "")
        table.append(line)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    if chosen not in scores:
        return text
    of_deepdiff = next(row.get("kind") == "deepdiff" for row in rows if (row["arm"], row["inputs"]) == chosen)
    return [*text, "* best on validation" + ("" if of_deepdiff else ", DeepDiff left out")]


def _margins(margins: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a pair; a pair that comes twice (the best on validation) is told once."""
    pairs = {(_name(one["first"]), _name(one["second"])): _margin(one["pearson"]) for one in margins}
    widths = [max((len(pair[i]) for pair in pairs), default=0) for i in (0, 1)]
    return [f"{a.ljust(widths[0])}  minus  {b.ljust(widths[1])}  {text}" for (a, b), text in pairs.items()]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['arm']} {COLUMNS[row['inputs']]}"


def _score(test: Mapping[str, Any] | None) -> str:
    if test is None:
        return ""
    interval = "" if test["low"] is None or test["high"] is None else f" [{_r(test['low'], 2)}, {_r(test['high'], 2)}]"
    sd = test["sd"]
    return _r(test["mean"]) + interval + ("" if sd is None else f" (sd {_r(sd, 2 if sd >= 0.00995 else 3)})")


def _margin(pearson: Mapping[str, Any]) -> str:
    low, high = pearson["low"], pearson["high"]
    if low is None or high is None:
        return _r(pearson["value"], sign="+")
    told = "first is better" if low > 0 else "second is better" if high < 0 else "not told apart"
    return f"{_r(pearson['value'], sign='+')} [{_r(low, sign='+')}, {_r(high, sign='+')}]  {told}"


def _r(value: float | None, digits: int = 3, sign: str = "") -> str:
    """``0.4123`` -> ``.412``, as papers print a correlation; ``-`` for one that is undefined."""
    return "-" if value is None else f"{value:{sign}.{digits}f}".replace("0.", ".", 1)
