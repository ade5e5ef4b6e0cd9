"""The local page in a real browser, and the command that serves it."""

import csv
import json
import os
import shutil
import socket
import threading

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.inference.batch import BatchPredictor
from efpnbs_d2.inference.tiled import TiledPredictor
from efpnbs_d2.tools import web
from efpnbs_d2.tools.web_detector import Found, Tiling, WebDetector, write_results

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = ["buoy", HOSTILE]
MEGABYTES = 0.2


def instances(scores, height=60, width=80):
    """One object of the first class, all others of the second, each 6 x 6 px."""
    corners = torch.arange(len(scores), dtype=torch.float)[:, None].repeat(1, 4) % 50
    return Instances(
        (height, width),
        pred_boxes=Boxes(corners + torch.tensor([0.0, 0, 6, 6])),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor([0] + [1] * (len(scores) - 1)),
    )


class Oracle:
    """Stands for a `WebDetector`: three objects in any image, and a mask."""

    class_names, category_ids, description = NAMES, [5, 9], "an oracle & co"

    def __init__(self):
        self.tilings = []

    def detect(self, path, tiling, progress):
        self.tilings.append(tiling)
        if path.stem == "unreadable":
            raise OSError(f"cannot read image {path}: it is cut off")
        if path.stem == "defect":
            raise RuntimeError("secret of the implementation")
        progress(1, 1)
        masks = {} if path.stem == "maskless" else {"p2": np.eye(15, 20)}
        return Found(path, instances([0.9, 0.8, 0.3]), masks)


def test_results_are_those_from_the_score_on(tmp_path):
    image = tmp_path / "harbour.png"
    cv2.imwrite(str(image), np.zeros((60, 80, 3), np.uint8))
    found = Found(image, instances([0.5, 0.9, 0.4999]), {"p2": np.ones((15, 20))})
    out = tmp_path / "out"
    out.mkdir()
    results = write_results(found, 0.5, NAMES, [5, 9], out)
    assert sorted(results.counts) == [(HOSTILE, 1), ("buoy", 1)]
    files = {path.name: path for path in results.downloads}
    assert set(files) == {"detections.png", "detections.json", "detections.csv", "images.json"}
    records = json.loads(files["detections.json"].read_text())
    assert [(r["category_id"], r["bbox"]) for r in records] == [
        (5, [0.0, 0.0, 6.0, 6.0]),
        (9, [1.0, 1.0, 6.0, 6.0]),
    ]
    with open(files["detections.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["category"]) for row in rows] == [
        ("harbour.png", "buoy"),
        ("harbour.png", HOSTILE),
    ]
    ((mask, caption),) = results.masks
    assert caption == "mask of p2" and cv2.imread(str(mask)) is not None


class Predictor:
    """What `WebDetector` reads of a predictor."""

    metadata = MetadataCatalog.get("test_web")
    input_format, aug = "BGR", T.AugmentationList([])

    def __init__(self, model):
        self.model = model.eval()


@pytest.fixture
def detector(small_lazy):
    torch.manual_seed(0)
    model = LazyRecipe(small_lazy("model.roi_heads.box_predictor.test_score_thresh=0"))
    return WebDetector(Predictor(model.build_model()), "a small one")


@pytest.fixture
def noise(tmp_path):
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (100, 160, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def test_the_detector_reads_the_whole_image_or_windows(detector, noise):
    assert detector.class_names == [f"class {i}" for i in range(8)]
    predict = BatchPredictor.from_default(detector._predictor)
    image, reports = cv2.imread(str(noise)), []

    def report(done, total):
        reports.append((done, total))

    whole = detector.detect(noise, None, report)
    (expected,) = predict([image])
    torch.testing.assert_close(whole.instances.scores, expected.scores)
    assert len(expected) and reports == []
    # 64 px with 32 px of overlap: from 0, 32 and 36 px in y, from 0, 32, 64 and 96 px in x.
    tiled = detector.detect(noise, Tiling(64, 32), report)
    assert reports == [(4, 12), (8, 12), (12, 12)]
    expected = TiledPredictor(predict, window=(64, 64), overlap=(32, 32))(image)
    torch.testing.assert_close(tiled.instances.scores, expected.scores, rtol=1e-4, atol=1e-5)
    # Masks are those of the whole image both times.
    assert {level: mask.shape for level, mask in tiled.masks.items()} == {
        "p2": (25, 40),
        "p3": (13, 20),
        "p4": (7, 10),
    }
    np.testing.assert_array_equal(tiled.masks["p2"], whole.masks["p2"])


def test_files_that_are_no_images(detector, noise, tmp_path):
    other = tmp_path / "noise.svg"
    other.write_bytes(noise.read_bytes())
    with pytest.raises(ValueError, match=r"found a file noise.svg, expected an image \(.jpg"):
        detector.detect(other, None, print)
    broken = tmp_path / "broken.png"
    broken.write_bytes(noise.read_bytes()[:500])
    with pytest.raises(OSError, match="cannot read image .*broken.png"):
        detector.detect(broken, None, print)


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [(63, 0, "windows of 63 px"), (64, 33, "overlap of 33 px"), (64, -1, "overlap of -1 px")],
)
def test_windows_that_make_no_sense(window, overlap, message):
    with pytest.raises(ValueError, match=message):
        Tiling(window, overlap)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no model at output/demo/run/model_best.pth: train one with `make demo`"),
        (["--weights", "w.pth"], "--config-file and --weights belong together"),
        (["--max-megabytes", "0"], "--max-megabytes 0, expected more than 0"),
        (["--config-file", "c.yaml", "--weights", "w.pth", "--port", "99999"], "port 99999"),
    ],
)
def test_what_keeps_it_from_starting(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert web.main(options) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_port_that_is_taken(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--config-file", "c.yaml", "--weights", "w.pth", "--port", port]
        assert web.main(options) == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_a_local_page_has_local_names_alone():
    assert web._hosts("192.168.1.2") == web._hosts("0.0.0.0") == ["*"]
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        hosts = web._hosts(address)
        assert {"localhost", "127.0.0.1", "[::1]", address} == set(hosts)


def test_ctrl_c_ends_it_quietly(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(web, "_serve", interrupted)
    assert web.main([]) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address of the page with an `Oracle`, and that oracle."""
    pytest.importorskip("gradio")
    uvicorn = pytest.importorskip("uvicorn")
    from efpnbs_d2.tools.web_page import make_app

    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    oracle = Oracle()
    app = make_app(oracle, max_megabytes=MEGABYTES, hosts=["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", oracle
        server.should_exit = True
        thread.join()
    del os.environ["GRADIO_TEMP_DIR"]


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        # A sandbox of its own is more than a container allows; it opens nothing but our page.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(served, browser):
    """The page, opened; afterwards: it has asked nobody else, and no script has run away."""
    address, _ = served
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    asked, errors = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    opened.set_default_timeout(20_000)
    opened.goto(address)
    opened.get_by_role("button", name="Detect").wait_for()
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def upload(page, path):
    if page.get_by_label("Clear").count():  # another file is there
        page.get_by_label("Clear").first.click()
    page.locator("input[type=file]").set_input_files(str(path))


def detect(page, path):
    upload(page, path)
    page.locator(f"a[download='{path.name}']").wait_for()  # it has arrived
    page.get_by_role("button", name="Detect").click()


def counts(page):
    return [row.split("\t") for row in page.locator("#counts").inner_text().splitlines()]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "harbour.png"
    assert cv2.imwrite(str(path), np.full((60, 80, 3), 90, np.uint8))
    return path


def test_an_image_becomes_boxes_counts_masks_and_files(page, image, tmp_path):
    detect(page, image)
    page.locator("#counts td").first.wait_for()
    # From 0.5 on: two of three, and the class name is text.
    assert counts(page) == [["buoy", "1"], [HOSTILE, "1"], ["all", "2"]]
    page.get_by_text("mask of p2").first.wait_for()
    assert page.get_by_text("an oracle & co").is_visible()

    with page.expect_download() as download:
        page.locator("a[download='detections.json']").click()
    target = tmp_path / "downloaded.json"
    download.value.save_as(target)
    assert len(json.loads(target.read_text())) == 2

    # A lower score shows what was found already: the detector is not asked again.
    slider = page.get_by_label("number input for Score from")
    slider.fill("0.2")
    slider.press("Enter")
    page.locator("#counts td", has_text="3").wait_for()
    assert counts(page)[-1] == ["all", "3"]


def test_windows_are_asked_for_and_a_model_may_lack_masks(page, served, image):
    _, oracle = served
    image = image.rename(image.with_name("maskless.png"))
    page.get_by_label("windows").check()
    page.get_by_label("Window, px").fill("128")
    page.get_by_label("Overlap, px").fill("32")
    detect(page, image)
    page.locator("#counts td").first.wait_for()
    assert oracle.tilings[-1] == Tiling(128, 32)
    page.get_by_text("The model has no FBSM: there is no mask.").wait_for()


def test_mistakes_are_said_in_words(page, image, tmp_path):
    def said(words):
        page.get_by_text(words).first.wait_for()
        page.get_by_test_id("toast-close").first.click()

    page.get_by_role("button", name="Detect").click()
    said("Choose an image first")
    for name, words in [
        ("unreadable.png", "Cannot read image unreadable.png: it is cut off"),
        ("defect.png", "Unexpected RuntimeError; the terminal says more"),
    ]:
        path = tmp_path / name
        path.write_bytes(image.read_bytes())
        detect(page, path)
        said(words)
        assert page.locator("#counts td").count() == 0
    large = tmp_path / "large.png"
    large.write_bytes(bytes(int(MEGABYTES * 2**20) + 1))
    upload(page, large)
    page.get_by_text("exceed").first.wait_for()
    assert not page.get_by_text("secret").count() and not page.get_by_text("Traceback").count()


def test_the_limit_of_size_is_the_servers_too(served):
    """Whatever the browser lets through."""
    import httpx

    address, _ = served
    limit = int(MEGABYTES * 2**20)
    for size, status in [(limit, 200), (limit + 1, 413)]:
        files = {"files": ("a.png", bytes(size))}
        assert httpx.post(f"{address}/gradio_api/upload", files=files).status_code == status


def test_other_names_of_the_server_are_refused(served):
    """A page of elsewhere whose name points to this machine cannot use ours."""
    import httpx

    address, _ = served
    assert httpx.get(address).status_code == 200
    answer = httpx.get(address, headers={"Host": "elsewhere.example"})
    assert answer.status_code == 400
    policy = httpx.get(address).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
