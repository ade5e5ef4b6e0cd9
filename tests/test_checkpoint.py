"""Checkpoints are whole or absent, and another model's weights are refused."""

import errno
import logging
import os
import pickle
import subprocess
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import nn

from efpnbs_d2.atomic import remove_leftovers, write_atomically
from efpnbs_d2.checkpoint import CARD_KEY, Checkpointer, read_card, update_card
from efpnbs_d2.engine.recipe import LazyRecipe


def _disk_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    checkpointer = Checkpointer(nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    before = (tmp_path / "model_0000001.pth").read_bytes()
    monkeypatch.setattr(torch, "save", _disk_full)
    for name in ("model_0000001", "model_0000002"):
        with pytest.raises(OSError, match="No space left on device; free disk space"):
            checkpointer.save(name)
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_the_reason_is_not_lost_in_the_words_of_the_zip_writer(tmp_path):
    full = SimpleNamespace(write=_disk_full, flush=lambda: None)
    with pytest.raises(OSError, match="model.pth: No space left on device; free disk space"):
        # torch.save answers with a RuntimeError about positions in the file.
        write_atomically(tmp_path / "model.pth", lambda _: torch.save({"w": torch.zeros(9)}, full))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_stay_what_they_are(tmp_path):
    def broken(file):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_atomically(tmp_path / "model.pth", broken)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_writers_that_are_gone_are_removed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    parts = {pid: tmp_path / f".model.pth.{pid}.tmp" for pid in (gone.pid, os.getpid(), 1)}
    for path in [*parts.values(), tmp_path / ".mine.tmp", tmp_path / "model.pth"]:
        path.touch()
    remove_leftovers(tmp_path)
    # Process 1 runs; this one has just started, so a part of its number is of one before it.
    assert {p.name for p in tmp_path.iterdir()} == {parts[1].name, ".mine.tmp", "model.pth"}


def test_a_write_that_stops_half_way_is_not_seen(tmp_path):
    target = tmp_path / "results.json"
    target.write_bytes(b"old")

    def half(file):
        file.write(b"ne")
        _disk_full()

    with pytest.raises(OSError, match=str(target)):
        write_atomically(target, half)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path):
    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "results.json", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_the_best_checkpoint_does_not_become_the_one_to_resume(tmp_path):
    model = nn.Linear(2, 2)
    Checkpointer(model, str(tmp_path)).save("model_0000001")
    Checkpointer(model, str(tmp_path), tag_last=False).save("model_best")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_the_card_is_read_back(tmp_path):
    card = {"class_names": ["ship"], "input": {"format": "BGR"}}
    Checkpointer(nn.Linear(2, 2), str(tmp_path), card=card).save("model")
    assert read_card(tmp_path / "model.pth") == card


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (nn.Linear(3, 2), r"weight is \(2, 3\) in the file and \(2, 2\) in the model"),
        (nn.Linear(2, 2, bias=False), "bias is missing in the file"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, saved, message):
    Checkpointer(saved, str(tmp_path)).save("model")
    with pytest.raises(ValueError, match=f"belongs to another model: .*{message}"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "model.pth"))


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth not found"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "nowhere.pth"))
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("model")
    path = tmp_path / "model.pth"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="model.pth is not a whole checkpoint"):
        Checkpointer(nn.Linear(2, 2)).load(str(path))


def test_backbone_weights_must_be_declared(tmp_path):
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"bottom_up": nn.Linear(2, 2)})})
    model["head"] = nn.Linear(2, 2)
    bottom_up = {k: v for k, v in model.state_dict().items() if "bottom_up" in k}
    torch.save({"model": bottom_up}, tmp_path / "imagenet.pth")
    with pytest.raises(ValueError, match="head.weight is missing"):
        Checkpointer(model).load(str(tmp_path / "imagenet.pth"))
    Checkpointer(model, backbone_only=True).load(str(tmp_path / "imagenet.pth"))


def test_the_backbone_of_a_detector_of_other_classes_can_be_taken(tmp_path):
    def detector(classes):
        backbone = nn.ModuleDict({"bottom_up": nn.Linear(2, 2), "fpn": nn.Linear(2, 2)})
        return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(2, classes)})

    theirs, ours = detector(8), detector(10)
    torch.save({"model": theirs.state_dict()}, tmp_path / "detector.pth")
    with pytest.raises(ValueError, match=r"head.weight is \(8, 2\) in the file"):
        Checkpointer(ours).load(str(tmp_path / "detector.pth"))
    head = ours["head"].weight.clone()
    Checkpointer(ours, backbone_only=True).load(str(tmp_path / "detector.pth"))
    for part in ("bottom_up", "fpn"):
        assert torch.equal(ours["backbone"][part].weight, theirs["backbone"][part].weight)
    assert torch.equal(ours["head"].weight, head)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_a_stock_checkpoint_predicts_identically_in_efpn_bs(small_lazy, tmp_path, suffix):
    few = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    stock = LazyRecipe(small_lazy(few, config="tinyscenes/fpn_r18.py")).build_model().eval()
    ours = LazyRecipe(small_lazy(few)).build_model().eval()
    path = tmp_path / f"stock{suffix}"
    if suffix == ".pth":
        torch.save({"model": stock.state_dict()}, path)
    else:
        weights = {k: v.numpy() for k, v in stock.state_dict().items()}
        path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2"}))
    Checkpointer(ours).load(str(path))

    torch.manual_seed(0)
    inputs = [{"image": torch.randint(0, 256, (3, 97, 130), dtype=torch.uint8)}]
    with torch.no_grad():
        expected, found = stock(inputs)[0]["instances"], ours(inputs)[0]["instances"]
        assert len(found) > 0
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        # The test can tell: one step away from the identity, the detections differ.
        ours.backbone.fbsm.alpha["p2"] += 0.1
        moved = ours(inputs)[0]["instances"]
        assert not torch.equal(moved.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_a_card_gets_entries_and_the_rest_stays(tmp_path):
    path = tmp_path / "model.pth"
    card = {"class_names": ["buoy"], "input": {"format": "BGR"}}
    torch.save({"model": {"w": torch.arange(3.0)}, "iteration": 7, CARD_KEY: card}, path)
    update_card(path, score_thresholds={"values": [0.25]})
    assert read_card(path) == {**card, "score_thresholds": {"values": [0.25]}}
    content = torch.load(path)
    assert content["iteration"] == 7 and content["model"]["w"].tolist() == [0.0, 1.0, 2.0]


def test_a_checkpoint_without_a_card_gets_none(tmp_path):
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="has no card"):
        update_card(tmp_path / "foreign.pth", score_thresholds={})


def _detector(*parts, size=8):
    """A detector's skeleton: its anchors, a backbone, and further parts of one layer each."""
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"bottom_up": nn.Linear(2, 2)})})
    model["proposal_generator"] = nn.Module()
    model["proposal_generator"].anchor_generator = DefaultAnchorGenerator(
        sizes=[[size]], aspect_ratios=[[1.0]], strides=[4], offset=0.0
    )
    for path in parts:
        *way, name = path.split(".")
        place = model
        for step in way:
            if step not in place:
                place[step] = nn.ModuleDict()
            place = place[step]
        place[name] = nn.Linear(2, 2)
    return model


def _save(model, path, card=None):
    Checkpointer(model, str(path.parent), card=card).save(path.stem)


ENHANCED = ("backbone.cem.fuse", "backbone.fbsm.gate", "head")


def test_parts_that_the_model_does_not_have_are_refused(tmp_path):
    """What is left would detect something, so that nobody would see the mistake."""
    path = tmp_path / "model.pth"
    _save(_detector(*ENHANCED), path)
    with pytest.raises(
        ValueError,
        match=r"belongs to another model: backbone\.cem \(2 weights\) is in the file and not in "
        r"the model; backbone\.fbsm \(2 weights\) .*Use the config .* one of E-FPN-BS",
    ):
        Checkpointer(_detector("head")).load(str(path))
    with pytest.raises(ValueError, match="head.*not in the model. Use the config .*trained with$"):
        Checkpointer(_detector(*ENHANCED[:2])).load(str(path))


@pytest.mark.parametrize(
    ("backbone_only", "left_out"),
    [
        (False, ["backbone.cem", "backbone.fbsm", "other"]),
        (True, ["backbone.cem", "backbone.fbsm"]),
    ],
)
def test_a_training_that_starts_from_them_is_warned_in_one_line(
    tmp_path, caplog, backbone_only, left_out
):
    theirs, ours = _detector(*ENHANCED, "other"), _detector("head")
    _save(theirs, tmp_path / "model.pth")
    with caplog.at_level(logging.WARNING):
        Checkpointer(ours, starts_training=True, backbone_only=backbone_only).load(
            str(tmp_path / "model.pth")
        )
    (line,) = [r.getMessage() for r in caplog.records if "model does not have" in r.getMessage()]
    assert all(f"{part} (2 weights)" in line for part in left_out)
    assert ("other" in line) == ("other" in left_out)
    assert not any("are not used" in r.getMessage() for r in caplog.records)  # Detectron2's list
    weights = [m["backbone"]["bottom_up"].weight for m in (ours, theirs)]
    assert torch.equal(*weights)


def test_what_only_training_reads_may_be_left_out(tmp_path):
    _save(_detector("head", "roi_heads.dc_loss.scale"), tmp_path / "model.pth")
    Checkpointer(_detector("head")).load(str(tmp_path / "model.pth"))


def test_files_of_the_model_zoo_may_hold_more(tmp_path):
    """As the mask head of a Mask R-CNN, without which its boxes are the same."""
    weights = {k: v.numpy() for k, v in _detector("head", "mask_head").state_dict().items()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2"}))
    ours = _detector("head")
    Checkpointer(ours).load(str(path))
    assert torch.equal(ours["head"].weight, torch.tensor(weights["head.weight"]))


ANCHORS_DIFFER = (
    r"trained with anchors of 32 px \(height / width 1\) at strides 4, offset 0, and the config's "
    r"are of 8 px \(height / width 1\) at strides 4, offset 0: "
)


def test_weights_for_other_anchors_are_refused(tmp_path, caplog):
    """Every shape fits: nothing but the card can tell."""
    path, card = tmp_path / "model.pth", {"class_names": ["ship"]}
    _save(_detector("head", size=32), path, card)
    with pytest.raises(ValueError, match=ANCHORS_DIFFER + "every box would be wrong"):
        Checkpointer(_detector("head")).load(str(path))
    Checkpointer(_detector("head", size=32)).load(str(path))

    def warned():
        """Of anchors; the folder of this test has them in its name."""
        of_warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        return [line for line in of_warnings if "has to learn its boxes" in line]

    Checkpointer(_detector("head"), backbone_only=True).load(str(path))
    assert warned() == []
    Checkpointer(_detector("head"), starts_training=True).load(str(path))
    (line,) = warned()
    assert line.endswith("has to learn its boxes anew")


def test_a_card_without_anchors_is_accepted(tmp_path):
    """As those of checkpoints that were written before anchors were noted."""
    weights = _detector("head", size=32).state_dict()
    torch.save({"model": weights, CARD_KEY: {"class_names": ["ship"]}}, tmp_path / "older.pth")
    Checkpointer(_detector("head")).load(str(tmp_path / "older.pth"))


def test_a_resumed_run_gets_back_more_than_its_backbone(tmp_path):
    """Also where it once started from a backbone alone."""
    before, after = _detector("head"), _detector("head")
    start = {"starts_training": True, "backbone_only": True}
    Checkpointer(before, str(tmp_path), **start).save("model_0000001")
    Checkpointer(after, str(tmp_path), **start).resume_or_load("", resume=True)
    assert torch.equal(after["head"].weight, before["head"].weight)
    for parts, message in (
        (("head", "neck"), "neck.weight is missing"),
        ((), "head .*not in the model"),
    ):
        with pytest.raises(ValueError, match=message):
            Checkpointer(_detector(*parts), str(tmp_path), **start).resume_or_load("", resume=True)
