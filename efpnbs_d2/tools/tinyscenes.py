"""Write the synthetic data set: `python -m efpnbs_d2.tools.tinyscenes --root datasets`."""

from __future__ import annotations

import argparse
import sys

from efpnbs_d2.data.locate import dataset_root
from efpnbs_d2.data.tinyscenes import DIFFICULTIES, write_dataset


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    size = args.size[0] if len(args.size) == 1 else tuple(args.size)
    try:
        folder = write_dataset(
            args.root,
            splits=dict(args.split),
            size=size,
            difficulty=args.difficulty,
            seed=args.seed,
            workers=args.workers,
            overwrite=args.overwrite,
        )
    except (ValueError, OSError) as error:
        print(f"tinyscenes: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def _split(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not (name and equals and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=IMAGES, for example train=200")
    return name, int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Write the synthetic data set `tinyscenes`.")
    parser.add_argument(
        "--root",
        default=dataset_root(),
        help="folder of data sets (default: $DETECTRON2_DATASETS or datasets)",
    )
    parser.add_argument(
        "--split",
        type=_split,
        nargs="+",
        metavar="NAME=IMAGES",
        default=[("train", 200), ("val", 40)],
        help="default: train=200 val=40",
    )
    parser.add_argument(
        "--size", type=int, nargs="+", default=[256], metavar="PX", help="side, or height and width"
    )
    parser.add_argument("--difficulty", choices=sorted(DIFFICULTIES), default="easy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another tinyscenes data set in the way"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
