"""Which annotations the official codes see: those found by their ids, or left by regions."""

import numpy as np

from efpnbs_d2.evaluation.official_rows import has_plain_id, official_rows, with_plain_ids
from efpnbs_d2.protocols import PROTOCOLS

COCO, VISDRONE = PROTOCOLS["coco"], PROTOCOLS["visdrone"]


def objects(*rows):
    """(id, image, category) each; the place in the row is the left end of the box."""
    names = ("id", "image", "category")
    return [
        {"box": [n, 0, 5, 5], **dict(zip(names, row, strict=True))} for n, row in enumerate(rows)
    ]


def seen(columns, *rows, protocol=COCO):
    """Numbers of the rows that the official code sees, in its order."""
    truth, found = official_rows(protocol, *columns(objects(*rows), [], images=2))
    assert len(found.image) == 0
    return truth.boxes[:, 0].astype(int).tolist()


def test_single_ids_change_nothing(columns):
    assert seen(columns, (5, 1, 1), (0, 0, 1), (3, 0, 9)) == [0, 1, 2]


def test_the_last_annotation_of_an_id_stands_at_the_places_of_all_by_image(columns):
    """Row 2 twice in image 0: at its own place after row 1, and where image 1 had row 0."""
    assert seen(columns, (1, 1, 1), (2, 0, 1), (1, 0, 1)) == [1, 2, 2]


def test_an_annotation_of_no_class_is_not_looked_up(columns):
    assert seen(columns, (1, 0, 9), (1, 0, 1)) == [1]
    # The other way round the one of the class is replaced by one of none.
    assert seen(columns, (1, 0, 1), (1, 0, 9)) == [1]


def test_visdrone_has_no_ids_but_regions(columns):
    assert seen(columns, (1, 0, 1), (1, 0, 1), (1, 1, 0), protocol=VISDRONE) == [0, 1]


def test_which_ids_are_plain(columns):
    truth, _ = columns(objects((0, 0, 1), (7, 0, 1), (4, 0, 1), (7, 1, 1)), [], images=2)
    assert has_plain_id(COCO, truth).tolist() == [False, False, True, False]
    assert has_plain_id(VISDRONE, truth).all()
    plain = with_plain_ids(truth)
    assert has_plain_id(COCO, plain).all()
    assert np.array_equal(plain.boxes, truth.boxes)
