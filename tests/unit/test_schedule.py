"""Jobs come after what they need and the longest way first; the time left can be believed from the
first tenth of a run on; the bar says what goes on.
"""

import heapq
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lotterylib.runs.jobs import Job, Piece, needs_of
from lotterylib.runs.plan import Pace, expected_seconds
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


@pytest.mark.parametrize(
    ("urgent", "wanted"),
    [
        ([], ["tune", "search", "base", "score", "look"]),
        (["look"], ["tune", "look", "search", "base", "score"]),
        (["base", "score"], ["base", "tune", "search", "score", "look"]),
    ],
)
def test_the_longest_way_goes_first_once_it_can_and_what_is_urgent_before_it(urgent, wanted):
    schedule, order = Schedule(NEEDS, SECONDS, urgent), []
    while schedule:
        order.append(schedule.take())
        schedule.done(order[-1])
    assert order == wanted


def test_a_job_that_is_given_back_comes_again():
    schedule = Schedule(NEEDS, SECONDS)
    assert schedule.take() == "tune"
    schedule.add("tune")
    assert schedule.take() == "tune"
    assert schedule.take() == "base"
    assert not schedule


def test_what_needs_a_job_needs_it_through_others_too():
    schedule = Schedule(NEEDS, SECONDS)
    assert schedule.needing("tune") == ["search", "look", "score"]
    assert schedule.needing("search") == ["score"]
    assert schedule.needing("score") == []
    twice = Schedule(NEEDS | {"page": ("score", "look")}, SECONDS | {"page": 1.0})
    assert twice.needing("tune") == ["search", "look", "score", "page"]


@pytest.mark.parametrize(("processes", "wanted"), [(1, 14.5), (2, 9.0), (3, 9.0)])
def test_the_time_of_a_run_is_that_of_its_processes(processes, wanted):
    assert makespan(NEEDS, SECONDS, processes) == wanted


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
    clock = TimeLeft(needs, seconds, processes)
    now, busy, lines = 0.0, [], []
    while schedule or busy:
        while schedule and len(busy) < processes:
            job = schedule.take()
            heapq.heappush(busy, (now + pace * TOOK[job], len(lines), job.label, job, now))
        now, _, _, job, began = heapq.heappop(busy)
        schedule.done(job)
        clock.done(job, now - began)
        running = {job: (now - began, 0.0) for *_, job, began in busy}
        lines.append((now, clock.left(running)))
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


def test_what_is_expected_is_told_as_long_as_nothing_else_is_known():
    clock = TimeLeft(THREE, {"a": 10.0, "b": 20.0, "c": 30.0}, 2)
    assert clock.left({}) == 40.0
    assert clock.left({"a": (4.0, 0.0)}) == pytest.approx(36.0)
    clock.done("a", 10.0)
    assert clock.left({"b": (5.0, 0.0), "c": (5.0, 0.0)}) == pytest.approx(25.0)


@pytest.mark.parametrize(("took", "left"), [(None, 40.0), (30.0, 40 * 31.5 / 11.5)])
def test_what_was_done_here_corrects_what_is_expected(took, left):
    clock = TimeLeft(THREE, {"a": 10.0, "b": 20.0, "c": 20.0}, 1)
    clock.done("a", took)  # of 50 seconds, 1.5 are taken to have been as expected
    assert clock.left({}) == pytest.approx(left)


@pytest.mark.parametrize(
    ("since", "share", "left"),
    [
        (5.0, 0.5, 5.0),
        (100.0, 0.0, 10.0),  # a job that takes too long is not at its end
        (10.0, 0.5, 0.5 * (0.5 * 11 + 0.5 * 20)),  # what was expected counts half as much
    ],
)
def test_the_time_left_moves_within_a_job(since, share, left):
    assert TimeLeft({"a": ()}, {"a": 10.0}, 1).left({"a": (since, share)}) == pytest.approx(left)


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
    clock = TimeLeft(THREE, {"a": 10.0, "b": 60.0, "c": 60.0}, 2)
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
