"""Baselines: what a search must be compared with."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from lotterylib.baselines import frozen_score, majority_score
from lotterylib.batches import encode
from lotterylib.tasks import find_task

COLA, STSB = find_task("cola"), find_task("stsb")


def test_the_majority_is_that_of_the_training_labels():
    score = majority_score(np.array([0, 1, 1]), np.array([0, 0, 0, 1]), COLA)
    assert score.predictions == (1, 1, 1, 1)
    assert score.metrics["accuracy"] == 0.25
    assert score.constant
    mean = majority_score(np.array([1.0, 2.0, 4.5]), np.array([0.0, 5.0]), STSB)
    assert mean.predictions == (2.5, 2.5)
    assert mean.constant
    assert mean.metrics["pearson"] == 0.0


def letters(task, rows, tokenizer, seed):
    """A split in which the share of one letter decides, whatever the length of the text."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, 30, rows)
    shares = draw.integers(0, 2, rows) if task == "acceptability" else draw.random(rows)
    counts = np.rint(lengths * shares).astype(int)
    texts = ["a" * a + "b" * (n - a) for a, n in zip(counts, lengths, strict=True)]
    if task == "acceptability":
        data = {"sentence": texts, "label": shares.tolist()}
    else:
        data = {"sentence1": texts, "sentence2": texts, "label": (5 * counts / lengths).tolist()}
    return encode(Dataset.from_dict(data), find_task(task), tokenizer)


@pytest.mark.parametrize("name", ["acceptability", "similarity"])
def test_a_linear_layer_solves_what_is_linear(name, tiny_model, tiny_tokenizer):
    task = find_task(name)
    train, dev = (letters(name, rows, tiny_tokenizer, rows) for rows in (60, 30))
    score = frozen_score(tiny_model(name), train, dev, task)
    assert score.metrics[task.metric] > 0.95
    assert score.examples == 30
    assert score.predictions == pytest.approx(dev.labels.tolist(), abs=1.0)  # in their order


def test_the_task_layer_plays_no_part_and_nothing_is_trained(tiny_model, encoded):
    task = find_task("acceptability")
    train, dev = encoded("acceptability", 40, "train"), encoded("acceptability", 20)
    model = tiny_model(rough=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score = frozen_score(model, train, dev, task)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(7.0)
    assert frozen_score(model, train, dev, task) == score


def test_padding_plays_no_part(tiny_model, tiny_tokenizer, monkeypatch):
    train, dev = (letters("similarity", rows, tiny_tokenizer, rows) for rows in (40, 12))
    model, task = tiny_model("similarity", rough=0.1), find_task("similarity")
    together = frozen_score(model, train, dev, task).predictions
    monkeypatch.setattr("lotterylib.baselines.EVALUATION_BATCH", 1)
    alone = frozen_score(model, train, dev, task).predictions
    assert together == pytest.approx(alone, abs=1e-3)


def test_a_batch_is_not_read_in_another_mode(tiny_model, encoded):
    """Asked twice, a frozen encoder answers the same."""
    train, dev = encoded("acceptability", 30, "train"), encoded("acceptability", 10)
    model, task = tiny_model(rough=0.1), find_task("acceptability")
    assert frozen_score(model, train, dev, task) == frozen_score(model, train, dev, task)


@pytest.mark.filterwarnings("ignore")
def test_too_few_of_a_class_is_no_traceback(tiny_model, encoded, tiny_tokenizer):
    """Budgets of a few rows can miss a class; a run must not end in the middle for that."""
    data = {"sentence": ["a", "bb", "ccc", "dddd"], "label": [1, 1, 1, 1]}
    train = encode(Dataset.from_dict(data), find_task("acceptability"), tiny_tokenizer)
    score = frozen_score(
        tiny_model(), train, encoded("acceptability", 6), find_task("acceptability")
    )
    assert score.constant
