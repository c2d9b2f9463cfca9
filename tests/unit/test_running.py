"""Several processes compute what one does, and no two of them the same."""

import json

import pytest

from lotterylib import pattern_counts
from lotterylib.cells import ALL, cells_of, compute, is_done, key_of, wave_of
from lotterylib.errors import LotteryError
from lotterylib.experiment import open_experiment
from lotterylib.methods import CORE
from lotterylib.pages import page_path
from lotterylib.running import check_pages, compute_all, in_parts, pages_wanted
from lotterylib.settings import parse_settings


def experiment(store, **changes):
    values = {"encoder": "tiny", "budget": "smoke", "train_rows": 16, "dev_rows": 16}
    return open_experiment(
        parse_settings("acceptability", **(values | changes), store=str(store), seeds=[3, 1])
    )


def artefacts(store):
    """Every file of a store but those that tell when and on what it was made."""
    skipped = ("provenance.json", "manifest.json")
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name not in skipped
    }


def test_two_processes_make_the_artefacts_that_one_makes(tmp_path, capsys):
    pages = ("04_subnetworks", "06_super_survivors")
    one, two = experiment(tmp_path / "one"), experiment(tmp_path / "two")
    compute_all([(one, pages)], jobs=1)
    compute_all([(two, pages)], jobs=2)
    first, second = (artefacts(tmp_path / name) for name in ("one", "two"))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert all(is_done(two, cell) for cell in cells_of(two, pages))
    said = capsys.readouterr().err
    assert said.count("retrained super good: matthews") == 4


def test_a_failure_in_a_process_is_told_as_a_sentence(tmp_path):
    mine = experiment(tmp_path, learning_rate=1e30, epochs=2)
    with pytest.raises(LotteryError, match="is no longer a number"):
        compute_all([(mine, ("04_subnetworks",))], jobs=2)


def test_a_cell_makes_nothing_that_another_cell_of_its_wave_makes(tmp_path, monkeypatch):
    monkeypatch.setattr(pattern_counts, "classifier", lambda store: None)
    monkeypatch.setattr(pattern_counts, "classify_by_cnn", lambda cnn, maps: [0] * len(maps))
    mine = experiment(tmp_path, preset="official")
    cells = sorted(cells_of(mine, ALL), key=wave_of)
    keys = {key_of(mine, cell).path.as_posix(): cell for cell in cells}
    made = {}
    for cell in cells:
        before = {path.parent for path in tmp_path.rglob("config.json")}
        compute(mine, cell, lambda share, found: None)
        for folder in {path.parent for path in tmp_path.rglob("config.json")} - before:
            made[folder.relative_to(tmp_path).as_posix()] = cell
    assert set(keys) <= set(made)
    for folder, cell in made.items():
        if folder in keys:
            assert keys[folder] == cell, f"{cell.label} made what {keys[folder].label} should"
        else:  # the random, bad and inverted subnetworks come with the first score of theirs
            stage = json.loads((tmp_path / folder / "config.json").read_text())["stage"]
            assert stage == f"{cell.kind}-{cell.method}"


def test_pages_that_are_there_stay_wanted(tmp_path):
    mine = experiment(tmp_path / "store")
    assert pages_wanted(mine, [], tmp_path) == list(CORE)
    there = page_path(tmp_path, "tiny", "acceptability", tmp_path / "10_variants.ipynb")
    there.parent.mkdir(parents=True)
    there.touch()
    assert pages_wanted(mine, ["extensions"], tmp_path) == [*CORE, "10_variants", "11_extensions"]


def test_further_pages_can_have_fewer_seeds(tmp_path, capsys):
    mine = experiment(tmp_path)
    extras = ["09_how_bad_is_bad", "11_extensions"]
    for few in (0, 2, 3):
        assert in_parts(mine, [*CORE, *extras], few) == [(mine, [*CORE, *extras])]
    assert in_parts(mine, list(CORE), 1) == [(mine, list(CORE))]
    (core, pages), (fewer, others) = in_parts(mine, [*CORE, *extras], 1)
    assert (core, pages, others) == (mine, list(CORE), extras)
    assert (mine.settings.seeds, fewer.settings.seeds) == ((3, 1), (3,))
    assert fewer.finetuned_key(3) == mine.finetuned_key(3)


def test_what_two_parts_of_a_run_share_is_computed_once(tmp_path, capsys):
    mine = experiment(tmp_path)
    pages = ("04_subnetworks", "11_extensions")
    (both, _), (one, _) = parts = [
        (mine, pages[:1]),
        (in_parts(mine, [*CORE, pages[1]], 1)[1][0], pages[1:]),
    ]
    compute_all(parts, jobs=2)
    said = capsys.readouterr().err
    keys = {key_of(e, c).path for e, wanted in parts for c in cells_of(e, wanted)}
    assert f"{len(keys)} cells, 0 of them" in said
    assert said.count("seed 3: pruned structured good") == 1
    assert said.count("seed 3: rewound structured good") == 1
    assert "seed 1: rewound" not in said
    assert len(list(cells_of(both, pages[:1]))) + len(list(cells_of(one, pages[1:]))) > len(keys)


def test_pages_of_another_budget_are_not_replaced(tmp_path):
    mine = experiment(tmp_path / "store")
    folder = tmp_path / "tiny" / "acceptability"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(
        "encoder,task,preset,budget,train_rows,epochs\ntiny,acceptability,paper,smoke,17,1\n"
    )
    with pytest.raises(LotteryError, match="17 training rows and 1 epochs; name another folder"):
        check_pages([mine], tmp_path)
    (folder / "results.csv").write_text(
        "encoder,task,preset,budget,train_rows,epochs\ntiny,acceptability,paper,smoke,16,1\n"
    )
    check_pages([mine], tmp_path)
