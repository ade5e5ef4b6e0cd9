"""How contestants take turns, on clocks of ours, and what is said of their times."""

import pytest

from efpnbs_d2.tools.bench_turns import Measurement, compared, summarise, take_turns, timed


def test_all_take_turns_and_go_first_in_turn():
    """The warm-up round is not counted."""
    order = []
    contestants = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    results = take_turns(contestants, rounds=3)
    assert "".join(order) == "cab" + "abc" + "bca" + "cab"
    assert results == {"a": [4, 9, 11], "b": [5, 7, 12], "c": [6, 8, 10]}


def test_ratios_are_of_one_round():
    """On a machine that slows down from 1 to 8 times as the rounds go on, the ratio stays 1.5."""
    clock = [0.0]
    calls = []

    def contestant(seconds):
        def call():
            calls.append(seconds)
            clock[0] += seconds * 2 ** max(0, (len(calls) - 5) // 2)  # after two warm-ups of each

        return timed(call, clock=lambda: clock[0])

    times = take_turns({"stock": contestant(2), "ours": contestant(3)}, rounds=4, warm_up=2)
    assert times == {"stock": [2, 4, 8, 16], "ours": [3, 6, 12, 24]}
    assert compared("step", times, "stock", "s") == {
        # Quartiles of 2, 4, 8, 16: a quarter of the way from 4 to 2, and from 8 to 16.
        "step: stock": Measurement(6, 3.5, 10, 4, "s"),
        "step: ours": Measurement(9, 5.25, 15, 4, "s"),
        "step: ours / stock": Measurement(1.5, 1.5, 1.5, 4, "x"),
    }


def test_a_count_has_no_spread():
    assert summarise([7.0], "G") == Measurement(7, 7, 7, 1, "G")


def test_the_device_has_finished_before_the_clock_is_read(monkeypatch):
    events = []
    monkeypatch.setattr(
        "efpnbs_d2.tools.bench_turns.wait_for", lambda device: events.append(f"wait {device}")
    )
    clock = iter([1.0, 3.5])
    run = timed(
        lambda: events.append("call"),
        clock=lambda: events.append("clock") or next(clock),
        device="cuda",
    )
    assert run() == pytest.approx(2.5)
    assert events == ["wait cuda", "clock", "call", "wait cuda", "clock"]
