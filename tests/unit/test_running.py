"""What a run computes, in which order, and what a failure stops."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from lotterylib.finetuning import train
from lotterylib.runs import pattern_counts
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import ALL, cells_of, compute, is_done, key_of, wave_of
from lotterylib.runs.methods import CORE
from lotterylib.runs.request import in_parts, pages_wanted
from lotterylib.runs.run import compute_all
from lotterylib.runs.settings import parse_settings


def experiment(store, **changes):
    values = {"encoder": "tiny", "budget": "smoke", "train_rows": 16, "dev_rows": 16}
    return open_experiment(
        parse_settings("acceptability", **(values | changes), store=str(store), seeds=[3, 1])
    )


def test_a_failed_cell_stops_only_those_that_need_it(tmp_path, capsys):
    mine, store = experiment(tmp_path), tmp_path / "tiny" / "acceptability"
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
    cells = list(cells_of(mine.settings, ("04_subnetworks",)))
    assert sum(is_done(mine, cell) for cell in cells) == len(cells) - 7
    assert capsys.readouterr().err.count("FAILED") == 1
    (tmp_path / key.path).unlink()
    assert compute_all([(mine, ("04_subnetworks",))], jobs=1) == []
    assert mine.store.failure(key) == ""
    assert all(is_done(mine, cell) for cell in cells)
    assert store.is_dir()


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_another_run_is_making_comes_last(jobs, tmp_path):
    mine = experiment(tmp_path)
    cells = [c for c in cells_of(mine.settings, ("01_finetune",)) if c.stage != "baseline"]
    (baseline,) = set(cells_of(mine.settings, ("01_finetune",))) - set(cells)
    lock = FileLock(mine.store._claim(key_of(mine, baseline)))
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()  # as the other run
    with ThreadPoolExecutor() as threads:
        try:
            run = threads.submit(compute_all, [(mine, ("01_finetune",))], jobs)
            until = time.monotonic() + 120
            while not all(is_done(mine, cell) for cell in cells) and time.monotonic() < until:
                time.sleep(0.05)
            assert all(is_done(mine, cell) for cell in cells)
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
    assert len(failures) == len(list(cells_of(mine.settings, ("04_subnetworks",)))) - 1
    assert len(tries) == 2


def test_a_cell_makes_nothing_that_another_cell_of_its_wave_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(pattern_counts, "classifier", lambda store: None)
    monkeypatch.setattr(pattern_counts, "classify_by_cnn", lambda cnn, maps: [0] * len(maps))
    mine = experiment(tmp_path, preset="official")
    cells = sorted(cells_of(mine.settings, ALL), key=wave_of)
    keys = {key_of(mine, cell).path.as_posix(): cell for cell in cells}
    made = {}
    for cell in cells:
        before = {path.parent for path in tmp_path.rglob("config.json")}
        compute(mine, cell, lambda share, found: None)
        for folder in {path.parent for path in tmp_path.rglob("config.json")} - before:
            if "word-pieces" in folder.as_posix():
                continue  # what all cells read; a run makes them before the first
            made[folder.relative_to(tmp_path).as_posix()] = cell
    assert set(keys) <= set(made)
    for folder, cell in made.items():
        if folder in keys:
            assert keys[folder] == cell, f"{cell.label} made what {keys[folder].label} should"
        else:  # the random, bad and inverted subnetworks come with the first score of theirs
            stage = json.loads((tmp_path / folder / "config.json").read_text())["stage"]
            assert stage == f"{cell.kind}-{cell.method}"


def test_pages_that_are_there_stay_wanted(tmp_path):
    mine = experiment(tmp_path / "store").settings
    assert pages_wanted(mine, [], tmp_path) == list(CORE)
    (tmp_path / "10_variants.ipynb").touch()
    assert pages_wanted(mine, ["extensions"], tmp_path) == [*CORE, "10_variants", "11_extensions"]
    alone = mine.but(seeds=(3,))
    assert set(CORE) - set(pages_wanted(alone, [], tmp_path)) == {
        "05_stability",
        "06_super_survivors",
    }


def test_further_pages_can_have_fewer_seeds(tmp_path):
    mine = experiment(tmp_path).settings
    extras = ["09_how_bad_is_bad", "11_extensions"]
    for few in (0, 2, 3):
        assert in_parts(mine, [*CORE, *extras], few) == [(mine, [*CORE, *extras])]
    assert in_parts(mine, list(CORE), 1) == [(mine, list(CORE))]
    (core, pages), (fewer, others) = in_parts(mine, [*CORE, *extras], 1)
    assert (core, pages, others) == (mine, list(CORE), extras)
    assert (mine.seeds, fewer) == ((3, 1), mine.but(seeds=(3,)))


def test_what_two_parts_of_a_run_share_is_computed_once(tmp_path, capsys):
    both = experiment(tmp_path)
    one = open_experiment(both.settings.but(seeds=(3,)))
    pages = ("04_subnetworks", "11_extensions")
    parts = [(both, pages[:1]), (one, pages[1:])]
    compute_all(parts, jobs=1)
    said = capsys.readouterr().err
    cells = [(e, cell) for e, wanted in parts for cell in cells_of(e.settings, wanted)]
    keys = {key_of(*each).path for each in cells}
    assert f"{len(keys)} cells, 0 of them" in said
    assert said.count("seed 3: pruned structured good: ") == 1
    assert said.count("seed 3: rewound structured good: ") == 1
    assert "seed 1: rewound" not in said
    assert len(cells) > len(keys)
