"""The local page: an image goes in, boxes, counts, masks and files come out. Needs Gradio."""

import html
import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gradio as gr
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..image_files import IMAGE_SUFFIXES
from .web_detector import Found, Progress, Tiling, write_results

__all__ = ["PageDetector", "make_app"]

# Uploads and results are deleted after a day, looked at every hour.
_CLEANING = (3600, 86400)
_WHOLE, _WINDOWS = "whole image", "windows"
# Gradio's other button shares a picture on a public site.
_BUTTONS: Any = ["fullscreen", "download"]
_DEFAULT_TILING = Tiling(512, 64)
# The browser loads from this server alone, and shows the page in no other site's frame.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# Gradio would draw lines around the counts, and cut the names of downloads short.
_CSS = """
#counts table, #counts tr, #counts td { border: 0 !important; }
#counts td { padding: .1rem 1.2rem .1rem 0; } #counts td + td { text-align: right; }
#counts tr:last-child { font-weight: 600; }
#downloads .file-preview { table-layout: auto; }
#downloads .download { min-width: 0; width: auto; }
"""
_Result = TypeVar("_Result")


class PageDetector(Protocol):
    """What the page needs of a `WebDetector`."""

    class_names: Sequence[str]
    category_ids: Sequence[int]
    description: str

    def detect(self, path: Path, tiling: Tiling | None, progress: Progress) -> Found: ...


def make_app(detector: PageDetector, *, max_megabytes: float, hosts: Sequence[str]) -> Starlette:
    """The page as an application for an ASGI server.

    Args:
        detector: that the page asks.
        max_megabytes: of an uploaded file.
        hosts: names of this server that browsers may use; ["*"] for any. A page of another site
            whose name is made to point here is refused.
    """
    app = Starlette(
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
            Middleware(_LocalOnly),
        ]
    )
    font = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        _page(detector, max_megabytes),
        path="/",
        max_file_size=int(max_megabytes * 2**20),
        theme=gr.themes.Base(font=font, font_mono=["ui-monospace", "monospace"]),
        css=_CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        show_error=True,
    )
    return app


class _LocalOnly:
    """Sends `_POLICY` with every answer."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _POLICY
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _page(detector: PageDetector, max_megabytes: float) -> gr.Blocks:
    with gr.Blocks(
        title="Tiny objects", analytics_enabled=False, delete_cache=_CLEANING, fill_width=True
    ) as page:
        gr.Markdown("# Find tiny objects")
        gr.HTML(f"<p>{html.escape(detector.description)}</p>")
        found = gr.State()
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                upload = gr.File(
                    label=f"Image, {max_megabytes:g} MB at most",
                    file_types=list(IMAGE_SUFFIXES),
                    height=140,
                )
                mode = gr.Radio(
                    [_WHOLE, _WINDOWS],
                    value=_WHOLE,
                    label="Detect in",
                    info="Windows are for images larger than the training crops.",
                )
                with gr.Row(visible=False) as sizes:
                    window = gr.Number(_DEFAULT_TILING.window, label="Window, px", precision=0)
                    overlap = gr.Number(_DEFAULT_TILING.overlap, label="Overlap, px", precision=0)
                start = gr.Button("Detect", variant="primary")
                score = gr.Slider(0, 1, value=0.5, step=0.01, label="Score from")
                counts = gr.HTML(elem_id="counts")
                downloads = gr.File(
                    label="Download", file_count="multiple", interactive=False, elem_id="downloads"
                )
            with gr.Column(scale=3, min_width=320):
                picture = gr.Image(
                    label="Detections", type="filepath", interactive=False, buttons=_BUTTONS
                )
                no_masks = gr.Markdown(visible=False)
                masks = gr.Gallery(
                    label="Foreground masks (FBSM)",
                    columns=3,
                    height="auto",
                    object_fit="contain",
                    buttons=_BUTTONS,
                )
        mode.change(lambda chosen: gr.Row(visible=chosen == _WINDOWS), mode, sizes)
        results = [picture, masks, no_masks, counts, downloads]
        # Emptied first: where detection fails, nothing of another image stays.
        start.click(lambda: (None,) * (1 + len(results)), None, [found, *results]).then(
            _detection(detector), [upload, mode, window, overlap], found, concurrency_limit=1
        ).success(_presentation(detector), [found, score], results)
        score.change(_presentation(detector), [found, score], results, trigger_mode="always_last")
    return page


def _detection(detector: PageDetector) -> Callable[..., Found]:
    @_spoken
    def detect(
        file: str | None,
        mode: str,
        window: float | None,
        overlap: float | None,
        progress: Any = gr.Progress(),  # noqa: B008, Gradio finds it by this default
    ) -> Found:
        if file is None:
            raise ValueError("choose an image first")
        tiling = Tiling(int(window or 0), int(overlap or 0)) if mode == _WINDOWS else None
        progress(0, desc="Detecting")
        return detector.detect(
            Path(file), tiling, lambda done, total: progress((done, total), unit="windows")
        )

    return detect


def _presentation(detector: PageDetector) -> Callable[..., tuple[Any, ...]]:
    @_spoken
    def present(found: Found | None, min_score: float) -> tuple[Any, ...]:
        if found is None:  # the slider was moved before anything was detected
            return (gr.skip(),) * 5
        folder = Path(tempfile.mkdtemp(dir=found.path.parent))
        classes = detector.class_names, detector.category_ids
        results = write_results(found, min_score, *classes, folder)
        masks = [(str(path), caption) for path, caption in results.masks]
        return (
            str(results.picture),
            gr.Gallery(masks, visible=bool(masks)),
            gr.Markdown("The model has no FBSM: there is no mask.", visible=not masks),
            _counts_table(results.counts),
            [str(path) for path in results.downloads],
        )

    return present


def _counts_table(counts: Sequence[tuple[str, int]]) -> str:
    total = sum(number for _, number in counts)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{number:,}</td></tr>"
        for name, number in [*counts, ("all", total)]
    )
    return f"<table>{rows}</table>"


def _spoken(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Let the page say a user's mistake in words; others go to the terminal in full."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> _Result:
        try:
            return function(*args, **kwargs)
        except (OSError, ValueError) as error:
            message = str(error)
            # Where the server keeps an upload is nobody's business.
            for file in args[:1]:
                if isinstance(file, str):
                    message = message.replace(file, Path(file).name)
        except Exception as error:
            logging.getLogger(__name__).exception("the page could not answer")
            message = f"unexpected {type(error).__name__}; the terminal says more"
        raise gr.Error(message[:1].upper() + message[1:], duration=None, print_exception=False)

    return wrapped
