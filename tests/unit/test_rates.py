"""Learning rates: what is taken is what the published sweep says."""

from pathlib import Path

import pandas as pd
import pytest

from lotterylib.data.pretrained import LEARNING_RATES
from lotterylib.runs.rates import _row, best_rates, keep
from tests.small import small_experiment

ROOT = Path(__file__).parents[2]


def test_every_rate_in_the_table_is_the_best_of_the_published_sweep():
    sweep = pd.read_csv(ROOT / "book" / "learning_rates.csv")
    best = best_rates(sweep[sweep["epochs"] == 3]).droplevel("epochs")
    taken = {
        (name, task): rate for name, rows in LEARNING_RATES.items() for task, rate in rows.items()
    }
    assert taken == best.to_dict()


def test_of_equal_rates_the_smallest_is_best_and_a_repeated_row_replaces_the_old_one(tmp_path):
    row = {"encoder": "e", "task": "t", "train_rows": 9, "epochs": 3, "precision": "auto"}
    row |= {"seed": 1, "score": 0.5}
    table = pd.DataFrame([row | {"learning_rate": rate} for rate in (2e-4, 1e-4, 5e-5)])
    kept = keep(table, tmp_path / "rates.csv")
    assert best_rates(kept).tolist() == [5e-5]
    better = pd.DataFrame([row | {"learning_rate": 2e-4, "score": 0.75}])
    kept = keep(better, tmp_path / "rates.csv")
    assert len(kept) == 3
    assert best_rates(kept).tolist() == [2e-4]
    assert pd.read_csv(tmp_path / "rates.csv").equals(kept.reset_index(drop=True))


def test_a_row_of_a_sweep_has_the_loss_of_the_last_tenth_of_the_steps(tmp_path, small_runs):
    made = small_experiment(tmp_path)
    made.losses = lambda seed: [float(step) for step in range(100)]
    row = _row(made, 3)
    assert row["loss"] == pytest.approx(94.5)
    assert row["score"] == pytest.approx(made.full_score(3).metrics["matthews"], abs=1e-5)
    assert (row["task"], row["train_rows"], row["slice_rows"]) == ("acceptability", 16, 16)
