"""The benchmark runs whole on small data sets; what it finds is no test."""

from efpnbs_d2.tools import bench_data


def test_prints_a_line_per_case(capsys):
    bench_data.main(["--scale", "0.002"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert [float(line.split()[-1]) for line in lines[1:]] == [4.0, 0.5, 8.0]
