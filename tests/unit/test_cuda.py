"""On a GPU every stage gives what it gives on a CPU, up to rounding."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lotterylib.attention import maps_of
from lotterylib.encoder import shape_of
from lotterylib.finetuning import Recipe, train
from lotterylib.gates import remove
from lotterylib.importance import measure
from lotterylib.scoring import evaluate
from lotterylib.subnetworks import full_subnetwork
from lotterylib.tasks import find_task
from tests.small import half_of_the_weights, some_structure

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

TASK = find_task("similarity")


@pytest.fixture
def pair(tiny_model):
    """The same model on both devices; it has no dropout, whose masks differ."""
    model = tiny_model("similarity", dropout=False)
    return model, copy.deepcopy(model).cuda()


def test_scores(pair, encoded):
    split = encoded("similarity", 64)
    here, there = (evaluate(model, split, TASK).predictions for model in pair)
    np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.parametrize("accumulation", ["example", "batch", "cumulative"])
def test_importance(accumulation, pair, encoded):
    split, full = encoded("similarity", 96), full_subnetwork(shape_of(pair[0]))
    (here, _), (there, _) = (measure(model, split, TASK, full, accumulation) for model in pair)
    np.testing.assert_allclose(there.heads, here.heads, rtol=1e-2, atol=1e-6)
    assert spearmanr(there.heads.ravel(), here.heads.ravel()).statistic > 0.99


def test_attention_maps(pair, encoded):
    split = encoded("similarity", 8)
    here, there = (maps_of(model, split, range(8), norm_weighted=True) for model in pair)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-3)


@pytest.mark.parametrize("order", ["buckets", "random"])
@pytest.mark.parametrize("method", ["full", "structured", "magnitude"])
def test_training(method, order, pair, encoded):
    split, weights = encoded("similarity", 64, "train"), None
    if method == "structured":
        for model in pair:
            remove(model, some_structure())
    if method == "magnitude":
        weights = half_of_the_weights(pair[0])
    recipe = Recipe(1e-4, epochs=1, batch_size=16, order=order)
    here, there = (train(model, split, TASK, recipe, 0, weights) for model in pair)
    np.testing.assert_allclose(there, here, rtol=1e-2)
    for one, other in zip(*(model.parameters() for model in pair), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-3)
        assert other.is_cuda


def test_steps_wait_for_nothing(pair, encoded):
    model, split = pair[1], encoded("similarity", 96, "train")
    recipe = Recipe(1e-4, epochs=2, batch_size=16)
    train(model, split, TASK, recipe, 0)
    plain, clip = torch.Tensor.tolist, torch.nn.utils.clip_grad_norm_

    def from_the_first_step(*given):
        norm = clip(*given)
        torch.cuda.set_sync_debug_mode("error")
        return norm

    def to_the_look_at_the_end(tensor):
        torch.cuda.set_sync_debug_mode("default")
        return plain(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", from_the_first_step)
        patch.setattr(torch.Tensor, "tolist", to_the_look_at_the_end)
        try:
            train(model, split, TASK, recipe, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
