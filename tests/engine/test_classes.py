"""A class is its place in the list: lists that differ are refused."""

import pytest

from efpnbs_d2.engine.classes import check_same_classes


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        (["person", "car"], "class 0 is car and person"),
        (["car", "van"], "class 1 is person and van"),
        (["car"], "class 1 is person and missing"),
        (["car", "person", "van"], "class 2 is missing and van"),
    ],
)
def test_lists_that_differ_are_shown(found, difference):
    with pytest.raises(
        ValueError,
        match=f"found classes car, person in mine_train and {', '.join(found)} in mine_val, "
        rf"expected the same ones in the same order \({difference}\)",
    ):
        check_same_classes({"mine_train": ["car", "person"], "mine_val": found})


def test_lists_that_are_equal_pass():
    check_same_classes({"train": ["car", "person"], "val": ("car", "person")})
    check_same_classes({})


def test_every_list_is_compared():
    classes = {"train": ["car", "van"], "val": ["car", "van"], "test": ["van", "car"]}
    with pytest.raises(ValueError, match="in train and van, car in test"):
        check_same_classes(classes)
