"""Gates do what the paper's xi and nu do, in every family, and removal does the same."""

import copy

import numpy as np
import pytest
import torch

from lotterylib.data.loading import load_model, load_tokenizer
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
from lotterylib.tasks import find_task

LAYERS, HEADS = 3, 4
# transformers implements MPNet's attention once only
WITH_SDPA = [family for family in ARCHITECTURES if family != "mpnet"]


def drawn(seed, layers=LAYERS, heads=HEADS):
    draw = np.random.default_rng(seed)
    return StructuredSubnetwork(draw.random((layers, heads)) < 0.5, draw.random(layers) < 0.5)


def kept(heads, mlps):
    return StructuredSubnetwork(np.array(heads, dtype=bool), np.array(mlps, dtype=bool))


ALL, NONE = np.ones((LAYERS, HEADS)), np.zeros((LAYERS, HEADS))
SUBNETWORKS = {
    "random a": drawn(1),
    "random b": drawn(2),
    "random c": drawn(3),
    "a layer without heads": kept([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], [1, 1, 0]),
    "the first layer without heads": kept([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], [1, 0, 1]),
    "no heads": kept(NONE, [1, 1, 1]),
    "no MLPs": kept(ALL, [0, 0, 0]),
    "nothing": kept(NONE, [0, 0, 0]),
    "everything": kept(ALL, [1, 1, 1]),
}


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits


def gated_logits(model, inputs, heads, mlps):
    with gated(model, heads, mlps):
        return logits(model, inputs)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("subnetwork", SUBNETWORKS.values(), ids=SUBNETWORKS)
def test_closed_gates_equal_removal(family, subnetwork, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    by_gates = gated_logits(model, inputs, *gate_values(subnetwork))
    by_removal = logits(remove(copy.deepcopy(model), subnetwork), inputs)
    assert torch.allclose(by_gates, by_removal, rtol=0, atol=1e-5)
    if not (subnetwork.heads.all() and subnetwork.mlps.all()):
        assert (by_gates - logits(model, inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_an_empty_layer_loses_the_bias_of_its_w_o_too_where_told(
    family, family_model, family_inputs
):
    model = family_model(family)
    inputs, subnetwork = family_inputs(model), SUBNETWORKS["a layer without heads"]
    reference = copy.deepcopy(model)
    with torch.no_grad():
        layers_of(reference)[1].output.bias.zero_()
    wanted = gated_logits(reference, inputs, *gate_values(subnetwork))
    found = logits(remove(model, subnetwork, drop_empty_bias=True), inputs)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    kept_bias = gated_logits(family_model(family), inputs, *gate_values(subnetwork))
    assert (kept_bias - found).abs().max() > 1e-3


@pytest.mark.parametrize("family", WITH_SDPA)
@pytest.mark.parametrize("subnetwork", [drawn(4), SUBNETWORKS["a layer without heads"]])
def test_gates_and_removal_work_with_either_attention(
    family, subnetwork, family_model, family_inputs
):
    eager, sdpa = (family_model(family, implementation) for implementation in ("eager", "sdpa"))
    assert sdpa.config._attn_implementation == "sdpa"
    inputs = family_inputs(eager)
    wanted = gated_logits(eager, inputs, *gate_values(subnetwork))
    assert torch.allclose(
        wanted, gated_logits(sdpa, inputs, *gate_values(subnetwork)), rtol=0, atol=1e-5
    )
    assert torch.allclose(wanted, logits(remove(sdpa, subnetwork), inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_skipped_mlps_are_closed_ones_and_come_back(family, family_model, family_inputs):
    model = family_model(family)
    inputs, mlps = family_inputs(model), np.array([False, True, False])
    whole = model(**inputs).logits
    with gated(model, torch.ones(LAYERS, HEADS), torch.from_numpy(mlps).float()):
        closed = model(**inputs).logits
    with closed_mlps_skipped(model, mlps):
        torch.testing.assert_close(model(**inputs).logits, closed, rtol=1e-5, atol=1e-6)
    assert torch.equal(model(**inputs).logits, whole)
    with pytest.raises(ZeroDivisionError), closed_mlps_skipped(model, mlps):
        raise ZeroDivisionError
    assert torch.equal(model(**inputs).logits, whole)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_gate_scales_what_w_o_and_the_mlp_make_of_it(family, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    draw = torch.Generator().manual_seed(3)
    heads = 2 * torch.rand((LAYERS, HEADS), generator=draw)
    mlps = 2 * torch.rand(LAYERS, generator=draw)
    reference = copy.deepcopy(model)
    with torch.no_grad():
        for number, layer in enumerate(layers_of(reference)):
            width = layer.output.in_features // HEADS
            for head in range(HEADS):
                layer.output.weight[:, head * width : (head + 1) * width] *= heads[number, head]
            layer.mlp_out.weight *= mlps[number]
            layer.mlp_out.bias *= mlps[number]
    wanted = logits(reference, inputs)
    assert torch.allclose(gated_logits(model, inputs, heads, mlps), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_open_gates_change_nothing_at_all(family, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    everything = SUBNETWORKS["everything"]
    plain = logits(model, inputs)
    assert torch.equal(gated_logits(model, inputs, *gate_values(everything)), plain)
    assert torch.equal(logits(remove(model, everything), inputs), plain)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_gate_per_example_acts_on_its_example_alone(family, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    draw = torch.Generator().manual_seed(5)
    heads = torch.rand((4, LAYERS, HEADS), generator=draw)
    mlps = torch.rand((4, LAYERS), generator=draw)
    together = gated_logits(model, inputs, heads, mlps)
    for row in range(4):
        own = {name: values[row : row + 1] for name, values in inputs.items()}
        alone = gated_logits(model, own, heads[row], mlps[row])
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_hooks_go_with_the_context(family, family_model, family_inputs):
    model = family_model(family)
    inputs = family_inputs(model)
    before, plain = hooks(model), logits(model, inputs)
    with gated(model, *gate_values(drawn(1))):
        assert hooks(model) == before + 2 * LAYERS
    assert hooks(model) == before
    with pytest.raises(ZeroDivisionError), gated(model, *gate_values(drawn(1))):
        raise ZeroDivisionError
    assert hooks(model) == before
    assert torch.equal(logits(model, inputs), plain)


@pytest.mark.parametrize(
    ("heads", "mlps"),
    [
        ((LAYERS, HEADS + 1), (LAYERS,)),
        ((LAYERS + 1, HEADS), (LAYERS + 1,)),
        ((HEADS, LAYERS), (LAYERS,)),
        ((LAYERS, HEADS), (LAYERS - 1,)),
        ((LAYERS, HEADS), (1,)),
        ((1, HEADS), (LAYERS,)),
        ((LAYERS * HEADS,), (LAYERS,)),
        ((2, LAYERS, HEADS - 1), (2, LAYERS)),
        ((2, LAYERS, HEADS), (5, LAYERS)),
        ((LAYERS, HEADS), ()),
    ],
)
def test_gates_of_other_shapes_are_refused(heads, mlps, family_model):
    model = family_model("bert")
    before = hooks(model)
    with (
        pytest.raises(LotteryError, match="do not fit a model of 3 layers of 4 heads"),
        gated(model, torch.ones(heads), torch.ones(mlps)),
    ):
        pass
    assert hooks(model) == before


@pytest.mark.parametrize("subnetwork", [drawn(1, LAYERS, HEADS + 1), drawn(1, LAYERS - 1, HEADS)])
def test_removal_of_another_shape_is_refused_and_removes_nothing(
    subnetwork, family_model, family_inputs
):
    model = family_model("bert")
    inputs = family_inputs(model)
    plain = logits(model, inputs)
    with pytest.raises(LotteryError, match="does not fit"):
        remove(model, subnetwork)
    assert torch.equal(logits(model, inputs), plain)


def test_gate_values_are_the_subnetwork_as_numbers():
    subnetwork = drawn(7)
    heads, mlps = gate_values(subnetwork)
    assert heads.dtype == mlps.dtype == torch.float32
    assert np.array_equal(heads.numpy(), subnetwork.heads.astype(np.float32))
    assert np.array_equal(mlps.numpy(), subnetwork.mlps.astype(np.float32))


def random_mask(model, seed=0):
    draw = np.random.default_rng(seed)
    return WeightSubnetwork(
        {name: draw.random(tuple(p.shape)) < 0.7 for name, p in prunable_weights(model).items()}
    )


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_zeroing_touches_exactly_the_pruned_weights(family, family_model):
    model = family_model(family)
    before = copy.deepcopy(model.state_dict())
    ranked = {id(p): name for name, p in prunable_weights(model).items()}
    subnetwork = random_mask(model)
    assert zero_pruned_weights(model, subnetwork) is model
    for name, parameter in model.named_parameters():
        wanted = before[name]
        if id(parameter) in ranked:
            wanted = wanted * torch.from_numpy(subnetwork.weights[ranked[id(parameter)]])
        assert torch.equal(parameter, wanted)
    again = copy.deepcopy(model.state_dict())
    zero_pruned_weights(model, subnetwork)
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


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


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_weights_of_another_model_are_refused(damage, family_model):
    model = family_model("bert")
    weights = dict(random_mask(model).weights)
    if damage == "missing":
        del weights["0.query.bias"]
    elif damage == "extra":
        weights["3.query.bias"] = weights["0.query.bias"]
    else:
        weights["0.query.weight"] = weights["0.query.weight"][:, :-1]
    with pytest.raises(LotteryError, match="not those of this model"):
        zero_pruned_weights(model, WeightSubnetwork(weights))
    with (
        pytest.raises(LotteryError, match="not those of this model"),
        pruned_weights_frozen(model, WeightSubnetwork(weights)),
    ):
        pass


def test_gates_equal_removal_in_real_weights(minilm):
    task = find_task("entailment")
    model = load_model(minilm, task, seed=0)
    inputs = load_tokenizer(minilm)(
        ["The pilot that the judge saw slept.", "No one came."],
        ["The judge slept.", "Somebody came to the old house by the river."],
        padding=True,
        return_tensors="pt",
    )
    heads = np.random.default_rng(0).random((6, 12)) < 0.6
    heads[2] = False
    subnetwork = StructuredSubnetwork(heads, np.array([1, 1, 0, 1, 0, 1], dtype=bool))
    plain = logits(model, inputs)
    by_gates = gated_logits(model, inputs, *gate_values(subnetwork))
    assert (by_gates - plain).abs().max() > 1e-3
    assert torch.allclose(by_gates, logits(remove(model, subnetwork), inputs), rtol=0, atol=1e-5)
