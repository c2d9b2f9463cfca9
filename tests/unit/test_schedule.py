"""Jobs come after what they need and the longest way first; how long that takes is simulated."""

import random

import pytest

from lotterylib.runs.schedule import Schedule, makespan

NEEDS = {
    "tune": (),
    "base": (),
    "search": ("tune",),
    "score": ("search", "gone"),
    "look": ("tune",),
}
SECONDS = {"tune": 4.0, "base": 4.5, "search": 3.0, "score": 2.0, "look": 1.0}


def test_the_longest_way_goes_first_and_needs_before_what_needs_them():
    schedule, order = Schedule(NEEDS, SECONDS), []
    while schedule:
        order.append(schedule.take())
        schedule.done(order[-1])
    assert order == ["tune", "search", "base", "score", "look"]


def test_a_job_that_is_given_back_comes_again():
    schedule = Schedule(NEEDS, SECONDS)
    assert schedule.take() == "tune"
    schedule.add("tune")
    assert schedule.take() == "tune"
    assert schedule.take() == "base"
    assert not schedule


def test_what_needs_a_job_needs_it_through_others_too():
    schedule = Schedule(NEEDS, SECONDS)
    assert list(schedule.needing("tune")) == ["search", "look", "score"]
    assert list(schedule.needing("search")) == ["score"]
    assert list(schedule.needing("score")) == []


@pytest.mark.parametrize(("processes", "wanted"), [(1, 14.5), (2, 9.0), (3, 9.0)])
def test_the_time_of_a_run_is_that_of_its_processes(processes, wanted):
    assert makespan(NEEDS, SECONDS, processes) == wanted


def test_what_is_running_goes_on():
    left = {"base": 1.0, "search": 2.5, "score": 2.0, "look": 1.0}
    needs = {job: NEEDS[job] for job in left}
    # One process is through with base after 1 s and with look after 2; the other ends at 4.5.
    assert makespan(needs, left, 2, ["base", "search"]) == 4.5
    assert makespan(needs, left, 1, ["search"]) == 6.5
    assert makespan({}, {}, 2) == 0.0


def test_no_order_beats_the_bounds():
    draw = random.Random(1)
    for _ in range(50):
        names = list(range(draw.randint(1, 30)))
        needs = {n: draw.sample(range(n), min(n, draw.randint(0, 2))) for n in names}
        seconds = {n: draw.uniform(0.1, 9) for n in names}
        ways = {}
        for n in names:
            ways[n] = seconds[n] + max((ways[each] for each in needs[n]), default=0)
        for processes in (1, 2, 5):
            found, whole = makespan(needs, seconds, processes), sum(seconds.values())
            assert max(max(ways.values()), whole / processes) <= found + 1e-9
            assert found <= whole / processes + max(ways.values()) + 1e-9  # Graham's bound
