"""Results are taken whole or refused with the record and the reason; missing images are known."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import GroundTruth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.file_format import DataFormatError
from efpnbs_d2.protocols import PROTOCOLS

COCO, VISDRONE = PROTOCOLS["coco"], PROTOCOLS["visdrone"]
GOOD = {"image_id": 7, "category_id": 9, "bbox": [1, 2.5, 3, 4], "score": 0.5}
LINE = b"1,2.5,3,4,0.5,9,-1,-1\n"


def truth_of(ids, names, classes):
    none = np.zeros(0)
    return GroundTruth(
        source="truth",
        image_ids=ids,
        image_names=names,
        image_sizes=np.zeros((len(ids), 2), int),
        classes=dict.fromkeys(classes, "ship"),
        image=none.astype(int),
        category=none.astype(int),
        boxes=none.reshape(0, 4),
        area=none,
        side=none,
        annotation_id=none.astype(int),
        crowd=none.astype(bool),
        ignore=none.astype(bool),
        uncertain=none.astype(bool),
    )


JSON_TRUTH = truth_of((3, 7, 20), ("in/c.png", "in/a.png", "b.jpg"), (4, 9))
# In the order of file names, which is not that of the stems: "a" comes first among those.
TEXT_TRUTH = truth_of(("a-1", "a", "b"), ("a-1", "a", "b"), range(1, 11))


@pytest.fixture
def results(tmp_path):
    """`results([records])` or `results(stem=lines)`: the path of the file or folder."""

    def write(records=None, **files):
        if records is not None:
            (tmp_path / "r.json").write_text(json.dumps(records))
            return str(tmp_path / "r.json")
        (tmp_path / "r").mkdir()
        for stem, lines in files.items():
            (tmp_path / f"r/{stem}.txt").write_bytes(lines)
        return str(tmp_path / "r")

    return write


def test_json_records_keep_their_order_and_unmentioned_images_are_missing(results):
    first = GOOD | {"image_id": 20, "segmentation": []}
    found = read_results(results([first, GOOD, GOOD]), JSON_TRUTH, COCO)
    assert found.image.tolist() == [2, 1, 1]
    assert found.category.tolist() == [9, 9, 9]
    assert found.boxes[0].tolist() == [1, 2.5, 3, 4]
    assert found.scores.tolist() == [0.5, 0.5, 0.5]
    assert found.missing == ("in/c.png",)


def test_no_record_at_all_is_a_result(results):
    found = read_results(results([]), JSON_TRUTH, COCO)
    assert found.boxes.shape == (0, 4)
    assert len(found.missing) == 3


def test_compressed_json(tmp_path):
    (tmp_path / "r.json.gz").write_bytes(gzip.compress(json.dumps([GOOD]).encode()))
    assert len(read_results(str(tmp_path / "r.json.gz"), JSON_TRUTH, COCO).image) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, "found image_id 8, expected an image of truth"),
        ({"image_id": 21}, "found image_id 21"),  # beyond the last
        ({"category_id": 0}, "found category 0, expected one of 4, 9"),
        ({"bbox": [1, 2, float("nan"), 4]}, "nan.* expected numbers between"),
        ({"bbox": [1, 2, 3e8, 4]}, "expected numbers between -10000000 and"),
        ({"score": float("-inf")}, "score -inf, expected numbers"),
        ({"bbox": [1, 2, 3, -0.5]}, r"-0\.5\], expected no negative size"),
        ({"bbox": [1, 2, 3]}, "expected a list of 4 numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "expected a list of 4 numbers"),
        ({"score": "0.5"}, "expected a number"),
        ({"image_id": 7.5}, "expected an integer"),
        ({"image_id": "7"}, "expected an integer"),
    ],
)
def test_a_wrong_record_is_refused_with_its_place(results, change, message):
    with pytest.raises(DataFormatError, match=rf"r\.json:\[1\]: .*{message}"):
        read_results(results([GOOD, GOOD | change, GOOD]), JSON_TRUTH, COCO)


def test_more_wrong_records_are_counted(results):
    with pytest.raises(
        DataFormatError, match=r"\[0\]: found image_id 8.* \(and 2 more like this\)"
    ):
        read_results(results([GOOD | {"image_id": 8}] * 3), JSON_TRUTH, COCO)


def test_a_json_is_ordered_by_score_where_the_first_rows_of_a_file_count(results):
    path = results([GOOD | {"score": s, "image_id": i} for s, i in ((0.1, 3), (0.9, 7), (0.1, 7))])
    found = read_results(path, JSON_TRUTH, VISDRONE)
    assert found.scores.tolist() == [0.9, 0.1, 0.1]
    assert found.image.tolist() == [1, 0, 1]
    assert read_results(path, JSON_TRUTH, COCO).scores.tolist() == [0.1, 0.9, 0.1]


def test_unknown_classes_are_kept_where_asked(results):
    path = results([GOOD, GOOD | {"category_id": 99}])
    found = read_results(path, JSON_TRUTH, COCO, ignore_unknown_classes=True)
    assert found.category.tolist() == [9, 99]


def test_visdrone_counts_others_and_regions_but_coco_does_not_know_them(results):
    path = results([GOOD | {"category_id": c} for c in (0, 10, 9)])
    assert len(read_results(path, JSON_TRUTH, VISDRONE).image) == 3
    with pytest.raises(DataFormatError, match=r"\[0\]: found category 0"):
        read_results(path, JSON_TRUTH, COCO)


def test_a_json_names_the_images_of_text_files_by_stem_or_by_alphabetical_place(results):
    numbers = [GOOD | {"image_id": i} for i in (1, 2, 3)]
    # a, a-1, b: the data sets sort stems, the official code sorts file names.
    assert read_results(results(numbers), TEXT_TRUTH, VISDRONE).image.tolist() == [1, 0, 2]
    stems = [GOOD | {"image_id": i} for i in ("b", "a-1")]
    found = read_results(results(stems), TEXT_TRUTH, VISDRONE)
    assert found.image.tolist() == [2, 0]
    assert found.missing == ("a",)
    for unknown in (0, 4, "c"):
        with pytest.raises(DataFormatError, match=r"\[1\]: found image_id '?[04c]'?, expected"):
            read_results(
                results([GOOD | {"image_id": 1}, GOOD | {"image_id": unknown}]),
                TEXT_TRUTH,
                VISDRONE,
            )


def test_text_files_keep_their_order_and_need_not_be_sorted(results):
    path = results(b=LINE + b"\r\n5,6,7,8,0.9,11,-1,-1,\r\n", a=b"")
    found = read_results(path, TEXT_TRUTH, VISDRONE)
    assert found.image.tolist() == [2, 2]
    assert found.scores.tolist() == [0.5, 0.9]
    assert found.category.tolist() == [9, 11]
    assert found.boxes.tolist() == [[1, 2.5, 3, 4], [5, 6, 7, 8]]
    assert found.missing == ("a-1",)  # an empty file is a result, no file is none


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1,2,3,4,0.5,9\n", "found 6 columns in .*, expected 8 "),
        (b"1,2,3,4,0.5,12,-1,-1\n", "found category 12, expected one of 0, 1,"),
        (b"1,2,-3,4,0.5,9,-1,-1\n", "expected no negative size"),
        (b"1,2,nan,4,0.5,9,-1,-1\n", "expected numbers between"),
        (b"1,2,x,4,0.5,9,-1,-1\n", "expected 8 comma-separated numbers"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(results, line, message):
    with pytest.raises(DataFormatError, match=rf"b\.txt:3: .*{message}"):
        read_results(results(b=LINE + b"\n" + line), TEXT_TRUTH, VISDRONE)


def test_text_files_of_unknown_images_are_refused(results):
    with pytest.raises(DataFormatError, match=r"c\.txt: found no image 'c' in truth"):
        read_results(results(a=LINE, c=LINE), TEXT_TRUTH, VISDRONE)


def test_text_files_go_with_a_coco_ground_truth(results):
    path = results(a=LINE, b=LINE + b"1,2,3,4,0.5,4,-1,-1\n")
    found = read_results(path, JSON_TRUTH, COCO)
    assert found.image.tolist() == [1, 2, 2]
    assert found.missing == ("in/c.png",)


def test_classes_of_text_files_are_the_categories_of_the_ground_truth(results):
    path = results(b=LINE + b"\n1,2,3,4,0.5,5,-1,-1\n")
    with pytest.raises(DataFormatError, match=r"b\.txt:3: found category 5, expected one of 0, 4,"):
        read_results(path, JSON_TRUTH, COCO)
    found = read_results(path, JSON_TRUTH, COCO, ignore_unknown_classes=True)
    assert found.category.tolist() == [9, 5]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # By name, and as they are where the truth lacks one.
        ({1: "boat", 2: "ship"}, [4, 9, 9]),
        ({1: "boat", 2: "crane"}, [2, 1, 1]),
    ],
)
def test_names_beside_the_files_of_predict_count(results, tmp_path, names, expected):
    path = results(b=b"".join(b"1,2,3,4,0.5,%d,-1,-1\n" % number for number in (2, 1, 1)))
    categories = [{"id": number, "name": name} for number, name in names.items()]
    (tmp_path / "images.json").write_text(json.dumps({"categories": categories}))
    truth = replace(JSON_TRUTH, classes={4: "ship", 9: "boat"})
    found = read_results(path, truth, COCO, ignore_unknown_classes=True)
    assert found.category.tolist() == expected
    (tmp_path / "images.json").write_text("[]")
    found = read_results(path, truth, COCO, ignore_unknown_classes=True)
    assert found.category.tolist() == [2, 1, 1]


def test_text_files_cannot_name_two_images_of_one_stem(results):
    truth = truth_of((1, 2), ("x/a.png", "y/a.png"), (9,))
    with pytest.raises(ValueError, match="two images named 'a'.* expected a COCO JSON"):
        read_results(results(a=LINE), truth, COCO)
