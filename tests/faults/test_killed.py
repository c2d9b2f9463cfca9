"""Runs that are killed, or started twice at once, end as one that nobody disturbed."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.faults.disturbed import FORKED, REQUEST, Run, assert_same, copy_without, finish, run
from tests.shared import alive, until
from tests.stores import artefacts, leftovers, stage_of, whole

pytestmark = [FORKED, pytest.mark.long]
KILLS = 20


def test_twenty_kills_at_random_moments_lose_only_what_was_cut(undisturbed, tmp_path):
    reference, seconds = undisturbed
    moments, kills, cut, stores = random.Random(7), 0, 0, 0
    while kills < KILLS:
        store = tmp_path / f"runs-{stores}"
        stores += 1
        before = {}
        while kills < KILLS:
            process = Run(*REQUEST, "--jobs", 2, "--store", store, said=tmp_path / "said")
            if process.wait(moments.uniform(0.02, 0.15) * seconds) is not None:
                break  # it was quicker: go on with another store
            process.kill()
            kills += 1
            now = whole(store)
            # What was finished stays as it was. A process was at one piece, or at one of its parts.
            assert before.items() <= now.items()
            assert len(leftovers(store)) <= 2 * 2
            cut += bool(leftovers(store))
            before = now
        assert "damaged" not in finish(store, tmp_path / "finish")
        assert before.items() <= whole(store).items()
        assert leftovers(store) == []
        assert_same(store, reference)
    assert cut > 0, "no kill met a process that was writing"
    assert "damaged" not in (tmp_path / "said").read_text()


def kill_whoever_measures_importance():
    """In every process that is forked from this one."""
    from lotterylib.runs import run as running

    plain = running.compute

    def compute(experiment, job, *others):
        if (job.stage, job.seed, job.kind) == ("importance", 1, "batch"):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(experiment, job, *others)

    running.compute = compute


def test_a_job_that_always_kills_its_process_fails_alone(undisturbed, tmp_path):
    store = copy_without(undisturbed, tmp_path / "runs", "importance-", "pruned-")
    command = (*REQUEST, "--jobs", 2, "--store", store)
    status, said = run(*command, prepare=kill_whoever_measures_importance, said=tmp_path / "said")
    assert status == 1
    assert "lottery: 1 failed." in said
    lost = "FAILED: The process was killed: was there too little memory?"
    assert said.count(lost) == said.count(f"seed 1: importance batch: {lost}") == 1
    lacking = artefacts(undisturbed[0]).keys() - artefacts(store).keys()
    assert {stage_of(name) for name in lacking} == {"importance-batch"}
    finish(store, tmp_path / "finish")
    assert_same(store, undisturbed[0])


def test_the_workers_of_a_killed_run_end_with_it(tmp_path):
    process = Run(*REQUEST, "--jobs", 2, "--store", tmp_path / "runs", said=tmp_path / "said")
    assert until(lambda: len(process.workers()) == 2)
    workers = process.workers()
    try:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        assert until(lambda: not any(map(alive, workers)), 10)
    finally:
        if any(map(alive, workers)):
            process.kill()


CTRL_C, SIGTERM = (signal.SIGINT,), (signal.SIGTERM,)


def test_a_run_stopped_however_often_computes_nothing_more_and_goes_on_later(undisturbed, tmp_path):
    store = tmp_path / "runs"
    for jobs in (1, 2):
        for numbers, status in ((CTRL_C, 130), (SIGTERM, 143), (CTRL_C * 3, 130)):
            stop(store, jobs, numbers, status, tmp_path / f"said-{jobs}-{numbers}")
    finish(store, tmp_path / "finish")
    assert_same(store, undisturbed[0])


def stop(store, jobs, numbers, status, said):
    """Start a run, let it compute something, and stop it by signals."""
    before = len(whole(store))
    process = Run(*REQUEST, "--jobs", jobs, "--store", store, said=said)
    assert until(lambda: len(whole(store)) > before + 4)
    workers = process.workers()
    assert len(workers) == (0 if jobs == 1 else 2)
    for number in numbers:
        with suppress(ProcessLookupError):  # it may have ended already
            os.killpg(process.pid, number)  # as a terminal does
        time.sleep(0.02)
    assert until(lambda: "lottery: stopped." in process.said, 30), process.said
    there = whole(store)
    assert process.wait(30) == status
    assert not any(map(alive, workers))
    assert whole(store) == there
    assert "Traceback" not in process.said
    assert process.said.strip().endswith("give the same command again to go on.")


def test_two_runs_at_once_make_everything_once(undisturbed, tmp_path):
    store = tmp_path / "runs"
    both = [
        Run(*REQUEST, "--jobs", jobs, "--store", store, said=tmp_path / f"said-{jobs}")
        for jobs in (1, 2)
    ]
    seen, changed = {}, set()
    while any(process.wait(0.05) is None for process in both):
        now = whole(store)
        changed |= {name for name in seen if now.get(name) != seen[name]}
        seen = now
    assert [process.wait() for process in both] == [0, 0], both[0].said + both[1].said
    assert changed == set()  # an artefact that was made again would have told another time
    assert len(seen) > 60
    assert_same(store, undisturbed[0])
    assert leftovers(store) == []
    for process in both:
        assert "damaged" not in process.said
        assert "FAILED" not in process.said
