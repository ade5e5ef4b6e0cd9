"""Training batches as a function of (seed, position) alone, so that a run can start anywhere.

The *position* of a sample is its number in the endless stream of the run: step i of a run with
batches of b images consumes the positions i * b to (i + 1) * b - 1, shared out over the processes.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

# Two uses of one seed must not share their random numbers: data here, steps in the engine.
DATA_STREAM, STEP_STREAM = 1, 2


def seed_at(seed: int, *stream: int) -> int:
    """A seed of its own for one point of a run, in [0, 2^32).

    Args:
        seed: of the run, not negative.
        stream: what the numbers are for and where: `DATA_STREAM` and a position, or `STEP_STREAM`,
            iteration, part of the step and process.
    """
    return int(np.random.SeedSequence((seed, *stream)).generate_state(1)[0])


class TrainLoader:
    """Endless training batches; the same for any number of workers, and from any step on.

    Detectron2's `build_detection_train_loader` with an order of our own: its sampler begins anew
    when a run is resumed, and its workers' random numbers depend on what ran before.

    An epoch is a permutation of the data set. With `aspect_ratio_grouping`, landscape images and
    others are kept in separate batches where there are enough for whole ones, and what is left of
    an epoch after the last whole batch is left out of it.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        *,
        mapper: Callable[[dict[str, Any]], dict[str, Any]],
        total_batch_size: int,
        aspect_ratio_grouping: bool = True,
        num_workers: int = 0,
        **options: Any,
    ):
        """
        Args:
            dataset: Detectron2's records.
            mapper: record -> model input; draws its random numbers from Python, numpy or torch.
            total_batch_size: images of one step, of all processes together.
            aspect_ratio_grouping: whether batches are of one orientation.
            num_workers: loading processes of each training process.
            options: further arguments of `build_detection_train_loader`.

        Raises:
            ValueError: the data set is smaller than a batch that is grouped.
        """
        if aspect_ratio_grouping and len(dataset) < total_batch_size:
            raise ValueError(
                f"the training set has {len(dataset)} images, fewer than the {total_batch_size} of "
                "one step: lower dataloader.train.total_batch_size (yacs: SOLVER.IMS_PER_BATCH)"
            )
        self.records = DatasetFromList(list(dataset), copy=False)
        self.landscape = (
            np.array([record["width"] > record["height"] for record in dataset])
            if aspect_ratio_grouping
            else None
        )
        self.mapper = mapper
        self.total_batch_size = total_batch_size
        self.options = {"num_workers": num_workers, **options}
        self.seed, self.start, self.parts = 0, 0, 1

    def start_at(self, seed: int, step: int, *, parts: int = 1) -> None:
        """Choose what the next iteration over the loader yields.

        Args:
            seed: of the order and the augmentations.
            step: first step, from 0.
            parts: batches that a step is split into, one after another.

        Raises:
            ValueError: the images of a step cannot be shared out evenly.
        """
        shares = comm.get_world_size() * parts
        if self.total_batch_size % shares:
            raise ValueError(
                f"{self.total_batch_size} images a step cannot be shared evenly by "
                f"{comm.get_world_size()} processes x {parts} parts: change "
                "dataloader.train.total_batch_size (yacs: SOLVER.IMS_PER_BATCH) or "
                "train.accumulation (yacs: SOLVER.ACCUMULATION)"
            )
        self.seed, self.start, self.parts = seed, step * self.total_batch_size, parts

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        batch_size = self.total_batch_size if self.landscape is not None else 1
        return iter(
            build_detection_train_loader(
                _Stream(self.records, self.seed, batch_size, self.landscape),
                mapper=self.mapper,
                sampler=_Positions(self.start),
                total_batch_size=self.total_batch_size // self.parts,
                aspect_ratio_grouping=False,
                **self.options,
            )
        )


class _Positions(Sampler):
    """The positions of this process: start + rank, then every world size-th."""

    def __init__(self, start: int):
        self.first, self.step = start + comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        position = self.first
        while True:
            yield position
            position += self.step


class _Stream(Dataset):
    """The record at a position, with the random numbers of that position seeded."""

    def __init__(
        self,
        records: DatasetFromList,
        seed: int,
        batch_size: int,
        landscape: np.ndarray | None,
    ):
        self.records, self.seed = records, seed
        self.batch_size, self.landscape = batch_size, landscape
        # An epoch holds whole batches, so that none mixes two epochs' groups.
        self.epoch_size = len(records) // batch_size * batch_size
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> dict[str, Any]:
        epoch, place = divmod(position, self.epoch_size)
        record = self.records[int(self._order(epoch)[place])]
        seed = seed_at(self.seed, DATA_STREAM, position)
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # of the CPU alone: workers have no GPU
        return record

    def _epoch_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, DATA_STREAM, epoch))
        order = rng.permutation(len(self.records))
        if self.landscape is None:
            return order
        wide = self.landscape[order]
        groups = [order[wide], order[~wide]]
        whole = [len(group) // self.batch_size * self.batch_size for group in groups]
        ends = [group[size:] for group, size in zip(groups, whole, strict=True)]
        # Batches of one orientation first; the ends of both groups fill the last ones.
        samples = [group[:size] for group, size in zip(groups, whole, strict=True)] + ends
        batches = np.concatenate(samples)[: self.epoch_size].reshape(-1, self.batch_size)
        return rng.permutation(batches, axis=0).reshape(-1)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._epoch_order)
