"""The benchmark of the mapper compares like with like."""

import itertools

import cv2
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


def test_seconds_are_of_an_image_and_threads_are_given_back(monkeypatch):
    """Two images a round, a clock that goes on by 3 s between two looks at it."""
    monkeypatch.setattr(bench_mapper, "write_images", lambda folder, count: [None] * count)
    monkeypatch.setattr(bench_mapper, "mappers", lambda size: {"a": lambda record: None})
    monkeypatch.setattr(bench_mapper.time, "process_time", itertools.count(0, 3).__next__)
    threads = cv2.getNumThreads()
    assert bench_mapper.measure(images=2, rounds=2, size=8) == {"a": [1.5, 1.5]}
    assert cv2.getNumThreads() == threads
