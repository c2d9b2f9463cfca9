"""Cells trained together: which, what comes of them, and what happens where that fails."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lotterylib import groups, running
from lotterylib.cells import ALL, cells_of, is_done, key_of, wave_of
from lotterylib.errors import LotteryError, reason_of
from lotterylib.experiment import Experiment, open_experiment
from lotterylib.files import read_json
from lotterylib.groups import STAGES, compute_together, groups_of
from lotterylib.running import _unclaimed_first, compute_all
from lotterylib.settings import parse_settings
from tests.small import small_experiment
from tests.stores import artefacts, leftovers

PAGES = ("04_subnetworks", "09_how_bad_is_bad", "10_variants")


@pytest.fixture
def without_dropout(monkeypatch):
    plain = Experiment.pretrained

    def pretrained(*given, **named):
        model = plain(*given, **named)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    monkeypatch.setattr(Experiment, "pretrained", pretrained)


def wanted(mine, stages=STAGES):
    return [cell for cell in cells_of(mine.settings, PAGES) if cell.stage in stages]


@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_groups_hold_every_cell_once_after_all_that_it_needs(most, tmp_path):
    mine = small_experiment(tmp_path, seeds=[3, 1, 2])
    work = [(mine, cell) for cell in cells_of(mine.settings, ALL)]
    found = groups_of(work, most)
    flat = [(experiment, cell) for experiment, cells in found for cell in cells]
    if most < 2:
        assert flat == work
        return
    assert sorted(map(str, flat)) == sorted(map(str, work))
    waves = [wave_of(cell) for _, cell in flat]
    assert waves == sorted(waves)
    sizes = [len(cells) for _, cells in found]
    assert max(sizes) == most
    for _, cells in found:
        assert len({(cell.stage, wave_of(cell)) for cell in cells}) == 1
        assert len(cells) == 1 or cells[0].stage in STAGES


def test_a_run_together_finds_what_one_after_another_does(tmp_path, without_dropout, capsys):
    alone, mine = (
        small_experiment(tmp_path / name, task="similarity", seeds=[3, 1]) for name in "ab"
    )
    assert compute_all([(alone, PAGES)], jobs=1) == []
    capsys.readouterr()
    assert compute_all([(mine, PAGES)], together=4) == []
    said = capsys.readouterr().err
    assert "one after another" not in said
    cells = list(cells_of(mine.settings, PAGES))
    assert all(is_done(mine, cell) for cell in cells)
    assert said.count("Similarity (generated), seed") >= len(cells)
    assert artefacts(mine.store.root).keys() == artefacts(alone.store.root).keys()
    shared = 0
    for cell in cells:
        here, there = (each.store.root / key_of(each, cell).path for each in (mine, alone))
        told = read_json(here / "provenance.json")
        if cell.stage in STAGES:
            shared += told.get("together", 1) > 1
            losses = (read_json(folder / "losses.json") for folder in (here, there))
            assert next(losses) == pytest.approx(next(losses), rel=1e-3)
            guessed = [read_json(folder / "score.json")["predictions"] for folder in (here, there)]
            assert guessed[0] == pytest.approx(guessed[1], abs=3e-5)
        else:
            assert "together" not in told
    assert shared > 0.8 * len(wanted(mine))


def test_only_what_is_missing_is_trained(tmp_path, monkeypatch):
    mine = small_experiment(tmp_path, seeds=[3, 1, 2])
    mine.full_score(1)
    before = artefacts(tmp_path)
    seen = []
    plain = groups.train_together

    def spy(models, split, task, recipe, seeds, *given):
        seen.append(seeds)
        return plain(models, split, task, recipe, seeds, *given)

    monkeypatch.setattr(groups, "train_together", spy)
    cells = wanted(mine, ("finetune",))
    compute_together(mine, cells)
    compute_together(mine, cells)
    assert seen == [[3, 2]]
    assert before.items() <= artefacts(tmp_path).items()
    assert all(mine.store.is_whole(key_of(mine, cell)) for cell in cells)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), LotteryError("Not these.")]
)
def test_what_cannot_be_done_together_is_done_one_after_another(
    error, tmp_path, monkeypatch, capsys
):
    mine = small_experiment(tmp_path, seeds=[3, 1])

    def fail(*_):
        raise error

    monkeypatch.setattr(groups, "train_together", fail)
    monkeypatch.setattr(running, "pool_of", None)
    assert compute_all([(mine, ("01_finetune",))], together=2) == []
    assert (
        f"seed 3: finetune and 1 more: not at once, {reason_of(error)}" in capsys.readouterr().err
    )
    assert leftovers(tmp_path) == []
    assert all(is_done(mine, cell) for cell in wanted(mine, ("finetune",)))
    assert "together" not in mine.store.provenance(mine.finetuned_key(3))


def test_after_an_error_of_a_gpu_another_process_goes_on(tmp_path, monkeypatch, capsys):
    mine = open_experiment(
        parse_settings("acceptability", "tiny", budget="smoke", store=str(tmp_path), seeds=[3, 1])
    )

    def fail(*_):
        try:
            raise ValueError("what it was\nand advice")
        finally:
            raise RuntimeError("CUDA error: previous error during capture")

    def here(_experiment, cell, _report):
        assert cell.stage == "baseline"
        return "nothing"

    monkeypatch.setattr(groups, "train_together", fail)
    monkeypatch.setattr(running, "compute", here)
    assert compute_all([(mine, ("01_finetune",))], together=2) == []
    said = capsys.readouterr().err
    assert "seed 3: finetune and 1 more: not at once, ValueError: what it was\n" in said
    assert all(is_done(mine, cell) for cell in wanted(mine, ("finetune",)))


def test_groups_that_another_run_is_at_come_last(tmp_path):
    mine = small_experiment(tmp_path, seeds=[3, 1, 2])
    groups_here = groups_of([(mine, cell) for cell in cells_of(mine.settings, PAGES)], 2)
    order = _unclaimed_first(groups_here)
    assert next(order) == groups_here[0]
    claimed = groups_here[2]
    lock = FileLock(mine.store._claim(key_of(mine, claimed[1][-1])))
    Path(lock.lock_file).parent.mkdir(parents=True)
    with lock:  # as the other run
        left = list(order)
    assert left == [*(each for each in groups_here[1:] if each != claimed), claimed]


def test_one_that_fails_takes_no_other_along(tmp_path, monkeypatch):
    mine = small_experiment(tmp_path, seeds=[3, 1])
    plain = Experiment.pretrained

    def pretrained(self, seed, *given, **named):
        model = plain(self, seed, *given, **named)
        if seed == 1:
            with torch.no_grad():
                model.classifier.weight[0, 0] = torch.nan
        return model

    monkeypatch.setattr(Experiment, "pretrained", pretrained)
    cells = wanted(mine, ("finetune",))
    with pytest.raises(LotteryError, match="no longer a number"):
        compute_together(mine, cells)
    assert not any(is_done(mine, cell) for cell in cells)
    assert mine.store.failure(key_of(mine, cells[0])) == ""
    failures = compute_all([(mine, ("01_finetune",))], together=2)
    assert [failure.name for failure in failures] == ["Acceptability (generated), seed 1: finetune"]
    assert is_done(mine, replace(cells[0], seed=3))
