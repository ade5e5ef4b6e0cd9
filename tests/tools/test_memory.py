"""The peak of this program, from both of the places that tell it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from efpnbs_d2.tools.memory import in_fresh_process, peak_memory, peak_memory_on


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


def test_a_fresh_process_has_another_peak():
    """Without this one's array, and with an identity of its own."""
    array = np.ones(2**28, np.uint8)
    assert in_fresh_process(os.getpid) != os.getpid()
    assert in_fresh_process(peak_memory_on, "cpu") + len(array) / 2 < peak_memory_on("cpu")


def test_a_fresh_process_that_fails_or_is_killed_is_told():
    with pytest.raises(ValueError, match="invalid literal for int"):
        in_fresh_process(int, "three")
    with pytest.raises(RuntimeError, match="code 7; -9: killed"):
        in_fresh_process(os._exit, 7)
