"""The parts of an encoder that the paper prunes, in every family."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GPT2Config

from lotterylib.encoder import (
    ARCHITECTURES,
    Shape,
    architecture_of,
    layers_of,
    prunable_weights,
    shape_of,
)
from lotterylib.errors import LotteryError


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_six_dense_modules_are_all_there_is_in_a_layer(family, family_model):
    model = family_model(family)
    for layer in layers_of(model):
        named = {layer.query, layer.key, layer.value, layer.output, layer.mlp_in, layer.mlp_out}
        dense = {m for m in layer.module.modules() if isinstance(m, torch.nn.Linear)}
        assert named == dense
        assert len(named) == 6
        assert (layer.mlp_in.in_features, layer.mlp_in.out_features) == (24, 40)
        assert (layer.mlp_out.in_features, layer.mlp_out.out_features) == (40, 24)
        assert {layer.query, layer.key, layer.value} <= set(layer.attention.modules())


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_sizes_equal_a_count_and_all_but_the_last_biases_are_ranked(family, family_model):
    model = family_model(family)
    shape, ranked = shape_of(model), prunable_weights(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert shape == Shape(layers=3, heads=4, hidden=24, intermediate=40, total=total)
    layers = model.base_model.get_submodule(ARCHITECTURES[family].layers)
    dense = [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]
    inside = {id(p): p.numel() for module in dense for p in module.parameters()}
    assert shape.encoder_parameters == sum(inside.values())
    assert list(ranked)[:2] == ["0.query.weight", "0.query.bias"]
    last = {id(layer.mlp_out.bias) for layer in layers_of(model)}
    assert {id(parameter) for parameter in ranked.values()} == inside.keys() - last
    assert len(ranked) == len(inside) - len(last) == 33


def test_a_family_without_a_row_is_refused():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10, n_positions=8)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(LotteryError, match="Unknown type of model 'gpt2'"):
        architecture_of(model)
