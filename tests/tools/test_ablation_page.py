"""What an ablation's files say, from numbers made up."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from efpnbs_d2.tools.ablation_list import Ablation, Comparison, Run
from efpnbs_d2.tools.ablation_page import write_report
from efpnbs_d2.tools.ablation_tables import (
    Results,
    difference_table,
    groups,
    mean_table,
    pooled_table,
)

RUNS = ("fpn", "cem", "slow", "late")
AP = "mine/aitod/AP"


def measures(ap, seconds):
    return {"mine/official/AP50_tiny": 2 * ap, AP: ap, "seconds_per_step": seconds}


@pytest.fixture
def results():
    runs = {name: Run(name, Path("fpn.py"), ()) for name in RUNS}
    comparison = Comparison("fpn", RUNS[1:])
    ablation = Ablation("mine", "Mine & yours", (1, 2), {}, runs, (comparison,))
    fixed = {
        "train.max_iter": "7",
        "dataloader.train.total_batch_size": "4",
        "dataloader.train.dataset.names": "mine_train",
        "dataloader.test.dataset.names": "mine",
    }
    settings = {
        "fpn": fixed,
        "cem": {**fixed, "model.backbone.cem": "True"},
        "slow": {**fixed, "optimizer.lr": "1.0"},
        "late": fixed,
    }
    found = {
        "fpn": {1: measures(10.0, 1.0), 2: measures(20.0, 1.0)},
        # Differences 1 and 1.1: t of one degree is 12.7, so 1.05 +- 0.635.
        "cem": {1: measures(11.0, 1.0), 2: measures(21.1, 1.0)},
        "slow": {1: measures(9.0, 2.0), 2: measures(25.0, 2.01)},
        "late": {2: measures(21.0, 1.0)},
    }
    hardware = [{"GPU": "none", "torch": "2.0"}, {"GPU": "H", "torch": "2.0"}]
    headlines = ["mine/official/AP50_tiny"]
    return Results(ablation, settings, found, hardware, headlines, ["beware"])


def table(results, name, make=difference_table):
    """Rows by run and column."""
    of = next(g for g in groups(results) if name in g.measures.values())
    comparison = results.ablation.comparisons[:1] if make is not mean_table else ()
    header, rows = make(results, *comparison, of)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def test_differences_have_an_interval_and_a_verdict(results):
    rows = table(results, "AP")
    assert rows["cem"]["AP"] == "+1.05 (+0.41 to +1.69)\nbetter"
    assert rows["cem"]["official AP50_tiny"].endswith("better")
    assert rows["slow"]["AP"].endswith("not significant")
    assert rows["late"]["AP"] == "+1.00\ntoo few seeds"
    assert (rows["cem"]["pairs"], rows["late"]["pairs"]) == ("2", "1")
    assert rows["cem"]["APvt"] == "–"


def test_all_runs_together_take_the_controls_into_the_baseline(results):
    of_pairs = replace(Comparison("fpn", ("cem", "late")), control=("slow",))
    results = replace(results, ablation=replace(results.ablation, comparisons=(of_pairs,)))
    rows = table(results, "AP", pooled_table)
    # Means 15 (fpn) and 17 (slow): 16. Seed 2 lies 12.03 above seed 1, so `late` would have 14.98.
    assert rows["cem"]["AP"].startswith("+0.05 ± ")
    assert rows["late"]["AP"].startswith("−1.02 ± ")
    assert {row["AP"].partition("\n")[2] for row in rows.values()} == {"not significant"}
    assert (rows["cem"]["seeds"], rows["late"]["seeds"]) == ("2", "1")


def test_more_cost_is_worse(results):
    assert table(results, "seconds a step")["slow"]["seconds a step"].endswith("worse")


def test_means_have_a_spread(results):
    rows = table(results, "AP", mean_table)
    assert rows["fpn"]["AP"] == "15.00 ± 7.07"
    assert rows["late"]["AP"] == "21.00" and rows["late"]["seeds"] == "1"


def test_the_files_say_the_same(results, tmp_path):
    paths = write_report(tmp_path / "new", results)
    assert [path.name for path in paths] == ["ablation.csv", "ablation.md", "ablation.html"]
    rows = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert [(row["run"], row["seed"]) for row in rows] == [
        ("fpn", "1"), ("fpn", "2"), ("cem", "1"), ("cem", "2"), ("slow", "1"), ("slow", "2"),
        ("late", "2"),
    ]  # fmt: skip
    assert float(rows[3][AP]) == 21.1
    markdown, page = (path.read_text() for path in paths[1:])
    for text in (markdown, page):
        assert "7 of 8" in text and "beware" in text and "mine_train" in text
        assert "cem = True" in text and "optimizer.lr = 1.0" in text
        assert "+1.05 (+0.41 to +1.69)" in text and "H" in text
    assert "| cem " in markdown and "better" in markdown
    assert "minus the mean of fpn. " in markdown and "minus the mean of fpn. " in page
    assert "Mine &amp; yours" in page
    # Charts of AP and the official number; no run has the other charted ones.
    assert page.count("<svg") == 2


def test_unfair_settings_are_told_from_the_method(results, tmp_path):
    markdown = write_report(tmp_path, results)[1].read_text()
    lines = [line for line in markdown.splitlines() if line.startswith(("| cem", "| slow"))]
    assert any("the method alone" in line and "cem = True" in line for line in lines)
    assert any(line.count("optimizer.lr") == 2 for line in lines)  # named, and described


def test_nothing_finished_is_a_page_too(results, tmp_path):
    empty = replace(results, measures={}, hardware=[], headlines=[])
    assert "0 of 8" in write_report(tmp_path, empty)[2].read_text()
