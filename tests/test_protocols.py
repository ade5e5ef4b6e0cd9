"""What makes a protocol, and how one gets its name known."""

from dataclasses import replace

import pytest

from efpnbs_d2.protocols import (
    PROTOCOLS,
    Metric,
    SizeRange,
    find_protocol,
    register_protocol,
)

COCO = PROTOCOLS["coco"]


def test_a_registered_protocol_is_found_by_its_name(monkeypatch):
    monkeypatch.setattr("efpnbs_d2.protocols.PROTOCOLS", dict(PROTOCOLS))
    own = replace(COCO, name="own")
    register_protocol(own)
    assert find_protocol("own") is own
    with pytest.raises(ValueError, match="'own' exists already"):
        register_protocol(own)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'voc', expected one of coco, aitod"):
        find_protocol("voc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iou_thresholds": ()}, "found no IoU thresholds"),
        ({"iou_thresholds": (0.5, 0.5)}, "expected ascending"),
        ({"iou_thresholds": (0.0, 0.5)}, "expected numbers above 0"),
        ({"max_dets": (1, 10)}, "metric 'AP' is at size 'all' and limit 100"),
        ({"size_ranges": (SizeRange("all", 0, 9),)}, "metric 'APs' is at size 'small'"),
        ({"size_ranges": (*COCO.size_ranges, SizeRange("all", 0, 9))}, "several sizes named all"),
        (
            {"metrics": (*COCO.metrics, Metric("AP", "AP", 0.5, "all", 100))},
            "several metrics named AP,",
        ),
    ],
)
def test_what_makes_no_protocol_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"protocol 'coco': .*{message}"):
        replace(COCO, **changes)


def test_a_headline_that_is_no_metric_is_refused():
    with pytest.raises(ValueError, match="found headline 'mAP', expected one of AP, AP50"):
        replace(PROTOCOLS["coco"], name="own", headline="mAP")
