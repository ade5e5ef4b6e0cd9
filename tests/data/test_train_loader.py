"""Training samples are a function of seed and position: any start, any workers, any processes."""

import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from efpnbs_d2.data.train_loader import TrainLoader


def _records(count, *, tall=()):
    return [{"image_id": i, "height": 20 if i in tall else 5, "width": 10} for i in range(count)]


def _mapped(record):
    """What a mapper may draw from: numpy, torch and Python."""
    return {
        "image_id": record["image_id"],
        "tall": record["height"] > record["width"],
        "drawn": (np.random.random(), torch.rand(1).item(), random.random()),
    }


def _loader(count=10, *, batch=4, tall=(), **options):
    return TrainLoader(
        _records(count, tall=tall), mapper=_mapped, total_batch_size=batch, **options
    )


def _batches(loader, number, *, seed=0, step=0, parts=1):
    loader.start_at(seed, step, parts=parts)
    return list(itertools.islice(iter(loader), number))


def test_a_run_from_the_middle_sees_what_the_whole_run_saw():
    whole = _batches(_loader(), 7)
    assert _batches(_loader(), 4, step=3) == whole[3:]


def test_workers_change_nothing():
    assert _batches(_loader(num_workers=2), 5) == _batches(_loader(), 5)


def test_parts_of_a_step_are_the_step():
    split = _batches(_loader(), 6, parts=2)
    joined = [first + second for first, second in zip(split[::2], split[1::2], strict=True)]
    assert joined == _batches(_loader(), 3)
    assert _batches(_loader(), 2, step=2, parts=2) == split[4:6]


def test_processes_share_a_step(monkeypatch):
    whole = _batches(_loader(), 3)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: 2)
        shares.append(_batches(_loader(), 3))
    for step, first, second in zip(whole, *shares, strict=True):
        assert [step[0], step[2]] == first
        assert [step[1], step[3]] == second


def test_another_seed_is_another_run_and_the_next_epoch_another_order():
    first, other = (
        [s["image_id"] for batch in _batches(_loader(), 4, seed=seed) for s in batch]
        for seed in (0, 1)
    )
    assert first != other
    assert first[:8] != first[8:]


def test_the_same_image_is_augmented_anew_each_time():
    samples = [s for batch in _batches(_loader(4), 3) for s in batch]
    for kind in zip(*(s["drawn"] for s in samples), strict=True):
        assert len(set(kind)) == 12


def test_an_epoch_shows_every_image_once_without_groups():
    samples = [s for b in _batches(_loader(aspect_ratio_grouping=False), 5) for s in b]
    assert sorted(s["image_id"] for s in samples[:10]) == list(range(10))
    assert sorted(s["image_id"] for s in samples[10:]) == list(range(10))


def test_batches_are_of_one_orientation_but_for_the_rest_of_an_epoch():
    # 9 tall and 13 wide images in batches of 4: 2 + 3 whole batches; 1 + 1 images are left out.
    epoch = _batches(_loader(22, tall=range(9)), 5)
    kinds = sorted(sum(s["tall"] for s in batch) for batch in epoch)
    assert kinds == [0, 0, 0, 4, 4]
    # 6 and 6: one batch of each, and one of both ends.
    mixed = _batches(_loader(12, tall=range(6)), 3)
    assert sorted(sum(s["tall"] for s in batch) for batch in mixed) == [0, 2, 4]
    assert len({s["image_id"] for batch in mixed for s in batch}) == 12


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="4 images a step .* 1 processes x 3 parts"):
        _loader().start_at(0, 0, parts=3)
    with pytest.raises(ValueError, match="3 images, fewer than the 4 of one step"):
        _loader(3)
