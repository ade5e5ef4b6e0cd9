"""The page of an evaluation says what the numbers say, for one run and for two."""

from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from efpnbs_d2.evaluation.analysis.analyse import Analysis, analyse
from efpnbs_d2.evaluation.analysis.bootstrap import Comparison, Difference, compare
from efpnbs_d2.evaluation.analysis.error_costs import ErrorCosts
from efpnbs_d2.evaluation.analysis.image_errors import ImageBoxes, ImageErrors
from efpnbs_d2.evaluation.analysis.score_curves import BestF1, Calibration, PrecisionRecall
from efpnbs_d2.evaluation.analysis.size_recall import SizeRecall
from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.evaluation.result import Evaluation
from efpnbs_d2.protocols import PROTOCOLS
from efpnbs_d2.tools import evaluation_charts as charts
from efpnbs_d2.tools.evaluation_page import Run, write_page
from efpnbs_d2.tools.evaluation_text import verdict
from efpnbs_d2.tools.html_page import Page

HOSTILE = "<script>alert(1)</script> & $x^2$ \ud800"
NAN = float("nan")


class Tables(HTMLParser):
    """All tables of a page as lists of rows of cell texts, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.text, self._cell, self.pictures = [], "", None, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append((int(dict(attrs)["width"]), int(dict(attrs)["height"])))
        assert tag != "script"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell += data

    def table(self, *header):
        return next(t for t in self.tables if t[0][: len(header)] == list(header))


def truth_of(classes, images=3, sizes=(40, 60)):
    """An object of 8 x 8 px of every class in every image, and an ignored one."""
    number = images * len(classes)
    flags = np.zeros(number, dtype=bool)
    return GroundTruth(
        source="gt",
        image_ids=tuple(range(images)),
        image_names=tuple(f"{i}.png" for i in range(images)),
        image_sizes=np.tile(sizes, (images, 1)),
        classes=classes,
        image=np.repeat(np.arange(images), len(classes)),
        category=np.tile(list(classes), images),
        boxes=np.tile([5.0, 5, 8, 8], (number, 1)),
        area=np.full(number, 64.0),
        side=np.full(number, 8.0),
        annotation_id=np.arange(number),
        crowd=flags,
        ignore=np.arange(number) == 0,
        uncertain=flags,
    )


def image_boxes(image=0, name="0.png", size=(40, 60)):
    """A true positive, three false positives, an ignored one; an object found, one missed."""
    return ImageBoxes(
        image=image,
        name=name,
        size=size,
        found_boxes=np.array(
            [[5.0, 5, 8, 8], [20, 5, 8, 8], [20, 20, 8, 8], [5, 28, 4, 4], [40, 5, 8, 8]]
        ),
        found_category=np.array([1, 1, 2, 1, 1]),
        found_scores=np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        found_state=np.array([1, 0, 0, 2, 0], dtype=np.int8),
        found_error=np.array([-1, 1, 4, -1, 4], dtype=np.int8),
        true_boxes=np.array([[5.0, 5, 8, 8], [40, 20, 8, 8], [3, 26, 8, 8]]),
        true_category=np.array([1, 2, 1]),
        true_state=np.array([1, 0, 2], dtype=np.int8),
    )


def analysis_of(protocol, classes, shift=0.0, images=3, worst=()):
    number, recall = len(classes), np.linspace(0, 1, 101)
    fall = np.clip(1.0 + shift - recall, 0, 1)
    precision = np.tile(fall, (number, 1))
    curves = PrecisionRecall(0.5, recall, precision, fall)
    objects = np.array([0, 10, 20])
    found = np.array([0, 4, 15])
    interval = np.array([[NAN, NAN], [0.1, 0.7], [0.5, 0.9]])
    six = np.arange(6) / 100
    return Analysis(
        protocol=protocol,
        classes=classes,
        curves=curves,
        mean_iou_curves=replace(curves, iou=None),
        best_f1=BestF1(
            0.5,
            np.array([0.25 + shift, *[NAN] * (number - 1)]),
            np.array([0.6, *[NAN] * (number - 1)]),
            np.array([0.75, *[0.0] * (number - 1)]),
            np.array([0.5, *[0.0] * (number - 1)]),
        ),
        calibration=Calibration(
            0.5,
            np.array([0, 0.5, 1.0]),
            np.array([30, 0]),
            np.array([0.4, NAN]),
            np.array([0.25 + shift, NAN]),
            0.15,
        ),
        size_recall=SizeRecall(
            0.5, np.array([0, 4, 8, np.inf]), objects, found, found // 2, interval, interval
        ),
        error_costs=ErrorCosts(
            0.5, 0.1, 0.4 + shift, np.full(number, 0.4 + shift), six + shift,
            np.tile(six, (number, 1)), np.ones((number, 6), int), np.zeros((number, 6), int),
            0.2, 0.3,
        ),
        image_errors=ImageErrors(
            np.array([4, 5, 6][:images]), np.array([1, 5, 3][:images]),
            np.array([3, 0, 3][:images]),
            np.array([2, 0, round(100 * shift)][:images]), np.arange(images), tuple(worst),
        ),
    )  # fmt: skip


def run_of(name, protocol, truth, value=0.25, shift=0.0, worst=(), missing=(), **more):
    """`value`, in the protocol's units, is every metric of every class."""
    metrics = {metric.name: value for metric in protocol.metrics}
    found = Detections("r", np.zeros(7, int), np.ones(7, int), np.ones((7, 4)), np.ones(7), missing)
    classes = dict.fromkeys(truth.classes.values(), metrics)
    analysis = analysis_of(protocol, truth.classes, shift, len(truth.image_ids), worst)
    return Run(name, found, Evaluation(protocol, metrics, classes, **more), analysis)


@pytest.fixture
def chart_files():
    """For tests that need charts as they stand in the page."""


@pytest.fixture(autouse=True)
def charts_without_files(request, monkeypatch):
    """All charts are drawn, but making SVG of them takes seconds."""

    def draw_only(page, draw, caption, height=0):
        figure = Figure(figsize=(5, height))
        draw(figure.subplots())
        page.paragraph(caption)

    if "chart_files" not in request.fixturenames:
        monkeypatch.setattr(Page, "chart", draw_only)


def page_of(tmp_path, runs, truth, **options):
    target = tmp_path / "new" / "page.html"
    write_page(target, runs, truth, **options)
    return Tables(target.read_text())


CLASSES = {1: "car", 2: HOSTILE}
COCO, VISDRONE = PROTOCOLS["coco"], PROTOCOLS["visdrone"]


def test_the_official_table_leads_with_the_headline(tmp_path):
    truth = truth_of(CLASSES)
    notes, unofficial = ("Something is odd.",), {"AP with ids from 1": 0.5}
    missing = ("1.png", HOSTILE)
    run = run_of("a", COCO, truth, missing=missing, notes=notes, unofficial=unofficial)
    run.evaluation.metrics["APs"] = -1.0
    page = page_of(tmp_path, [run], truth)
    header, *rows = page.table("metric")
    assert header == ["metric", "%", "what it is"]
    meaning = "average precision; mean over IoU 0.5 to 0.95; all sizes; at most 100 detections of "
    assert rows[0] == ["AP", "25.00", meaning + "a class in an image"]
    assert [row[0] for row in rows] == [metric.name for metric in COCO.metrics]
    small = next(row for row in rows if row[0] == "APs")
    assert small[1] == "–" and "small, 0–32 px" in small[2]
    assert page.table("not official")[1:] == [["AP with ids from 1", "50.00"]]
    assert "warning Something is odd." in page.text
    assert "Images without results" in page.text and "1.png" in page.text


def test_tinypersons_headline_and_miss_rates(tmp_path):
    """Its headline is not the first metric of its table; miss rates are not among the metrics."""
    protocol, truth = PROTOCOLS["tinyperson"], truth_of({1: "person"})
    run = run_of("a", protocol, truth)
    run.evaluation.metrics["MR50_tiny1"] = 0.9
    page = page_of(tmp_path, [run], truth)
    rows = page.table("metric")[1:]
    assert rows[0][:2] == ["AP50_tiny", "25.00"] and "tiny, 1–20 px" in rows[0][2]
    assert len(rows) == 43
    expected = "log-average miss rate, lower is better; IoU 0.5; tiny1, 2–8 px"
    assert rows[-1] == ["MR50_tiny1", "90.00", expected]
    ranges = page.table("size", "AP25")
    assert ranges[0] == ["size", "AP25", "AP50", "AP75", "AR25", "AR50", "AR75"]
    assert [row[0] for row in ranges[1:3]] == ["all sizes", "tiny, 1–20 px"]
    assert "Classes" not in page.text  # one class says nothing more


def test_percentages_stay_and_what_a_protocol_lacks_is_said(tmp_path):
    truth = truth_of(CLASSES)
    page = page_of(tmp_path, [run_of("a", VISDRONE, truth, 25.0)], truth)
    rows = page.table("metric")[1:]
    assert rows[0][:2] == ["AP_all", "25.00"]
    assert rows[3][2].endswith("at most 1 detection of an image, as the file lists them")
    assert "VisDrone-DET has no size ranges" in page.text


def test_the_tables_of_one_run(tmp_path):
    """The numbers of `analysis_of`: 4 of 10 and 15 of 20 objects are found, half of them surely."""
    truth = truth_of(CLASSES)
    page = page_of(tmp_path, [run_of("a", COCO, truth)], truth)
    name = HOSTILE.replace("\ud800", "\ufffd")
    # Three annotated cars, of which one is ignored.
    assert [row[:3] for row in page.table("class", "annotated")[1:]] == [
        ["car", "2", "25.00"],
        [name, "3", "25.00"],
    ]
    assert page.table("size", "objects")[1:] == [
        ["4–8 px", "10", "40.0", "20.0"],
        ["8 px and more", "20", "75.0", "35.0"],
    ]
    costs = page.table("error")
    assert costs[0] == ["error", "costs AP", "errors", "confident", "what it is"]
    assert costs[2][:4] == ["localisation", "1.00", "2", "0"]
    assert [row[:2] for row in costs[-2:]] == [
        ["all false positives", "20.00"],
        ["all missed objects", "30.00"],
    ]
    assert page.table("class", "AP50", "class")[1] == [
        "car",
        *"40.0 0.0 1.0 2.0 3.0 4.0 5.0".split(),
    ]
    assert page.table("class", "threshold")[1:] == [
        ["car", "0.250", "75.0", "50.0", "60.0"],
        [name, "–", "–", "–", "–"],
    ]
    assert "Mean distance from the diagonal: 15.0%" in page.text
    for sentence in ("uncertain AP", "area below", "side of a square", "diagonal", "add up", "F1"):
        assert sentence in page.text  # how to read each block


def comparison_of(low, high, p_value, name="AP", first=0.25, second=0.3):
    return Comparison(1000, 0, (Difference(name, first, second, low, high, p_value),))


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (
            comparison_of(0.01, 0.09, 0.004),
            "AP of B is 5.00 points higher than that of A (95% interval of the difference +1.00 to "
            "+9.00, p = 0.004): the difference is significant.",
        ),
        (
            comparison_of(-0.09, 0.01, 0.05, first=0.3, second=0.25),
            "AP of B is 5.00 points lower than that of A (95% interval of the difference −9.00 to "
            "+1.00, p = 0.050): the difference is not significant",
        ),
        (comparison_of(0.01, 0.09, 0.0005), "p < 0.001): the difference is significant"),
        (comparison_of(NAN, NAN, NAN), "AP of the two cannot be compared"),
    ],
)
def test_the_difference_in_words(comparison, words):
    assert words in verdict(COCO, comparison)


def test_two_runs_stand_side_by_side(tmp_path):
    truth = truth_of(CLASSES)
    runs = [run_of("one", VISDRONE, truth, 25.0), run_of("two", VISDRONE, truth, 24.0, 0.1)]
    comparison = comparison_of(-3.0, 1.0, 0.4, "AP_all", 25.0, 24.0)
    page = page_of(tmp_path, runs, truth, comparison=comparison)
    header, first, second = page.table("metric")[:3]
    assert header == ["metric", "% A", "% B", "B − A", "95% interval", "p", "what it is"]
    assert first[:6] == ["AP_all", "25.00", "24.00", "−1.00", "−3.00 to +1.00", "0.400"]
    assert second[4:6] == ["", ""]  # not tested
    assert "A: one" in page.text and "B: two" in page.text
    assert page.table("class", "annotated")[0][2:5] == ["AP_all A", "AP_all B", "B − A"]
    assert page.table("class", "threshold A")[1][1:6:4] == ["0.250", "0.350"]
    # B has 8 false positives more in the first image, and those of `shift` in the last.
    assert page.table("image")[1:] == [["2.png", "6", "3", "0", "3", "10", "+10"]]


def written_images(folder, names, height=40, width=60):
    for name in names:
        assert cv2.imwrite(str(folder / name), np.full((height, width, 3), 200, np.uint8))


def test_the_worst_images_say_what_is_wrong(tmp_path):
    written_images(tmp_path, ["0.png"])
    truth = truth_of(CLASSES)
    page = page_of(
        tmp_path, [run_of("a", COCO, truth, worst=[image_boxes()])], truth, images=tmp_path
    )
    counts = "2 objects, 1 missed; 3 false positives (1 localisation, 2 background)."
    assert counts in page.text and "Drawn on grey" not in page.text
    for text in ("missed object", "false positive", "true positive", "ignored"):
        assert text in page.text
    # The whole image, and all of it enlarged, as it is small.
    assert page.pictures == [(60, 40), (800, 533)]


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("gone.png", (40, 60), "image gone.png not found in"),
        ("broken.png", (40, 60), "broken.png cannot be read"),
        ("0.png", (80, 120), "0.png has 60 x 40 px, its annotations say 120 x 80"),
        ("../0.png", (0, 0), "not found in"),
    ],
)
def test_an_image_that_cannot_be_drawn_on(tmp_path, name, size, reason):
    (tmp_path / "images").mkdir()
    written_images(tmp_path / "images", ["0.png"])
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    truth = truth_of(CLASSES)
    run = run_of("a", COCO, truth, worst=[image_boxes(0, name, size)])
    page = page_of(tmp_path, [run], truth, images=tmp_path / "images")
    assert "Drawn on grey" in page.text and reason in page.text
    assert len(page.pictures) == 2


def test_without_a_folder_of_images(tmp_path):
    truth = truth_of(CLASSES)
    page = page_of(tmp_path, [run_of("a", COCO, truth, worst=[image_boxes()])], truth)
    assert "Drawn on grey: no folder of images was given." in page.text


def test_two_runs_are_drawn_on_the_same_image(tmp_path):
    """Image 2 has most errors of both together, and only A's boxes."""
    truth = truth_of(CLASSES)
    one = run_of("one", COCO, truth, worst=[image_boxes(), image_boxes(2, "2.png")])
    two = run_of("two", COCO, truth, 0.3, 0.5, worst=[image_boxes()])
    page = page_of(tmp_path, [one, two], truth, images=tmp_path)
    assert len(page.pictures) == 6
    assert page.text.index("B has few errors here") < page.text.index("B: 2 objects")


def test_a_run_without_errors(tmp_path):
    truth = truth_of(CLASSES)
    assert "No image has an error." in page_of(tmp_path, [run_of("a", COCO, truth)], truth).text


@pytest.mark.parametrize(
    ("name", "detections", "objects"),
    [
        ("coco", 0, True),
        ("coco", 3, False),
        ("aitod", 0, False),
        ("visdrone", 3, False),
        ("visdrone", 0, False),
        ("tinyperson", 0, True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_poor_results_have_a_page(tmp_path, name, detections, objects):
    """Nothing found, nothing to be found, or neither."""
    protocol, truth = PROTOCOLS[name], truth_of({1: "car", 2: "bus"})
    if not objects:
        truth = truth.select(np.zeros(len(truth.image), dtype=bool))
    found = Detections(
        "r", np.zeros(detections, int), np.ones(detections, int),
        np.full((detections, 4), 5.0), np.linspace(0.2, 0.9, detections), (),
    )  # fmt: skip
    run = Run(
        "a",
        found,
        evaluate(protocol, truth, found, progress=False),
        analyse(protocol, truth, found),
    )
    page = page_of(tmp_path, [run], truth)
    assert page.table("metric")[1][0] == protocol.headline
    assert "nan" not in page.text.lower()
    comparison = compare(protocol, truth, found, found, resamples=3)
    pair = [run, replace(run, name="b")]
    assert "B" in page_of(tmp_path, pair, truth, comparison=comparison).text


def test_the_page_stays_small(tmp_path, chart_files):
    """Noise, which JPEG cannot pack, in as many images as are drawn, and 20 classes."""
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    names = [f"{i}.png" for i in range(3)]
    for name in names:
        assert cv2.imwrite(str(tmp_path / name), noise, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    truth = truth_of({k: f"class {k}" for k in range(20)})
    worst = [image_boxes(i, name, (1500, 1500)) for i, name in enumerate(names)]
    runs = [run_of(name, COCO, truth, worst=worst) for name in ("a", "b")]
    page_of(tmp_path, runs, truth, images=tmp_path)
    assert (tmp_path / "new" / "page.html").stat().st_size < 5_000_000


def test_what_the_charts_show():
    """The numbers of `analysis_of`, without the empty bins."""
    analysis = analysis_of(COCO, CLASSES)
    axes = Figure().subplots()
    charts.size_recall(axes, [analysis], [0, 6, 96])
    assert [line.get_ydata().tolist() for line in axes.lines[1:]] == [[0.4, 0.75], [0.2, 0.35]]
    assert axes.lines[0].get_xdata() == [6, 6]  # of the limits the one within the sizes
    axes = Figure().subplots()
    charts.calibration(axes, [analysis, analysis])
    points = [line.get_xydata().tolist() for line in axes.lines[1:]]
    assert points == [[[0.4, 0.25]]] * 2
    axes = Figure().subplots()
    charts.mean_curves(axes, [analysis, analysis_of(COCO, CLASSES, 0.5)])
    labels = ["A, IoU 0.5", "A, mean over IoUs", "B, IoU 0.5", "B, mean over IoUs"]
    assert [line.get_label() for line in axes.lines] == labels
    assert [float(line.get_ydata()[50]) for line in axes.lines] == [0.5, 0.5, 1.0, 1.0]


def test_a_class_has_its_colour_in_every_chart():
    """The second class is better in the other chart, so the legend turns round, not the colours."""
    analysis = analysis_of(COCO, {1: "car", 2: "bus"})
    other = replace(
        analysis,
        curves=replace(analysis.curves, precision=analysis.curves.precision * [[0.5], [1.0]]),
    )
    drawn = []
    for each in (analysis, other):
        axes = Figure().subplots()
        charts.class_curves(axes, each)
        drawn.append([(line.get_label(), line.get_color()) for line in axes.lines])
    assert [label for label, _ in drawn[0]] == ["car", "bus"]
    assert drawn[1] == drawn[0][::-1]
