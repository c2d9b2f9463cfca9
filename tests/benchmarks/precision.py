"""Does half precision score otherwise than float32? Seed by seed, on real tasks.

    python -m tests.benchmarks.precision cola sst2 --data-dir GLUE --train-rows 3000

Trains in float32 and as a GPU would (`fast.gpu`), in bfloat16, which a CPU can do as well.
Writes a row per task and seed: both scores, and how alike both rank heads and MLPs in one model.
"""

from unittest.mock import patch

import pandas as pd
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

from lotterylib.fast import gpu
from lotterylib.finetuning import train
from lotterylib.importance import measure
from lotterylib.runs.experiment import Experiment
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import full_subnetwork
from tests.benchmarks.orders import described, experiment_of, read_options


def main() -> None:
    """The command `python -m tests.benchmarks.precision`."""
    options = read_options("precision", "book/precision.csv")
    rows = []
    for task in options.tasks:
        experiment = experiment_of(options, task)
        rows += [_compare(experiment, s) for s in tqdm(experiment.settings.seeds, desc=task)]
    table = pd.DataFrame(rows).round(5)
    table.to_csv(options.csv, index=False, lineterminator="\n")
    print(table.to_string())


def _compare(experiment: Experiment, seed: int) -> dict[str, object]:
    task, metric = experiment.task, experiment.task.metric
    train_split, dev_split = experiment.splits
    plain = experiment.full_score(seed).metrics[metric]
    model, full = experiment.finetuned(seed), full_subnetwork(experiment.shape)
    one, _ = measure(model, dev_split, task, full)
    with patch.object(gpu, "half_of", lambda model: torch.bfloat16):
        other, _ = measure(model, dev_split, task, full)
        trained = experiment.pretrained(seed)
        train(trained, train_split, task, experiment.recipe, seed)
        half = evaluate(trained, dev_split, task).metrics[metric]
    return described(experiment) | {
        "seed": seed,
        "metric": metric,
        "float32": plain,
        "bfloat16": half,
        "heads": spearmanr(one.heads.ravel(), other.heads.ravel()).statistic,
        "mlps": spearmanr(one.mlps, other.mlps).statistic,
    }


if __name__ == "__main__":
    main()
