"""The n-gram cases at a hundredth of their size: both sides agree, and a wrong count is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epilm.bench import ngrams
from epilm.bench.measure import Workbench, run_case

CASES = {case.name: case for case in ngrams.CASES}


def test_promised_targets() -> None:
    assert {name: case.target for name, case in CASES.items()} == {"ngram_counts": 50, "ngram_workers": 1.6}
    assert CASES["ngram_workers"].isolated


def test_counts_agree_with_the_peer_and_wrong_ones_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["ngram_counts"]
    assert run_case(case, Workbench(tmp_path, 0, 0.01), pairs=1)["ratio"] is not None
    right = ngrams.count_ngrams
    monkeypatch.setattr(ngrams, "count_ngrams", lambda codes, n: (*right(codes, n)[:4], right(codes, n)[4] + 1, 0))
    result = run_case(case, Workbench(tmp_path, 0, 0.01), pairs=1)
    assert (result["ratio"], result["detail"]) == (None, "the outputs differ: counts of 5-mers")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_two_workers_count_what_one_does(tmp_path: Path) -> None:
    result = run_case(replace(CASES["ngram_workers"], isolated=False), Workbench(tmp_path, 0, 0.01), pairs=1)
    assert result["ratio"] is not None, result["detail"]
    assert result["detail"] == "3.2 Mb of FASTA in 32 tasks, n = 1 to 6"
