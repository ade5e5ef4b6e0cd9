"""Numbers of a data set small enough to count by hand."""

import numpy as np
import pytest

from efpnbs_d2.data.statistics import BoxColumns, bins_of_protocol, size_bins
from efpnbs_d2.protocols import PROTOCOLS

CAR, SHIP, BUS = 0, 1, 2


def box(category, *xywh, ignored_as=None, iscrowd=0):
    annotation = {"bbox": list(xywh), "category_id": category, "iscrowd": iscrowd}
    return annotation | ({"ignored_as": ignored_as, "iscrowd": 1} if ignored_as else {})


def record(*annotations, height=100, width=200):
    return {"file_name": "x.png", "height": height, "width": width, "annotations": annotations}


@pytest.fixture
def columns():
    """Three images of 200 x 100 px and a square one: 3 cars, 2 ships, no bus, 3 ignored regions."""
    return BoxColumns.of(
        [
            # 8 x 8 is on the edge of AI-TOD's first bin, which it belongs to; so does 16 x 4.
            record(box(CAR, 0, 0, 8, 8), box(SHIP, 192, 92, 8, 8), box(CAR, 100, 50, 16, 4)),
            record(box(CAR, 0, 0, 100, 50, ignored_as="region")),
            record(),
            record(
                box(CAR, 60, 60, 40, 40),
                box(SHIP, 1, 1, 9, 9),
                box(BUS, 2, 2, 4, 4, ignored_as="uncertain"),
                box(BUS, 2, 2, 16, 1, iscrowd=1),
                height=100,
                width=100,
            ),
        ]
    )


def test_classes_are_counted_without_ignored_regions(columns):
    objects, images = columns.class_counts(3)
    assert objects.tolist() == [3, 2, 0]
    # Two of the cars share an image.
    assert images.tolist() == [2, 2, 0]
    assert columns.labelled


def test_objects_per_image_with_empty_images(columns):
    assert columns.objects_per_image.tolist() == [3, 0, 0, 2]
    # "More than": two images have 2 objects or more, one has more than 2.
    assert columns.crowded_images((1, 2, 3)) == {1: 2, 2: 1, 3: 0}


def test_sizes_by_class_and_bin(columns):
    # Cars of 64, 64 and 1,600 px^2, ships of 64 and 81: an edge (64 = 8^2) is in the lower bin.
    assert columns.size_counts(size_bins(PROTOCOLS["aitod"]), 3).tolist() == [
        [2, 0, 0, 1],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    assert sorted(columns.object_sizes.tolist()) == [8, 8, 8, 9, 40]
    assert columns.median_sizes(3) == [8, 8.5, None]


@pytest.mark.parametrize(
    ("bins", "sides", "expected"),
    [
        ("aitod", [1, 8, 8.01, 16, 16.01, 32, 32.01], [0, 0, 1, 1, 2, 2, 3]),
        ("tinyperson", [8, 8.01, 12, 12.01, 20, 20.01, 32, 33], [0, 1, 1, 2, 2, 3, 3, 4]),
        ("coco", [32, 32.01, 96, 97], [0, 1, 1, 2]),
    ],
)
def test_an_edge_belongs_to_the_lower_bin(bins, sides, expected):
    assert size_bins(PROTOCOLS[bins]).index(np.square(sides)).tolist() == expected


def test_bins_name_their_range():
    assert size_bins(PROTOCOLS["coco"]).labels == ["small ≤32", "medium 32–96", "large >96"]
    assert [bins.owner for bins in bins_of_protocol("tinyperson")] == ["AI-TOD", "TinyPerson"]
    assert [bins.owner for bins in bins_of_protocol("aitod")] == ["AI-TOD"]
    assert [bins.owner for bins in bins_of_protocol("visdrone")] == ["AI-TOD"]


def test_ranges_that_hold_others_are_no_bins():
    """TinyPerson's "all" and "tiny" are unions of the others."""
    bins = size_bins(PROTOCOLS["tinyperson"])
    assert bins.names == ("tiny1", "tiny2", "tiny3", "small", "reasonable")
    assert bins.edges == (8, 12, 20, 32)


def test_ratios_are_width_by_height(columns):
    assert columns.aspect_ratios.tolist() == [1, 1, 4, 1, 1]


def test_positions_are_parts_of_their_own_image(columns):
    """Rows from top to bottom, columns from left to right."""
    # In quarters: centres (4,4), (196,96), (108,52) of 200 x 100; (80,80), (5.5,5.5) of 100 x 100.
    assert columns.position_map(2).tolist() == [[2, 0], [0, 3]]
    upper_right = BoxColumns.of([record(box(CAR, 150, 10, 8, 8))])
    assert upper_right.position_map(2).tolist() == [[0, 1], [0, 0]]


def test_a_centre_on_the_far_border_is_inside():
    """A box so thin that its centre rounds to the border counts in the last cell."""
    columns = BoxColumns.of([record(box(CAR, 200 - 1e-14, 50, 1e-14, 1))])
    assert columns.position_map(4)[2].tolist() == [0, 0, 0, 1]


def test_ignored_regions_by_kind(columns):
    assert columns.ignored_counts() == {
        "crowd": (1, 1, 4.0),  # 16 x 1
        "region": (1, 1, pytest.approx(5000**0.5)),
        "uncertain": (1, 1, 4.0),
    }


def test_image_sizes_by_frequency(columns):
    assert columns.image_sizes() == [((200, 100), 3), ((100, 100), 1)]


def test_repeated_boxes():
    """Repeats within an image only, of objects only, each but the first one."""
    columns = BoxColumns.of(
        [
            record(
                box(CAR, 1, 2, 3, 4),
                box(SHIP, 1, 2, 3, 4),
                box(CAR, 1, 2, 3, 4),
                box(CAR, 1, 2, 3, 5),
                box(CAR, 1, 2, 3, 5, ignored_as="region"),
                box(CAR, 1, 2, 3, 4),
            ),
            record(box(CAR, 1, 2, 3, 4)),
        ]
    )
    assert columns.repeated_objects(same_class=True).tolist() == [2, 5]
    assert columns.repeated_objects(same_class=False).tolist() == [1]


def test_thin_objects():
    columns = BoxColumns.of(
        [record(box(CAR, 0, 0, 1.9, 50), box(CAR, 0, 0, 2, 2), box(CAR, 0, 0, 9, 1, iscrowd=1))]
    )
    assert columns.thin_objects(2).tolist() == [0]


def test_images_without_labels():
    columns = BoxColumns.of([{"file_name": "x.png", "height": 5, "width": 9}])
    assert not columns.labelled
    assert columns.class_counts(2)[0].tolist() == [0, 0]
    assert columns.size_counts(size_bins(PROTOCOLS["aitod"]), 2).sum() == 0
    assert columns.position_map(2).sum() == 0
    assert columns.objects_per_image.tolist() == [0]
