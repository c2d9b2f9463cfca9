"""Do length buckets score otherwise than the paper's random batches? Seed by seed, on real tasks.

    python -m tests.benchmarks.orders cola sst2 --data-dir GLUE --train-rows 3000

Writes a row per task, order and seed as CSV; what the run store has already is not computed again.
"""

import argparse
from pathlib import Path

import pandas as pd

from lotterylib.runs.experiment import Experiment, open_experiment
from lotterylib.runs.jobs import pieces_of
from lotterylib.runs.run import compute_pieces
from lotterylib.runs.settings import parse_settings


def read_options(name: str, csv: str) -> argparse.Namespace:
    """The options of a measurement on real tasks, whose table goes to `csv`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{name}")
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--train-rows", type=int, default=0)
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--store", default="runs")
    parser.add_argument("--csv", type=Path, default=Path(csv))
    return parser.parse_args()


def experiment_of(options: argparse.Namespace, task: str, order: str = "buckets") -> Experiment:
    """The experiment that the options name, with the full budget's seeds and epochs."""
    return open_experiment(
        parse_settings(
            task,
            encoder=options.encoder,
            budget="full",
            train_rows=options.train_rows,
            batch_order=order,
            data_dir=options.data_dir,
            store=options.store,
        )
    )


def described(experiment: Experiment) -> dict[str, object]:
    """The columns of a table that tell of an experiment."""
    return {
        "encoder": experiment.encoder.name,
        "task": experiment.task.name,
        "train_rows": len(experiment.data.train),
        "epochs": experiment.recipe.epochs,
    }


def main() -> None:
    """The command `python -m tests.benchmarks.orders`."""
    options = read_options("orders", "book/batch_orders.csv")
    experiments = [
        experiment_of(options, task, order)
        for task in options.tasks
        for order in ("buckets", "random")
    ]
    if failures := compute_pieces(pieces_of([(each, ("01_finetune",)) for each in experiments])):
        raise SystemExit(failures[0].reason)
    rows = [
        described(each)
        | {
            "order": each.recipe.order,
            "seed": seed,
            "metric": each.task.metric,
            "score": each.full_score(seed).metrics[each.task.metric],
        }
        for each in experiments
        for seed in each.settings.seeds
    ]
    pd.DataFrame(rows).round(5).to_csv(options.csv, index=False, lineterminator="\n")
    print(pd.DataFrame(rows).groupby(["task", "order"])["score"].describe().to_string())


if __name__ == "__main__":
    main()
