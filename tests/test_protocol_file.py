"""A YAML file makes a protocol: what it lists differs from the base, all else is the base's."""

from dataclasses import replace

import pytest

from efpnbs_d2.protocol_file import load_protocol, read_protocol_file
from efpnbs_d2.protocols import PROTOCOLS, Metric, SizeRange

SODA = """
name: soda-d
base: coco
title: SODA-D
max_dets: [20000]
size_ranges:
  Small: [0, 1024]
  eS: [0, 144]
"""


@pytest.fixture
def protocol_file(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_own_size_ranges_bring_their_metrics(protocol_file):
    ranges = (SizeRange("Small", 0, 1024), SizeRange("eS", 0, 144))
    assert read_protocol_file(protocol_file(SODA)) == replace(
        PROTOCOLS["coco"],
        name="soda-d",
        title="SODA-D",
        size_ranges=ranges,
        max_dets=(20000,),
        metrics=(
            Metric("AP", "AP", None, "Small", 20000),
            Metric("AP50", "AP", 0.5, "Small", 20000),
            Metric("AP75", "AP", 0.75, "Small", 20000),
            Metric("APeS", "AP", None, "eS", 20000),
            Metric("AR20000", "AR", None, "Small", 20000),
            Metric("AReS", "AR", None, "eS", 20000),
        ),
    )


def test_own_thresholds_and_limits_keep_the_rest_of_the_base(protocol_file):
    text = "name: own\nbase: aitod\niou_thresholds: [0.25, 0.5]\nmax_dets: [10, 3000]\n"
    protocol = read_protocol_file(protocol_file(text))
    assert protocol.title == "own"
    assert protocol.size_ranges == PROTOCOLS["aitod"].size_ranges
    names = [metric.name for metric in protocol.metrics]
    assert names[:4] == ["AP", "AP50", "AP75", "APvt"]
    assert "AR3000" in names and names[-4:] == ["oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN"]
    assert {metric.max_dets for metric in protocol.metrics} == {10, 3000}


def test_own_classes_and_rules_leave_the_table(protocol_file):
    text = "name: own\nbase: visdrone\nclasses: [car, van]\nclass_mean: plain\npercent: false\n"
    protocol = read_protocol_file(protocol_file(text))
    assert (protocol.classes, protocol.class_mean, protocol.percent) == (
        ("car", "van"),
        "plain",
        False,
    )
    assert protocol.metrics == PROTOCOLS["visdrone"].metrics


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "no readable YAML"),
        ("- 1", "found no name"),
        ("base: coco", "found no name"),
        ("name: own", "found base None, expected one of coco, aitod"),
        ("name: own\nbase: [coco]", r"found base \['coco'\]"),
        ("name: own\nbase: coco\niuo: [0.5]", "found key 'iuo', expected of base, class_mean"),
        ("name: own\nbase: coco\nmetrics: []", "found key 'metrics'"),
        ("name: own\nbase: coco\nmax_dets: [1.5]", r"max_dets \[1.5\], expected a list of pos"),
        ("name: own\nbase: coco\nmax_dets: [0, 5]", "expected a list of positive"),
        ("name: own\nbase: coco\nmax_dets: 5", "expected a list of positive"),
        ("name: own\nbase: coco\nmax_dets: []", "expected a list of positive"),
        ("name: own\nbase: coco\nmax_dets: [9, 5]", "own.yaml: .* expected ascending"),
        ("name: own\nbase: coco\nclasses: car", "expected a list of names"),
        ("name: own\nbase: coco\nlimit: file", "found limit 'file', expected 'class' or 'image'"),
        ("name: own\nbase: coco\nignored_in_recall: 1", "expected a bool"),
        ("name: own\nbase: coco\nsize_ranges: [1, 2]", "expected name: .low, high. in square"),
        ("name: own\nbase: coco\nsize_ranges: {s: [9, 2]}", r"found size range 's': \[9, 2\]"),
        ("name: own\nbase: coco\nsize_ranges: {s: 9}", "found size range 's': 9"),
        ("name: own\nbase: coco\nsize_ranges: {}", "expected name: .low, high. in square"),
        # Both would be APs, and one of them be lost.
        (
            "name: own\nbase: coco\nsize_ranges: {all: [0, 9], small: [0, 4], s: [4, 9]}",
            "own.yaml: .* found several metrics named APs, ARs",
        ),
        ("name: coco\nbase: coco\nmax_dets: [500]", "found name 'coco', which is a known"),
        ("name: own\nbase: coco\nheadline: mAP", "found headline 'mAP', expected one of AP, AP50"),
    ],
)
def test_mistakes_are_named(protocol_file, text, message):
    with pytest.raises(ValueError, match=message):
        read_protocol_file(protocol_file(text))


def test_a_protocol_is_known_by_name_or_by_file(protocol_file):
    assert load_protocol("aitod") is PROTOCOLS["aitod"]
    assert load_protocol(protocol_file(SODA)).name == "soda-d"
    with pytest.raises(ValueError, match=r"'voc', expected one of coco, .*, or a \.yaml file"):
        load_protocol("voc")
