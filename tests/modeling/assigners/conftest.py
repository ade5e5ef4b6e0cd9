"""The gold cases of the released codes, see cases/README.md."""

import json
from pathlib import Path

import pytest
import torch

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="session")
def gold():
    """Load a case by its name."""

    def load(name):
        return json.loads((CASES / f"{name}.json").read_text())

    return load


@pytest.fixture
def few_pairs_at_once(monkeypatch):
    """Chunks of a few priors, so that small inputs are cut up too."""
    from efpnbs_d2.modeling.assigners import assigner

    monkeypatch.setattr(assigner, "_PAIRS_AT_ONCE", {"cpu": 500, "cuda": 500})


@pytest.fixture
def random_boxes():
    """Boxes (n, 4) of up to `side` px on a canvas of 128 px."""

    def make(n, side=20.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        corner = torch.rand(n, 2, generator=generator) * 128
        return torch.cat([corner, corner + torch.rand(n, 2, generator=generator) * side + 1], dim=1)

    return make
