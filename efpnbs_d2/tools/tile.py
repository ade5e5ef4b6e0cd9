"""Cut a registered data set into tiles: `python -m efpnbs_d2.tools.tile visdrone_train`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from efpnbs_d2.data.locate import dataset_root
from efpnbs_d2.data.tile_images import IMAGE_FORMATS
from efpnbs_d2.data.tile_set import TileSet, write_tile_set
from efpnbs_d2.tile_corners import OVERLAP, TILE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(arguments)
    try:
        tiles = write_tile_set(
            args.dataset,
            args.output or Path(dataset_root()) / "tiles",
            tile=_height_width(args.tile),
            overlap=_height_width(args.overlap),
            image_format=args.images,
            drop_empty=args.drop_empty,
            workers=args.workers,
        )
    except (ValueError, OSError) as error:
        print(f"tile: {error}", file=sys.stderr)
        return 1
    except BrokenExecutor:
        print(
            "tile: a process that cut images was killed, probably for lack of memory; "
            "run again with fewer --workers to continue",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("tile: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    print(summary(tiles, args))
    print(f"annotations: {tiles.annotations}\nimages: {tiles.images}")
    # Put before what the variable names already: the data set that was cut may be one's own.
    others = "${EFPNBS_DATASETS:+:$EFPNBS_DATASETS}"
    datasets = shlex.quote(str(tiles.datasets.resolve()))
    print(f"To use {tiles.name}: export EFPNBS_DATASETS={datasets}{others}")
    return 0


def summary(tiles: TileSet, args: argparse.Namespace) -> str:
    """One line: images, tiles, and what became of the boxes."""
    counts = tiles.counts
    parts = [
        f"{tiles.originals} images, {counts.tiles} tiles of {args.tile[0]}x{args.tile[-1]} px",
        f"{counts.empty} without objects, {'dropped' if args.drop_empty else 'kept'}",
        f"{counts.objects} objects: {counts.kept} boxes kept, {counts.cut_away} pieces cut away, "
        f"{counts.lost} objects in no tile",
        f"{counts.ignored} pieces of ignore regions",
    ]
    if args.images:
        parts.append(f"{tiles.files_written} image files cut, the others were there")
    return f"{args.dataset}: {'; '.join(parts)}"


def _height_width(values: list[int]) -> tuple[int, int]:
    return values[-1], values[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.tile", description="Cut a registered data set into tiles."
    )
    parser.add_argument("dataset", help="its registered name, for example visdrone_train")
    for name, (height, width), what in (
        ("--tile", TILE, "size of a tile"),
        ("--overlap", OVERLAP, "pixels that neighbours share"),
    ):
        parser.add_argument(
            name,
            type=int,
            nargs=2,
            default=[width, height],
            metavar=("WIDTH", "HEIGHT"),
            help=f"{what} (default: {width} {height})",
        )
    parser.add_argument(
        "--output", type=Path, help="folder to write to (default: tiles/ in the data sets' folder)"
    )
    parser.add_argument(
        "--images",
        nargs="?",
        choices=IMAGE_FORMATS,
        const="png",
        help="also cut the images, as PNG or as JPEG of quality 95 (default: annotations only)",
    )
    parser.add_argument(
        "--drop-empty", action="store_true", help="leave out tiles that hold no object"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that cut images (default: one per CPU)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
