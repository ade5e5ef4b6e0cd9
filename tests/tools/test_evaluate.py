"""The command gives the official numbers of result files, and one sentence for each mistake."""

import json
import math
from pathlib import Path

import pytest

from efpnbs_d2.tools.evaluate import main

CASES = Path(__file__).parents[1] / "evaluation" / "cases"
VISDRONE = CASES / "visdrone/others_and_score0"


def files(name, results=None):
    """Arguments that name a case's files."""
    folder = CASES / name
    protocol = folder.parent.name
    if protocol == "visdrone":
        found = ["--gt", folder / "annotations", "--images", folder / "image_sizes.json"]
        results = results or folder / "results"
    else:
        found = ["--gt", folder / "gt.json"]
        results = results or folder / "results.json"
    return [str(a) for a in ("--quiet", "--protocol", protocol, *found, "--results", results)]


def metrics(output):
    return json.loads((output / "metrics.json").read_text())


def expected(name, key="stats"):
    return json.loads((CASES / name / "expected.json").read_text())[key]


def assert_equal(found, wanted):
    def numbers(table):
        return {name: math.nan if value is None else value for name, value in table.items()}

    assert numbers(found) == pytest.approx(numbers(wanted), abs=1e-9, nan_ok=True)


def test_the_table_is_printed_and_written(tmp_path, capsys):
    assert main([*files("visdrone/others_and_score0"), "--output", str(tmp_path / "a/b")]) == 0
    printed = capsys.readouterr().out
    assert "4 images, 139 annotations, 218 detections" in printed
    assert "AP_all 18.77" in printed and "pedestrian" in printed
    content = metrics(tmp_path / "a/b")
    assert_equal(content["metrics"], expected("visdrone/others_and_score0"))
    assert (content["protocol"], content["unit"]) == ("visdrone", "percent")
    assert content["per_class"].keys() >= {"pedestrian", "motor"}
    assert "AP_all plain mean" in content["unofficial"]
    assert content["counts"] == {
        "images": 4,
        "images_without_results": 0,
        "annotations": 139,
        "detections": 218,
    }
    assert content["files"]["results"] == str(CASES / "visdrone/others_and_score0/results")


def test_unknown_classes_are_refused_unless_asked_otherwise(tmp_path, capsys):
    arguments = [*files("aitod/crowd_and_ids"), "--output", str(tmp_path)]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "results.json:[12]: found category 9999, expected one of 3, 5, 17, 101" in error
    assert "(and 4 more like this)" in error and "--ignore-unknown-classes" in error
    assert main([*arguments, "--ignore-unknown-classes"]) == 0
    assert "classes that are not evaluated" in capsys.readouterr().out
    assert_equal(metrics(tmp_path)["metrics"], expected("aitod/crowd_and_ids"))


def test_a_partial_result_is_said_to_be_one(tmp_path, capsys):
    """NaN is null in the JSON, and images without results are counted and named."""
    arguments = files("aitod/empty_and_absent", results=tmp_path / "none.json")
    (tmp_path / "none.json").write_text("[]")
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "7 of 7" in capsys.readouterr().out
    content = metrics(tmp_path)
    assert content["counts"]["images_without_results"] == 7
    assert content["metrics"]["oLRP"] == 1 and content["metrics"]["AP"] == 0


def test_undefined_numbers_are_null_and_dashes(tmp_path, capsys):
    """VisDrone's mean over no class at all is 0 / 0."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.txt").touch()
    gt = str(tmp_path / "annotations")
    command = ["--protocol", "visdrone", "--gt", gt, "--results", gt, "--quiet"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert metrics(tmp_path)["metrics"]["AP_all"] is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").touch()
    command += ["--results", str(tmp_path / "other"), "--output", str(tmp_path)]
    assert main([*command, "--resamples", "1"]) == 0
    difference = metrics(tmp_path)["comparison"]["differences"][0]
    assert difference["difference"] is None and difference["first"] is None
    assert "AP_all - - - -" in " ".join(capsys.readouterr().out.split())


def test_results_on_tiles_are_merged_first(tmp_path):
    folder = CASES / "tinyperson/tiles_merge"
    tiles = ["--merge-tiles", str(folder / "gt_corner.json"), "--output", str(tmp_path)]
    assert main([*files("tinyperson/tiles_merge", folder / "results_tiles.json"), *tiles]) == 0
    wanted = expected("tinyperson/tiles_merge", "stats_AP")
    found = metrics(tmp_path)["metrics"]
    assert_equal({name: found[name] for name in wanted}, wanted)


def test_merged_results_of_visdrone_are_ordered_by_score(tmp_path):
    """AR at one detection takes the best one of an image, not the first of its first tile."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.txt").write_text("70,70,20,20,1,4,0,0\n")
    tile = {"file_name": "a.jpg", "width": 60, "height": 100}
    tiles = [tile | {"id": n, "corner": [x, 0, x + 60, 100]} for n, x in enumerate((0, 40))]
    whole = [{"id": 1, "file_name": "a.jpg"}]
    (tmp_path / "tiles.json").write_text(json.dumps({"images": tiles, "old_images": whole}))
    # A duplicate in place, but of another class, drops nothing.
    rows = [(0, 4, [1, 1, 9, 9], 0.1), (1, 4, [30, 70, 20, 20], 0.9), (1, 5, [30, 70, 20, 20], 0.8)]
    found = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]
    (tmp_path / "found.json").write_text(json.dumps(found))
    command = ["--protocol", "visdrone", "--gt", tmp_path / "annotations", "--output", tmp_path]
    command += ["--results", tmp_path / "found.json", "--merge-tiles", tmp_path / "tiles.json"]
    assert main(["--quiet", *map(str, command)]) == 0
    assert metrics(tmp_path)["metrics"]["AR_1"] == 100
    assert metrics(tmp_path)["counts"]["detections"] == 3


def test_an_own_protocol_gives_the_numbers_of_its_settings(tmp_path):
    """COCO's rules with AI-TOD's ranges and limits, as pycocotools gives them."""
    (tmp_path / "own.yaml").write_text(
        "name: own\nbase: coco\nmax_dets: [1, 100, 1500]\nsize_ranges:\n"
        "  all: [0, 1e10]\n  verytiny: [0, 64]\n"
        "  tiny: [64, 256]\n  small: [256, 1024]\n  medium: [1024, 1e10]\n"
    )
    arguments = files("coco/many_detections", CASES / "coco/many_detections/results.json.gz")
    arguments[arguments.index("coco")] = str(tmp_path / "own.yaml")
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    content = metrics(tmp_path)
    wanted = expected("coco/many_detections", "configs")["aitod_bins_1500"]["AP"]
    names = {"AP": "all@1500", "APvt": "verytiny@1500", "APt": "tiny@1500", "APs": "small@1500"}
    assert content["protocol"] == "own"
    assert_equal(
        {name: content["metrics"][name] for name in names},
        {name: wanted[key] for name, key in names.items()},
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("visdrone/dense_scene", "visdrone_results"),
        ("aitod/ties_and_exact_iou", "aitod_results.json"),
        ("tinyperson/two_categories", "tinyperson_results.json"),
    ],
)
def test_server_files_give_the_same_numbers(tmp_path, name, file):
    command = [*files(name), "--output", str(tmp_path / "a"), "--server-files", str(tmp_path / "s")]
    assert main(command) == 0
    assert main([*files(name, tmp_path / "s" / file), "--output", str(tmp_path / "b")]) == 0
    first, again = metrics(tmp_path / "a"), metrics(tmp_path / "b")
    for key in ("metrics", "per_class", "unofficial"):
        assert first[key] == again[key]


def test_two_results_are_compared_on_one_page(tmp_path, capsys):
    worse = tmp_path / "worse.json"
    records = json.loads((CASES / "aitod/dense_scene/results.json").read_text())
    worse.write_text(json.dumps(records[::2]))
    outputs = ["--output", str(tmp_path), "--report", str(tmp_path / "new/page.html")]
    command = [*files("aitod/dense_scene"), "--results", str(worse), "--resamples", "20", *outputs]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "== results.json ==" in printed and "== worse.json ==" in printed
    content = metrics(tmp_path)
    first, second = (run["metrics"]["AP"] for run in content["runs"])
    assert first == pytest.approx(expected("aitod/dense_scene")["AP"]) and second < first
    difference = content["comparison"]["differences"][0]
    assert difference["name"] == "AP" and content["comparison"]["resamples"] == 20
    assert difference["difference"] == pytest.approx(second - first)
    assert f"AP {100 * (second - first):+12.2f}".split() == next(
        line.split()[:2] for line in printed.splitlines() if line.startswith("AP ")
    )
    page = (tmp_path / "new/page.html").read_text()
    assert "results.json" in page and "worse.json" in page


def test_runs_of_one_file_name_are_called_by_their_paths(tmp_path, capsys):
    name = "aitod/ties_and_exact_iou"
    copy = tmp_path / "results.json"
    copy.write_bytes((CASES / name / "results.json").read_bytes())
    assert main([*files(name), "--results", str(copy), "--resamples", "1"]) == 0
    assert f"== {copy} ==" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "voc"], "found protocol 'voc', expected one of coco"),
        (["--gt", "none.json"], "--gt: found no file or folder none.json"),
        (["--results", "none.json"], "--results: found no file or folder none.json"),
        (["--results", "a", "--results", "b"], "found 3 --results, expected one, or two"),
        (
            ["--results", str(CASES / "aitod/dense_scene/results.json")],
            "results.json twice, expected two different",
        ),
        (["--results", "a", "--server-files", "s"], "expected one with --server-files"),
        (["--classes", "ship,sheep"], "found no category 'sheep'"),
        (["--merge-tiles", "none.json"], "--merge-tiles: found no file or folder none.json"),
        (["--images", "none"], "--images: found no file or folder none"),
        (
            ["--gt", str(VISDRONE)],
            f"--gt: {VISDRONE}: found no .txt file, expected one per image; "
            f"did you mean {VISDRONE / 'annotations'}?",
        ),
    ],
)
def test_a_mistake_ends_in_one_sentence(capsys, arguments, message):
    assert main([*files("aitod/dense_scene"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("evaluate: ") and message in error
    assert error.count("\n") == 1


def test_a_folder_beside_the_one_that_was_meant(tmp_path, capsys):
    gt, results = tmp_path / "val/annotations", tmp_path / "run/visdrone_results"
    images = tmp_path / "val/images"
    for folder in (gt, results, images):
        folder.mkdir(parents=True)
    (gt / "a.txt").write_text("1,2,3,4,1,4,0,0\n")
    command = ["--quiet", "--protocol", "visdrone", "--results", str(results.parent)]
    assert main([*command, "--gt", str(images)]) == 1
    assert f"did you mean {gt}?" in capsys.readouterr().err
    assert main([*command, "--gt", str(gt)]) == 1  # no results there either: no guess
    assert capsys.readouterr().err.endswith("run: found no .txt file, expected one per image\n")
    (results / "a.txt").touch()
    assert main([*command, "--gt", str(gt)]) == 1
    assert f"--results: {results.parent}: found no .txt file" in (err := capsys.readouterr().err)
    assert err.endswith(f"did you mean {results}?\n")
    # By other protocols there is a JSON.
    (results / "a.txt").unlink()
    (results.parent / "aitod_results.json").write_text("[]")
    assert main([*command, "--gt", str(gt)]) == 1
    assert capsys.readouterr().err.endswith("run/aitod_results.json?\n")


@pytest.mark.parametrize("first", ["info", "images", "categories"])
def test_annotations_are_no_results(tmp_path, capsys, first):
    content = json.loads((CASES / "aitod/dense_scene/gt.json").read_text())
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({first: content.get(first, {}), **content}, indent=1))
    assert main(files("aitod/dense_scene", path)) == 1
    message = f"evaluate: {path}: found an annotation file, which --gt takes, not results\n"
    assert capsys.readouterr().err == message
    path.write_text('{"metrics": {"AP": [1]}}')
    assert main(files("aitod/dense_scene", path)) == 1
    assert "expected a JSON list of results" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_known_before_the_measuring(tmp_path, capsys):
    (tmp_path / "file").touch()
    command = [*files("aitod/dense_scene"), "--report", str(tmp_path / "file/page.html")]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and str(tmp_path / "file") in captured.err
