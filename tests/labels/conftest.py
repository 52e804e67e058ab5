"""A manifest of any contigs, and the rule of ENCODE-DREAM read out loud: a loop over bins, over peaks, over bases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from epilm.corpus.manifest import CorpusContig, CorpusManifest
from epilm.labels.codes import AMBIGUOUS, BOUND, EXCLUDED, UNBOUND

Span = tuple[int, int]


def manifest_of(spans: dict[str, Span], cell_types: Sequence[str] = (), assembly: str = "toy1") -> CorpusManifest:
    contigs = [CorpusContig(name=n, start_bp=s, end_bp=e, split="train") for n, (s, e) in spans.items()]
    return CorpusManifest(
        name="toy", assembly=assembly, contigs=tuple(contigs), window_bp=100, step_bp=100, bin_bp=50, chunk_bp=1000,
        max_n_fraction=1.0, cell_types=tuple(cell_types), files=(),
    )  # fmt: skip


def shared_bp(a: Span, b: Span) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def slow_labels(
    span: Span,
    conservative: Sequence[Span],
    relaxed: Sequence[Span] = (),
    blacklist: Sequence[Span] = (),
    *,
    bin_bp: int = 200,
    step_bp: int = 50,
    min_overlap_bp: int = 101,
) -> tuple[list[int], list[int]]:
    """(first base of every bin, its code) on a contig of which the bases of ``span`` are there."""
    starts = [b for b in range(0, span[1], step_bp) if b >= span[0] and b + bin_bp <= span[1]]
    codes = []
    for b in starts:
        here = (b, b + bin_bp)
        code = UNBOUND
        if any(shared_bp(here, peak) >= 1 for peak in relaxed):
            code = AMBIGUOUS
        if any(shared_bp(here, peak) >= min_overlap_bp for peak in conservative):
            code = BOUND
        if any(shared_bp(here, region) >= 1 for region in blacklist):
            code = EXCLUDED
        codes.append(code)
    return starts, codes


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., CorpusManifest]:
    return manifest_of


@pytest.fixture(scope="session")
def reference() -> Callable[..., tuple[list[int], list[int]]]:
    return slow_labels


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)
