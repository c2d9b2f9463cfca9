"""Jobs come after what they need and the longest way first; the time left can be believed from the
first tenth of a run on; the bar says what goes on.
"""

import heapq
import io
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from lotterylib.runs.jobs import Job, Piece, needs_of
from lotterylib.runs.plan import Pace, expected_seconds, kind_of
from lotterylib.runs.schedule import Board, Schedule, TimeLeft, makespan
from lotterylib.runs.settings import parse_settings

RECORD = json.loads(Path(__file__).with_name("recorded_seconds.json").read_text())
TOOK = {Job(*job): seconds for *job, seconds in RECORD["jobs"]}
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


def test_what_is_urgent_goes_first_once_it_can():
    schedule, order = Schedule(NEEDS, SECONDS, urgent=["look"]), []
    while schedule:
        order.append(schedule.take())
        schedule.done(order[-1])
    assert order == ["tune", "look", "search", "base", "score"]


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


# --- the time left ----------------------------------------------------------


class Recorded:
    """An experiment of which only lengths are known."""

    recipe = SimpleNamespace(epochs=RECORD["epochs"])
    splits = tuple(SimpleNamespace(lengths=[count]) for count in RECORD["tokens"])
    shape = SimpleNamespace(layers=6, heads=12)
    settings = parse_settings("acceptability", seeds=sorted({job.seed for job in TOOK} - {0}))


def told(processes, pace=1.0, order=None):
    """What is told of the recorded run whenever a job ends: seconds gone and left, then the whole.

    Args:
        processes: how many jobs are computed at once.
        pace: how much longer everything takes than it did when it was measured.
    """
    made, measured = Recorded(), Pace(**RECORD["pace"])
    needs = {job: needs_of(job, made.settings) for job in TOOK}

    def expected(job):
        return expected_seconds(Piece(made, job, None), measured)

    seconds = {job: expected(job) for job in TOOK}
    schedule = Schedule(needs, seconds)
    clock = TimeLeft(needs, seconds, {job: kind_of(job) for job in TOOK}, processes)
    now, busy, lines = 0.0, [], []
    while schedule or busy:
        while schedule and len(busy) < processes:
            job = schedule.take()
            heapq.heappush(busy, (now + pace * TOOK[job], len(lines), job.label, job, now))
        now, _, _, job, began = heapq.heappop(busy)
        schedule.done(job)
        clock.done(job, now - began)
        running = {job: (now - began, 0.0) for *_, job, began in busy}
        lines.append((now, clock.left(running, now)))
    return lines, now


@pytest.mark.parametrize("pace", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_from_a_tenth_on_what_is_told_of_a_real_run_is_within_a_factor_of_1_5(processes, pace):
    lines, whole = told(processes, pace)
    assert len(lines) == len(TOOK) == 60
    for gone, left in lines:
        assert left >= 0
        true = whole - gone
        if gone >= whole / 10:
            assert true / 1.5 - 1 <= left <= true * 1.5 + 1, (gone, true)
    assert lines[-1][1] == 0


THREE = {"a": (), "b": ("a",), "c": ("a",)}
KINDS = {"a": "first", "b": "second", "c": "second"}


def test_what_is_expected_is_told_as_long_as_nothing_else_is_known():
    clock = TimeLeft(THREE, {"a": 10.0, "b": 20.0, "c": 30.0}, KINDS, 2)
    assert clock.left({}, 0.0) == 40.0
    assert clock.left({"a": (4.0, 0.0)}, 4.0) == pytest.approx(36.0)
    clock.done("a", 10.0)
    assert clock.left({"b": (5.0, 0.0), "c": (5.0, 0.0)}, 15.0) == pytest.approx(25.0)
    assert clock.share({"b": (20.0, 0.5)}) == pytest.approx((10 + 10) / 60)


def test_a_kind_learns_from_its_own_jobs_and_others_from_what_is_usual():
    clock = TimeLeft(THREE, {"a": 10.0, "b": 20.0, "c": 20.0}, KINDS, 1)
    clock.done("a", 30.0)
    assert clock.expected("b") == pytest.approx(3 * 20)  # everything takes three times as long
    clock.done("b", 10.0)
    # The median over kinds is a half now; of its own kind one more job counts as much as that.
    assert clock.expected("c") == pytest.approx(20 * (10 + 0.5 * 20) / (20 + 20))


def test_one_kind_that_is_far_off_does_not_count_for_the_others():
    names = "abcdefgh"
    clock = TimeLeft(
        dict.fromkeys(names, ()),
        dict.fromkeys(names, 10.0),
        dict(zip(names, names, strict=True)),
        1,
    )
    for name, took in zip("abcde", (12.0, 100.0, 12.0, 12.0, 13.0), strict=True):
        clock.done(name, took)
    assert clock.expected("f") == pytest.approx(12.0)


def test_the_time_left_moves_within_a_job_and_a_job_that_takes_too_long_is_not_at_its_end():
    clock = TimeLeft({"a": ()}, {"a": 10.0}, {"a": "first"}, 1)
    assert clock.left({"a": (5.0, 0.5)}, 5.0) == pytest.approx(5.0)
    assert clock.left({"a": (100.0, 0.0)}, 100.0) == pytest.approx(10.0, rel=0.01)
    clock = TimeLeft({"a": ()}, {"a": 10.0}, {"a": "first"}, 1)
    # Half is done after ten seconds, so ten are left; what was expected counts half as much.
    assert clock.left({"a": (10.0, 0.5)}, 10.0) == pytest.approx(0.5 * (0.5 * 11 + 0.5 * 20))


def test_what_another_run_computed_teaches_nothing():
    clock = TimeLeft(THREE, {"a": 10.0, "b": 20.0, "c": 20.0}, KINDS, 1)
    clock.done("a", None)
    assert clock.expected("b") == 20.0


class Terminal(io.StringIO):
    """What a terminal would be sent."""

    def isatty(self):
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_the_board_says_what_goes_on(kind, monkeypatch):
    now = iter(range(0, 1000, 2))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    monkeypatch.setattr(Board, "_tick", lambda self: None)
    said = kind()
    monkeypatch.setattr("sys.stderr", said)
    clock = TimeLeft(THREE, {"a": 10.0, "b": 60.0, "c": 60.0}, KINDS, 2)
    with Board(clock, {name: f"CoLA, seed 7: {name}" for name in THREE}) as board:
        report = board.start("a")
        report(0.5, "loss 0.7")
        board._show()
        board.end("a", "matthews 0.5", 10.0)
        board.start("b")
        board.start("c")
        board._show()
        board.end("b", "FAILED: no", None)
        board.end("c", "", None)
    text = said.getvalue()
    assert "CoLA, seed 7: a: matthews 0.5 (10 s)\n" in text
    assert "CoLA, seed 7: b: FAILED: no\n" in text
    assert "?" not in text
    shown = [part.strip() for part in text.replace("\r", "\n").splitlines() if " gone, " in part]
    assert any("; now CoLA, seed 7: a; last found loss 0.7" in line for line in shown)
    assert any("; now CoLA, seed 7: b and 1 more; last found matthews 0.5" in s for s in shown)
    assert shown[-1].startswith("100%")
    assert "00:00 left; last found FAILED: no" in shown[-1]
