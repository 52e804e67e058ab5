"""The page as text: what it holds, that nothing is fetched, and what it says of runs that are not whole."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_masking as masking
import report_runs as runs

from epilm.errors import StorageError
from epilm.report import build_report
from epilm.storage import Location


class Page(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside: list[str] = []
        self._texts: list[str] = []
        self.feed(source)
        self.text = re.sub(r"\s+", " ", " ".join(self._texts))
        self.data: dict[str, Any] = json.loads(source.split('id="data">', 1)[1].split("</script>", 1)[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self._texts.append(data)

    def table(self, caption: str) -> list[list[str]]:
        """Cells of the table with this caption, row by row."""
        part = self.source.split(f"<caption>{caption}</caption>", 1)[1].split("</table>", 1)[0]
        rows = re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.DOTALL)
        strip = lambda cell: html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
        return [[strip(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def write_page(folders: list[Path], title: str = "Toy") -> Page:
    out = Location(str(folders[0].parent / "report.html"))
    assert build_report([Location(str(folder)) for folder in folders], out, title=title) == out
    return Page(out.read_text())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("project")
    locations = runs.all_runs(root, num_steps=120)
    return write_page([Path(location.path) for location in locations], title="All of <it>")


def test_page_curves_of_every_run_and_set(page: Page) -> None:
    stage = page.data["stages"]["pretrain"]
    assert stage["runs"] == ["ebert", "dbert", "ebert-large"]
    assert stage["sets"] == ["train", "held_out_contigs", "held_out_cell_types"]
    charts = {chart["key"]: chart for group in stage["groups"] for chart in group["charts"]}
    assert {"state_accuracy", "dna_loss", "lr", "step_time_s", "data_wait_share", "mfu"} <= set(charts)
    assert [b["key"] for b in charts["state_accuracy"]["baselines"]] == [
        "copy_state_accuracy",
        "majority_state_accuracy",
    ]
    frame = next(f for f in stage["frames"] if f["run"] == "ebert" and f["set"] == "train")
    assert frame["x"] == list(range(1, 121))
    assert len(frame["columns"]["loss"]["y"]) == 120


@pytest.mark.parametrize(
    ("table", "own", "copied"), [("Held-out contigs", 78.1, 71.0), ("Held-out cell types", 74.1, 69.0)]
)
def test_page_state_accuracy_beside_both_baselines(page: Page, table: str, own: float, copied: float) -> None:
    heads, columns, *rows = page.table(table)
    assert heads[:2] == ["Run", "State accuracy"]
    assert columns[:3] == ["model", "copy nearest visible state", "commonest state"]
    ebert = next(row for row in rows if row[0] == "ebert")
    assert ebert[1:4] == [f"{own} %", f"{copied} %", "42.0 %"]
    beats = [a for tag, a in page.tags if tag == "td" and "above" in (a.get("class") or "") and a.get("title")]
    assert any("points against the best baseline" in str(a["title"]) for a in beats)


def test_page_headline_has_both_sets(page: Page) -> None:
    tiles = page.source.split('id="headline"', 1)[1].split("</section>", 1)[0]
    assert tiles.count("<h2>State accuracy</h2>") == 2
    for text in ("on held-out contigs", "on held-out cell types", "copy nearest visible state", "commonest state"):
        assert text in tiles


def test_page_regression_with_intervals(page: Page) -> None:
    heads, *rows = page.table("Scores with their intervals")
    assert heads[:4] == ["Features", "Pearson r", "Spearman ρ", "R²"]
    assert [row[0] for row in rows] == ["ebert", "state_fractions", "dbert", "kmers", "mean"]
    assert rows[0][1] == "0.740 [0.690, 0.790]"
    assert rows[3][3] == "−0.106 [−0.176, −0.036]"
    assert rows[4][1] == "–"
    _, first, second = page.table("Differences of Pearson r, on the same rows")
    assert first == ["ebert", "dbert", "+0.330 [+0.270, +0.390]", "first is better"]
    assert second[3] == "not told apart"
    assert "dots are single seeds" in page.text


def test_page_corpus_recipes_and_provenance(page: Page) -> None:
    for text in ("toy1", "Held-out contigs chr1", "Composition of the states", "112 n fraction, 31 blacklist"):
        assert text in page.text
    assert page.text.count("recipe_fingerprint: 5f1a2b3c4d5e6f70") == 6
    assert "global_batch: 256" in page.text
    assert "trained on contigs chr2, chr3" in page.text
    assert page.table("Settings that are not the same in all of these runs")[1][0] == "model.states"


def test_page_states_what_is_unfinished_or_absent(page: Page) -> None:
    assert "unfinished, step 40" in page.text
    assert "There is no folder" in page.text
    assert page.text.count("missing") >= 2


def test_page_fetches_nothing(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
        assert tag not in ("iframe", "object", "embed", "base")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "@import" not in page.source
    assert "url(http" not in page.source.replace('"', "").replace("'", "")


def test_page_keeps_the_licence_of_what_it_embeds(page: Page) -> None:
    comment = page.source.split("<!--\nuPlot:", 1)[1].split("-->", 1)[0]
    assert "The MIT License" in comment
    assert "Leon Sorokin" in comment


def test_page_escapes_titles_and_names(page: Page, tmp_path: Path) -> None:
    assert "<h1>All of &lt;it&gt;</h1>" in page.source
    hostile = "</script><script>alert(1)</script>"
    folder = runs.pretrain_run(tmp_path / "run", with_states=True, num_steps=24, name=hostile)
    shown = write_page([folder])
    assert "<script>alert" not in shown.source
    assert shown.data["stages"]["pretrain"]["runs"] == [hostile]


def test_page_run_without_evaluation(tmp_path: Path) -> None:
    folder = runs.pretrain_run(tmp_path / "run", with_states=True, num_steps=24, finished=False)
    kept = [r for r in runs.pretrain_records(24, with_states=True, seed=0) if r["kind"] == "train"]
    runs.write_metrics(folder, kept)
    shown = write_page([folder])
    assert shown.data["stages"]["pretrain"]["sets"] == ["train"]
    assert 'id="evaluation"' not in shown.source
    assert "unfinished, step 24" in shown.text


def test_page_run_that_has_only_begun(tmp_path: Path) -> None:
    shown = write_page([runs.write_run(tmp_path / "run", "pretrain", {"name": "begun"})])
    assert shown.data["stages"] == {}
    assert "begun pretrain unfinished" in shown.text


def test_page_unfinished_run_shows_its_last_evaluation(tmp_path: Path) -> None:
    folder = runs.pretrain_run(tmp_path / "run", with_states=True, num_steps=24, finished=False)
    row = write_page([folder]).table("Held-out contigs")[2]
    assert row[0] == "run unfinished, at step 24"
    assert row[1].endswith("%")


def test_page_values_that_are_not_finite(tmp_path: Path) -> None:
    folder = runs.pretrain_run(tmp_path / "run", with_states=True, num_steps=24)
    records = runs.pretrain_records(24, with_states=True, seed=0)
    train = [r for r in records if r["kind"] == "train"]
    train[3]["loss"], train[4]["loss"] = float("nan"), float("inf")
    runs.write_metrics(folder, records)
    shown = write_page([folder])
    loss = next(f for f in shown.data["stages"]["pretrain"]["frames"] if f["set"] == "train")["columns"]["loss"]["y"]
    assert [i for i, value in enumerate(loss) if value is None] == [3, 4]
    assert "loss is not finite in 2 records, first at step 4." in shown.text


def test_page_damaged_result_is_named(tmp_path: Path) -> None:
    folder = runs.regress_run(tmp_path / "run")
    (folder / "result.json").write_text('{"features": ')
    shown = write_page([folder])
    assert "result.json is damaged" in shown.text
    assert 'id="regression"' not in shown.source


def test_page_regression_without_seeds_or_differences(tmp_path: Path) -> None:
    folder = runs.regress_run(tmp_path / "run", num_seeds=1)
    result = json.loads((folder / "result.json").read_text())
    del result["differences"]
    (folder / "result.json").write_text(json.dumps(result))
    shown = write_page([folder])
    assert "dots are single seeds" not in shown.text
    assert "Differences of Pearson" not in shown.text
    assert "<u style" not in shown.source


def test_page_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [runs.pretrain_run(tmp_path / n, with_states=False, num_steps=24, name="same") for n in "ab"]
    assert write_page(folders).data["stages"]["pretrain"]["runs"] == ["same", "same (2)"]


def test_page_of_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.txt").write_text("sand")
    out = Location(str(tmp_path / "report.html"))
    for folder in ("holiday", "nowhere"):
        with pytest.raises(StorageError, match=rf"no run to report on: .*{folder}.*recipe\.resolved\.yaml"):
            build_report([Location(str(tmp_path / folder))], out, title="x")
    with pytest.raises(StorageError, match="no folder was given"):
        build_report([], out, title="x")
    assert not out.exists()


def test_page_stays_small_on_a_long_run(tmp_path: Path) -> None:
    folder = runs.pretrain_run(tmp_path / "run", with_states=True, num_steps=6000)
    shown = write_page([folder])
    frame = next(f for f in shown.data["stages"]["pretrain"]["frames"] if f["set"] == "train")
    assert frame["records"] == 6000
    assert len(frame["x"]) <= 600
    assert (frame["x"][0], frame["x"][-1]) == (1, 6000)
    assert len(shown.source) < 2_000_000


@pytest.fixture(scope="module")
def masking_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("masking")
    return write_page([Path(location.path) for location in masking.masking_runs(root, num_steps=120)])


def test_page_sweep_with_its_trials_and_confirmation(masking_page: Page) -> None:
    heads, best, *rows = masking_page.table("Trials")
    assert heads == [
        *("Trial", "Status", "policy", "rate", "window_steps", "threshold", "centre_probability", "k", "lr"),
        *("Base loss", "Tokens", "Time", "Error"),
    ]
    assert best[:3] == ["t011 best", "finished", "cm-gems"]
    assert len(rows) == 23
    assert next(row for row in rows if row[0] == "t003")[-1] == "DeviceError: out of memory; halve train.micro_batch."
    for text in (
        "Trials 24 (2 finished, 20 stopped early, 2 failed)",
        "Spent 180 M tokens, 37.5 % of the 480 M without early stops",
        "PED-ANOVA over 22 trials",
        "Confirmation on fresh seeds",
    ):
        assert text in masking_page.text
    assert len(masking_page.data["sweeps"]) == 2


def test_page_sweep_that_was_killed(masking_page: Page) -> None:
    part = masking_page.source.split("<h3>killed</h3>", 1)[1].split("</section>", 1)[0]
    assert "This sweep has no result yet" in part
    assert part.count("<tr data-trial=") == 9
    assert "Importance of the settings" not in part


def test_page_comparison_says_how_many_seeds(masking_page: Page) -> None:
    part = masking_page.source.split('id="comparison"', 1)[1].split("</section>", 1)[0]
    assert "3 seeds an arm (1, 2, 3)." in part
    assert part.count("<figcaption>") == 8
    assert part.count("<u style=") == 4 * 5 * 3, "every seed of every arm is a dot of every metric"
    assert "uniform <small>baseline</small>" in part
    assert "[−0.0149, −0.0125]" in part


def test_page_npmi_and_the_switch_of_a_curriculum(masking_page: Page) -> None:
    assert "Contigs counted 16: chr1, chr2" in masking_page.text
    assert masking_page.table("Words by length")[6][:3] == ["6", "4,096", "4,096"]
    assert "AAAAAA" in masking_page.text
    assert "gems : Global PMI from step 60" in masking_page.text
    assert "a model that knows nothing has log 4 = 1.386" in masking_page.text
    titles = re.findall(r"<caption>(.*?)</caption>", masking_page.source)
    assert titles[:2] == ["Held-out contigs", "Test contigs"]


def test_page_comparison_that_is_not_whole(tmp_path: Path) -> None:
    shown = write_page([masking.killed_compare_run(tmp_path / "policies")])
    assert "arms has begun 3 runs (1 finished, 1 failed, 1 unfinished)" in shown.text
    assert "span/seed-0 failed: CorpusError: a shard is gone." in shown.text
    assert 'id="comparison"' not in shown.source


def test_page_sweep_that_has_only_begun(tmp_path: Path) -> None:
    shown = write_page([masking.killed_tune_run(tmp_path / "sweep", num_trials=1)])
    assert [row[:2] for row in shown.table("Trials")[1:]] == [["t000", "unfinished"]]
    bare = write_page([runs.write_run(tmp_path / "bare", "tune", masking.tune_recipe("bare"))])
    assert 'id="sweeps"' not in bare.source
    assert "bare tune unfinished" in bare.text


def test_page_result_without_trials_is_shown_key_by_key(tmp_path: Path) -> None:
    shown = write_page([runs.write_run(tmp_path / "odd", "tune", {"name": "odd"}, {"stage": "tune", "answer": 42})])
    assert "answer 42" in shown.text
