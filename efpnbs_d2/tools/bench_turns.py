"""How the benchmarks measure: all contestants in turn, and of each the median and the quartiles."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from tqdm import tqdm

Value = TypeVar("Value")

RATIO = "x"


@dataclass(frozen=True)
class Measurement:
    """What came out of several runs.

    Attributes:
        median: of the runs.
        quartile_1: a quarter of the runs is below.
        quartile_3: a quarter of the runs is above.
        n: number of runs; a count, which has no spread, is one run.
        unit: e.g. "s"; "x" for a ratio.
    """

    median: float
    quartile_1: float
    quartile_3: float
    n: int
    unit: str


def summarise(values: Sequence[float], unit: str) -> Measurement:
    """Median and quartiles of one or more values."""
    if len(values) == 1:
        return Measurement(values[0], values[0], values[0], 1, unit)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Measurement(middle, low, high, len(values), unit)


def compared(
    title: str, values: Mapping[str, Sequence[float]], base: str, unit: str
) -> dict[str, Measurement]:
    """Measurements by name: each contestant's, and its ratio to the contestant `base`.

    Args:
        title: what was measured, the start of every name.
        values: by contestant, a value a round.
        base: what the others are divided by, round by round: a spell in which the machine is slower
            meets both.
        unit: of the values.
    """
    found = {f"{title}: {name}": summarise(own, unit) for name, own in values.items()}
    for name, own in values.items():
        if name != base:
            ratios = [value / other for value, other in zip(own, values[base], strict=True)]
            found[f"{title}: {name} / {base}"] = summarise(ratios, RATIO)
    return found


def take_turns(
    contestants: Mapping[str, Callable[[], Value]],
    rounds: int,
    *,
    warm_up: int = 1,
    label: str = "",
) -> dict[str, list[Value]]:
    """Let all take turns, so that a slower spell of the machine meets all of them.

    Args:
        contestants: by name; each measures itself.
        rounds: how often each has its turn; who goes first changes from round to round.
        warm_up: rounds before, which are not counted.
        label: of the progress bar on a terminal; none without.

    Returns:
        By name, what each round gave.
    """
    results: dict[str, list[Value]] = {name: [] for name in contestants}
    names = list(contestants)
    total = (warm_up + rounds) * len(names)
    with tqdm(total=total, desc=label, leave=False, disable=None if label else True) as bar:
        for number in range(-warm_up, rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                result = contestants[name]()
                if number >= 0:
                    results[name].append(result)
                bar.update()
    return results


def timed(
    call: Callable[[], object],
    *,
    clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
) -> Callable[[], float]:
    """A contestant for `take_turns`: seconds until `call`, and what it queued, is done."""

    def run() -> float:
        wait_for(device)
        start = clock()
        call()
        wait_for(device)
        return clock() - start

    return run


def wait_for(device: str) -> None:
    """Wait for kernels that were only queued."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(torch.device(device))
