"""Convert labels between VisDrone TXT, COCO JSON and YOLO TXT.

`python -m efpnbs_d2.tools.convert --from visdrone --to coco --annotations A --images I --output O`
"""

from __future__ import annotations

import argparse
import sys

from efpnbs_d2.data.convert import FORMATS, IMAGE_PLACEMENTS, convert_dataset
from efpnbs_d2.data.convert_classes import parse_classes
from efpnbs_d2.data.locate import dataset_root, locate_split
from efpnbs_d2.data.splits import SPLITS


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        source, annotations, images = _source(args)
        report = convert_dataset(
            source,
            args.target,
            annotations=annotations,
            images=images,
            output=args.output,
            classes=None if args.classes is None else parse_classes(args.classes),
            place_images=args.place_images,
            strict=args.strict,
            progress=not args.quiet,
        )
    except (ValueError, OSError) as error:
        print(f"convert: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(*report.lines(), args.output, sep="\n")
    return 0


def _source(args: argparse.Namespace) -> tuple[str, str, list[str]]:
    """Format, annotations and folders of images that the command line asks for."""
    if args.source in FORMATS:
        if args.annotations is None or args.images is None:
            raise ValueError(f"--from {args.source} needs --annotations and --images")
        return args.source, args.annotations, [args.images]
    split = {split.name: split for split in SPLITS}.get(args.source)
    if split is None:
        raise ValueError(
            f"found --from {args.source}, expected one of {', '.join(FORMATS)}, or a data set: "
            f"{', '.join(split.name for split in SPLITS)}"
        )
    if args.annotations is not None or args.images is not None:
        raise ValueError(f"--from {args.source} finds its files: leave --annotations and --images")
    annotations, images = locate_split(split, dataset_root())
    if annotations is None:
        raise ValueError(f"{args.source} was published without labels: there is nothing to convert")
    return split.format, annotations, images


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.convert",
        description="Convert labels between VisDrone TXT, COCO JSON and YOLO TXT.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)}, or a published data set such as visdrone_train",
    )
    parser.add_argument("--to", dest="target", required=True, choices=FORMATS)
    parser.add_argument("--annotations", help="JSON file (coco) or folder of text files")
    parser.add_argument("--images", help="folder of images")
    parser.add_argument("--output", required=True, help="folder to make, with images and labels")
    parser.add_argument(
        "--classes",
        metavar="FILE|NAMES",
        help="file of class names (lines, or a YAML file's `names`), or names like car,van; "
        "default: those of the source",
    )
    parser.add_argument(
        "--place-images",
        choices=IMAGE_PLACEMENTS,
        default="link",
        help="how the images come into the output folder (default: symbolic links)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        default=None,
        help="stop at the first broken entry instead of dropping and counting it",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
