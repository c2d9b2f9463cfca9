"""Export: pruned models leave as plain transformers models that read back with equal logits."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import AutoModelForSequenceClassification

from lotterylib.encoder import prunable_weights
from lotterylib.errors import LotteryError
from lotterylib.export import export
from lotterylib.fast.cpu import use_onednn
from lotterylib.gates import gate_values, gated, remove, zero_pruned_weights
from lotterylib.subnetworks import StructuredSubnetwork, WeightSubnetwork
from tests.models import KINDS

LAYERS, HEADS = 3, 4
subnetworks = st.builds(
    StructuredSubnetwork, arrays.arrays(bool, (LAYERS, HEADS)), arrays.arrays(bool, (LAYERS,))
)


@torch.no_grad()
def logits(model, inputs):
    return model.eval()(**inputs).logits


def reread(model, folder):
    model.save_pretrained(folder)
    again, told = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return again


def close(one, other):
    return torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", KINDS)
@settings(max_examples=8, deadline=None)
@given(subnetwork=subnetworks)
def test_any_structure_reads_back_with_equal_logits(
    family, subnetwork, family_model, family_inputs, tmp_path_factory
):
    model = family_model(family)
    inputs, before = family_inputs(model), copy.deepcopy(model.state_dict())
    with gated(model, *gate_values(subnetwork)):
        wanted = logits(model, inputs)
    from_whole = export(model, subnetwork)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    removed = remove(copy.deepcopy(model), subnetwork)
    from_removed = export(removed, subnetwork)
    assert close(logits(removed, inputs), wanted)
    for exported in (from_whole, from_removed):
        exported.set_attn_implementation("eager")
        found = logits(exported, inputs)
        assert close(found, wanted)
        again = reread(exported, tmp_path_factory.mktemp("exported"))
        assert torch.equal(logits(again, inputs), found)


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("drop_empty_bias", [False, True])
def test_what_was_trained_after_removal_is_what_leaves(
    family, drop_empty_bias, family_model, family_inputs, tmp_path
):
    heads = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    subnetwork = StructuredSubnetwork(heads, np.array([True, True, False]))
    model = remove(family_model(family), subnetwork, drop_empty_bias)
    use_onednn(model)  # as `train` does
    inputs = family_inputs(model)
    before = logits(model, inputs)
    model(**inputs).logits.square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.05).step()
    after = logits(model, inputs)
    assert not close(before, after)
    exported = export(model, subnetwork)
    dense = {type(module) for module in exported.modules() if hasattr(module, "in_features")}
    assert dense == {torch.nn.Linear}
    assert close(logits(reread(exported, tmp_path), inputs), after)


def test_zeroed_weights_read_back_with_equal_logits(family_model, family_inputs, tmp_path):
    model, draw = family_model("bert"), np.random.default_rng(0)
    mask = WeightSubnetwork(
        {name: draw.random(tuple(p.shape)) < 0.7 for name, p in prunable_weights(model).items()}
    )
    inputs, whole = family_inputs(model), logits(model, family_inputs(model))
    exported = reread(export(model, mask), tmp_path)
    assert torch.equal(logits(model, inputs), whole)
    wanted = logits(zero_pruned_weights(model, mask), inputs)
    assert torch.equal(logits(exported, inputs), wanted)
    assert not close(wanted, whole)


def test_a_subnetwork_of_another_shape_is_refused(family_model):
    other = StructuredSubnetwork(np.ones((LAYERS, HEADS + 1), bool), np.ones(LAYERS, bool))
    with pytest.raises(LotteryError, match=r"shape \(3, 5\) does not fit a model of 3 layers of 4"):
        export(family_model("bert"), other)
