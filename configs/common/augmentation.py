"""Lists of training augmentations for a mapper; `size` is the crop's (height, width) in pixels.

Scale is jittered between two crops: the first, a quarter larger, spares resizing a whole large
image, the second brings all images of a batch to one size.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from efpnbs_d2.data.augmentation import ObjectCrop, RandomScale
from efpnbs_d2.data.copy_paste import TinyObjectCopyPaste


def crop_and_flip(size, object_prob=0.7):
    """The least: crops at native resolution, mirrored."""
    return [L(ObjectCrop)(size=size, object_prob=object_prob), L(T.RandomFlip)(horizontal=True)]


def oblique(size):
    """For views from the side (drones, traffic cameras): what is up stays up."""
    return [
        L(ObjectCrop)(size=_a_quarter_larger(size), object_prob=0.7),
        # Further off things are smaller and higher up: copies stay near their row.
        L(TinyObjectCopyPaste)(prob=0.5, max_copies=8, max_size=32.0, ring=4, max_rise=0.05),
        *_jitter(size),
        L(T.RandomFlip)(horizontal=True),
        *_photometric(),
    ]


def nadir(size):
    """For views from straight above (satellites, orthophotos): no direction is special."""
    return [
        L(ObjectCrop)(size=_a_quarter_larger(size), object_prob=0.7),
        L(TinyObjectCopyPaste)(prob=0.5, max_copies=8, max_size=32.0, ring=4, max_rise=1.0),
        *_jitter(size),
        L(T.RandomFlip)(horizontal=True),
        L(T.RandomRotation)(angle=[0, 90, 180, 270], sample_style="choice"),
        *_photometric(),
    ]


def _a_quarter_larger(size):
    return tuple(side * 5 // 4 for side in size)


def _jitter(size):
    return [
        L(RandomScale)(low=0.8, high=1.25),
        L(ObjectCrop)(size=size, object_prob=0.7),
    ]


def _photometric():
    return [
        L(T.RandomBrightness)(intensity_min=0.8, intensity_max=1.2),
        L(T.RandomContrast)(intensity_min=0.8, intensity_max=1.2),
        L(T.RandomSaturation)(intensity_min=0.8, intensity_max=1.2),
    ]
