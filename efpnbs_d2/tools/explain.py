"""Show why a detector finds what it finds: `python -m efpnbs_d2.tools.explain --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..inference.explanation import explain
from ..inference.predictors import class_names, load_predictor
from ..inference.scene import open_scene, read_whole
from .explanation_page import write_explanation
from .prediction_inputs import Source, list_sources

__all__ = ["main"]

DESCRIPTION = """Write, for each image, a page that shows a detector's foreground masks, the energy
of its feature maps and the proposals of its RPN, and the page's pictures as PNG files."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when every image was explained, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.explain", description=DESCRIPTION
    )
    parser.add_argument("images", nargs="+", help="image files, folders of them, or globs")
    parser.add_argument("--config-file", required=True, help="of the model: a .py or .yaml file")
    parser.add_argument("--weights", required=True, help="a checkpoint of train_net.py")
    parser.add_argument("--output", type=Path, default=Path("output/explain"))
    parser.add_argument("--proposals", type=int, default=200, help="how many are drawn [200]")
    parser.add_argument("--min-score", type=float, default=0.5, help="of drawn detections [0.5]")
    args = parser.parse_args(argv)
    failed = 0
    try:
        if args.proposals < 1:
            raise ValueError(f"found --proposals {args.proposals}, expected 1 or more")
        if not 0 <= args.min_score <= 1:
            raise ValueError(f"found --min-score {args.min_score}, expected 0 to 1")
        sources = list_sources(args.images, args.output)
        predictor = load_predictor(args.config_file, args.weights)
        for source in tqdm(sources, unit="image", dynamic_ncols=True):
            try:
                page = _explain_file(predictor, source, args)
            except (ValueError, OSError) as error:
                failed += 1
                text = str(error)
                place = "" if str(source.path) in text else f"{source.path}: "
                tqdm.write(f"error: {place}{text}", file=sys.stderr)
            else:
                tqdm.write(str(page))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


def _explain_file(predictor: Any, source: Source, args: argparse.Namespace) -> Path:
    """The page that was written."""
    if source.is_video:
        raise ValueError("found a video, expected an image: save a frame of it as one")
    with open_scene(source.path) as scene:
        image = read_whole(scene, "cut out a part of it")
    explanation = explain(predictor, image)
    return write_explanation(
        args.output,
        source.name,
        image,
        explanation,
        class_names(predictor),
        min_score=args.min_score,
        max_proposals=args.proposals,
    )


if __name__ == "__main__":
    sys.exit(main())
