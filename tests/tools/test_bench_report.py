"""Results as JSON and tables, and what is said to have moved between two of them."""

import json
from dataclasses import replace

import pytest

from efpnbs_d2.tools import bench_report
from efpnbs_d2.tools.bench_report import Report, comparison, markdown, table, verdict
from efpnbs_d2.tools.bench_turns import Measurement


def seconds(median, low, high, n=5):
    return Measurement(median, low, high, n, "s")


STEP = seconds(2.0, 1.9, 2.2)
RATIO = Measurement(1.05, 1.01, 1.08, 5, "x")


def report(**measurements):
    return Report(
        hardware={"processor": "A", "cores": 2, "load average": 0.5},
        torch="2.0",
        commit="abc",
        date="2026-01-01T00:00:00+00:00",
        setting="R18, cpu",
        measurements=measurements,
        skipped={"SAHI": "not installed"},
    )


def test_a_written_report_is_read_back(tmp_path):
    whole = report(step=STEP, ratio=RATIO)
    whole.write(tmp_path / "new" / "bench.json")
    assert Report.read(tmp_path / "new" / "bench.json") == whole
    fields = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert fields["measurements"]["step"] == {
        **{"median": 2.0, "quartile_1": 1.9, "quartile_3": 2.2},
        **{"n": 5, "unit": "s"},
    }


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"measurements": {"a": {"mean": 1}}}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match="other.json is no result of"):
        Report.read(tmp_path / "other.json")


def test_this_machine_and_commit_are_named():
    found = Report.of_this_machine("cpu", "R18")
    assert found.hardware["cores"] >= 1 and found.hardware["processor"]
    assert found.commit == "unknown" or len(found.commit.removesuffix("-dirty")) == 40


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_report, "_CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert bench_report._commit() == "unknown"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (seconds(2.1, 2.0, 2.3), ""),  # 2.0 to 2.3 and 1.9 to 2.2 overlap
        (seconds(2.5, 2.2, 2.7), ""),  # they touch
        (seconds(2.5, 2.3, 2.7), "higher"),
        (seconds(1.7, 1.6, 1.8), "lower"),
    ],
)
def test_what_moved_is_beyond_both_quartiles(new, expected):
    assert verdict(STEP, new) == expected


def test_comparison_shows_what_both_have():
    old = report(step=STEP, ratio=RATIO, gone=STEP)
    new = report(step=seconds(4.0, 3.9, 4.1), ratio=RATIO, fresh=STEP)
    text = comparison(old, new)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["step"] == ["2.000", "4.000", "2.000", "higher"]
    assert rows["ratio"] == ["1.050", "1.050", "1.000"]
    assert "only in old: gone" in text and "only in new: fresh" in text
    assert "two machines" not in text


@pytest.mark.parametrize(
    "change",
    [{"hardware": {"processor": "B"}}, {"torch": "2.1"}, {"setting": "R50, cpu"}],
)
def test_seconds_of_two_machines_are_not_compared_silently(change):
    old = report(step=STEP)
    assert "two machines or settings" in comparison(old, replace(old, **change))
    busier = {**old.hardware, "load average": 3.0}
    assert "two machines or settings" not in comparison(old, replace(old, hardware=busier))


def test_markdown_holds_the_ratios_and_what_was_skipped():
    lines = markdown(report(step=STEP, ratio=RATIO)).splitlines()
    assert lines[2:4] == [
        "| ratio | 1.050 | 1.010 to 1.080 | 5 |",
        "| SAHI | not measured: not installed | | |",
    ]
    assert lines[-1].startswith("R18, cpu; processor A, cores 2") and "commit abc" in lines[-1]


def test_table_has_a_line_each():
    lines = table({"step": STEP, "FLOPs": Measurement(1234.5, 1234.5, 1234.5, 1, "G")}).splitlines()
    assert lines[0].split() == ["step", "2.000", "s", "1.900", "to", "2.200", "5"]
    assert lines[1].split() == ["FLOPs", "1234", "G", "1"]
