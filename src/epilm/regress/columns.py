"""The columns of a feature file: what the writer of features and the fit of boosters agree on."""

ROW, TARGET, GENE = "__row__", "__target__", "gene_id"
"""Columns that are not features: the row's number in the rows table, the value to regress, and, in files of
:mod:`epilm.regress.matrix`, whose row it is."""


def feature_name(name: str) -> str:
    """A name that xgboost takes: it refuses ``[``, ``]`` and ``<``, which state labels may hold."""
    return name.replace("[", "(").replace("]", ")").replace("<", "lt ")
