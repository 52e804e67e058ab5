"""Every case at a hundredth of its size: both sides agree, and a side that is wrong is found out. No speed is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epilm import cli
from epilm.bench import files, isolate, masks, registry, sequences, streams
from epilm.bench.measure import Case, Workbench, run_case
from epilm.errors import EpilmError

SIZE = 0.01
IN_PROCESS = [name for name, case in registry.CASES.items() if not case.isolated]
PROMISED = {
    "tokenise_kmers": 70,
    "bigwig_bins": 45,
    "fasta_codes": 2,
    "stream_two_consumers": 1.5,
    "training_step": 1 / 1.05,
    "bf16_scored_head": 1.8,
    "ranking_metrics": 10,
    "predict_genome": 0.9,
}


def available(name: str) -> Case:
    """A case, or a skip where its peer is not installed."""
    case = registry.CASES[name]
    if reason := case.missing():
        pytest.skip(reason)
    return case


def check_result(result: Any, name: str) -> None:
    assert result["name"] == name
    assert result["skipped"] is None
    assert result["ratio"] is not None, result["detail"]
    assert result["ratio"] > 0
    low, high = result["spread"]
    assert low <= result["ratio"] <= high
    assert result["target"] == registry.CASES[name].target
    assert result["ok"] is (result["ratio"] >= result["target"])
    assert json.loads(json.dumps(result)) == result


def test_promised_targets_are_what_is_asked() -> None:
    assert {name: registry.CASES[name].target for name in PROMISED} == PROMISED


@pytest.mark.parametrize("name", IN_PROCESS)
def test_case_agrees_with_its_peer(name: str) -> None:
    available(name)
    (result,) = registry.run_bench([name], size=SIZE, pairs=1)
    check_result(result, name)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_case_stream_drops_no_row(tmp_path: Path) -> None:
    case = registry.CASES["stream_two_consumers"]
    result = run_case(case, Workbench(tmp_path, 0, SIZE), pairs=1)
    check_result(result, case.name)
    assert "ours 0 (0.0 %)" in result["detail"]


@pytest.mark.training
@pytest.mark.parametrize("name", ["training_step", "bf16_scored_head"])
def test_case_training_in_a_process_of_its_own(name: str) -> None:
    told: list[str] = []
    (result,) = registry.run_bench([name], size=SIZE, pairs=1, progress=told.append)
    check_result(result, name)
    assert told[0].startswith(f"{name}: an optimizer step")
    assert told[1].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "module", "function", "spoil"),
    [
        ("tokenise_kmers", sequences, "kmer_tokens", lambda ids: ids + 1),
        ("kmer_counts", sequences, "count_kmers", lambda counts: counts[::-1]),
        ("bigwig_bins", files, "bin_track", lambda bins: bins + 1e-3),
        ("mlm_mask", masks, "hide", lambda pair: (pair[0], pair[0])),
        ("state_mask", masks, "state_mask", lambda pair: (pair[0], pair[0])),
    ],
)
def test_case_finds_a_wrong_output(monkeypatch: Any, name: str, module: Any, function: str, spoil: Any) -> None:
    available(name)
    right = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    (result,) = registry.run_bench([name], size=SIZE, pairs=1)
    assert not result["ok"]
    assert result["ratio"] is None
    assert result["detail"].startswith("the outputs differ")


def test_case_finds_a_dropped_row(tmp_path: Path, monkeypatch: Any) -> None:
    read = streams.WindowSource.read
    monkeypatch.setattr(streams.WindowSource, "read", lambda self, positions: read(self, positions[:-1]))
    result = run_case(registry.CASES["pyarrow_iteration"], Workbench(tmp_path, 0, SIZE), pairs=1)
    assert result["detail"] == "the outputs differ: rows seen in a pass"


def test_streamed_windows_are_the_corpus_layout(tmp_path: Path) -> None:
    source, rows = streams.make_source(Workbench(tmp_path, 0, SIZE), 100_000)
    assert rows % streams.GLOBAL_BATCH == 0
    table = source.read(np.arange(rows))
    assert sorted(table.column("locus").to_pylist()) == list(range(rows))


def test_a_case_that_fails_alone_does_not_lose_the_others(monkeypatch: Any) -> None:
    def fails(case: Case, bench: Workbench, **_: Any) -> Any:
        raise EpilmError("bench alone failed in its own process (exit 1):\nboom")

    monkeypatch.setattr(registry, "run_isolated", fails)
    alone = replace(registry.CASES["kmer_counts"], name="alone", isolated=True)
    monkeypatch.setitem(registry.CASES, "alone", alone)
    first, second = registry.run_bench(["kmer_counts", "alone"], size=SIZE, pairs=1)
    assert first["ratio"] is not None
    assert not second["ok"]
    assert "boom" in second["detail"]


def test_a_process_that_fails_shows_the_end_of_what_it_wrote(tmp_path: Path) -> None:
    unknown = replace(registry.CASES["kmer_counts"], name="no_such_case")
    with pytest.raises(EpilmError, match=r"(?s)bench no_such_case failed in its own process.*KeyError"):
        isolate.run_isolated(unknown, Workbench(tmp_path, 0, SIZE), pairs=1)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(EpilmError, match=r"no bench case 'tokenize_kmers'\. Did you mean 'tokenise_kmers'\? Allowed: "):
        registry.run_bench(["tokenize_kmers"])


def test_cases_run_once_and_in_order() -> None:
    names = [case.name for case in registry.find_cases(["fasta_codes", "kmer_counts", "fasta_codes"])]
    assert names == ["kmer_counts", "fasta_codes"]
    assert [case.name for case in registry.find_cases([])] == list(registry.CASES)


@pytest.fixture
def small_case(monkeypatch: Any) -> Any:
    """``kmer_counts`` at a hundredth of its size, with the target of the test's choice."""
    case = registry.CASES["kmer_counts"]

    def set_target(target: float) -> None:
        small = replace(case, target=target, pairs=1, build=lambda bench: case.build(replace(bench, size=SIZE)))
        monkeypatch.setitem(registry.CASES, "kmer_counts", small)

    return set_target


@pytest.mark.parametrize(("target", "code"), [(1e-9, 0), (1e9, 1)])
def test_command_exits_by_the_verdict(small_case: Any, capsys: Any, tmp_path: Path, target: float, code: int) -> None:
    small_case(target)
    path = tmp_path / "bench.json"
    assert cli.main(["bench", "kmer_counts", "--json", str(path)]) == code
    (row,) = json.loads(path.read_text())
    assert {"name", "peer", "ratio", "target", "ok", "spread"} <= set(row)
    assert (row["name"], row["target"], row["ok"]) == ("kmer_counts", target, code == 0)
    assert capsys.readouterr().out.startswith("case ")


def test_command_lists_and_refuses(capsys: Any, tmp_path: Path) -> None:
    assert cli.main(["bench", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(registry.CASES)
    assert cli.main(["bench", "nothing"]) == 2
    assert "Allowed: tokenise_kmers, " in capsys.readouterr().err
    assert cli.main(["bench", "kmer_counts", "--json", str(tmp_path / "absent" / "x.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
