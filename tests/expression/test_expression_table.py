"""The table of the terminal, literally."""

from __future__ import annotations

from typing import Any

from epilm.expression.table import format_expression


def row(
    arm: str, inputs: str, mean: float | None, low: float | None, high: float | None, sd: float | None
) -> dict[str, Any]:
    return {"arm": arm, "inputs": inputs, "test": {"mean": mean, "low": low, "high": high, "sd": sd}}


RESULT: dict[str, Any] = {
    "pair": ["E116", "E123"],
    "num_genes": {"train": 10_000, "validation": 2360, "test": 6602},
    "rows": [
        row("gpt2", "raw_c", 0.4123, 0.31, 0.51, 0.02),
        row("gpt2", "raw_d", -0.0521, -0.1, 0.004, 0.0012),
        row("deepdiff", "raw_c", 1.0, 0.9994, 1.0, None),
        row("deepdiff", "raw", None, None, None, None),
    ],
    "best": {"arm": "gpt2", "inputs": "raw_c"},
    "margins": [
        {
            "first": {"arm": "gpt2", "inputs": "raw_c"},
            "second": {"arm": "deepdiff", "inputs": "raw_c"},
            "pearson": {"value": -0.588, "low": -0.69, "high": -0.49},
        },
        {
            "first": {"arm": "gpt2", "inputs": "raw_c"},
            "second": {"arm": "deepdiff", "inputs": "raw"},
            "pearson": {"value": None, "low": None, "high": None},
        },
    ],
    "published": None,
}
HEAD = """\
Pearson r of predicted and measured differential expression, E116 against E123, on 6,602 test genes
(10,000 for training, 2,360 for validation): mean over seeds, [interval over genes], (sd over seeds)."""
ROWS = """\
          Raw D                         Raw C                        Raw
gpt2      -.052 [-.10, .00] (sd .001)   .412 [.31, .51] (sd .02) *
deepdiff                                1.000 [1.00, 1.00]           -
* best on validation, DeepDiff left out"""
MARGINS = """\
gpt2 Raw C  minus  deepdiff Raw C  -.588 [-.690, -.490]  second is better
gpt2 Raw C  minus  deepdiff Raw    -"""
PUBLISHED = """\
The paper's protocol, beside the r that the paper gives:
          Raw D                        paper  Raw C                     paper
gpt2      -.052 [-.10, .00] (sd .001)  .566   .412 [.31, .51] (sd .02)
DeepDiff                                                                .680"""


def squeezed(text: str) -> list[list[str]]:
    """Cells of each line: two spaces or more part them."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_the_table_reads_as_it_should():
    blocks = format_expression(RESULT).split("\n\n")
    assert blocks[0] == HEAD
    assert squeezed(blocks[1]) == squeezed(ROWS)
    assert blocks[2] == MARGINS
    assert len(blocks) == 3


def test_columns_are_aligned():
    lines = format_expression(RESULT).split("\n\n")[1].splitlines()
    assert lines[0].index("Raw C") == lines[1].index(".412") == lines[2].index("1.000")
    assert lines[0].index("Raw D") == lines[1].index("-.052")
    assert lines[2].endswith(" -")
    assert lines[0].endswith("  Raw")


def test_the_published_protocol_stands_beside_the_paper():
    paper = [{"arm": "gpt2", "inputs": "raw_d", "r": 0.566}, {"arm": "DeepDiff", "inputs": "raw_c", "r": 0.68}]
    text = format_expression({**RESULT, "published": {"rows": RESULT["rows"][:2], "paper": paper}})
    assert text.split("\n\n")[3] == PUBLISHED


def test_a_margin_that_comes_twice_is_told_once():
    text = format_expression({**RESULT, "margins": RESULT["margins"] * 2})
    assert text.split("\n\n")[2] == MARGINS


def test_without_margins_or_a_best_the_rest_stands():
    text = format_expression({**RESULT, "margins": [], "best": None})
    assert "minus" not in text
    assert "*" not in text
    assert len(text.split("\n\n")) == 2
