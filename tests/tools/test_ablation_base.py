"""Lists that build on another: what is merged, and which mistakes are named."""

import pytest

from efpnbs_d2.tools.ablation_base import read_over_base
from efpnbs_d2.tools.ablation_list import Comparison, read_list

BASE = """
seeds: [1, 2]
overrides: [a=1]
runs:
  fpn: {config: fpn}
  cem: {config: efpn_bs, overrides: [b=2]}
  own: {config: own.py}
comparisons: [{baseline: fpn, runs: [cem]}]
"""
MINE = """
_BASE_: common/base.yaml
title: mine
configs: {fpn: fpn.py, efpn_bs: deeper/efpn_bs.py}
overrides: [a=3]
start: first
starts:
  first: {config: fpn}
runs:
  cem: {overrides: [b=4]}
  stock: {config: fpn, start: null}
comparisons: [{baseline: stock, runs: [fpn]}]
"""


@pytest.fixture
def write(tmp_path):
    for name in ("mine/fpn.py", "mine/deeper/efpn_bs.py", "mine/common/own.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def write(name, text):
        path = tmp_path / "mine" / name
        path.write_text(text)
        return path

    write("common/base.yaml", BASE)
    return write


def test_a_list_is_merged_over_its_base(write):
    ablation = read_list(write("mine.yaml", MINE))
    assert (ablation.name, ablation.title, ablation.seeds) == ("mine", "mine", (1, 2))
    assert [*ablation.runs] == ["fpn", "cem", "own", "stock"]
    # The base's come first, so the list's win; those of all runs before those of one.
    assert ablation.runs["cem"].overrides == ("a=1", "a=3", "b=2", "b=4")
    assert ablation.starts["first"].overrides == ("a=1", "a=3")
    assert ablation.comparisons == (Comparison("fpn", ("cem",)), Comparison("stock", ("fpn",)))


def test_other_values_take_the_place_of_the_base_s(write):
    assert read_list(write("mine.yaml", MINE + "seeds: [7]\n")).seeds == (7,)


def test_runs_begin_with_the_list_s_start_unless_they_say_otherwise(write):
    runs = read_list(write("mine.yaml", MINE)).runs
    assert (runs["fpn"].start, runs["cem"].start, runs["stock"].start) == ("first", "first", "")


def test_a_path_is_relative_to_the_file_it_stands_in(write, tmp_path):
    write("mine.yaml", MINE)
    (tmp_path / "elsewhere").mkdir()
    above = tmp_path / "elsewhere/other.yaml"
    above.write_text("_BASE_: ../mine/mine.yaml\nconfigs: {fpn: fpn.py}\n")
    (tmp_path / "elsewhere/fpn.py").touch()
    runs = read_list(above).runs
    assert runs["fpn"].config == tmp_path / "elsewhere/fpn.py"
    assert runs["cem"].config == tmp_path / "mine/deeper/efpn_bs.py"
    assert runs["own"].config == tmp_path / "mine/common/own.py"


@pytest.mark.parametrize("base", ["no.yaml", "common", "null", "[common/base.yaml]"])
def test_a_base_that_is_no_file_is_refused(write, base):
    path = write("mine.yaml", MINE.replace("common/base.yaml", base))
    with pytest.raises(ValueError, match=r"mine\.yaml: _BASE_: found .*, expected a YAML file"):
        read_list(path)


def test_a_circle_is_refused(write):
    path = write("mine.yaml", MINE)
    write("common/base.yaml", "_BASE_: ../second.yaml\n")
    write("second.yaml", "_BASE_: mine.yaml\n")
    with pytest.raises(ValueError, match=r"second\.yaml: _BASE_: found 'mine\.yaml', .* not build"):
        read_over_base(path)
    with pytest.raises(ValueError, match=r"alone\.yaml: _BASE_: found 'alone\.yaml'"):
        read_over_base(write("alone.yaml", "_BASE_: alone.yaml\n"))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("- runs", r"mine\.yaml: _BASE_: found 'common/base\.yaml', .* mapping"),
        ("runs: [fpn", r"common/base\.yaml is no YAML"),
        ("runs: {}\nruns: {}", r"common/base\.yaml is no YAML: .*duplicate"),
        # After merging, both files may be to blame.
        (BASE.replace("b=2", "2"), r"mine\.yaml on .*base\.yaml: runs\.cem\.overrides: found"),
        # Nothing of a base is dropped because its kind is wrong.
        (BASE.replace("[a=1]", "a=1"), r"base\.yaml: overrides: found \['a=3'\] over 'a=1'"),
        (BASE.replace("[b=2]", "b=2"), r"base\.yaml: runs\.cem\.overrides: found \['b=4'\] over"),
        (
            BASE.replace("cem: {config: efpn_bs,", "cem: 1 #"),
            r"runs\.cem: found \{.* over 1, expec",
        ),
    ],
)
def test_a_mistake_of_the_base_is_named(write, base, message):
    write("common/base.yaml", base)
    with pytest.raises(ValueError, match=message):
        read_list(write("mine.yaml", MINE))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("first: {config: fpn}", "first: {config: rpn}", "starts.first.config: found 'rpn', "
         "expected an existing LazyConfig (.py), or one of fpn, efpn_bs"),
        ("fpn: fpn.py", "fpn: no.py", "configs.fpn: found '"),
        ("{fpn: fpn.py, efpn_bs: deeper/efpn_bs.py}", "[fpn.py]", "configs: found ["),
        ("start: first", "start: second", ": start: found 'second', expected one of first"),
        ("start: null", "start: 0", "runs.stock.start: found 0, expected one of first"),
    ],
)  # fmt: skip
def test_unknown_configs_and_starts_are_named(write, old, new, message):
    assert old in MINE
    with pytest.raises(ValueError, match="mine.yaml on ") as error:
        read_list(write("mine.yaml", MINE.replace(old, new, 1)))
    assert message in str(error.value)


def test_a_config_of_another_kind_is_refused_wherever_the_command_is_run(write, monkeypatch):
    write("fpn.yaml", "")
    path = write("mine.yaml", MINE.replace("fpn.py", "fpn.yaml"))
    monkeypatch.chdir(path.parent)
    with pytest.raises(ValueError, match=r"found 'fpn\.yaml', expected an existing LazyConfig"):
        read_list(path)
