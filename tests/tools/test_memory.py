"""The peak of this program, from both of the places that tell it."""

import sys
from pathlib import Path

import numpy as np

from efpnbs_d2.tools.memory import peak_memory


def test_the_systems_count_agrees_whatever_its_unit(monkeypatch):
    """In kilobytes, or on a Mac in bytes; a process started by a larger one has that one's peak."""
    array = np.ones(2**24, np.uint8)
    told = peak_memory()
    assert len(array) < told < 2**40
    monkeypatch.setattr(Path, "exists", lambda _: False)
    counted = peak_memory()
    assert counted >= 0.99 * told
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory() * 1024 >= counted
