"""The synthetic scenes hold what their documentation says."""

import json

import cv2
import numpy as np
import pytest
import torch

from efpnbs_d2.data.tinyscenes import CLASSES, generate_scene, write_dataset
from efpnbs_d2.data.tinyscenes.objects import pick_paint
from efpnbs_d2.data.tinyscenes.options import HABITAT, NO_OBJECTS, Ground
from efpnbs_d2.data.tinyscenes.placement import object_count
from efpnbs_d2.data.tinyscenes.scene import render_scene
from efpnbs_d2.data.tinyscenes.shapes import WEAR
from efpnbs_d2.data.tinyscenes.writer import scene_seed
from efpnbs_d2.tools import tinyscenes as command

SMALL = dict(splits={"train": 2, "val": 1}, size=128, progress=False)


@pytest.fixture(scope="module")
def scenes():
    """Enough scenes for statistics: (image, annotations) of 240 seeds."""
    return [generate_scene(seed) for seed in range(240)]


def side(annotation):
    return annotation["area"] ** 0.5


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
@pytest.mark.parametrize("size", [128, (200, 331), 800])
def test_boxes_are_valid_inside_and_10_to_200(difficulty, size):
    h, w = (size, size) if isinstance(size, int) else size
    for seed in range(2):
        image, annotations = generate_scene(seed, size=size, difficulty=difficulty)
        assert image.shape == (h, w, 3) and image.dtype == np.uint8
        assert 10 <= len(annotations) <= 200
        for a in annotations:
            x, y, bw, bh = a["bbox"]
            assert all(type(v) is int for v in a["bbox"])
            assert 0 <= x < x + bw <= w and 0 <= y < y + bh <= h
            assert a["area"] == bw * bh and a["iscrowd"] == 0
            assert a["category_id"] in range(1, 9)
            corners = np.array(a["segmentation"]).reshape(4, 2)
            assert np.array_equal(corners.min(0), (x, y))
            assert np.array_equal(corners.max(0), (x + bw, y + bh))


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_the_smallest_scenes_hold_ten_objects(difficulty):
    for seed in range(25):
        assert len(generate_scene(seed, size=128, difficulty=difficulty)[1]) >= 10


def test_the_largest_scenes_are_given_at_most_200_objects():
    rng = np.random.default_rng(0)
    counts = [object_count(rng, 4096, 4096) for _ in range(50)]
    assert max(counts) == 200


def test_large_scenes_hold_more_objects_of_all_classes():
    scenes = [generate_scene(seed, size=800)[1] for seed in (1, 2)]
    assert min(len(annotations) for annotations in scenes) > 80
    classes = [{a["category_id"] for a in annotations} for annotations in scenes]
    assert min(len(found) for found in classes) >= 7
    assert classes[0] | classes[1] == set(range(1, 9))


def test_sizes_and_counts_follow_ai_tod(scenes):
    sides = np.array([side(a) for _, annotations in scenes for a in annotations])
    # AI-TOD: mean 12.8 px, 14% under 8 px, most of 8 to 16 px, a few up to 64 px.
    assert sides.mean() == pytest.approx(12.8, abs=0.5)
    assert (sides < 8).mean() == pytest.approx(0.14, abs=0.02)
    assert ((sides >= 8) & (sides < 16)).mean() > 0.6
    assert 40 < sides.max() < 64 and sides.min() >= 2
    counts = np.array([len(annotations) for _, annotations in scenes])
    assert counts.min() >= 10 and 20 <= np.median(counts) <= 30
    shares = np.bincount(
        [a["category_id"] for _, annotations in scenes for a in annotations], minlength=9
    )[1:] / len(sides)
    assert shares.min() > 0.04 and shares.argmax() == CLASSES.index("vehicle")


def test_objects_stand_together_and_overlap(scenes):
    gaps, overlaps = [], []
    for _, annotations in scenes[:60]:
        boxes = np.array([a["bbox"] for a in annotations], float)
        low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
        apart = np.maximum(low, low.swapaxes(0, 1)) - np.minimum(high, high.swapaxes(0, 1))
        gap = apart.max(-1) + 1e6 * np.eye(len(boxes))
        gaps += list(gap.min(1))
        overlaps += list(gap.min(1) < 0)
    # Strewn at random over the ground of their class they would be 6 px apart.
    assert np.median(gaps) < 4
    assert 0.2 < np.mean(overlaps) < 0.5


def test_every_scene_holds_several_contexts():
    classes = []
    for seed in range(12):
        scene = render_scene(seed)
        shares = np.bincount(scene.ground.ravel(), minlength=len(Ground)) / scene.ground.size
        assert (shares > 0.02).sum() >= 5
        classes.append(len({a["category_id"] for a in scene.annotations}))
    assert min(classes) >= 2 and np.mean(classes) > 4.5


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_boxes_are_tight_and_objects_are_seen(difficulty):
    for seed in range(8):
        scene = render_scene(seed, difficulty=difficulty)
        bare = render_scene(seed, difficulty=difficulty, bare=True)
        assert bare.annotations == scene.annotations
        # The noise is the same in both: what changes is objects, their rims and their shadows.
        change = np.abs(scene.image.astype(int) - bare.image).mean(-1)
        for k, (a, mask) in enumerate(zip(scene.annotations, scene.masks)):
            rows, cols = np.nonzero(mask)
            found = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
            assert np.abs(np.array(found) - a["bbox"]).max() <= 1
            seen = (scene.owner == k + 1) & mask
            assert seen.sum() > 0.5 * mask.sum()
            assert change[seen].mean() > 10
            # The picture itself changes up to the box's edges: the box is where the object is.
            x, y, w, h = a["bbox"]
            inside = change[y : y + h, x : x + w] > 6
            reach = np.ptp(np.nonzero(inside), axis=1) + 1
            assert np.abs(reach - (h, w)).max() <= 1


def test_paint_stands_out_from_any_ground():
    rng = np.random.default_rng(0)
    for _ in range(300):
        ground = rng.uniform(0, 255, 3)
        for wear in WEAR:
            assert np.linalg.norm(pick_paint(rng, wear, ground, 70) - ground) >= 65


def test_objects_stand_where_their_class_belongs():
    for seed in range(8):
        scene = render_scene(seed)
        for a, mask in zip(scene.annotations, scene.masks):
            name = CLASSES[a["category_id"] - 1]
            # A bridge stands on both banks of the water that it crosses.
            least = 0.15 if name == "bridge" else 0.75
            assert np.isin(scene.ground[mask], HABITAT[name]).mean() >= least
        # Blobs out of place: on other ground, with no annotation of their own.
        assert (scene.owner < 0).any()
        assert np.isin(scene.ground[scene.owner < 0], NO_OBJECTS).mean() > 0.8


def features(image, annotation, surroundings):
    """Colours of the object's own box, or of 32 x 32 px around its middle, for a linear probe.

    64 mean colours (8 x 8 cells) and the crop's colour histogram (4 x 4 x 4 bins), either way.
    """
    x, y, w, h = annotation["bbox"]
    if surroundings:
        padded = cv2.copyMakeBorder(image, 16, 16, 16, 16, cv2.BORDER_REFLECT_101)
        row, col = y + h // 2, x + w // 2
        crop = padded[row : row + 32, col : col + 32]
    else:
        crop = image[y : y + h, x : x + w]
    pixels = cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA).ravel() / 255
    bins = (crop.reshape(-1, 3) // 64) @ np.array([16, 4, 1])
    return np.concatenate([pixels, np.sqrt(np.bincount(bins, minlength=64) / len(bins))])


def linear_probe(x, y, scene, folds=4):
    """Balanced accuracy of a linear classifier on scenes that it was not fitted to."""
    right = np.zeros(len(y), bool)
    for fold in range(folds):
        held = scene % folds == fold
        right[held] = predict(x[~held], y[~held], x[held]) == y[held]
    return np.mean([right[y == k].mean() for k in range(8)])


def predict(x, y, unseen):
    """Classes of the rows `unseen` by multinomial logistic regression, classes weighed alike."""
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, unseen = (torch.tensor((v - mean) / spread, dtype=torch.float32) for v in (x, unseen))
    y = torch.tensor(y)
    weight = 1 / torch.bincount(y, minlength=8).float()
    w = torch.zeros(x.shape[1] + 1, 8, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ w[:-1] + w[-1], y, weight=weight)
        loss = loss + 3e-3 * (w[:-1] ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return (unseen @ w[:-1] + w[-1]).argmax(1).numpy()


def test_at_8_px_only_the_surroundings_tell_the_class(scenes):
    picked = [
        (index, image, a)
        for index, (image, annotations) in enumerate(scenes)
        for a in annotations
        if 6 <= side(a) <= 10
    ]
    y = np.array([a["category_id"] - 1 for _, _, a in picked])
    scene = np.array([index for index, _, _ in picked])
    assert np.bincount(y, minlength=8).min() >= 60
    accuracy = {
        wide: linear_probe(np.array([features(i, a, wide) for _, i, a in picked]), y, scene)
        for wide in (False, True)
    }
    assert accuracy[False] < 0.6
    assert accuracy[True] > 0.85


def test_seeds_decide_the_scene():
    one, same, other = (generate_scene(seed, size=160) for seed in (5, 5, 6))
    assert np.array_equal(one[0], same[0]) and one[1] == same[1]
    assert not np.array_equal(one[0], other[0]) and one[1] != other[1]
    assert not np.array_equal(one[0], generate_scene(5, size=160, difficulty="hard")[0])


def test_same_arguments_give_the_same_files(tmp_path):
    a, b = (write_dataset(tmp_path / name, **SMALL) for name in "ab")
    c = write_dataset(tmp_path / "c", **SMALL, seed=1)
    files = sorted(p.relative_to(a) for p in a.rglob("*.*"))
    assert [str(f) for f in files] == [
        "annotations/train.json",
        "annotations/val.json",
        "images/train/train_000000.png",
        "images/train/train_000001.png",
        "images/val/val_000000.png",
    ]
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)
    assert all((a / f).read_bytes() != (c / f).read_bytes() for f in files)


def test_workers_write_the_same_files(tmp_path):
    one = write_dataset(tmp_path / "one", **SMALL)
    two = write_dataset(tmp_path / "two", **SMALL, workers=2)
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()


def test_json_is_complete_coco(tmp_path):
    folder = write_dataset(tmp_path, **SMALL)
    for split, number in SMALL["splits"].items():
        coco = json.loads((folder / "annotations" / f"{split}.json").read_text())
        assert coco["info"]["difficulty"] == "easy" and coco["info"]["size"] == [128, 128]
        assert coco["licenses"] and {i["license"] for i in coco["images"]} == {
            coco["licenses"][0]["id"]
        }
        assert [c["id"] for c in coco["categories"]] == list(range(1, 9))
        assert [c["name"] for c in coco["categories"]] == list(CLASSES)
        assert [i["id"] for i in coco["images"]] == list(range(1, number + 1))
        assert [a["id"] for a in coco["annotations"]] == list(
            range(1, len(coco["annotations"]) + 1)
        )
        for record in coco["images"]:
            image = cv2.imread(str(folder / "images" / split / record["file_name"]))
            expected, annotations = generate_scene(record["seed"], size=128)
            assert np.array_equal(image, expected)
            mine = [a for a in coco["annotations"] if a["image_id"] == record["id"]]
            assert [a["bbox"] for a in mine] == [a["bbox"] for a in annotations]


def test_splits_share_no_scene():
    seeds = {
        scene_seed(base, split, index)
        for base in range(3)
        for split in ("train", "val", "test")
        for index in range(1000)
    }
    assert len(seeds) == 9000 and max(seeds) < 2**48
    # The validation images stay the same however many there are to train on.
    assert scene_seed(0, "val", 0) == scene_seed(0, "val", 0) != scene_seed(0, "train", 0)


def test_an_equal_data_set_is_kept_and_another_is_not_replaced(tmp_path):
    folder = write_dataset(tmp_path, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert write_dataset(tmp_path, **SMALL) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before

    with pytest.raises(ValueError, match="other parameters"):
        write_dataset(tmp_path, **SMALL, seed=1)
    (folder / "images" / "val" / "val_000000.png").unlink()
    with pytest.raises(ValueError, match="not whole"):
        write_dataset(tmp_path, **SMALL)
    write_dataset(tmp_path, **SMALL, seed=1, overwrite=True)
    info = json.loads((folder / "annotations" / "val.json").read_text())["info"]
    assert info["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tinyscenes"]


@pytest.mark.parametrize("content", [None, "not json", '{"info": {"description": "mine"}}'])
def test_a_strange_folder_is_never_replaced(tmp_path, content):
    mine = tmp_path / "tinyscenes" / "annotations" / "train.json"
    mine.parent.mkdir(parents=True)
    if content is not None:
        mine.write_text(content)
    with pytest.raises(ValueError, match="holds no tinyscenes"):
        write_dataset(tmp_path, **SMALL, overwrite=True)
    assert mine.parent.exists() and (content is None or mine.read_text() == content)


def test_a_broken_off_run_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_dataset(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(size=100), "128..4096"),
        (dict(size=(256,)), "height, width"),
        (dict(size=256.0), "height, width"),
        (dict(difficulty="medium"), "'easy', 'hard'"),
        (dict(seed=-1), "whole number"),
        (dict(splits={}), "splits is empty"),
        (dict(splits={"train": 0}), "at least 1"),
        (dict(splits={"../train": 1}), "letters"),
        (dict(workers=0), "at least 1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "new", **bad)
    assert not (tmp_path / "new").exists()


def test_command_writes_and_reports(tmp_path, capsys):
    arguments = ["--root", str(tmp_path), "--size", "128", "160", "--split", "train=2", "val=1"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "tinyscenes")
    assert command.main([*arguments, "--seed", "1"]) == 1
    assert "other parameters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--split", "train"])
