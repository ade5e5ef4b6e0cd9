"""One HTML page of text, tables, charts and pictures in one file, without anything from elsewhere.

Everything given as text is escaped. Charts are inline SVG whose text takes the page's colour, so
that they are readable on a light and a dark screen.
"""

import base64
import html
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from efpnbs_d2.atomic import write_atomically

__all__ = ["Number", "Page", "printable"]

# Stands for the page's text colour while matplotlib draws; no chart uses it for anything else.
_TEXT_COLOR = "#010203"
_CHART_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "svg.hashsalt": "page",  # the same data give the same page
    "text.parse_math": False,  # a $ in a class name is a $
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "grid.alpha": 0.25,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _TEXT_COLOR,
    ),
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_CSS = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: #2563c9; }
@media (prefers-color-scheme: dark) { :root { --link: #7fb0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
h3 { margin: 2rem 0 .5rem; } p { max-width: 46rem; } a { color: var(--link); }
.facts { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; list-style: none; }
.facts li { background: var(--soft); border-radius: .5rem; padding: .4rem .9rem; }
.facts b { display: block; font-size: 1.25rem; }
.columns { display: grid; gap: 1rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .92em; }
caption { text-align: left; padding-bottom: .3rem; opacity: .8; }
th, td { padding: .2rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { overflow-wrap: break-word; max-width: 46rem; }
td:first-child { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
td:last-child:not(.number) { min-width: 16rem; }
th { white-space: nowrap; } td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.mark { border-radius: .3rem; padding: 0 .5em; color: #fff; white-space: nowrap; }
.error { background: #b3261e; } .warning { background: #8a5a00; } .note { background: #55606b; }
.good { background: #1b7a3d; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  outline: 1px solid #8888; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .87em; opacity: .8; }
figure svg, figure img { width: 100%; height: auto; }
details { margin: .5rem 0; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85em; margin: .2rem 0; max-height: 30rem; overflow-y: auto; }
"""


class Number(str):
    """Text of a number that is formatted already: it stands right in a table."""


class Page:
    """Collects blocks from top to bottom; `write` makes the file.

    Args:
        title: heading, and the browser's title.
        lead: a paragraph below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._body: list[str] = [f"<h1>{_text(title)}</h1>"]
        if lead:
            self.paragraph(lead)

    def heading(self, text: str, level: int = 2, anchor: str = "") -> None:
        """A heading of level 2 or 3; `links` can point to its `anchor`."""
        target = f' id="{_text(anchor)}"' if anchor else ""
        self._body.append(f"<h{level}{target}>{_text(text)}</h{level}>")

    def links(self, targets: Sequence[tuple[str, str]]) -> None:
        """A line of links to anchors of this page: (text, anchor)."""
        links = (f'<a href="#{_text(anchor)}">{_text(text)}</a>' for text, anchor in targets)
        self._body.append(f"<p>{' · '.join(links)}</p>")

    def paragraph(self, text: str) -> None:
        self._body.append(f"<p>{_text(text)}</p>")

    def verdict(self, severity: str, text: str) -> None:
        """A line behind a coloured mark: "error", "warning", "note" or "good"."""
        self._body.append(f"<p>{_mark(severity)} {_text(text)}</p>")

    def facts(self, facts: Sequence[tuple[str, object]]) -> None:
        """The numbers to see first: (label, value)."""
        items = (f"<li><b>{_cell(value)}</b>{_text(label)}</li>" for label, value in facts)
        self._body.append(f'<ul class="facts">{"".join(items)}</ul>')

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> None:
        """A table. Numbers, `Number` and text that ends in % stand right, with separated thousands.

        A severity (see `verdict`) in a column without a name becomes a coloured mark; line breaks
        in a cell are kept; None is an empty cell.
        """
        # A column is as its first filled cell.
        filled = [next((c for c in column if c is not None), "") for column in zip(*rows)]
        right = [_is_number(cell) for cell in filled] or [False] * len(header)
        head = "".join(_tag("th", _text(h), r) for h, r in zip(header, right, strict=True))
        lines = (
            "".join(
                _tag("td", _cell(cell) if name else _mark(str(cell)), _is_number(cell))
                for name, cell in zip(header, row, strict=True)
            )
            for row in rows
        )
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        title = f"<caption>{_text(caption)}</caption>" if caption else ""
        self._body.append(
            f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def legend(self, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        """What colours mean: (text, BGR colour)."""
        items = (
            f'<li><i style="background: rgb({red} {green} {blue})"></i>{_text(text)}</li>'
            for text, (blue, green, red) in entries
        )
        self._body.append(f'<ul class="legend">{"".join(items)}</ul>')

    def details(self, summary: str, lines: Sequence[str]) -> None:
        """Lines that open at a click."""
        text = _text("\n".join(lines))
        self._body.append(
            f"<details><summary>{_text(summary)}</summary><pre>{text}</pre></details>"
        )

    def chart(self, draw: Callable[[Axes], None], caption: str, height: float = 2.8) -> None:
        """A chart as SVG.

        Args:
            draw: draws into the axes it is given; colours other than the text's must be readable
                on white and on black, and all text `printable`.
            caption: what is seen, in a sentence.
            height: in inches, for a width of 5.
        """
        self._figure(_svg(draw, height), caption)

    def picture(self, image: np.ndarray, caption: str) -> None:
        """A photo, H x W x 3 BGR uint8, embedded as JPEG."""
        done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
        assert done
        source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        height, width = image.shape[:2]
        self._figure(
            f'<img src="{source}" width="{width}" height="{height}" alt="{_text(caption)}">',
            caption,
        )

    @contextmanager
    def columns(self) -> Iterator[None]:
        """Blocks added inside stand beside each other where the screen is wide enough."""
        self._body.append('<div class="columns">')
        yield
        self._body.append("</div>")

    def html(self) -> str:
        """The whole page."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_text(self.title)}</title><style>{_CSS}</style></head>\n<body>\n"
            + "\n".join(self._body)
            + "\n</body></html>\n"
        )

    def write(self, target: Path) -> None:
        """Write the page; missing folders are made.

        Raises:
            OSError: it cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        data = self.html().encode()
        write_atomically(target, lambda file: file.write(data))

    def _figure(self, content: str, caption: str) -> None:
        self._body.append(f"<figure>{content}<figcaption>{_text(caption)}</figcaption></figure>")


def _mark(severity: str) -> str:
    assert severity in ("error", "warning", "note", "good")
    return f'<span class="mark {severity}">{severity}</span>'


def printable(text: str) -> str:
    """Without control characters and lone surrogates, which names from damaged files may hold and
    neither HTML nor a terminal takes."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _text(text: str) -> str:
    return html.escape(printable(text))


def _is_number(cell: object) -> bool:
    number = isinstance(cell, (int, float, Number)) and not isinstance(cell, bool)
    return number or (isinstance(cell, str) and cell.endswith("%") and cell[0].isdigit())


def _cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return _text(str(cell)).replace("\n", "<br>")


def _tag(name: str, content: str, right: bool) -> str:
    kind = ' class="number"' if right else ""
    return f"<{name}{kind}>{content}</{name}>"


def _svg(draw: Callable[[Axes], None], height: float) -> str:
    with matplotlib.rc_context(_CHART_STYLE), warnings.catch_warnings():
        # matplotlib measures with its own fonts; the reader's browser has those of more scripts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(5, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(_TEXT_COLOR, "currentColor")
