"""Presets say how, budgets say how much."""

from dataclasses import asdict

import pytest

from lotterylib.errors import LotteryError
from lotterylib.presets import BUDGETS, PAPER_SEEDS, PRESETS, find_budget, find_preset


def test_paper_and_official_differ_exactly_where_they_should():
    paper, official = asdict(PRESETS["paper"]), asdict(PRESETS["official"])
    differing = {name for name in paper if paper[name] != official[name]}
    assert differing == {
        "name",
        "importance",
        "stale_importance",
        "magnitude_step",
        "random_structured",
        "bad_magnitude",
        "stop_metric",
    }
    assert paper["threshold"] == official["threshold"] == 0.9
    assert paper["heads_step"] == official["heads_step"] == 0.1
    assert (paper["magnitude_step"], official["magnitude_step"]) == (0.1, 0.05)


def test_budgets_grow_and_the_full_one_is_the_papers():
    smoke, laptop, full = (BUDGETS[name] for name in ("smoke", "laptop", "full"))
    assert 0 < smoke.train_rows < laptop.train_rows
    assert 0 < smoke.dev_rows < laptop.dev_rows
    assert (full.train_rows, full.dev_rows, full.epochs) == (0, 0, 3)
    assert full.seeds == PAPER_SEEDS
    assert len(set(PAPER_SEEDS)) == 5
    for budget in BUDGETS.values():
        assert budget.seeds == PAPER_SEEDS[: len(budget.seeds)] != ()


@pytest.mark.parametrize("table", [PRESETS, BUDGETS])
def test_rows_are_keyed_by_their_names(table):
    assert all(name == row.name for name, row in table.items())


@pytest.mark.parametrize(
    ("find", "given", "meant"),
    [(find_preset, "offical", "official"), (find_budget, "labtop", "laptop")],
)
def test_the_nearest_name_is_suggested(find, given, meant):
    assert find(meant).name == meant
    with pytest.raises(LotteryError, match=f"Did you mean '{meant}'"):
        find(given)
