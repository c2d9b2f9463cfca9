"""Plans: what a run costs on this machine, without its data and even without its weights."""

import json

import pytest

from lotterylib.cli import main
from lotterylib.errors import LotteryError
from lotterylib.runs.jobs import cells_of
from lotterylib.runs.plan import measure_machine, plan
from lotterylib.runs.request import in_parts
from lotterylib.runs.settings import parse_settings


@pytest.fixture(scope="module")
def table():
    settings = [
        parse_settings(name, encoder="tiny", budget="smoke") for name in ("rte", "acceptability")
    ]
    request = [
        *in_parts(settings[0], ["01_finetune", "11_extensions"], 1),
        (settings[1], ["01_finetune"]),
    ]
    return plan(request, jobs=2), request


def test_a_row_a_task_and_one_for_all(table):
    found, request = table
    assert list(found.index) == ["RTE", "Acceptability (generated)", "all"]
    assert found.loc["all"].tolist() == pytest.approx(found.iloc[:2].sum().tolist())
    cells = sum(len(list(cells_of(settings, pages))) for settings, pages in request)
    assert found.loc["all", "cells"] == cells


def test_nothing_is_faster_than_the_arithmetic(table):
    found, _ = table
    assert (found["hours"] > found["arithmetic"]).all()
    assert (found[["pflop", "arithmetic", "traffic", "steps"]] > 0).all(axis=None)


def test_what_was_measured_is_said(table):
    notes = table[0].attrs["notes"]
    assert any("no data were read" in note for note in notes)
    assert "2 processes at once" in notes[-1]
    assert "GB of memory" in notes[-1]


def test_the_budget_cuts_what_is_planned():
    few, many = (
        plan([(parse_settings("mnli", encoder="tiny", train_rows=rows), ["01_finetune"])], 1)
        for rows in (320, 640)
    )
    assert many.loc["all", "steps"] == 2 * few.loc["all", "steps"] == 2 * 2 * 3 * 10


def test_an_encoder_that_cannot_be_had_is_planned_for_by_its_sizes(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lotterylib.runs.plan import _model

    model, said = _model(parse_settings("mnli", encoder="distilbert-base-uncased"))
    assert (model.config.dim, model.config.n_layers, model.config.num_labels) == (768, 6, 3)
    assert "cannot be had here" in said


def test_a_directory_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(LotteryError, match="not a model directory"):
        plan([(parse_settings("rte", encoder=str(tmp_path)), ["01_finetune"])], 1)


def test_a_machine_multiplies_and_moves():
    machine = measure_machine()
    assert machine.multiplies > 1e9
    assert machine.moves > 1e8


def test_the_command_prints_it_and_leaves_no_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["plan", "rte", "--encoder", "tiny", "--budget", "smoke", "--jobs", "1"]
    assert main([*arguments, "--json", "plan.json"]) == 0
    said = capsys.readouterr().out
    assert "RTE" in said
    assert "1 processes at once" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.json"]
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [row["task"] for row in written["rows"]] == ["RTE", "all"]
    assert written["asked"] == {"encoder": "tiny", "budget": "smoke", "batch_order": "buckets"}
