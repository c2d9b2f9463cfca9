"""Attention maps are the model's own, and their norm weighting is that of Kobayashi et al."""

import copy

import numpy as np
import pytest
import torch

from lotterylib.attention import attention_maps, maps_of
from lotterylib.encoder import layers_of
from lotterylib.gates import gate_values, gated, remove
from lotterylib.subnetworks import StructuredSubnetwork
from tests.models import KINDS

LAYERS, HEADS, HIDDEN = 3, 4, 24
every_family = pytest.mark.parametrize("family", KINDS)


def inside(inputs):
    """[batch, 1, 1, length, length]: whether both tokens are the example's own."""
    own = inputs["attention_mask"].bool()
    return (own[:, :, None] & own[:, None, :])[:, None, None]


@torch.no_grad()
def reference(model, inputs, slices="columns"):
    """Raw alpha[b,l,h,i,j] and f(x)[b,l,h,j,hidden], from transformers' own outputs.

    It runs a copy, because transformers leaves hooks behind.
    """
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    heads = model.config.num_attention_heads
    transformed = []
    for layer, entering in zip(layers_of(model), outputs.hidden_states, strict=False):
        width = layer.output.in_features // heads
        per_head = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            value = entering @ layer.value.weight[part].T + layer.value.bias[part]
            weight = layer.output.weight
            per_head.append(value @ (weight[:, part].T if slices == "columns" else weight[part]))
        transformed.append(torch.stack(per_head, 1))
    return torch.stack(outputs.attentions, 1), torch.stack(transformed, 1)


def slow_norms(alpha, transformed):
    """||alpha f(x)|| with every vector written out."""
    return (alpha.unsqueeze(-1) * transformed.unsqueeze(-3)).norm(dim=-1)


@every_family
def test_raw_maps_are_those_of_transformers(family, family_model, family_inputs):
    model = family_model(family, "eager" if family == "mpnet" else "sdpa")
    inputs = family_inputs(model)
    maps = attention_maps(model, inputs)
    assert maps.shape == (4, LAYERS, HEADS, 11, 11)
    assert (maps.dtype, maps.requires_grad) == (torch.float32, False)
    assert torch.equal(maps, reference(model, inputs)[0] * inside(inputs))


@every_family
@pytest.mark.parametrize("norm_weighted", [False, True])
def test_padding_changes_nothing(family, norm_weighted, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    padded = attention_maps(model, inputs, norm_weighted)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        own = {name: values[row : row + 1, :length] for name, values in inputs.items()}
        alone = attention_maps(model, own, norm_weighted)[0]
        assert torch.allclose(padded[row, ..., :length, :length], alone, rtol=1e-4, atol=1e-5)


@every_family
@pytest.mark.parametrize("slices", ["columns", "rows"])
def test_norm_weighted_maps_equal_the_norms_of_the_written_out_vectors(
    family, slices, family_model, family_inputs
):
    model = family_model(family)
    inputs = family_inputs(model)
    maps = attention_maps(model, inputs, norm_weighted=True, slices=slices)
    wanted = slow_norms(*reference(model, inputs, slices)) * inside(inputs)
    assert torch.allclose(maps, wanted, rtol=2e-6, atol=1e-6)
    other = {"columns": "rows", "rows": "columns"}[slices]
    assert (maps - attention_maps(model, inputs, True, other)).abs().max() > 0.1


@pytest.mark.parametrize(("family", "implementation"), [("bert", "sdpa"), ("mpnet", "eager")])
def test_the_model_is_left_as_it_was(family, implementation, family_model, family_inputs):
    model = family_model(family, implementation).train()
    inputs, state = family_inputs(model), copy.deepcopy(model.state_dict())
    first = attention_maps(model, inputs, norm_weighted=True)
    assert torch.equal(attention_maps(model, inputs, norm_weighted=True), first)  # no dropout
    with pytest.raises(IndexError):
        attention_maps(model, inputs | {"input_ids": inputs["input_ids"] + 10_000})
    assert model.config._attn_implementation == implementation
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@every_family
def test_maps_in_a_subnetwork_are_those_of_the_smaller_model(family, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    heads = np.random.default_rng(2).random((LAYERS, HEADS)) < 0.5
    chosen = StructuredSubnetwork(heads, np.array([True, False, True]))
    with gated(model, *gate_values(chosen)):
        maps = attention_maps(model, inputs)
    smaller = remove(copy.deepcopy(model), chosen)
    smaller.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = smaller(**inputs, output_attentions=True).attentions
    for layer, alpha in enumerate(attentions):
        kept = maps[:, layer, chosen.heads[layer]]
        assert torch.allclose(kept, alpha * inside(inputs)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm_weighted", [False, True])
def test_maps_of_gives_each_example_in_the_order_of_the_rows(norm_weighted, tiny_model, encoded):
    model, split = tiny_model("entailment", rough=0.2), encoded("entailment", 60)
    rows = np.random.default_rng(0).permutation(60)[:40].tolist()  # more than two batches
    rows[1] = rows[0]
    assert maps_of(model, split, []) == []
    assert len({split.lengths[row] for row in rows}) > 5
    together = maps_of(model, split, rows, norm_weighted)
    for row, maps in list(zip(rows, together, strict=True))[::4]:
        assert maps.shape == (3, 4, split.lengths[row], split.lengths[row])
        assert maps.dtype == np.float32
        (alone,) = maps_of(model, split, [row], norm_weighted)
        np.testing.assert_allclose(maps, alone, rtol=1e-3, atol=1e-5)
        inputs, _ = split.batch([row], model.device)
        np.testing.assert_array_equal(alone, attention_maps(model, inputs, norm_weighted)[0])


@pytest.mark.parametrize(("task", "paired"), [("entailment", True), ("acceptability", False)])
def test_token_types_matter_for_pairs_alone(task, paired, tiny_model, encoded):
    model, split = tiny_model(task, rough=0.2), encoded(task, 4)
    (kept,), (dropped,) = (maps_of(model, split, [2], token_types=given) for given in (True, False))
    assert (np.abs(kept - dropped).max() > 1e-2) == paired
    inputs, _ = split.batch([2], model.device)
    inputs["token_type_ids"] = torch.zeros_like(inputs["token_type_ids"])
    np.testing.assert_array_equal(dropped, attention_maps(model, inputs)[0])
