"""The curves of a run, and what is told of a file that has none."""

import json

import pytest
from matplotlib.figure import Figure

from efpnbs_d2.tools import curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, target, **options: figures.append(self))
    return figures


def lines(figure):
    """Of each panel: label -> iterations."""
    return {
        axes.get_title(): {line.get_label(): list(line.get_xdata()) for line in axes.get_lines()}
        for axes in figure.axes
    }


def call(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["curves", *map(str, arguments)])
    curves.main()


def test_overall_ap_of_any_protocol_and_data_set_is_drawn(drawn):
    entry = {"iteration": 9, "total_loss": 1.0, "bbox/AP": 1.0, "b/bbox/AP50_tiny": 2.0}
    entry |= {"bbox/AP-car": 3.0, "bbox/APs": 4.0, "bbox/AP50_tiny1": 5.0}
    curves.draw_curves([entry], "unused.png")
    assert lines(drawn[0]) == {
        "loss": {"total_loss": [9]},
        "AP (%)": {"AP": [9], "b/AP50_tiny": [9]},
    }


def test_the_last_of_several_runs_in_one_file_is_drawn(drawn):
    metrics = [{"iteration": n, "total_loss": 1.0} for n in (19, 39, 39, 19, 39, 59, 19, 39)]
    curves.draw_curves(metrics, "unused.png")
    assert lines(drawn[0])["loss"]["total_loss"] == [19, 39]


def test_a_run_s_folder_is_enough(tmp_path, monkeypatch, capsys):
    entry = {"iteration": 19, "total_loss": 1.0}
    (tmp_path / "metrics.json").write_text(json.dumps(entry) + "\n" + '{"half')
    call(monkeypatch, tmp_path)
    assert capsys.readouterr().out.strip() == str(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "found another file, expected a run's metrics.json"),
        ('{"bbox": {"AP": 1}}\n', "found another file, expected a run's metrics.json"),
        ("\xe9", "found another file, expected a run's metrics.json"),
        ("", "metrics.json: the run has written no metrics yet"),
    ],
)
def test_other_files_are_an_error_of_one_line(tmp_path, monkeypatch, capsys, content, message):
    (tmp_path / "metrics.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, tmp_path / "metrics.json")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
