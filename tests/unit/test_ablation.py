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


@pytest.mark.parametrize("family", KINDS)
def test_each_score_is_that_of_the_model_without_the_head(
    family, family_model, encoded, monkeypatch
):
    monkeypatch.setattr(lotterylib.ablation, "EVALUATION_BATCH", 10)  # three batches
    split, task = encoded("acceptability", ROWS), find_task("similarity")
    cut = [{"input_ids": f["input_ids"][: 12 + n % 9]} for n, f in enumerate(split.features)]
    split = dataclasses.replace(split, features=cut, labels=split.labels.float())
    scores = ablate_heads(family_model(family, labels=1), split, task)
    assert scores.shape == (3, 4)
    for layer, head in ((0, 1), (1, 0), (2, 3)):
        silenced = family_model(family, labels=1)
        output = layers_of(silenced)[layer].output.weight.data
        output.unflatten(1, (4, -1))[:, head] = 0  # its columns of W_O
        wanted = evaluate(silenced, split, task).metrics["pearson"]
        assert scores[layer, head] == pytest.approx(wanted, abs=1e-5)
    assert len(np.unique(scores.round(6))) == 12  # every head matters


def test_the_model_is_left_as_it_was_and_each_head_is_told(tiny_model, encoded):
    task, told, heads = find_task("acceptability"), [], torch.ones(3, 4)
    split = dataclasses.replace(encoded("similarity", ROWS), labels=torch.arange(ROWS) % 2)
    model = tiny_model("acceptability", rough=0.3)
    heads[2, 3] = 0
    with torch.no_grad(), gated(model, heads, torch.ones(3)):
        # otherwise a random model gives one class only
        inputs, _ = split.batch(range(ROWS), model.device)
        model.classifier.bias -= model(**inputs).logits.mean(0)
        wanted = evaluate(model, split, task).metrics["matthews"]
    before = evaluate(model, split, task)
    found = ablate_heads(model, split, task, lambda *news: told.append(news))
    assert found[2, 3] == wanted != 0
    assert evaluate(model, split, task) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [share for share, _ in told] == pytest.approx(np.arange(1, 13) / 12)
    numbers = [f"{layer}.{head}" for layer in (1, 2, 3) for head in (1, 2, 3, 4)]
    assert [said.split()[-1] for _, said in told] == numbers
