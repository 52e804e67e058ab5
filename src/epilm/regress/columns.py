"""The columns of a feature file: what the writer of features and the fit of boosters agree on."""

ROW, TARGET = "__row__", "__target__"
"""Columns that are not features: the row's number in the rows table, and the value to regress."""


def feature_name(name: str) -> str:
    """A name that xgboost takes: it refuses ``[``, ``]`` and ``<``, which state labels may hold."""
    return name.replace("[", "(").replace("]", ")").replace("<", "lt ")
