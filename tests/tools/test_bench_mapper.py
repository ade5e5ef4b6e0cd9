"""The benchmark of the mapper compares like with like."""

import pytest

from efpnbs_d2.tools import bench_mapper


def test_every_mapper_puts_out_the_same_size(tmp_path):
    (record,) = bench_mapper.write_images(tmp_path, 1)
    shapes = {tuple(m(record)["image"].shape) for m in bench_mapper.mappers(96).values()}
    assert shapes == {(3, 96, 96)}


def test_bad_sizes_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench_mapper.main(["--size", "9000"])
    assert stopped.value.code == 2 and "--size" in capsys.readouterr().err
