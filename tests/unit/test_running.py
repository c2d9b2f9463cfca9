"""What a run computes, in which order, and what a failure stops."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from lotterylib.errors import LotteryError
from lotterylib.finetuning import train
from lotterylib.report import pages
from lotterylib.report.identity import claim, requests_of
from lotterylib.runs.jobs import jobs_of, key_of, pieces_of
from lotterylib.runs.run import (
    FollowUp,
    _Run,
    compute_pieces,
    processes,
    use_threads,
    without_failures,
)
from tests.small import compute_all, is_done, small_experiment


def experiment(store, **changes):
    return small_experiment(store, **({"seeds": [3, 1]} | changes))


def test_a_failed_job_stops_only_those_that_need_it(tmp_path, capsys):
    mine = experiment(tmp_path)
    # The search of one seed cannot be kept: a file lies where its folder should be.
    key = mine.search_key(3, "magnitude")
    (tmp_path / key.path).parent.mkdir(parents=True)
    (tmp_path / key.path).write_text("in the way")
    failures = compute_all([(mine, ("04_subnetworks",))], jobs=1)
    own = [failure for failure in failures if failure.itself]
    assert [failure.name for failure in own] == [
        "Acceptability (generated), seed 3: search magnitude"
    ]
    assert "cannot be kept" in own[0].reason
    assert mine.store.failure(key) == own[0].reason
    needing = [failure for failure in failures if not failure.itself]
    assert len(needing) == 6  # good, random and bad, pruned and retrained
    assert all("seed 3" in f.name and "which failed" in f.reason for f in needing)
    jobs = jobs_of(mine.settings, ("04_subnetworks",))
    assert sum(is_done(mine, job) for job in jobs) == len(jobs) - 7
    assert capsys.readouterr().err.count("FAILED") == 1
    plan = [(mine, ("01_finetune", "03_magnitude_pruning", "05_stability", "11_extensions"))]
    rest, told = without_failures(plan, failures)
    assert rest == [(mine, ["01_finetune", "05_stability"])]
    assert [line.partition(" page ")[2].partition(",")[0] for line in told] == [
        "03_magnitude_pruning",
        "11_extensions",
    ]
    assert all(f"({own[0].name}: {own[0].reason})" in line for line in told)
    assert without_failures([(mine, ["04_subnetworks"])], failures)[0] == []
    (tmp_path / key.path).unlink()
    assert compute_all([(mine, ("04_subnetworks",))], jobs=1) == []
    assert mine.store.failure(key) == ""
    assert all(is_done(mine, job) for job in jobs)


def test_a_page_is_made_as_soon_as_what_it_shows_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("lotterylib.runs.run.why_alone", lambda: "a test looks on")
    mine = experiment(tmp_path, learning_rate=1e30, epochs=2)  # so that fine-tuning fails
    baseline, *others = jobs_of(mine.settings, ("01_finetune",))
    pieces, made = pieces_of([(mine, ("01_finetune",))]), []
    there, lost = (
        [place for place, piece in pieces.items() if piece.job in jobs]
        for jobs in ([baseline], others[:1])
    )

    def refuse():
        raise LotteryError("Another's pages came to lie there.")

    def make(name):
        made.append((name, is_done(mine, baseline)))
        return "rendered"

    given = {
        name: FollowUp(name, needs, begin, make, (name,), 1.0)
        for name, needs, begin in (
            ("first", there, lambda: None),
            ("refused", there, refuse),
            ("never", there + lost, lambda: None),
        )
    }
    seconds = {place: 1.0 if place in there else 9.0 for place in pieces}
    for then, first in (({}, others[0]), (given, baseline)):  # only pages need the baseline
        assert pieces[_Run(pieces, then, seconds, 1).schedule.take()].job == first
    failures = compute_pieces(pieces, 2, {Path(name): each for name, each in given.items()})
    assert made == [("first", True)]
    found = {failure.name: failure for failure in failures}
    assert found["refused"].reason == "Another's pages came to lie there."
    assert found["refused"].itself
    assert not found["never"].itself
    assert "seed 3, which failed" in found["never"].reason
    assert set(found) - set(given) == {pieces[place].name for place in pieces if place not in there}


def test_pages_of_another_request_stay_until_all_jobs_are_done(tmp_path, monkeypatch):
    mine, wanted = experiment(tmp_path / "runs"), ["01_finetune", "04_subnetworks"]
    begun = []
    monkeypatch.setattr(pages, "compute_pieces", lambda _, __, then: begun.append(then) or [])
    templates = [Path(f"{name}.ipynb") for name in (*wanted, "09_how_bad_is_bad")]
    needs = {name: pieces_of([(mine, [name])]).keys() for name in wanted}

    def needed():
        assert pages.render_all([(mine, wanted)], templates, tmp_path, replace=True) == []
        return {page.stem: each.needs for page, each in begun[-1].items()}

    assert needed() == needs
    (page, *_), (first, *_) = begun[-1].keys(), begun[-1].values()
    first.begin()  # as before the first page is made
    page.touch()
    assert needed() == needs
    other = experiment(tmp_path / "runs", learning_rate=2e-3)
    claim(requests_of([(other, wanted)], tmp_path), replace=True)
    assert needed() == dict.fromkeys(wanted, needs[wanted[0]] | needs[wanted[1]])


@pytest.mark.parametrize("processes", [1, 2])
def test_what_another_run_is_making_comes_last(processes, tmp_path):
    mine = experiment(tmp_path)
    baseline, *others = jobs_of(mine.settings, ("01_finetune",))
    lock = FileLock(mine.store._claim(key_of(mine, baseline)))
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()  # as the other run
    with ThreadPoolExecutor() as threads:
        try:
            run = threads.submit(compute_all, [(mine, ("01_finetune",))], processes)
            until = time.monotonic() + 120
            while not all(is_done(mine, job) for job in others) and time.monotonic() < until:
                time.sleep(0.05)
            assert all(is_done(mine, job) for job in others)
            assert not is_done(mine, baseline)
            assert not run.done()
        finally:
            lock.release()
        assert run.result() == []
    assert is_done(mine, baseline)


def test_training_that_fails_is_tried_once_for_all_that_need_it(tmp_path, monkeypatch):
    mine = experiment(tmp_path, learning_rate=1e30, epochs=2)
    tries = []

    def counted(*given, **named):
        tries.append(given)
        return train(*given, **named)

    monkeypatch.setattr("lotterylib.runs.experiment.train", counted)
    failures = compute_all([(mine, ("04_subnetworks",))], jobs=1)
    assert [f.name for f in failures if f.itself] == [
        f"Acceptability (generated), seed {seed}: finetune" for seed in (3, 1)
    ]
    assert all("no longer a number" in failure.reason for failure in failures)
    assert len(failures) == len(jobs_of(mine.settings, ("04_subnetworks",))) - 1
    assert len(tries) == 2


def test_what_two_parts_of_a_run_share_is_computed_once(tmp_path, capsys):
    both = experiment(tmp_path)
    one = experiment(tmp_path, seeds=[3])
    pages = ("04_subnetworks", "11_extensions")
    parts = [(both, pages[:1]), (one, pages[1:])]
    compute_all(parts, jobs=1)
    said = capsys.readouterr().err
    jobs = [(e, job) for e, wanted in parts for job in jobs_of(e.settings, wanted)]
    keys = {key_of(*each).path for each in jobs}
    assert f"0 of {len(keys)} jobs are done." in said
    assert said.count("seed 3: pruned structured good: ") == 1
    assert said.count("seed 3: rewound structured good: ") == 1
    assert "seed 1: rewound" not in said
    assert len(jobs) > len(keys)


def test_processors_that_others_have_are_not_counted(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5, 7}, raising=False)
    assert processes() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert processes() == 4
    taken = []
    monkeypatch.setattr("torch.set_num_threads", taken.append)
    for threads, several in ((0, 4), (0, 100), (3, 4), (3, 1), (0, 1)):
        use_threads(SimpleNamespace(threads=threads), several)
    assert taken == [16, 1, 3, 3]  # one process alone has what PyTorch takes
