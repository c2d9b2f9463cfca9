"""How far a run has come: what the store says, at any moment."""

import pytest

from lotterylib.cli import main
from lotterylib.errors import LotteryError
from lotterylib.finetuning import silent
from lotterylib.runs import pattern_counts
from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.jobs import Cell, cells_of, compute, key_of
from lotterylib.runs.settings import parse_settings
from lotterylib.runs.status import seconds_left, states_of, table_of

PAGES = ("04_subnetworks",)


@pytest.fixture
def made(tmp_path):
    return open_experiment(
        parse_settings(
            "acceptability",
            encoder="tiny",
            budget="smoke",
            train_rows=16,
            dev_rows=16,
            seeds=[3, 1],
            store=str(tmp_path),
        )
    )


def counts(made):
    states = [state.state for state in states_of([(made, PAGES)])]
    return {name: states.count(name) for name in ("done", "running", "failed", "missing")}


def test_every_cell_is_in_one_state(made):
    cells = list(cells_of(made.settings, PAGES))
    assert counts(made) == {"done": 0, "running": 0, "failed": 0, "missing": len(cells)}
    compute(made, Cell("finetune", 3), silent)
    compute(made, Cell("search", 3, "magnitude"), silent)
    made.store.record_failure(key_of(made, Cell("search", 3, "structured")), LotteryError("No."))
    with made.store._claimed(key_of(made, Cell("finetune", 1))):
        found = counts(made)
    assert found == {"done": 2, "running": 1, "failed": 1, "missing": len(cells) - 4}
    assert counts(made)["running"] == 0
    (failed,) = [state for state in states_of([(made, PAGES)]) if state.state == "failed"]
    assert (failed.seed, failed.cell.label, failed.reason) == (3, "search structured", "No.")


def test_the_table_counts_what_is_done(made):
    compute(made, Cell("pruned", 3, "magnitude", "good"), silent)
    table = table_of(states_of([(made, PAGES)]))
    assert list(table.index) == [
        ("Acceptability (generated)", name) for name in ("baselines", "3", "1")
    ]
    row = table.loc[("Acceptability (generated)", "3")]
    assert row[["full model", "searches", "scores"]].tolist() == ["1/1", "1/2", "1/12"]
    assert row[["running", "failed", "missing"]].tolist() == [0, 0, 12]
    assert table["baselines"].tolist() == ["0/1", "", ""]


def test_time_left_goes_by_what_was_done(made):
    states = states_of([(made, PAGES)])
    assert seconds_left(states, 1) is None
    compute(made, Cell("finetune", 3), silent)
    before = seconds_left(states_of([(made, PAGES)]), 1)
    assert before > 0
    assert seconds_left(states_of([(made, PAGES)]), 2) == pytest.approx(before / 2)
    for cell in cells_of(made.settings, PAGES):
        compute(made, cell, silent)
    assert seconds_left(states_of([(made, PAGES)]), 1) == 0


def test_the_exit_status_tells(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pattern_counts, "classifier", lambda store: None)
    monkeypatch.setattr(pattern_counts, "classify_by_cnn", lambda cnn, maps: [0] * len(maps))
    request = ["acceptability", "--encoder", "tiny", "--budget", "smoke", "--seeds", "7"]
    request += ["--train-rows", "16", "--dev-rows", "16", "--store", str(tmp_path), "--no-pages"]
    assert main(["status", *request]) == 3
    assert "0 of 23 cells are done. What is left would be a guess" in capsys.readouterr().out
    bad = [*request, "--learning-rate", "1e30", "--epochs", "2"]
    assert main(["run", *bad]) == 1
    said = capsys.readouterr().err
    assert "1 failed; 19 cells that need them were left out" in said
    assert main(["status", *bad]) == 1
    assert "finetune failed: The loss on Acceptability" in capsys.readouterr().out
    assert main(["run", *request]) == 0
    assert main(["status", *request]) == 0
    assert "Nothing is left to compute." in capsys.readouterr().out
