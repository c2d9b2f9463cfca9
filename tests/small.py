"""An experiment so small that a test can compute all of it."""

import dataclasses

from lotterylib.experiment import open_experiment
from lotterylib.settings import parse_settings


def small_experiment(root, **changes):
    """An experiment on few rows with the tiny encoder, whose magnitude search is short."""
    values = {
        "task": "acceptability",
        "encoder": "tiny",
        "budget": "smoke",
        "seeds": [3],
        "train_rows": 16,
        "dev_rows": 16,
        "epochs": 1,
        "store": str(root),
    }
    made = open_experiment(parse_settings(**(values | changes)))
    made.preset = dataclasses.replace(made.preset, magnitude_max_steps=8)
    return made
