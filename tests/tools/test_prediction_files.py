"""The files for other programs say the same, each in its own form."""

import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.inference.georeference import GeoReference
from efpnbs_d2.protocols import find_protocol
from efpnbs_d2.tools.prediction_files import write_files
from efpnbs_d2.tools.prediction_records import Record

PROTOCOL = find_protocol("coco")
NAMES = ["buoy", "raft, large"]
IDS = [5, 9]


def image(name="a", **more):
    return Record(
        f"/in/{name}.png",
        name,
        40,
        50,
        classes=[0, 1],
        scores=[0.25, 0.75],
        boxes=[[1.0, 2.0, 11.5, 8.0], [20.0, 20.0, 30.0, 31.0]],
        **more,
    )


def empty(name):
    return Record(f"/in/{name}.png", name, 30, 60)


@pytest.fixture
def video():
    """Three frames, the second without detections."""
    return Record(
        "/in/v.mp4",
        "v",
        40,
        50,
        frames=3,
        frame=[1, 3, 3],
        classes=[0, 0, 1],
        scores=[0.5, 0.2, 0.6],
        boxes=[[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 9.0, 6.0]],
    )


def test_coco_results_fit_their_images(tmp_path, video):
    """Also as pycocotools reads them; ids go on behind the frames of a video."""
    write_files(tmp_path, [image(), video, empty("b"), image("c")], NAMES, IDS)
    truth = COCO(str(tmp_path / "images.json"))
    assert [truth.imgs[i]["file_name"] for i in sorted(truth.imgs)] == [
        "/in/a.png",
        "v_000001",
        "v_000002",
        "v_000003",
        "/in/b.png",
        "/in/c.png",
    ]
    assert truth.imgs[5]["height"] == 30 and truth.imgs[5]["width"] == 60
    assert [(c["id"], c["name"]) for c in truth.dataset["categories"]] == list(zip(IDS, NAMES))
    found = truth.loadRes(str(tmp_path / "detections.json"))
    assert [a["image_id"] for a in found.dataset["annotations"]] == [1, 1, 2, 4, 4, 6, 6]
    assert found.anns[1]["bbox"] == [1.0, 2.0, 10.5, 6.0]
    assert found.anns[1]["category_id"] == 5 and found.anns[1]["score"] == 0.25
    assert found.anns[5]["bbox"] == [5.0, 5.0, 4.0, 1.0] and found.anns[5]["category_id"] == 9


def test_our_own_evaluation_reads_both_forms(tmp_path):
    write_files(tmp_path, [image(), empty("b")], NAMES, IDS)
    truth = read_ground_truth(str(tmp_path / "images.json"), PROTOCOL)
    found = read_results(str(tmp_path / "detections.json"), truth, PROTOCOL)
    texts = read_results(str(tmp_path / "visdrone"), truth, PROTOCOL)
    # The text file begins with the highest score.
    for name in ("image", "category", "boxes", "scores"):
        assert np.array_equal(getattr(texts, name), getattr(found, name)[::-1])
    # An empty file says that nothing was found, which a JSON cannot.
    assert texts.missing == () and found.missing == ("/in/b.png",)


def test_visdrone_files_are_one_for_each_image_and_frame(tmp_path, video):
    write_files(tmp_path, [image(), video, empty("b")], NAMES, IDS)
    texts = {path.name: path.read_text() for path in (tmp_path / "visdrone").iterdir()}
    assert sorted(texts) == ["a.txt", "b.txt", "v_000001.txt", "v_000002.txt", "v_000003.txt"]
    assert texts["a.txt"] == ("20.0,20.0,10.0,11.0,0.75,2,-1,-1\n1.0,2.0,10.5,6.0,0.25,1,-1,-1\n")
    assert texts["b.txt"] == texts["v_000002.txt"] == ""
    assert texts["v_000003.txt"].startswith("5.0,5.0,4.0,1.0,0.6,2")


def test_text_files_of_other_images_are_gone_afterwards(tmp_path):
    """A server would count them."""
    write_files(tmp_path, [image(), image("old")], NAMES, IDS)
    write_files(tmp_path, [image()], NAMES, IDS)
    assert [path.name for path in (tmp_path / "visdrone").iterdir()] == ["a.txt"]


def test_csv_has_a_line_a_detection(tmp_path, video):
    write_files(tmp_path, [image(), video, empty("b")], NAMES, IDS)
    with open(tmp_path / "detections.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert rows[1] == {
        "image": "/in/a.png",
        "frame": "",
        "category_id": "9",
        "category": "raft, large",
        "score": "0.75",
        "left": "20.0",
        "top": "20.0",
        "width": "10.0",
        "height": "11.0",
    }
    assert [row["frame"] for row in rows] == ["", "", "1", "3", "3"]


def test_nothing_found_makes_whole_files(tmp_path):
    written = write_files(tmp_path, [empty("b")], NAMES, IDS)
    assert json.loads((tmp_path / "detections.json").read_text()) == []
    assert (tmp_path / "detections.csv").read_text().splitlines() == [
        "image,frame,category_id,category,score,left,top,width,height"
    ]
    assert [path.name for path in written] == [
        "images.json",
        "detections.json",
        "detections.csv",
        "visdrone",
    ]
    assert write_files(tmp_path, [], NAMES, IDS)


def test_geojson_tells_longitude_and_latitude(tmp_path):
    """One degree a hundred pixels, from 10 degrees east and 50 north on, rows going south.

    The first box spans x 1 to 11.5 and y 2 to 8: 10.01 to 10.115 east and 49.92 to 49.98 north.
    """
    pytest.importorskip("rasterio")
    place = GeoReference((0.01, 0.0, 10.0, 0.0, -0.01, 50.0), "EPSG:4326")
    written = write_files(tmp_path, [image("b"), image(georeference=place)], NAMES, IDS)
    assert tmp_path / "detections.geojson" in written
    content = json.loads((tmp_path / "detections.geojson").read_text())
    assert content["type"] == "FeatureCollection" and len(content["features"]) == 2
    first = content["features"][0]
    assert first["properties"] == {"image": "/in/a.png", "category": "buoy", "score": 0.25}
    assert first["geometry"]["type"] == "Polygon"
    (ring,) = first["geometry"]["coordinates"]
    x, y = np.array(ring).T
    assert ring[0] == ring[-1] and len(ring) == 5
    assert (x.min(), x.max()) == pytest.approx((10.01, 10.115))
    assert (y.min(), y.max()) == pytest.approx((49.92, 49.98))
    # A later run without such images leaves no old coordinates behind.
    write_files(tmp_path, [image()], NAMES, IDS)
    assert not (tmp_path / "detections.geojson").exists()


@pytest.mark.parametrize("south", [-0.01, 0.01])
def test_outlines_turn_left_whichever_way_the_rows_go(tmp_path, south):
    """RFC 7946: the shoelace area is positive, also where the first row is the southernmost."""
    pytest.importorskip("rasterio")
    place = GeoReference((0.01, 0.0, 10.0, 0.0, south, 50.0), "EPSG:4326")
    write_files(tmp_path, [image(georeference=place)], NAMES, IDS)
    for feature in json.loads((tmp_path / "detections.geojson").read_text())["features"]:
        x, y = np.array(feature["geometry"]["coordinates"][0]).T
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
