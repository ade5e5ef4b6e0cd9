"""Result files are read as Python's json reads them, in pieces of any size."""

import gzip
import json

import numpy as np
import pytest

from efpnbs_d2.evaluation.files import json_records
from efpnbs_d2.evaluation.files.json_records import read_result_columns
from efpnbs_d2.file_format import DataFormatError

GOOD = {"image_id": 7, "category_id": 3, "bbox": [1.5, -2, 3, 4e-1], "score": 0.25}


def record(number):
    # Text and nesting that look like the end of a record, in all places.
    extra = {"segmentation": {"counts": '}, {"', "size": [1, {"a": 2}, {"b": 3}]}}
    box = [number + 0.1, 2 * number, 5, 6]
    return (
        (extra if number % 3 == 0 else {})
        | {
            "image_id": number // 3,
            "category_id": number % 5,
            "bbox": box,
            "score": 1 / (number + 1),
        }
        | (extra if number % 4 == 0 else {})
    )


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def assert_equal(columns, records):
    np.testing.assert_array_equal(columns.image_id, [r["image_id"] for r in records])
    np.testing.assert_array_equal(columns.category_id, [r["category_id"] for r in records])
    np.testing.assert_array_equal(columns.boxes, [r["bbox"] for r in records])
    np.testing.assert_array_equal(columns.scores, [r["score"] for r in records])
    assert columns.image_id.dtype == columns.category_id.dtype == np.int64
    assert columns.boxes.dtype == columns.scores.dtype == np.float64


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"separators": (",", ":")}])
@pytest.mark.parametrize("piece", [1, 7, 100, 1000, 2**18])
def test_pieces_of_any_size(tmp_path, monkeypatch, layout, piece):
    monkeypatch.setattr(json_records, "_PIECE", piece)
    records = [record(number) for number in range(40)]
    file = write(tmp_path / "r.json", f" \n{json.dumps(records, **layout)}\n")
    if piece == 1:
        # The list must start in the first piece.
        file.write_text(file.read_text().strip())
    assert_equal(read_result_columns(file), records)


def test_a_large_file_is_never_held_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_records, "_PIECE", 1000)
    longest = []

    class Json:
        JSONDecoder = json.JSONDecoder

        @staticmethod
        def loads(text):
            longest.append(len(text))
            return json.loads(text)

    monkeypatch.setattr(json_records, "json", Json)
    records = [GOOD] * 500
    assert_equal(read_result_columns(write(tmp_path / "r.json", json.dumps(records))), records)
    assert max(longest) < 3000


def test_gzip_is_known_by_its_content(tmp_path):
    (tmp_path / "r.json").write_bytes(gzip.compress(json.dumps([GOOD]).encode("utf-8-sig")))
    assert_equal(read_result_columns(tmp_path / "r.json"), [GOOD])


def test_no_records(tmp_path):
    columns = read_result_columns(write(tmp_path / "r.json", "[ ]"))
    assert columns.boxes.shape == (0, 4) and columns.image_id.dtype == np.int64
    assert len(columns.scores) == len(columns.category_id) == len(columns.image_id) == 0


def test_values_are_left_to_the_caller(tmp_path):
    text = json.dumps([GOOD | {"bbox": [float("nan"), 1, -2, float("inf")], "score": -1}])
    columns = read_result_columns(write(tmp_path / "r.json", text))
    np.testing.assert_array_equal(columns.boxes, [[np.nan, 1, -2, np.inf]])
    assert columns.scores == [-1]


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ([], "found a list, expected an object"),
        (None, "found a NoneType"),
        ({k: v for k, v in GOOD.items() if k != "score"}, "found no 'score' in {'image_id': 7"),
        (GOOD | {"image_id": "7"}, "found image_id '7', expected an integer"),
        (GOOD | {"image_id": 7.5}, "found image_id 7.5"),
        (GOOD | {"image_id": [7]}, r"found image_id \[7\]"),
        (GOOD | {"category_id": 3.0}, "found category_id 3.0"),
        (GOOD | {"category_id": 2**70}, "found category_id 1180591620717411303424"),
        (GOOD | {"bbox": [1, 2, 3]}, r"found bbox \[1, 2, 3\], expected a list of 4 numbers"),
        (GOOD | {"bbox": [1, 2, 3, "4"]}, r"found bbox \[1, 2, 3, '4'\]"),
        (GOOD | {"bbox": [1, 2, 3, None]}, r"found bbox \[1, 2, 3, None\]"),
        (GOOD | {"bbox": {"x": 1}}, "found bbox {'x': 1}"),
        (GOOD | {"score": "0.5"}, "found score '0.5', expected a number"),
        (GOOD | {"score": None}, "found score None"),
        (GOOD | {"score": [0.5]}, r"found score \[0.5\]"),
        (GOOD | {"score": 10**400}, "found score 1000"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_first_bad_record_is_named(tmp_path, monkeypatch, bad, found, alone):
    monkeypatch.setattr(json_records, "_PIECE", 300)
    records = [bad] if alone else [GOOD] * 17 + [bad] + [GOOD] * 5 + [bad]
    file = write(tmp_path / "r.json", json.dumps(records))
    place = 0 if alone else 17
    with pytest.raises(DataFormatError, match=rf"r\.json:\[{place}\]: {found}"):
        read_result_columns(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.json: found '' at its start, expected a JSON list"),
        (
            '{"images": []}',
            "r.json: found an annotation file, which --gt takes, not results",
        ),
        ('{"info": {},\n"annotations": []}', "found an annotation file, which --gt takes"),
        ('{"categories": []}', "found an annotation file, which --gt takes"),
        (
            '{"metrics": []}',
            r"r.json: found '{\"metrics\": \[\]}' at its start, expected a JSON list",
        ),
        ("[", r"r.json:\[0\]: found broken JSON \(Expecting value\)"),
        ("[{}] {}", r"r.json:\[0\]: found '{}' after this record, expected nothing after the"),
        ("[GOOD, GOOD] []", r"r.json:\[1\]: found '\[\]' after this record"),
        ("[GOOD, GOOD GOOD]", r"r.json:\[1\]: found ' {.* after this record, expected a comma"),
        ("[GOOD, GOOD, {'a': 1}, GOOD]", r"r.json:\[2\]: found broken JSON \(Expecting property"),
        ("[GOOD, GOOD,]", r"r.json:\[2\]: found broken JSON"),
        ('[GOOD, GOOD, {"image_id": 1, "bb', r"r.json:\[2\]: found broken .*cut short"),
        ("[GOOD, " + "[" * 10**5, r"r.json:\[1\]: found broken JSON"),
        ("[GOOD, " + "9" * 5000, r"r.json:\[1\]: found broken JSON"),
    ],
)
@pytest.mark.parametrize("piece", [50, 2**18])
def test_broken_files(tmp_path, monkeypatch, text, message, piece):
    monkeypatch.setattr(json_records, "_PIECE", piece)
    file = write(tmp_path / "r.json", text.replace("GOOD", json.dumps(GOOD)))
    with pytest.raises(DataFormatError, match=message):
        read_result_columns(file)


def test_unreadable_bytes(tmp_path):
    whole = gzip.compress(json.dumps([GOOD] * 50).encode())
    for name, content in {
        "cut": whole[:60],
        "damaged": whole[:20] + b"\xff\x00\xff" + whole[23:],
        "latin": b'[{"image_id": "\xe4"}]',
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataFormatError, match=f"{name}: found no readable text"):
            read_result_columns(tmp_path / name)
