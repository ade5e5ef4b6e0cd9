"""Run an exported file where nothing else is loaded: what `tools.export` checks it with.

    python run_exported.py onnx|torchscript FILE IMAGES.npz RESULTS.npz

It stands alone: neither Detectron2 nor this package is imported. IMAGES holds arrays, H x W x 3,
BGR, uint8; RESULTS then holds `NAME.boxes`, `NAME.scores` and `NAME.classes` for each of them.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np


def load(file_format: str, path: str) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """From an image to its boxes, scores and classes."""
    if file_format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda image: session.run(["boxes", "scores", "classes"], {"image": image})
    import torch
    import torchvision  # noqa: F401  # its operators are in the file

    model = torch.jit.load(path, map_location="cpu")
    return lambda image: [result.numpy() for result in model(torch.tensor(image))]


def main(file_format: str, path: str, images: str, results: str) -> None:
    """Run the file on each image."""
    detect = load(file_format, path)
    found = {}
    with np.load(images) as arrays:
        for name in arrays.files:
            outputs = zip(("boxes", "scores", "classes"), detect(arrays[name]), strict=True)
            found.update({f"{name}.{output}": values for output, values in outputs})
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
