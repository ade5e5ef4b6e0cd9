"""What is written for a server, read again, is what was written: no digit and no image is lost."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.evaluation.files.server_files import write_server_files
from efpnbs_d2.protocols import PROTOCOLS

COCO, VISDRONE = PROTOCOLS["coco"], PROTOCOLS["visdrone"]
ROWS = [
    {"image": 2, "box": [0.1 + 0.2, 2, 1 / 3, 4e-7], "score": 0.25},
    {"image": 0, "box": [1, 2, 3, 4], "score": 1 / 7},
    {"image": 2, "box": [-5, 6, 7, 8], "score": 1e-5},
    {"image": 2, "box": [9, 6, 7, 8], "score": 0.75},
]


@pytest.fixture
def run(columns):
    truth, found = columns([], ROWS, images=3, classes={1: "person", 5: "ship"})
    return replace(truth, image_names=("x/c.jpg", "a.jpg", "b.jpg"), image_ids=(4, 10, 12)), found


def assert_same(read, found):
    for name in ("image", "category", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))


def test_json_is_read_back_to_the_last_bit(run, tmp_path):
    truth, found = run
    (target,) = write_server_files(tmp_path / "new", truth, found, PROTOCOLS["aitod"])
    assert target == tmp_path / "new/aitod_results.json"
    assert_same(read_results(str(target), truth, COCO), found)
    assert b'"image_id":12' in target.read_bytes()


def test_json_of_many_records_and_of_none(run, tmp_path, monkeypatch):
    truth, found = run
    monkeypatch.setattr("efpnbs_d2.evaluation.files.server_files._PIECE", 3)
    (target,) = write_server_files(tmp_path, truth, found, COCO)
    assert_same(read_results(str(target), truth, COCO), found)
    none = replace(found, **{n: getattr(found, n)[:0] for n in ("image", "category", "boxes")})
    (target,) = write_server_files(tmp_path, truth, replace(none, scores=np.zeros(0)), COCO)
    assert len(read_results(str(target), truth, COCO).image) == 0


def test_json_numbers_images_that_have_names_only(run, tmp_path):
    truth, found = run
    truth = replace(truth, image_ids=("c", "a", "b"))
    (target,) = write_server_files(tmp_path, truth, found, COCO)
    assert b'"image_id":3' in target.read_bytes()  # c, the third in alphabetical order
    assert_same(read_results(str(target), truth, COCO), found)


def test_text_files_are_sorted_by_score_and_every_image_has_one(run, tmp_path):
    truth, found = run
    (archive,) = write_server_files(tmp_path, truth, found, VISDRONE)
    folder = tmp_path / "visdrone_results"
    assert (folder / "b.txt").read_text().splitlines() == [
        "9,6,7,8,0.75,1,-1,-1",
        "0.30000000000000004,2,0.3333333333333333,4e-07,0.25,1,-1,-1",
        "-5,6,7,8,1e-05,1,-1,-1",
    ]
    assert (folder / "a.txt").read_bytes() == b""
    read = read_results(str(folder), truth, VISDRONE)
    assert read.missing == ()
    assert_same(read, replace_rows(found, [1, 3, 0, 2]))
    with zipfile.ZipFile(archive) as packed:
        assert archive == tmp_path / "visdrone_results.zip"
        assert packed.namelist() == ["c.txt", "a.txt", "b.txt"]
        assert packed.read("b.txt") == (folder / "b.txt").read_bytes()


def replace_rows(found, order):
    names = ("image", "category", "boxes", "scores")
    return replace(found, **{name: getattr(found, name)[order] for name in names})


def test_equal_scores_keep_their_order(run, tmp_path):
    truth, found = run
    found = replace(found, scores=np.full(4, 0.5))
    write_server_files(tmp_path, truth, found, VISDRONE)
    read = read_results(str(tmp_path / "visdrone_results"), truth, VISDRONE)
    assert_same(read, replace_rows(found, [1, 0, 2, 3]))
