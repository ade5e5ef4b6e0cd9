"""Look at a data set before training on it: `python -m efpnbs_d2.tools.check_dataset NAME...`.

Prints a table, writes a page with plots, samples and every problem found, and fails when the data
cannot be trained on.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog
from tabulate import tabulate

from efpnbs_d2.data import class_names, read_dataset
from efpnbs_d2.data.checks import (
    Finding,
    check_boxes,
    check_decoding,
    check_files,
    check_report,
    check_splits,
)
from efpnbs_d2.data.statistics import BoxColumns

from .dataset_page import DatasetCheck, add_dataset, class_table, overview
from .html_page import Page, printable

_SEVERITIES = ("error", "warning", "note")


def check_dataset(name: str, decode: int | None) -> DatasetCheck:
    """Read a registered data set and look for everything that may be wrong with it.

    Args:
        name: of the data set.
        decode: how many images to decode; None for all.

    Raises:
        ValueError: unknown name, files not found, none of the images found, or a broken file.
        OSError: a file cannot be read.
    """
    records, report = read_dataset(name, strict=False)
    columns, classes = BoxColumns.of(records), [printable(c) for c in class_names(name)]
    findings = [
        *check_report(report),
        *check_boxes(records, columns, classes),
        *check_files(records),
        *check_decoding(records, decode),
    ]
    findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    protocol = MetadataCatalog.get(name).protocol
    return DatasetCheck(name, protocol, classes, records, columns, report, findings)


def write_page(
    checks: Sequence[DatasetCheck], shared: Sequence[Finding], target: Path, samples: int
) -> None:
    """Write the page of all data sets; `shared` is what comparing them found.

    Raises:
        OSError: it cannot be written.
    """
    names = ", ".join(check.name for check in checks)
    page = Page(f"Data check: {names}")
    if len(checks) > 1:
        page.links([(check.name, check.name) for check in checks])
        page.table(*overview(checks))
        if shared:
            page.table(
                ["", "between data sets", "count", "first examples"],
                [[f.severity, f.what, f.count, "\n".join(f.examples)] for f in shared],
            )
    for check in checks:
        add_dataset(page, check, samples)
    page.write(target)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    checks, status = [], 0
    for name in dict.fromkeys(args.names):
        try:
            checks.append(check_dataset(name, None if args.all_images else args.decode))
        except (ValueError, OSError) as error:
            message = " ".join(printable(str(error)).split())
            print(f"check_dataset: {message}", file=sys.stderr)
            status = 1
    if not checks:
        return 1
    shared = check_splits({check.name: (check.records, check.class_names) for check in checks})
    for check in checks:
        _print_dataset(check)
    _print_findings(shared)
    target = args.output or _default_output([check.name for check in checks])
    try:
        write_page(checks, shared, target, args.samples)
    except OSError as error:
        print(f"check_dataset: {error}", file=sys.stderr)
        return 1
    print(f"page: {target}")
    for check in checks:
        if not check.trainable:
            print(f"check_dataset: {check.name} cannot be trained on", file=sys.stderr)
            status = 1
    return status


def _print_dataset(check: DatasetCheck) -> None:
    header, (row,) = overview([check])
    _print_table([header[1:], row[1:]], title=check.name)
    if check.columns.is_object.any():
        header, rows = class_table(check)
        _print_table([header, *rows])
    _print_findings(check.findings)
    if check.report.problems:
        print(printable(f"  first entry left out: {check.report.problems[0]}"))
    print()


def _print_table(rows: Sequence[Sequence[object]], title: str = "") -> None:
    if title:
        print(f"== {title} ==")
    cells = [[_printed(cell) for cell in row] for row in rows]
    align = ["left", *["right"] * (len(cells[0]) - 1)]
    print(tabulate(cells[1:], cells[0], "simple", disable_numparse=True, colalign=align))


def _printed(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else "" if cell is None else str(cell)


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings:
        example = f"; first: {finding.examples[0]}" if finding.examples else ""
        print(printable(f"  {finding.severity:<8}{finding.count:>7,} {finding.what}{example}"))


def _default_output(names: Sequence[str]) -> Path:
    # A name of one's own may hold what a file name may not.
    stem = re.sub(r"[^\w.-]", "_", "+".join(names))
    return Path("output") / "check_dataset" / f"{stem[:100]}.html"


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, 0 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.check_dataset",
        description="Look at a data set before training on it.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="of a registered data set")
    parser.add_argument(
        "--output",
        type=Path,
        help="page to write (default: output/check_dataset/NAME.html)",
    )
    parser.add_argument(
        "--samples", type=_count, default=4, help="sample images on the page (default: 4)"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--decode",
        type=_count,
        default=100,
        metavar="N",
        help="decode N images of each data set to see whether they are whole (default: 100)",
    )
    images.add_argument("--all-images", action="store_true", help="decode all images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
