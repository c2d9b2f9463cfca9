"""Ablation: the score without a head is that of a model from which the head was taken by hand."""

import dataclasses

import numpy as np
import pytest
import torch

import lotterylib.ablation
from lotterylib.ablation import ablate_heads
from lotterylib.encoder import ARCHITECTURES, layers_of
from lotterylib.gates import gated, remove
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task

ROWS = 24


@pytest.fixture(scope="module")
def split(encoded):
    return encoded("similarity", ROWS).subset(range(ROWS))


def without(layer, head):
    heads = np.ones((3, 4), dtype=bool)
    heads[layer, head] = False
    return StructuredSubnetwork(heads, np.ones(3, dtype=bool))


def test_each_score_is_that_of_the_model_without_the_head(tiny_model, split):
    task = find_task("similarity")
    scores = ablate_heads(tiny_model("similarity", rough=0.2), split, task)
    assert scores.shape == (3, 4)
    assert scores.dtype == np.float64
    for layer, head in ((0, 0), (0, 3), (1, 2), (2, 1)):
        removed = remove(tiny_model("similarity", rough=0.2), without(layer, head))
        wanted = evaluate(removed, split, task).metrics["pearson"]
        assert scores[layer, head] == pytest.approx(wanted, abs=1e-5)
        silenced = tiny_model("similarity", rough=0.2)
        with torch.no_grad():  # its columns of W_O
            layers_of(silenced)[layer].output.weight[:, 8 * head : 8 * (head + 1)] = 0
        wanted = evaluate(silenced, split, task).metrics["pearson"]
        assert scores[layer, head] == pytest.approx(wanted, abs=1e-5)
    assert len(np.unique(scores.round(6))) == 12  # every head matters


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_family_gives_what_its_gated_models_give(family, family_model, encoded, monkeypatch):
    monkeypatch.setattr(lotterylib.ablation, "EVALUATION_BATCH", 10)  # three batches
    split = encoded("acceptability", ROWS)
    cut = [
        {"input_ids": feature["input_ids"][: 12 + n % 9]}
        for n, feature in enumerate(split.features)
    ]
    split = dataclasses.replace(split, features=cut, labels=split.labels.float())
    task = find_task("similarity")
    model = family_model(family, labels=1)
    scores = ablate_heads(model, split, task)
    for place in ((0, 1), (1, 0), (2, 3)):
        heads = torch.ones(3, 4)
        heads[place] = 0
        with gated(model, heads, torch.ones(3)):
            wanted = evaluate(model, split, task).metrics["pearson"]
        assert scores[place] == pytest.approx(wanted, abs=1e-5)


def test_the_score_is_the_reported_metric(tiny_model, encoded):
    task, split = find_task("acceptability"), encoded("acceptability", ROWS)
    model = tiny_model("acceptability", rough=0.3)
    scores = ablate_heads(model, split, task)
    removed = remove(tiny_model("acceptability", rough=0.3), without(2, 3))
    assert scores[2, 3] == pytest.approx(evaluate(removed, split, task).metrics["matthews"])


def test_the_model_is_left_as_it_was_and_each_head_is_told(tiny_model, split):
    task, told = find_task("similarity"), []
    model = tiny_model("similarity", rough=0.2)
    before = evaluate(model, split, task)
    ablate_heads(model, split, task, lambda share, found: told.append((share, found)))
    assert evaluate(model, split, task) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [share for share, _ in told] == pytest.approx(np.arange(1, 13) / 12)
    assert [found.split()[-1] for _, found in told] == [
        f"{layer}.{head}" for layer in (1, 2, 3) for head in (1, 2, 3, 4)
    ]
