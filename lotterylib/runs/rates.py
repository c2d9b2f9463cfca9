"""Learning rates: a sweep whose scores are taken on a slice of the training rows, never on dev.

The slice is not trained on (`data.glue.held_out`), so the best rate can be used for results on dev.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lotterylib.data.files import write_whole
from lotterylib.errors import LotteryError
from lotterylib.runs.experiment import Experiment, open_experiment
from lotterylib.runs.jobs import pieces_of
from lotterylib.runs.run import compute_pieces
from lotterylib.runs.settings import Settings

RATES = (5e-5, 1e-4, 2e-4, 4e-4)
"""What a sweep tries unless told otherwise."""


def sweep(tasks: Sequence[Settings], rates: Sequence[float], jobs: int = 0) -> pd.DataFrame:
    """Fine-tune on all but a slice of the training rows under several rates; score on the slice.

    Returns:
        A row per task, rate and seed of the settings: `encoder`, `task`, `train_rows`,
        `slice_rows`, `epochs`, `precision`, `learning_rate`, `seed`, `metric`, `score`, `constant`
        and `loss`, the mean of the last tenth of the steps.

    Raises:
        LotteryError: a training failed.
    """
    opened = [open_experiment(settings.but(dev_split="train")) for settings in tasks]
    experiments = [
        Experiment(each.settings.but(learning_rate=rate), each.encoder, each.data)
        for each in opened
        for rate in rates
    ]
    wanted = pieces_of([(each, ("01_finetune",)) for each in experiments])
    if failures := compute_pieces(wanted, jobs):
        raise LotteryError(
            f"The sweep lacks {failures[0].name}, which failed: {failures[0].reason}"
        )
    return pd.DataFrame([_row(each, seed) for each in experiments for seed in each.settings.seeds])


def _row(experiment: Experiment, seed: int) -> dict[str, object]:
    score, losses = experiment.full_score(seed), experiment.losses(seed)
    last = losses[-max(1, len(losses) // 10) :]
    return {
        "encoder": experiment.encoder.name,
        "task": experiment.task.name,
        "train_rows": len(experiment.data.train),
        "slice_rows": len(experiment.data.dev),
        "epochs": experiment.recipe.epochs,
        "precision": experiment.settings.precision,
        "learning_rate": experiment.recipe.learning_rate,
        "seed": seed,
        "metric": experiment.task.metric,
        "score": round(score.metrics[experiment.task.metric], 5),
        "constant": score.constant,
        "loss": round(sum(last) / len(last), 5),
    }


def best_rates(table: pd.DataFrame) -> pd.Series:
    """The smallest rate with the highest mean score over seeds, by encoder, task and epochs."""
    by = ["encoder", "task", "epochs"]
    means = table.groupby([*by, "learning_rate"], sort=False)["score"].mean().reset_index()
    means = means.sort_values("learning_rate", kind="stable")
    return means.loc[means.groupby(by, sort=False)["score"].idxmax()].set_index(by)["learning_rate"]


def keep(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write a sweep as CSV, in place of the rows that tried the same before, and return it all."""
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
    what = ["encoder", "task", "train_rows", "epochs", "precision", "learning_rate", "seed"]
    table = table.drop_duplicates(what, keep="last").sort_values(what, kind="stable")
    write_whole(path, table.to_csv(index=False, lineterminator="\n"))
    return table
