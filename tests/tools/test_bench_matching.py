"""The benchmark runs whole on a small image; what it finds is no test."""

import json

import pytest

from efpnbs_d2.tools import bench_matching


def test_prints_and_writes_a_line_per_case(capsys, tmp_path, monkeypatch):
    """In this process: a fresh one for each case would load the libraries nine times."""
    monkeypatch.setattr(bench_matching, "in_fresh_process", lambda function, *args: function(*args))
    output = tmp_path / "matching.json"
    bench_matching.main(["--scale", "0.05", "--repeats", "1", "--output", str(output)])
    lines = capsys.readouterr().out.splitlines()
    written = json.loads(output.read_text())
    assert len(lines) == 10 and len(written) == 9
    assert written[0]["ratio"] == 1
    for line, case in zip(lines[1:], written, strict=True):
        assert line.startswith(case["rule"])
        assert case["seconds"] > 0 and case["extra_gb"] >= 0


@pytest.mark.parametrize("wrong", [["--scale", "0"], ["--repeats", "0"], ["--device", "tpu"]])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench_matching.main(wrong)
    assert stopped.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_the_full_size_has_a_million_anchors():
    objects, priors = bench_matching._boxes(900, 1.0, "cpu")
    assert len(objects) == 900
    assert len(priors) == pytest.approx(1e6, rel=1e-3)
