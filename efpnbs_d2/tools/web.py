"""Serve a page to try a detector on this machine: `python -m efpnbs_d2.tools.web --help`."""

import argparse
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .demo import PREDICTOR_CONFIG

__all__ = ["main"]

DEMO_WEIGHTS = Path("output/demo/run/model_best.pth")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command until Ctrl-C; 1 when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.web",
        description="Serve a page on this machine: drop an image, see and download detections.",
    )
    parser.add_argument("--config-file", help="of the model: a .py or .yaml file [the demo's]")
    parser.add_argument("--weights", help=f"a checkpoint of train_net.py [{DEMO_WEIGHTS}]")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on [127.0.0.1: this machine only]"
    )
    parser.add_argument("--port", type=int, default=7860, help="0 for any free one [7860]")
    parser.add_argument("--max-megabytes", type=float, default=50, help="of an uploaded file [50]")
    args = parser.parse_args(argv)
    try:
        _serve(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()  # behind the terminal's ^C
    return 0


def _serve(args: argparse.Namespace) -> None:
    if args.max_megabytes <= 0:
        raise ValueError(f"found --max-megabytes {args.max_megabytes:g}, expected more than 0")
    config_file, weights = _model_files(args.config_file, args.weights)
    listener = _listen(args.host, args.port)
    with listener, tempfile.TemporaryDirectory(prefix="efpnbs_web_") as folder:
        # Gradio reads these when it is imported: no messages to its makers, files in our folder.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder)
        try:
            import uvicorn

            from .web_page import make_app
        except ImportError as error:
            raise ValueError(
                f"the page needs Gradio ({error}): pip install '.[web]', or make web"
            ) from error
        from ..inference.predictors import load_predictor
        from .web_detector import WebDetector

        described = f"{Path(config_file).stem}, {Path(weights).name}"
        detector = WebDetector(load_predictor(config_file, weights), described)
        address, port = listener.getsockname()[:2]
        hosts = _hosts(address)
        app = make_app(detector, max_megabytes=args.max_megabytes, hosts=hosts)
        if "*" in hosts:
            print(f"warning: all who can reach {address} can use this page", file=sys.stderr)
        shown = f"[{address}]" if ":" in address else address
        print(f"Open http://{shown}:{port} in a browser; Ctrl-C ends it.", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def _model_files(config_file: str | None, weights: str | None) -> tuple[str, str]:
    if (config_file is None) != (weights is None):
        raise ValueError("--config-file and --weights belong together: give both, or none")
    if config_file is not None and weights is not None:
        return config_file, weights
    if not DEMO_WEIGHTS.is_file():
        raise FileNotFoundError(
            f"there is no model at {DEMO_WEIGHTS}: train one with `make demo` (minutes), or name "
            "yours with --config-file and --weights"
        )
    return str(PREDICTOR_CONFIG), str(DEMO_WEIGHTS)


def _hosts(address: str) -> list[str]:
    """By which names browsers may call a server that listens on an IP address."""
    if not ipaddress.ip_address(address).is_loopback:
        return ["*"]
    return ["localhost", "127.0.0.1", "[::1]", address]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"cannot listen on {host}, port {port} ({error}): choose others with --host and --port"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
