"""What an expression recipe refuses, and what its identity is."""

import pytest

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.expression.recipe import PAPER_ARMS, ExpressionRecipe

FILES = {"train": "t.csv", "validation": "v.csv", "test": "x.csv"}
BASE = {
    "name": "study",
    "data": {"kind": "deepdiff", "cells": {"A": FILES, "B": FILES}},
    "expression": {"kind": "counts", "files": {"A": "a.csv", "B": "b.csv"}},
    "pair": ["A", "B"],
}


def recipe(**changes) -> ExpressionRecipe:
    return parse_recipe(ExpressionRecipe, BASE | changes)


def test_the_default_table_is_the_papers_and_more():
    kinds = {name: arm.kind for name, arm in recipe().arms.items()}
    assert list(kinds) == list(PAPER_ARMS)
    assert set(kinds.values()) == {"tokens", "static", "contextual", "end_to_end", "levels", "deepdiff"}
    assert all(arm.inputs == ("raw_c", "raw_d", "raw") for arm in recipe().arms.values())
    assert len(recipe().seeds) >= 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair": ["A", "A"]}, "two different cell types"),
        ({"pair": ["A", "C"]}, "no cell type 'C'"),
        ({"arms": {"x": {"kind": "static", "model": "gpt3"}}}, "is no model"),
        ({"arms": {"x": {"kind": "deepdiff", "shape": {"aux": True}}}}, "own marks"),
        ({"arms": {"x": {"kind": "contextual", "pooling": "mean", "segments": 3}}}, "one vector a line"),
        ({"arms": {"a/b": {"kind": "tokens"}}}, "names a folder"),
        ({"arms": {"x": {"kind": "tokens", "inputs": ["raw_x"]}}}, "raw_x"),
        ({"models": {"gpt2": {"hidden": 30, "heads": 8}}}, "multiple of heads"),
        ({"words": {"thresholds": [2, 1]}}, "rising"),
        ({"words": {"thresholds": [1, float("nan")]}}, "finite, rising"),
        ({"words": {"difference_thresholds": [float("inf")]}}, "finite, rising"),
        ({"arms": {"x": {"kind": "tokens", "inputs": ["raw", "raw"]}}}, "has one twice"),
        ({"models": {"gpt2": {"texts": ["cells", "cells"]}}}, "has one twice"),
        ({"published": {"fit_on": ["train", "train"]}}, "has one twice"),
        (
            {"arms": {"x": {"kind": "deepdiff", "inputs": ["raw"], "antisymmetric": True, "shape": {"aux": True}}}},
            "one of",
        ),
        ({"words": {"levels": 4}}, "not both"),
        ({"words": {"thresholds": None}}, "not neither"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"importance": {"svr": "raw_x"}}, "raw_x"),
        ({"importance": {"nobody": "raw"}}, "no row"),
        ({"published": {"model": {"kind": "roberta"}}}, "use gpt2"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**changes)


def test_where_it_runs_and_lies_is_no_part_of_its_identity():
    elsewhere = recipe(
        name="other",
        storage="/elsewhere",
        max_concurrent=4,
        keep_features=True,
        data={"kind": "deepdiff", "cells": {"A": FILES, "B": {**FILES, "train": "copy.csv"}}},
        models={"gpt2": {"train": {"num_workers": 4, "micro_batch": 8}}, "roberta": {"kind": "roberta"}},
    )
    assert elsewhere.identity() == recipe().identity()
    longer = recipe(models={"gpt2": {"train": {"steps": 7}}, "roberta": {"kind": "roberta"}})
    assert longer.identity() != recipe().identity()
    assert recipe(words={"thresholds": [1, 3]}).identity() != recipe().identity()
