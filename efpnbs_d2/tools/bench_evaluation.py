"""Seconds and memory of an evaluation of the size of the published benchmarks, from made-up boxes.

    python -m efpnbs_d2.tools.bench_evaluation

From files, each in a process of its own: AI-TOD's test set and VisDrone's val set. Then the same
boxes by pycocotools, by this package and, where it is installed, by faster-coco-eval. Takes some
minutes and 0.8 GB of the temporary folder.
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.protocols import find_protocol

from .bench_turns import take_turns, timed
from .memory import in_fresh_process, peak_memory
from .sample_boxes import Sizes, coco_truth, write_coco, write_visdrone

# Images, objects, detections, classes; the first two are the published sets.
_AITOD = Sizes(14_018, 350_000, 4_000_000, 8)
_VISDRONE = Sizes(548, 38_759, 270_000, 10, regions=1_378)
_AITOD_LIKE = Sizes(2_000, 50_000, 600_000, 8)
_DENSE = Sizes(20, 3_000, 16_000, 1, even=True)
_SMALL = 200
_LIBRARIES: dict[str, tuple[Any, Any]] = {"pycocotools": (COCO, COCOeval)}
with contextlib.suppress(ImportError):
    # It took over the other's interface.
    import faster_coco_eval

    _LIBRARIES["faster-coco-eval"] = (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)


def measure_files(
    protocol: str, truth: str, results: str, images: str | None = None
) -> dict[str, float]:
    """Read and evaluate files, in a fresh process.

    Returns:
        Seconds to read the annotations, to read the results, to evaluate, and of all; of all in
        processor time; the peak of resident memory in GB, libraries included.
    """
    return in_fresh_process(_measure_files, protocol, truth, results, images)


def _measure_files(
    name: str, truth_path: str, results_path: str, images: str | None = None
) -> dict[str, float]:
    protocol = find_protocol(name)
    start, processor = time.perf_counter(), time.process_time()
    truth = read_ground_truth(truth_path, protocol, images=images)
    truth_read = time.perf_counter()
    found = read_results(results_path, truth, protocol)
    results_read = time.perf_counter()
    evaluate(protocol, truth, found, progress=False)
    end = time.perf_counter()
    return {
        "read annotations": truth_read - start,
        "read results": results_read - truth_read,
        "evaluate": end - results_read,
        "seconds": end - start,
        "processor": time.process_time() - processor,
        "GB": peak_memory() / 1e9,
    }


def measure(sizes: Sizes, rounds: int) -> dict[str, list[float]]:
    """Processor seconds to evaluate the same boxes by AI-TOD's protocol, in each round.

    Returns:
        Ours for all numbers of the protocol; the libraries' for ``evaluate`` and ``accumulate``,
        which leave out oLRP.
    """
    protocol = find_protocol("aitod")
    truth, found = sizes.columns()
    # Of the processor: none uses more than one core, and other programs matter less.
    contestants = {
        "ours": timed(
            lambda: evaluate(protocol, truth, found, progress=False), clock=time.process_time
        )
    }
    rows = np.column_stack((found.image, found.boxes, found.scores, found.category))
    for name, (dataset, evaluation) in _LIBRARIES.items():
        with contextlib.redirect_stdout(io.StringIO()):
            coco = dataset()
            coco.dataset = coco_truth(truth)
            coco.createIndex()
            evaluator = evaluation(coco, coco.loadRes(rows), "bbox")
        evaluator.params.maxDets = list(protocol.max_dets)
        evaluator.params.areaRng = [[size.low, size.high] for size in protocol.size_ranges]
        evaluator.params.areaRngLbl = [size.name for size in protocol.size_ranges]
        contestants[name] = timed(partial(_by_library, evaluator), clock=time.process_time)
    return take_turns(contestants, rounds, warm_up=0, label="evaluation")


def _by_library(evaluator: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()


def compare(sizes: Sizes) -> dict[str, float]:
    """What `measure` finds in one round, and under "ratio" pycocotools' seconds by ours."""
    seconds = {name: rounds[0] for name, rounds in measure(sizes, rounds=1).items()}
    return seconds | {"ratio": seconds["pycocotools"] / seconds["ours"]}


def benchmark(scale: int) -> dict[str, Any]:
    """Measure all cases, at 1 / `scale` of their size.

    Returns:
        The machine's cores and load; by case what `measure_files` and `compare` return.
    """
    machine = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        aitod = write_coco(_AITOD / scale, Path(folder) / "aitod")
        visdrone = write_visdrone(_VISDRONE / scale, Path(folder) / "visdrone")
        files = {
            "AI-TOD test": measure_files("aitod", *aitod),
            "VisDrone val": measure_files("visdrone", *visdrone),
        }
    ratios = {"AI-TOD-like": compare(_AITOD_LIKE / scale), "dense": compare(_DENSE / scale)}
    return {"machine": machine, "files": files, "ratios": ratios}


def format_table(result: dict[str, Any]) -> str:
    """What `benchmark` returns, beside the aims."""
    machine, files, ratios = result["machine"], result["files"], result["ratios"]
    lines = [
        f"{machine['cores']} cores, load average {machine['load']:.1f}",
        f"\n{'from files':14}{'truth [s]':>11}{'results':>9}{'evaluate':>10}{'all':>8}{'CPU':>8}"
        f"{'aim':>6}{'peak [GB]':>11}{'aim':>6}",
    ]
    for (name, case), aim, memory in zip(files.items(), (90, 15), ("6", ""), strict=True):
        lines.append(
            f"{name:14}{case['read annotations']:11.1f}{case['read results']:9.1f}"
            f"{case['evaluate']:10.1f}{case['seconds']:8.1f}{case['processor']:8.1f}"
            f"{aim:6}{case['GB']:11.2f}{memory:>6}"
        )
    lines.append(
        f"\n{'in memory':14}{'ours [s CPU]':>15}"
        + "".join(f"{library:>18}" for library in _LIBRARIES)
        + f"{'ratio':>8}{'aim':>6}"
    )
    for (name, case), aim in zip(ratios.items(), (8, 30), strict=True):
        lines.append(
            f"{name:14}{case['ours']:15.2f}"
            + "".join(f"{case[library]:18.2f}" for library in _LIBRARIES)
            + f"{case['ratio']:8.1f}{aim:6}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help=f"at 1 / {_SMALL} of the size")
    parser.add_argument("--output", type=Path, help="write the numbers here, as JSON")
    options = parser.parse_args(arguments)
    result = benchmark(_SMALL if options.small else 1)
    print(format_table(result))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
