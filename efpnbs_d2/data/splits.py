"""The table of published data sets: splits, classes, and the file names they are found under.

Paths are relative to the folder of all data sets. Where several names are in circulation for a
file, each combination of home folder and name is tried in order.

Source: the official repositories of AI-TOD, VisDrone and TinyPerson (names and class ids), and
the layouts that code published for them expects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..protocols import PROTOCOLS

__all__ = ["AITOD_CLASSES", "SPLITS", "Split", "VISDRONE_CLASSES"]

# Ids 1..8 in the files.
AITOD_CLASSES = (
    "airplane",
    "bridge",
    "storage-tank",
    "ship",
    "swimming-pool",
    "vehicle",
    "person",
    "wind-mill",
)
# Ids 1..10 in the files; 0 is an ignored region, 11 "others".
VISDRONE_CLASSES = PROTOCOLS["visdrone"].classes
# The benchmark ("task all") merges the published classes into one.
_TINYPERSON_MERGED = MappingProxyType({"sea_person": "person", "earth_person": "person"})


@dataclass(frozen=True)
class Split:
    """One registered data set.

    Attributes:
        name: under which it is registered.
        protocol: name of the evaluation protocol that its authors use.
        format: "coco" or "visdrone".
        classes: names in the order of their contiguous index; id i + 1 in the files.
        homes: folders to look in, relative to the folder of all data sets.
        annotations: names of the JSON file, or of the folder of text files, relative to a home;
            empty for a split published without labels.
        images: names of the folder of images, relative to the home of the annotations.
        shared_images: the images may also lie in another home than the annotations.
        merged: name in the file -> name in ``classes``, where the file is finer.
        tiles_of: name of the split whose tiles these are.
    """

    name: str
    protocol: str
    format: str
    classes: tuple[str, ...]
    homes: tuple[str, ...]
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    shared_images: bool = False
    merged: Mapping[str, str] = field(default_factory=dict)
    tiles_of: str | None = None


def _tinyscenes(split: str) -> Split:
    return Split(
        name=f"tinyscenes_{split}",
        protocol="aitod",
        format="coco",
        classes=AITOD_CLASSES,
        homes=("tinyscenes",),
        annotations=(f"annotations/{split}.json",),
        images=(f"images/{split}",),
    )


def _visdrone(split: str, folder: str, labelled: bool = True) -> Split:
    folder = f"VisDrone2019-DET-{folder}"
    return Split(
        name=f"visdrone_{split}",
        protocol="visdrone",
        format="visdrone",
        classes=VISDRONE_CLASSES,
        homes=("", "VisDrone", "visdrone", "VisDrone2019", "VisDrone2019-DET", "VisDrone-DET"),
        annotations=(f"{folder}/annotations",) if labelled else (),
        images=(f"{folder}/images",),
    )


def _aitod(version: int, split: str, *names: str) -> Split:
    suffixes = (f"_v{version}", f"v{version}", f"-v{version}", "")
    spellings = ("aitod", "AI-TOD", "AITOD", "ai-tod")
    folders = ("annotations", f"annotations_v{version}", ".")
    # An image of train or val may lie in the folder of trainval, and the reverse.
    parts = {"test": ("test",), "trainval": ("trainval", "train", "val")}
    return Split(
        name=f"aitod_v{version}_{split}",
        protocol="aitod",
        format="coco",
        classes=AITOD_CLASSES,
        homes=(*(name + suffix for name in spellings for suffix in suffixes), ""),
        annotations=tuple(f"{folder}/{name}" for folder in folders for name in names),
        images=tuple(
            pattern.format(part)
            for part in parts.get(split, (split, "trainval"))
            for pattern in ("images/{}", "images/{}/images", "{}", "{}/images")
        ),
        # v2 relabels the images of v1.
        shared_images=True,
    )


_TINYPERSON_HOMES = (
    "tiny_set",
    "TinyPerson/tiny_set",
    "tinyperson/tiny_set",
    "TinyPerson",
    "tinyperson",
    "",
)


def _tinyperson(
    split: str,
    *annotations: str,
    images: str,
    homes: tuple[str, ...] = _TINYPERSON_HOMES,
    tiles_of: str | None = None,
) -> Split:
    return Split(
        name=f"tinyperson_{split}",
        protocol="tinyperson",
        format="coco",
        classes=("person",),
        homes=homes,
        annotations=annotations,
        images=(images,),
        merged=_TINYPERSON_MERGED,
        tiles_of=tiles_of,
    )


SPLITS: tuple[Split, ...] = (
    _tinyscenes("train"),
    _tinyscenes("val"),
    _aitod(1, "train", "aitod_training_v1.json", "aitod_training_v1.0.json"),
    _aitod(1, "val", "aitod_validation_v1.json", "aitod_validation_v1.0.json"),
    _aitod(
        1,
        "trainval",
        "aitod_trainval_v1.json",
        "aitod_trainval_v1.0.json",
        "small_trainval_v1_1.0.json",
    ),
    _aitod(1, "test", "aitod_test_v1.json", "aitod_test_v1.0.json", "small_test_v1_1.0.json"),
    _aitod(2, "train", "aitodv2_train.json"),
    _aitod(2, "val", "aitodv2_val.json"),
    _aitod(2, "trainval", "aitodv2_trainval.json", "small_trainval_v2_2.0.json"),
    _aitod(2, "test", "aitodv2_test.json", "small_test_v2_2.0.json"),
    _visdrone("train", "train"),
    _visdrone("val", "val"),
    _visdrone("test_dev", "test-dev"),
    _visdrone("test_challenge", "test-challenge", labelled=False),
    _tinyperson("train", "annotations/tiny_set_train.json", images="train"),
    _tinyperson("train_dense", "annotations/tiny_set_train_with_dense.json", images="train"),
    _tinyperson("test", "annotations/task/tiny_set_test_all.json", images="test"),
    _tinyperson(
        "tiles_train",
        "annotations/corner/task/tiny_set_train_sw640_sh512_all.json",
        images="train",
        # The authors train on tiles of images whose ignore regions are painted over.
        homes=(
            *(f"{home}/erase_with_uncertain_dataset" for home in _TINYPERSON_HOMES),
            *_TINYPERSON_HOMES,
        ),
        tiles_of="tinyperson_train",
    ),
    _tinyperson(
        "tiles_test",
        "annotations/corner/task/tiny_set_test_sw640_sh512_all.json",
        images="test",
        tiles_of="tinyperson_test",
    ),
)
