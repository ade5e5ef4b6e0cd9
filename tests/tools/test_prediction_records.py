"""What was found is found again as long as file, weights and options are the same."""

import json
import os
import time

import pytest
import torch
from detectron2.structures import Boxes, Instances

from efpnbs_d2.inference.georeference import GeoReference
from efpnbs_d2.tools.prediction_inputs import Source
from efpnbs_d2.tools.prediction_records import Record, Records, RecordsOf

SETTINGS = {"weights": "abc", "--tile": [640, 512]}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.png").write_bytes(b"pixels")
    return Source(tmp_path / "a.png", "a")


def detections(*rows):
    """Of rows x1, y1, x2, y2, score, class."""
    found = Instances((40, 50))
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    found.pred_boxes, found.scores = Boxes(table[:, :4]), table[:, 4]
    found.pred_classes = table[:, 5].long()
    return found


def test_a_record_comes_back_as_it_was(tmp_path, source):
    place = GeoReference((0.5, 0.0, 100.0, 0.0, -0.5, 200.0), "EPSG:32633")
    record = Record("a.png", "a", 40, 50, georeference=place)
    record.add(detections([1, 2, 11.00049, 8, 0.9, 1]))
    assert record.boxes == [[1.0, 2.0, 11.0, 8.0]] and record.scores == [0.9]
    Records(tmp_path / "out", SETTINGS).write(source, record)
    assert Records(tmp_path / "out", SETTINGS).find(source) == record


def test_frames_are_counted_also_those_without_detections(source):
    record = Record("a.mp4", "a", 40, 50, frames=0)
    for found in (detections(), detections([1, 2, 3, 4, 0.5, 0]), detections([0, 0, 1, 1, 0.7, 1])):
        record.add(found)
    assert record.frames == 3 and record.frame == [2, 3] and record.classes == [0, 1]
    assert record.images() == [("a_000001", 1), ("a_000002", 2), ("a_000003", 3)]


def test_a_file_that_changed_is_predicted_again(tmp_path, source):
    records = Records(tmp_path / "out", SETTINGS)
    assert records.find(source) is None
    records.write(source, Record("a.png", "a", 40, 50))
    assert list(RecordsOf(records, [source])) != []
    state = source.path.stat()
    os.utime(source.path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert records.find(source) is None
    assert list(RecordsOf(records, [source])) == []
    # As is one of the same name elsewhere, and one that is no longer there.
    os.utime(source.path, ns=(state.st_atime_ns, state.st_mtime_ns))
    (tmp_path / "b.png").write_bytes(b"others")
    os.utime(tmp_path / "b.png", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert records.find(Source(tmp_path / "b.png", "a")) is None
    source.path.unlink()
    assert records.find(source) is None


def test_a_damaged_record_is_none(tmp_path, source):
    records = Records(tmp_path / "out", SETTINGS)
    records.write(source, Record("a.png", "a", 40, 50))
    (tmp_path / "out/records/a.json").write_text('{"source": ')
    assert records.find(source) is None


def test_results_of_other_settings_are_not_mixed(tmp_path, source):
    Records(tmp_path / "out", SETTINGS).write(source, Record("a.png", "a", 40, 50))
    other = {**SETTINGS, "weights": "xyz"}
    with pytest.raises(ValueError, match="results with another weights: .* --overwrite"):
        Records(tmp_path / "out", other)
    assert Records(tmp_path / "out", SETTINGS).find(source) is not None
    assert Records(tmp_path / "out", other, anew=True).find(source) is None
    with pytest.raises(ValueError, match="another weights"):
        Records(tmp_path / "out", SETTINGS)


def test_settings_are_compared_as_they_are_written(tmp_path):
    """JSON makes a list of a tuple."""
    Records(tmp_path / "out", {"--tile": (1, 2)})
    Records(tmp_path / "out", {"--tile": (1, 2)})
    assert json.loads((tmp_path / "out/settings.json").read_text()) == {"--tile": [1, 2]}


@pytest.mark.parametrize("anew", [False, True])
def test_settings_of_another_program_are_not_ours(tmp_path, anew):
    (tmp_path / "settings.json").write_text('["theirs"]')
    with pytest.raises(ValueError, match="no results of an earlier run"):
        Records(tmp_path, SETTINGS, anew=anew)
    assert (tmp_path / "settings.json").read_text() == '["theirs"]'


@pytest.mark.parametrize("anew", [False, True])
def test_a_folder_of_other_things_is_left_alone(tmp_path, anew):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no results of an earlier run"):
        Records(tmp_path, SETTINGS, anew=anew)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_other_machines_write_may_appear_late(tmp_path, source, monkeypatch):
    """Each second that is waited, one of three records comes into sight."""
    records, waited = Records(tmp_path / "out", SETTINGS), []

    def passes(seconds):
        (records.folder / f"{'abc'[len(waited)]}.json").touch()
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", passes)
    records.wait_for(iter("abc"))
    assert len(waited) == 3
    records.wait_for("abc")
    assert len(waited) == 3
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(ValueError, match=r"2 files such as .*out/records/x.json.* disk that they"):
        records.wait_for("axy")
    assert 60 <= sum(waited) <= 120


def test_a_machine_with_a_folder_of_its_own_is_noticed(tmp_path):
    records = Records(tmp_path / "out", SETTINGS)
    records.check_seen()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="out on .* is another folder: .*--output"):
        records.check_seen()
