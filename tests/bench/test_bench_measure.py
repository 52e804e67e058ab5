"""How a duel becomes a figure: pairs, spread, verdicts, what is skipped; the table and the JSON made of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epilm.bench.measure import CLOCKS, BenchResult, Case, Duel, Workbench, run_case
from epilm.bench.table import check_json_path, format_table, summary, write_json
from epilm.errors import StorageError


class Time:
    """A clock that the work itself moves on."""

    now_s = 0.0

    def takes(self, *seconds: float) -> Callable[[], int]:
        """Work that takes these times, call by call, in turn."""
        durations = itertools.cycle(seconds)

        def work() -> int:
            self.now_s += next(durations)
            return 7

        return work


TIME = Time()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLOCKS, "wall", lambda: TIME.now_s)


def case(duel: Duel, **settings: Any) -> Case:
    given: dict[str, Any] = {"target": 2.0, "clock": "wall", "pairs": 3, **settings}
    return Case(name="toy", about="a toy", peer="a slow toy", unit="rows/s", build=lambda bench: duel, **given)


def duel(**settings: Any) -> Duel:
    given: dict[str, Any] = {
        "ours": TIME.takes(1.0),
        "theirs": TIME.takes(8.0),
        "compare": lambda a, b: "",
        "least_s": 0,
    }
    return Duel(**{"ours_work": 10, "theirs_work": 10, **given, **settings})


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, seed=0)


def test_ratio_is_the_median_of_the_pairs(bench: Workbench) -> None:
    # the first call of each side is compared, not timed
    result = run_case(case(duel(theirs=TIME.takes(100.0, 9.0, 4.0, 5.0))), bench)
    assert result["ratio"] == pytest.approx(5.0)
    assert result["spread"] == pytest.approx([4.0, 9.0])
    assert (result["ours"], result["theirs"]) == pytest.approx((10.0, 2.0))
    assert result["ok"]
    assert result["pairs"] == 3


def test_a_peer_that_does_less_work_is_given_its_rate(bench: Workbench) -> None:
    result = run_case(case(duel(theirs_work=1, theirs=TIME.takes(1.0))), bench)
    assert result["ratio"] == pytest.approx(10.0)


def test_a_short_side_is_repeated(bench: Workbench) -> None:
    calls: list[int] = []
    work = TIME.takes(0.01)
    result = run_case(case(duel(ours=lambda: calls.append(work()), least_s=0.1, theirs=TIME.takes(0.5))), bench)
    assert len(calls) == 1 + 1 + 3 * 10  # compared, counted, timed
    assert result["ratio"] == pytest.approx(50.0)


def test_a_target_that_is_missed(bench: Workbench) -> None:
    result = run_case(case(duel(), target=1000.0), bench)
    assert result["ratio"] is not None
    assert not result["ok"]
    assert "MISSED" in summary(result)


def test_outputs_that_differ_are_never_timed(bench: Workbench) -> None:
    calls: list[str] = []
    sides = {"ours": lambda: calls.append("ours"), "theirs": lambda: calls.append("theirs")}
    result = run_case(case(duel(**sides, compare=lambda a, b: "the ids")), bench)
    assert calls == ["ours", "theirs"]
    assert result["ratio"] is None
    assert not result["ok"]
    assert summary(result) == "toy: FAILED; the outputs differ: the ids"


def test_what_a_builder_started_is_ended_also_after_a_failure(bench: Workbench) -> None:
    closed: list[bool] = []
    broken = duel(ours=lambda: 1 // 0, close=lambda: closed.append(True))
    with pytest.raises(ZeroDivisionError):
        run_case(case(broken), bench)
    assert closed == [True]


def test_a_missing_peer_says_what_to_install() -> None:
    absent = case(duel(), requires=("json", "no_such_peer"))
    reason = absent.missing()
    assert reason == "no_such_peer not installed; pip install 'epilm[bench]'"
    result = absent.skipped(reason)
    assert not result["ok"]  # nothing was shown
    assert result["ratio"] is None
    assert case(duel(), requires=("json",)).missing() is None


def result_of(**changes: Any) -> BenchResult:
    base = case(duel()).skipped("x")
    values = {"ratio": 3.14159, "ok": True, "spread": [3.0, 3.5], "ours": 2.0, "theirs": 1.0, "skipped": None}
    return BenchResult(**{**base, **values, **changes})  # type: ignore[typeddict-item]


def test_table_has_a_row_a_case_and_a_verdict() -> None:
    results = [
        result_of(name="good", detail="10 Mb"),
        result_of(name="slow", ok=False),
        result_of(name="wrong", ratio=None, spread=None, ok=False, detail="the outputs differ: ids"),
        result_of(name="absent", ratio=None, spread=None, ok=False, skipped="no peer"),
    ]
    lines = format_table(results).splitlines()
    verdicts = ["ok", "MISSED", "FAILED", "skipped"]
    for line, result, verdict in zip(lines[2:6], results, verdicts, strict=True):
        assert line.startswith(result["name"])
        assert f" {verdict} " in line
    assert "3.14 x" in lines[2]
    assert "3 to 3.5" in lines[2]
    assert "  good: 10 Mb" in lines
    assert "  absent: no peer" in lines


def test_json_is_a_list_of_results(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    check_json_path(str(path))
    write_json([result_of(), result_of(ratio=None, spread=None, ok=False)], str(path))
    first, second = json.loads(path.read_text())
    wanted = {"name": "toy", "peer": "a slow toy", "ratio": 3.14159, "target": 2.0, "ok": True, "spread": [3.0, 3.5]}
    assert wanted.items() <= first.items()
    assert (second["ratio"], second["spread"], second["ok"]) == (None, None, False)


def test_json_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "bench.json", tmp_path):
        with pytest.raises(StorageError, match=r"--json .* cannot be written"):
            check_json_path(str(path))


def test_workbench_scales_its_data(tmp_path: Path) -> None:
    small = replace(Workbench(tmp_path, 0), size=0.01)
    assert (small.scaled(1000), small.scaled(50, 5)) == (10, 5)
