"""How an evaluation is shown: percent for people, official units in plain data."""

import json

from efpnbs_d2.evaluation.result import Evaluation
from efpnbs_d2.protocols import PROTOCOLS

NAN = float("nan")
NAMES = [metric.name for metric in PROTOCOLS["aitod"].metrics]


def evaluation(per_class, name="aitod", **metrics):
    return Evaluation(
        PROTOCOLS[name], metrics, per_class, {"AP without it": 0.5}, ("Something happened.",)
    )


def test_fractions_are_shown_as_percent_and_what_is_undefined_as_a_dash():
    shown = evaluation({}, AP=0.12345, AP25=-1.0, oLRP_Loc=NAN).table().splitlines()
    assert shown[0] == "AI-TOD, in %"
    assert shown[2].split("  ") == ["AP 12.35", "AP25 -", "oLRP_Loc -"]
    assert shown[-1] == "Note: Something happened."
    assert "AP without it  50.00" in shown


def test_percentages_stay():
    shown = evaluation({}, "visdrone", AP_all=12.345, AP_50=NAN).table()
    assert "AP_all 12.35" in shown or "AP_all 12.34" in shown
    assert "AP_50 -" in shown


def test_classes_show_the_headline_first_and_no_more_than_a_terminal_holds():
    values = dict.fromkeys(NAMES, 0.5) | {"AP25": -1.0, "AP50": NAN}
    shown = evaluation({"ship": values, "person": values | {"AP50": 0.25}}, AP=0.5).table()
    header = next(line for line in shown.splitlines() if "class" in line)
    # AP25 is undefined for both classes, AP50 for one of them only.
    assert header.split() == ["class", "AP", "AP50", "AP75", "APvt", "APt", "APs", "APm"]
    assert max(map(len, shown.splitlines())) <= 100
    (first, *_) = (line.split() for line in shown.splitlines() if "ship" in line)
    assert first[:3] == ["ship", "50.00", "-"]


def test_tinypersons_headline_comes_first():
    values = dict.fromkeys([m.name for m in PROTOCOLS["tinyperson"].metrics], 0.5)
    shown = evaluation({"sea": values, "earth": values}, "tinyperson", AP50_tiny=0.5).table()
    header = next(line for line in shown.splitlines() if "class" in line)
    assert header.split()[:3] == ["class", "AP50_tiny", "AP25_all"]


def test_one_class_needs_no_table_of_classes():
    assert "class" not in evaluation({"person": {"AP": 0.5}}, AP=0.5).table()


def test_plain_data_has_the_official_units_and_null():
    plain = evaluation({"ship": {"AP": NAN}}, AP=1 / 3, AP25=-1.0).as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "protocol": "aitod",
        "unit": "fraction",
        "metrics": {"AP": 1 / 3, "AP25": -1.0},
        "per_class": {"ship": {"AP": None}},
        "unofficial": {"AP without it": 0.5},
        "notes": ["Something happened."],
    }
