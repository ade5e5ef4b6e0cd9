"""The page builder: hostile text stays text, and one file is all there is."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from efpnbs_d2.tools.html_page import Number, Page, printable

HOSTILE = "</pre><script>alert('1')</script> & \"$x$ \ud800\x00"


def everything(text):
    page = Page(text, lead=text)
    page.heading(text, anchor=text)
    page.links([(text, text)])
    page.paragraph(text)
    page.verdict("warning", text)
    page.facts([(text, text)])
    page.legend([(text, (255, 0, 0))])
    page.table([text, "n"], [[text, 1234567]], caption=text)
    page.details(text, [text])
    with page.columns():
        page.chart(lambda axes: axes.barh([printable(text)], [3]), text)
        page.picture(np.zeros((4, 6, 3), np.uint8), text)
    return page.html()


def test_hostile_text_is_escaped_everywhere():
    html = everything(HOSTILE)
    assert "<script" not in html and "alert(&#x27;" in html
    html.encode()  # no lone surrogate
    assert "\x00" not in html


def test_every_block_is_well_formed():
    """An XML parser is stricter than browsers; only the declaration and void tags are no XML."""
    html = everything("a <b> & c").replace("<!DOCTYPE html>", "")
    ElementTree.fromstring(re.sub(r"<(meta|img|br)([^>]*?)/?>", r"<\1\2/>", html))


def test_nothing_comes_from_elsewhere():
    html = everything("text")
    loads = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert loads and all(target.startswith(("data:", "#")) for target in loads)
    assert "<link" not in html and "@import" not in html


def test_numbers_stand_right_with_thousands():
    page = Page("t")
    page.table(["name", "n", "x", "share"], [["a", 1234567, 0.25, "5.0%"], ["b", None, 2.0, "1%"]])
    cells = re.findall(r"<td( class=\"number\")?>([^<]*)</td>", page.html())
    right = ' class="number"'
    assert cells[:4] == [("", "a"), (right, "1,234,567"), (right, "0.2"), (right, "5.0%")]
    assert cells[5] == ("", "")


def test_a_formatted_number_stands_right():
    page = Page("t")
    page.table(["change", "name"], [[Number("+1.50"), "+1.50"]])
    assert '<th class="number">change</th><th>name</th>' in page.html()
    assert '<td class="number">+1.50</td><td>+1.50</td>' in page.html()


def test_charts_take_the_pages_colour():
    page = Page("t")
    page.chart(lambda axes: axes.set_title("a $title$"), "c")
    svg = re.search(r"<svg.*?</svg>", page.html(), re.S).group()
    assert "currentColor" in svg and "a $title$" in svg
    assert "#000000" not in svg.replace("#000000; stroke-width: 0", "")


def test_the_same_page_twice_is_equal():
    assert everything("x") == everything("x")


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Page("t").write(tmp_path / "file" / "page.html")
