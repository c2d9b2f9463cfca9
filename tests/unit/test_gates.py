"""Gates do what the paper's xi and nu do, in every family, and removal does the same."""

import copy

import numpy as np
import pytest
import torch

from lotterylib.encoder import ARCHITECTURES, layers_of, prunable_weights
from lotterylib.errors import LotteryError
from lotterylib.gates import (
    closed_mlps_skipped,
    gate_values,
    gated,
    pruned_weights_frozen,
    remove,
    zero_pruned_weights,
)
from lotterylib.subnetworks import StructuredSubnetwork, WeightSubnetwork
from tests.models import KINDS

LAYERS, HEADS = 3, 4


def drawn(seed, layers=LAYERS, heads=HEADS):
    draw = np.random.default_rng(seed)
    return StructuredSubnetwork(draw.random((layers, heads)) < 0.5, draw.random(layers) < 0.5)


def kept(heads, mlps):
    return StructuredSubnetwork(np.array(heads, dtype=bool), np.array(mlps, dtype=bool))


EVERYTHING = kept(np.ones((LAYERS, HEADS)), [1, 1, 1])
WITH_AN_EMPTY_LAYER = kept([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], [1, 1, 0])
SUBNETWORKS = {
    "random": drawn(1),
    "a layer without heads": WITH_AN_EMPTY_LAYER,
    "the first layer without heads": kept([[0] * 4, [1] * 4, [0, 1, 0, 1]], [1, 0, 1]),
    "nothing": kept(np.zeros((LAYERS, HEADS)), [0, 0, 0]),
}


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits


def gated_logits(model, inputs, heads, mlps):
    with gated(model, heads, mlps):
        return logits(model, inputs)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_closed_gates_equal_removal_with_either_attention(family, family_model, family_inputs):
    eager = family_model(family)
    inputs = family_inputs(eager)
    # transformers implements MPNet's attention once only
    others = [family_model(family, "sdpa")] if family != "mpnet" else []
    for name, subnetwork in SUBNETWORKS.items():
        wanted = gated_logits(eager, inputs, *gate_values(subnetwork))
        assert (wanted - logits(eager, inputs)).abs().max() > 1e-2, name
        for model in (eager, *others):
            found = gated_logits(model, inputs, *gate_values(subnetwork))
            assert torch.allclose(wanted, found, rtol=0, atol=1e-5), name
            found = logits(remove(copy.deepcopy(model), subnetwork), inputs)
            assert torch.allclose(wanted, found, rtol=0, atol=1e-5), name
    plain = logits(eager, inputs)
    assert torch.equal(gated_logits(eager, inputs, *gate_values(EVERYTHING)), plain)
    assert torch.equal(logits(remove(eager, EVERYTHING), inputs), plain)


@pytest.mark.parametrize("family", KINDS)
def test_an_empty_layer_loses_the_bias_of_its_w_o_too_where_told(
    family, family_model, family_inputs
):
    model = family_model(family)
    inputs, gates = family_inputs(model), gate_values(WITH_AN_EMPTY_LAYER)
    kept_bias = gated_logits(model, inputs, *gates)
    reference = copy.deepcopy(model)
    layers_of(reference)[1].output.bias.data.zero_()
    wanted = gated_logits(reference, inputs, *gates)
    found = logits(remove(model, WITH_AN_EMPTY_LAYER, drop_empty_bias=True), inputs)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert (kept_bias - found).abs().max() > 1e-3


@pytest.mark.parametrize("family", KINDS)
def test_gates_and_skipped_mlps_go_with_their_context(family, family_model, family_inputs):
    model = family_model(family)
    inputs, mlps = family_inputs(model), np.array([False, True, False])
    whole = logits(model, inputs)
    closed = gated_logits(model, inputs, torch.ones(LAYERS, HEADS), torch.from_numpy(mlps).float())
    assert torch.equal(logits(model, inputs), whole)
    with closed_mlps_skipped(model, mlps):
        torch.testing.assert_close(logits(model, inputs), closed, rtol=1e-5, atol=1e-6)
    assert torch.equal(logits(model, inputs), whole)
    for context in (closed_mlps_skipped(model, mlps), gated(model, *gate_values(drawn(1)))):
        with pytest.raises(ZeroDivisionError), context:
            raise ZeroDivisionError
        assert torch.equal(logits(model, inputs), whole)


@pytest.mark.parametrize("family", KINDS)
def test_a_gate_scales_what_w_o_and_the_mlp_make_of_it_for_its_example_alone(
    family, family_model, family_inputs
):
    model = family_model(family)
    inputs, draw = family_inputs(model), torch.Generator().manual_seed(3)
    heads = 2 * torch.rand((4, LAYERS, HEADS), generator=draw)
    mlps = 2 * torch.rand((4, LAYERS), generator=draw)
    together = gated_logits(model, inputs, heads, mlps)
    for row in range(4):
        reference = copy.deepcopy(model)
        with torch.no_grad():
            for number, layer in enumerate(layers_of(reference)):
                width = layer.output.in_features // HEADS
                layer.output.weight *= heads[row, number].repeat_interleave(width)
                layer.mlp_out.weight *= mlps[row, number]
                layer.mlp_out.bias *= mlps[row, number]
        own = {name: values[row : row + 1] for name, values in inputs.items()}
        wanted = logits(reference, own)[0]
        assert torch.allclose(together[row], wanted, rtol=0, atol=1e-5)
        alone = gated_logits(model, own, heads[row], mlps[row])[0]
        assert torch.allclose(alone, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("heads", "mlps"),
    [((4, 3), (3,)), ((3, 4), (1,)), ((1, 4), (3,)), ((2, 3, 4), (5, 3)), ((3, 4), ())],
)
def test_gates_of_other_shapes_are_refused(heads, mlps, family_model):
    gates = gated(family_model("bert"), torch.ones(heads), torch.ones(mlps))
    with pytest.raises(LotteryError, match="do not fit a model of 3 layers of 4 heads"), gates:
        pass


def random_mask(model):
    draw = np.random.default_rng(0)
    return WeightSubnetwork(
        {name: draw.random(tuple(p.shape)) < 0.7 for name, p in prunable_weights(model).items()}
    )


def test_zeroing_touches_exactly_the_pruned_weights(family_model):
    model = family_model("bert")
    before = copy.deepcopy(model.state_dict())
    ranked = {id(p): name for name, p in prunable_weights(model).items()}
    subnetwork = random_mask(model)
    assert zero_pruned_weights(model, subnetwork) is model
    for name, parameter in model.named_parameters():
        wanted = before[name]
        if id(parameter) in ranked:
            wanted = wanted * torch.from_numpy(subnetwork.weights[ranked[id(parameter)]])
        assert torch.equal(parameter, wanted)


def test_frozen_weights_get_no_gradient_and_the_others_keep_theirs(family_model, family_inputs):
    model = family_model("bert")
    subnetwork = random_mask(model)
    inputs = family_inputs(model)

    def gradients():
        model.zero_grad()
        model(**inputs).logits.square().sum().backward()
        return {name: p.grad.clone() for name, p in prunable_weights(model).items()}

    free = gradients()
    with pruned_weights_frozen(model, subnetwork):
        masked = gradients()
    for name, mask in subnetwork.weights.items():
        assert torch.equal(masked[name], free[name] * torch.from_numpy(mask))
    assert all(torch.equal(value, free[name]) for name, value in gradients().items())


def test_weights_of_another_model_are_refused_before_anything_changes(family_model):
    model = family_model("bert")
    before = copy.deepcopy(model.state_dict())
    weights = dict(random_mask(model).weights)
    weights["2.query.weight"] = weights["2.query.weight"][:, :-1]
    other = WeightSubnetwork(weights)
    with pytest.raises(LotteryError, match="not those of this model"):
        zero_pruned_weights(model, other)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
