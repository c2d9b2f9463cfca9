"""Layers that leave the padding aside compute what padded ones do."""

import contextlib
import copy

import numpy as np
import pytest
import torch

from lotterylib.encoder import ARCHITECTURES, layers_of
from lotterylib.fast.layers import unpadded
from lotterylib.finetuning import Recipe, train
from lotterylib.gates import remove
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task

PACKED = [family for family in ARCHITECTURES if family != "mpnet"]


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(model, inputs):
    model.zero_grad()
    logits = model(**inputs).logits
    logits.square().sum().backward()
    return logits.detach(), {
        name: value.grad.clone()
        for name, value in model.named_parameters()
        if value.grad is not None
    }


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("removed", [False, True], ids=["whole", "removed"])
def test_logits_and_gradients_are_those_of_padded_batches(
    family, removed, family_model, family_inputs
):
    model = without_dropout(family_model(family, "eager" if family == "mpnet" else "sdpa")).train()
    if removed:
        heads = np.ones((3, 4), dtype=bool)
        heads[0, 1] = heads[1, :] = False
        remove(model, StructuredSubnetwork(heads, np.array([True, False, True])))
    inputs = family_inputs(model)
    before = model.config._attn_implementation
    logits, expected = gradients(model, inputs)
    with unpadded(model):
        found, got = gradients(model, inputs)
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5)
    assert model.config._attn_implementation == before
    torch.testing.assert_close(model(**inputs).logits, logits, rtol=0, atol=0)


@pytest.mark.parametrize("family", PACKED)
def test_dense_layers_see_the_batchs_own_tokens_only(family, family_model, family_inputs):
    model = family_model(family, "sdpa")
    inputs, seen = family_inputs(model), []
    for layer in layers_of(model):
        for dense in (layer.query, layer.output, layer.mlp_in, layer.mlp_out):
            dense.register_forward_hook(
                lambda _module, given, _output: seen.append(given[0].shape[:-1].numel())
            )
    own = int(inputs["attention_mask"].sum())
    with torch.no_grad(), unpadded(model):
        model(**inputs)
    assert set(seen) == {own}
    assert own < inputs["attention_mask"].numel()


def test_a_failure_leaves_the_model_as_it_was(family_model, family_inputs):
    model = family_model("bert", "sdpa")
    inputs = family_inputs(model)
    expected = model(**inputs).logits
    with pytest.raises(ZeroDivisionError), unpadded(model):
        raise ZeroDivisionError
    assert torch.equal(model(**inputs).logits, expected)


def test_training_on_random_batches_makes_the_updates_of_padded_ones(
    tiny_model, encoded, monkeypatch
):
    split, task = encoded("similarity", 24, "train"), find_task("similarity")
    recipe = Recipe(learning_rate=1e-3, epochs=1, batch_size=8, order="random")
    start = without_dropout(tiny_model("similarity"))
    models = [copy.deepcopy(start) for _ in range(2)]
    losses = [train(models[0], split, task, recipe, seed=5)]
    monkeypatch.setattr("lotterylib.finetuning.unpadded", lambda model: contextlib.nullcontext())
    losses.append(train(models[1], split, task, recipe, seed=5))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
