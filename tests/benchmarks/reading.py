"""What does an encoder score if the task layer reads the mean of all tokens, not the first one?

    python -m tests.benchmarks.reading mrpc cola --data-dir GLUE

The all-MiniLM encoder was trained to be read by the mean. Scores are on the slice of the training
rows that `lottery rates` uses, with its seeds. All columns but the score, `mean`, are as in
`book/learning_rates.csv`, so that the rows stand beside each other.
"""

from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from lotterylib.finetuning import train
from lotterylib.runs.experiment import open_experiment
from lotterylib.scoring import evaluate
from tests.benchmarks.orders import described, experiment_of, read_options

SEEDS = (1337, 42)


class MeanOfTokens(nn.Module):
    """Stands in for BERT's pooler: the mean over the tokens that are not padding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.mask: torch.Tensor | None = None
        encoder.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        self.mask = kwargs.get("attention_mask")

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """From hidden states [batch, tokens, width] to [batch, width]."""
        assert self.mask is not None, "without a mask, padding would count as tokens"
        mask = self.mask.to(hidden.dtype)[..., None]
        return (hidden * mask).sum(1) / mask.sum(1)


def main() -> None:
    """The command `python -m tests.benchmarks.reading`."""
    options = read_options("reading", "book/reading_mean.csv")
    rows = []
    for task in options.tasks:
        settings = experiment_of(options, task).settings
        slice_ = settings.but(dev_split="train", precision="bfloat16", seeds=SEEDS)
        experiment = open_experiment(slice_)
        for seed in tqdm(SEEDS, desc=task):
            model = experiment.pretrained(seed)
            model.base_model.pooler = MeanOfTokens(model.base_model)
            train(model, experiment.splits[0], experiment.task, experiment.recipe, seed)
            score = evaluate(model, experiment.splits[1], experiment.task)
            rows.append(
                described(experiment)
                | {
                    "precision": experiment.settings.precision,
                    "learning_rate": experiment.recipe.learning_rate,
                    "seed": seed,
                    "metric": experiment.task.metric,
                    "mean": round(score.metrics[experiment.task.metric], 5),
                }
            )
    pd.DataFrame(rows).to_csv(options.csv, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
