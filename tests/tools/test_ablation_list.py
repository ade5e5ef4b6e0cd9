"""Lists of an ablation: what is read, and which mistakes are named."""

import shutil

import pytest

from efpnbs_d2.tools import ablation_list
from efpnbs_d2.tools.ablation_list import Comparison, find_list, read_list
from efpnbs_d2.tools.ablation_runs import plan
from efpnbs_d2.tools.ablation_settings import read_settings, unfair_keys

GOOD = """
title: two runs
seeds: [3, 1]
overrides: [a=1]
starts:
  first: {config: fpn.py, overrides: [b=2], untrained: true}
runs:
  fpn: {config: fpn.py, start: first}
  all: {config: fpn.py, overrides: [c=3]}
comparisons:
  - {baseline: fpn, runs: [all], may_differ: [model]}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "fpn.py").touch()

    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_a_list_is_read(write, tmp_path):
    ablation = read_list(write(GOOD))
    assert (ablation.name, ablation.title, ablation.seeds) == ("mine", "two runs", (3, 1))
    assert ablation.starts["first"].untrained
    assert ablation.starts["first"].overrides == ("a=1", "b=2")  # the list's come first
    assert ablation.runs["fpn"].start == "first"
    assert ablation.runs["fpn"].config == tmp_path / "fpn.py"  # beside the list
    assert ablation.runs["all"].overrides == ("a=1", "c=3")
    assert ablation.comparisons == (Comparison("fpn", ("all",), ("model",)),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", "also 'title'"),
        ("overrides: [a=1]", "override: [a=1]", "found 'override'"),
        ("[3, 1]", "[1, 1]", "different whole numbers"),
        ("[3, 1]", "[-1]", "different whole numbers"),
        ("[3, 1]", "[]", "different whole numbers"),
        ("[3, 1]", "[true]", "different whole numbers"),
        ("[a=1]", "a=1", "overrides: found 'a=1', expected a list"),
        ("  all: {config: fpn.py", "  all: {config: no.py", "no.py', expected an existing"),
        ("start: first", "start: second", "runs.fpn.start: found 'second', expected one of first"),
        ("untrained: true", "untrained: 1", "starts.first.untrained: found 1"),
        ("untrained: true", "start: first", "starts.first: found 'start'"),
        ("  all:", "  a/b:", "expected a name of letters"),
        ("  all:", "  fpn:", "duplicate key fpn"),
        ("baseline: fpn", "baseline: cem", "comparisons[0]: found 'cem', expected one of fpn, all"),
        ("runs: [all]", "runs: [cem]", "comparisons[0]: found 'cem'"),
        ("runs: [all]", "run: [all]", "also 'runs'"),
        ("title: two", "title: [two", "is no YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(write, old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match="mine.yaml") as error:
        read_list(write(GOOD.replace(old, new, 1)))
    assert message in str(error.value)


def test_a_list_without_runs_is_refused(write):
    with pytest.raises(ValueError, match="at least one run"):
        read_list(write("title: none\nseeds: [1]\nruns: {}\n"))


def test_a_list_is_found_by_path_and_by_name(write, monkeypatch, tmp_path):
    path = write(GOOD)
    assert find_list(str(path)) == path
    monkeypatch.setattr(ablation_list, "LISTS", tmp_path)
    assert find_list("mine") == path
    with pytest.raises(FileNotFoundError, match="one of mine"):
        find_list("other")


def test_the_project_s_lists_hold_fixed_what_they_do_not_compare(tmp_path):
    paths = sorted(ablation_list.LISTS.glob("*.yaml"))
    assert paths
    for path in paths:
        ablation = read_list(path)
        _, runs = plan(ablation, tmp_path)
        settings = {job.run.name: job.settings for job in runs}
        for comparison in ablation.comparisons:
            for run in comparison.runs:
                keys = unfair_keys(comparison, settings[comparison.baseline], settings[run])
                assert not keys, (path, run)
        if "fpn_again" in settings:  # nearly the same rate, or it would be no control
            rates = [float(settings[run]["optimizer.lr"]) for run in ("fpn", "fpn_again")]
            assert rates[0] != rates[1] == pytest.approx(rates[0], rel=1e-3)


def test_the_stock_recipe_takes_as_many_steps_as_a_start_and_a_run():
    for name in ("visdrone_mini", "tinyperson_mini"):
        ablation = read_list(find_list(name))
        stock, fpn = (
            read_settings(ablation.runs[run], ablation.starts) for run in ("stock", "fpn")
        )
        steps = int(fpn["start.train.max_iter"]) + int(fpn["train.max_iter"])
        assert int(stock["train.max_iter"]) == steps
        # They share one backbone; the other runs have it by their start.
        assert stock["train.init_checkpoint"] == fpn["start.train.init_checkpoint"] != ""


def test_a_plan_goes_seed_by_seed_and_knows_its_starts(write, tmp_path):
    configs = ablation_list.LISTS.parent / "tinyscenes"
    shutil.copytree(configs.parent / "common", tmp_path / "common")
    shutil.copytree(configs, tmp_path / "tinyscenes")
    text = GOOD.replace("fpn.py", "tinyscenes/fpn_r18.py")
    for old, new in (("a=1", "train.max_iter=5"), ("b=2", ""), ("c=3", "optimizer.lr=1.0")):
        text = text.replace(old, new)
    ablation = read_list(write(text))
    starts, runs = plan(ablation, tmp_path / "out")
    assert [job.name for job in starts] == ["first seed 3", "first seed 1"]
    assert [job.name for job in runs] == ["fpn seed 3", "all seed 3", "fpn seed 1", "all seed 1"]
    assert runs[2].start is starts[1] and runs[3].start is None
    assert runs[2].folder == tmp_path / "out/runs/fpn/seed1"
    assert starts[0].folder == tmp_path / "out/starts/first/seed3"
    assert (runs[0].iterations, starts[0].iterations) == (5, 0)
    # Without the run that needs it, the start is not needed.
    assert plan(ablation, tmp_path, only=["all"], seeds=[1])[0] == []
    with pytest.raises(ValueError, match="found 'cem', expected of mine: fpn, all"):
        plan(ablation, tmp_path, only=["cem"])
    with pytest.raises(ValueError, match="found 2, expected of mine: 3, 1"):
        plan(ablation, tmp_path, seeds=[2])
