"""Baselines: what a score is worth that was reached without fine-tuning the encoder."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.scoring import EVALUATION_BATCH, Score, score_predictions
from lotterylib.tasks import Task

_STRENGTHS = np.logspace(-4, 2, 7)


def majority_score(train_labels: np.ndarray, dev_labels: np.ndarray, task: Task) -> Score:
    """The score of always giving the commonest training label (regression: the mean label)."""
    if task.is_regression:
        guess = float(np.mean(train_labels))
    else:
        guess = int(np.bincount(train_labels.astype(int)).argmax())
    return score_predictions(np.full(len(dev_labels), guess), dev_labels, task)


def frozen_score(model: PreTrainedModel, train: Encoded, dev: Encoded, task: Task) -> Score:
    """The score of a linear layer on the frozen pre-trained encoder.

    The layer reads the last hidden state of the first token beside the mean over tokens, both
    standardised. Its regularisation is chosen by cross-validation on the training split: for
    classes by the task's metric, for numbers by squared error.

    Args:
        model: the pre-trained encoder; its task layer is not used.
        train: what the linear layer is fitted to.
        dev: what it is scored on.
        task: classification (logistic regression) or regression (ridge).
    """
    features, labels = _features(model, train), train.labels.numpy()
    if len(np.unique(labels)) < 2:  # nothing to separate
        return majority_score(labels, dev.labels.numpy(), task)
    if task.is_regression:
        linear = RidgeCV(alphas=1 / _STRENGTHS)
    else:
        logistic = LogisticRegression(max_iter=300)
        # Accuracy would choose the commonest label on an unbalanced task scored by correlation.
        metric = {"matthews": "matthews_corrcoef"}.get(task.metric, task.metric)
        linear = GridSearchCV(logistic, {"C": _STRENGTHS[:5]}, cv=3, scoring=metric)
    fitted = make_pipeline(StandardScaler(), linear).fit(features, labels)
    return score_predictions(fitted.predict(_features(model, dev)), dev.labels.numpy(), task)


@torch.inference_mode()
def _features(model: PreTrainedModel, split: Encoded) -> np.ndarray:
    model.eval()
    rows_of: list[np.ndarray | None] = [None] * len(split)
    for rows in reading_batches(split.lengths, EVALUATION_BATCH):
        inputs, _ = split.batch(rows, model.device)
        hidden = model.base_model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        both = torch.cat([hidden[:, 0], mean], dim=1).float().cpu().numpy()
        for row, values in zip(rows, both, strict=True):
            rows_of[row] = values
    return np.stack(rows_of)  # type: ignore[arg-type]
