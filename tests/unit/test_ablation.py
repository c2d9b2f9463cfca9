"""Ablation: the score without a head is that of a model from which the head was taken by hand."""

import dataclasses

import numpy as np
import pytest
import torch

import lotterylib.ablation
from lotterylib.ablation import ablate_heads
from lotterylib.encoder import layers_of
from lotterylib.gates import gated
from lotterylib.scoring import evaluate
from lotterylib.tasks import find_task
from tests.models import KINDS

ROWS = 24


@pytest.fixture(scope="module")
def split(encoded):
    return encoded("similarity", ROWS).subset(range(ROWS))


def test_each_score_is_that_of_the_model_without_the_head(tiny_model, split):
    task = find_task("similarity")
    scores = ablate_heads(tiny_model("similarity", rough=0.2), split, task)
    assert scores.shape == (3, 4)
    for layer, head in ((0, 0), (0, 3), (2, 1)):
        silenced = tiny_model("similarity", rough=0.2)
        with torch.no_grad():  # its columns of W_O
            layers_of(silenced)[layer].output.weight[:, 8 * head : 8 * (head + 1)] = 0
        wanted = evaluate(silenced, split, task).metrics["pearson"]
        assert scores[layer, head] == pytest.approx(wanted, abs=1e-5)
    assert len(np.unique(scores.round(6))) == 12  # every head matters


@pytest.mark.parametrize("family", KINDS)
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


def test_the_model_is_left_as_it_was_and_each_head_is_told(tiny_model, split):
    task, told = find_task("acceptability"), []
    split = dataclasses.replace(split, labels=torch.arange(ROWS) % 2)
    model = tiny_model("acceptability", rough=0.3)
    heads = torch.ones(3, 4)
    heads[2, 3] = 0
    with torch.no_grad(), gated(model, heads, torch.ones(3)):
        # otherwise a random model gives one class only
        inputs, _ = split.batch(range(ROWS), model.device)
        model.classifier.bias -= model(**inputs).logits.mean(0)
    before = evaluate(model, split, task)
    found = ablate_heads(model, split, task, lambda share, found: told.append((share, found)))
    with gated(model, heads, torch.ones(3)):
        assert found[2, 3] == evaluate(model, split, task).metrics["matthews"] != 0
    assert evaluate(model, split, task) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [share for share, _ in told] == pytest.approx(np.arange(1, 13) / 12)
    assert [found.split()[-1] for _, found in told] == [
        f"{layer}.{head}" for layer in (1, 2, 3) for head in (1, 2, 3, 4)
    ]
