"""Published figures to stand beside ours: the EBERT paper's Table S1 and Table 1 (within-cell-type ENCODE-DREAM, hg19).

They come from the challenge's labels on chromosomes 1, 8 and 21. A run on other labels, contigs or another assembly is not
comparable, however alike the names of the data sets are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SOURCE = "EBERT paper (Epigenomic language models powered by Cerebras), Table S1"
RANKS_SOURCE = "EBERT paper (Epigenomic language models powered by Cerebras), Table 1"
ASSEMBLY = "hg19"
TEST_CONTIGS = {"chr1": 249_250_621, "chr8": 146_364_022, "chr21": 48_129_895}
"""The challenge's test chromosomes and their lengths in hg19."""
MODELS = ("DBERT", "EBERT", "EBERT+")
METRICS = ("auprc", "auroc", "recall_at_10_fdr", "recall_at_50_fdr")
RANKED = ("EBERT+", "JTeam", "Factornet", "Anchor", "DeepGRN")

# target:cell, then for each of MODELS the METRICS
_TABLE_S1 = """
CTCF:iPSC   0.4669 0.9364 0.2676 0.6164   0.5113 0.9840 0.3256 0.5616   0.7314 0.9949 0.7021 0.8917
CTCF:PC-3   0.4592 0.9324 0.0000 0.3903   0.5209 0.9642 0.0000 0.4689   0.7316 0.9866 0.5131 0.8020
E2F1:K562   0.2780 0.9827 0.0000 0.2500   0.4164 0.9937 0.0046 0.6051   0.4948 0.9870 0.0000 0.6097
EGR1:liver  0.1932 0.9351 0.0000 0.1683   0.4061 0.9924 0.0350 0.4455   0.5747 0.9960 0.1931 0.7475
FOXA1:liver 0.0147 0.7927 0.0000 0.0000   0.2478 0.8253 0.0033 0.1500   0.2825 0.8772 0.0000 0.3211
FOXA2:liver 0.0501 0.8911 0.0000 0.0000   0.3371 0.9866 0.0519 0.3321   0.4746 0.9899 0.1862 0.6232
GABPA:liver 0.2995 0.9520 0.0011 0.3570   0.5379 0.9919 0.2076 0.6577   0.6388 0.9943 0.3647 0.8541
HNF4A:liver 0.1495 0.9008 0.0011 0.0593   0.4552 0.9881 0.1707 0.5534   0.6143 0.9875 0.3900 0.7778
JUND:liver  0.0323 0.8256 0.0000 0.0000   0.2814 0.9656 0.0315 0.3462   0.4830 0.9854 0.1685 0.5722
MAX:liver   0.2347 0.9240 0.0018 0.2179   0.4657 0.9898 0.1223 0.6076   0.5986 0.9923 0.1564 0.8128
NANOG:iPSC  0.0108 0.9449 0.0000 0.0000   0.3438 0.9941 0.0180 0.3234   0.4295 0.9978 0.0000 0.4431
REST:liver  0.1013 0.8222 0.0008 0.0212   0.3931 0.9483 0.0228 0.2826   0.5405 0.9652 0.0778 0.6177
TAF1:liver  0.1074 0.8695 0.0059 0.0150   0.3025 0.9142 0.1078 0.2784   0.3359 0.9889 0.1078 0.2904
"""

# target:cell, then the rank of each of RANKED; ties share the better rank
_TABLE_1 = """
CTCF:PC-3   4 3 1 4 2
CTCF:iPSC   4 3 1 5 1
E2F1:K562   2 1 4 3 5
EGR1:liver  1 2 4 3 5
FOXA1:liver 5 3 1 4 2
FOXA2:liver 3 2 1 5 4
GABPA:liver 1 3 4 2 5
HNF4A:liver 1 4 2 3 5
JUND:liver  4 2 3 1 4
MAX:liver   1 3 4 2 5
NANOG:iPSC  3 2 4 5 1
REST:liver  4 1 3 2 4
TAF1:liver  4 1 3 2 5
"""
TABLE_1_OVERALL = {"EBERT+": 3, "JTeam": 1, "Factornet": 2, "Anchor": 4, "DeepGRN": 5}

_ALIASES = {"inducedpluripotentstemcell": "ipsc"}


@dataclass(frozen=True)
class Reference:
    """One row of Table S1."""

    model: str
    cell_type: str
    target: str
    metrics: dict[str, float]


def references() -> tuple[Reference, ...]:
    """All 39 rows of Table S1."""
    rows = []
    for line in _TABLE_S1.strip().splitlines():
        name, *numbers = line.split()
        target, cell_type = name.split(":")
        for i, model in enumerate(MODELS):
            values = numbers[i * len(METRICS) : (i + 1) * len(METRICS)]
            metrics = {key: float(value) for key, value in zip(METRICS, values, strict=True)}
            rows.append(Reference(model=model, cell_type=cell_type, target=target, metrics=metrics))
    return tuple(rows)


def reference_ranks() -> dict[tuple[str, str], dict[str, int]]:
    """Table 1: (cell type, target) -> rank of each of the five models."""
    table = {}
    for line in _TABLE_1.strip().splitlines():
        name, *numbers = line.split()
        target, cell_type = name.split(":")
        table[cell_type, target] = dict(zip(RANKED, map(int, numbers), strict=True))
    return table


def references_for(cell_type: str, target: str) -> tuple[Reference, ...]:
    """The rows of a data set, whatever way its cell type is written (PC-3, PC3; iPSC, induced_pluripotent_stem_cell)."""
    wanted = _key(cell_type), _key(target)
    return tuple(row for row in references() if (_key(row.cell_type), _key(row.target)) == wanted)


def _key(name: str) -> str:
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    return _ALIASES.get(bare, bare)
