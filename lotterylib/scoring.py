"""Scores: the metrics of GLUE on the dev set, and whether the predictor is constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torch.nn import functional
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.fast import gpu
from lotterylib.fast.cpu import use_onednn
from lotterylib.tasks import Task

EVALUATION_BATCH = 64
"""Examples that are read at once, as in the authors' scripts. Where importance is of batches
(`importance.measure`), they are these."""


@dataclass(frozen=True)
class Score:
    """What a model achieves on a split.

    Attributes:
        metrics: the task's metrics by name, from -1 or 0 to 1.
        constant: whether every prediction is the same; correlations are then 0 by convention.
        predictions: the predicted class codes, or the predicted values, in the order of the split.
    """

    metrics: dict[str, float]
    constant: bool
    predictions: tuple[float, ...]

    @property
    def examples(self) -> int:
        """How many examples were scored."""
        return len(self.predictions)


def score_predictions(
    predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray, task: Task
) -> Score:
    """The metrics of predictions against labels, both [examples].

    Classification: accuracy, F1 of the last class where there are two, Matthews correlation.
    Regression: Pearson, Spearman and their mean, which stopped the authors' searches on STS-B.
    """
    guess, truth = np.asarray(predictions), np.asarray(labels)
    constant = bool(np.all(guess == guess[0]))
    if task.is_regression:
        if constant or np.all(truth == truth[0]):
            metrics = {"pearson": 0.0, "spearman": 0.0}
        else:
            metrics = {
                "pearson": float(pearsonr(guess, truth).statistic),
                "spearman": float(spearmanr(guess, truth).statistic),
            }
        metrics["pearson_spearman"] = (metrics["pearson"] + metrics["spearman"]) / 2
        values = tuple(round(float(value), 5) for value in guess)
        return Score(metrics, constant, values)
    one_class = constant and bool(np.all(truth == guess[0]))
    metrics = {
        "accuracy": float(accuracy_score(truth, guess)),
        # With one class in all it is not defined; of no use to anybody, it counts as none.
        "matthews": 0.0 if one_class else float(matthews_corrcoef(truth, guess)),
    }
    if task.outputs == 2:
        metrics["f1"] = float(f1_score(truth, guess, zero_division=0))
    return Score(metrics, constant, tuple(int(value) for value in guess))


def example_losses(logits: torch.Tensor, labels: torch.Tensor, task: Task) -> torch.Tensor:
    """The loss of each example, float[batch]: cross-entropy, or squared error for regression."""
    if task.is_regression:
        return functional.mse_loss(logits.squeeze(-1), labels, reduction="none")
    return functional.cross_entropy(logits, labels, reduction="none")


def decide(logits: torch.Tensor, task: Task) -> torch.Tensor:
    """Predictions from logits [batch, outputs]: the likeliest class code, or the value itself."""
    return logits.squeeze(-1) if task.is_regression else logits.argmax(-1)


@torch.inference_mode()
def evaluate(model: PreTrainedModel, split: Encoded, task: Task) -> Score:
    """Score a model on a split, dropout off; the model keeps its mode."""
    was_training = model.training
    use_onednn(model.eval())
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    found = []
    with gpu.without_sync(model), gpu.autocast(model):
        for rows in batches:
            inputs, _ = split.batch(rows, model.device)
            found.append(decide(model(**inputs).logits.float(), task))
    model.train(was_training)
    return score_predictions(in_order(found, batches), split.labels.numpy(), task)


def in_order(found: Sequence[torch.Tensor], batches: Sequence[Sequence[int]]) -> np.ndarray:
    """What was found batch by batch, float64 in the order of the rows, fetched at once."""
    values = np.zeros(sum(map(len, batches)))
    values[[row for rows in batches for row in rows]] = torch.cat(list(found)).float().cpu().numpy()
    return values
