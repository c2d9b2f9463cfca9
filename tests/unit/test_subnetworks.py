"""Subnetworks as values: checks, sizes, samples of one size, and files."""

import copy
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from lotterylib.encoder import ARCHITECTURES, Shape, layers_of, prunable_weights, shape_of
from lotterylib.errors import LotteryError
from lotterylib.gates import remove
from lotterylib.runs.store import load_subnetwork, save_subnetwork
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    WeightSubnetwork,
    bad_like,
    full_subnetwork,
    head_and_mlp_survival,
    random_like,
)
from tests.models import KINDS

BERT_BASE = Shape(layers=12, heads=12, hidden=768, intermediate=3072, total=109_483_778)


def structured(seed=0, layers=6, heads=12, share=0.5):
    draw = np.random.default_rng(seed)
    return StructuredSubnetwork(draw.random((layers, heads)) < share, draw.random(layers) < share)


def weights(seed=0, share=0.5):
    draw = np.random.default_rng(seed)
    shapes = {"0.query.weight": (7, 5), "0.query.bias": (3,), "0.mlp_in.weight": (4, 9)}
    shapes |= {"1.query.weight": (7, 5), "10.query.weight": (1, 1), "2.query.weight": (2, 8)}
    return WeightSubnetwork({name: draw.random(shape) < share for name, shape in shapes.items()})


structured_values = st.tuples(arrays(bool, (3, 4)), arrays(bool, 3)).map(
    lambda pair: StructuredSubnetwork(*pair)
)
weight_values = st.tuples(arrays(bool, (3, 5)), arrays(bool, 7), arrays(bool, (2, 2))).map(
    lambda three: WeightSubnetwork(
        dict(zip(("0.query.weight", "0.query.bias", "1.query.weight"), three, strict=True))
    )
)
any_values = structured_values | weight_values


def flat(subnetwork):
    """The parts whose sizes are matched one by one, each as one long array."""
    if isinstance(subnetwork, StructuredSubnetwork):
        return [subnetwork.heads.ravel(), subnetwork.mlps]
    return [np.concatenate([kept.ravel() for kept in subnetwork.weights.values()])]


# --- what is refused ---------------------------------------------------------

BOOLEAN = {"heads": np.ones((3, 4), dtype=bool), "mlps": np.ones(3, dtype=bool)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": np.ones((3, 4))}, "heads must be an array of booleans"),
        ({"heads": torch.ones(3, 4, dtype=torch.bool)}, "heads must be an array of booleans"),
        ({"heads": np.ones(4, dtype=bool)}, "heads must have 2 dimensions"),
        ({"heads": np.ones((3, 0), dtype=bool)}, "heads must not be empty"),
        ({"mlps": np.ones(3)}, "mlps must be an array of booleans"),
        ({"mlps": np.ones(0, dtype=bool)}, "mlps must not be empty"),
        ({"mlps": np.ones(4, dtype=bool)}, "heads in 3 layers but MLPs in 4"),
    ],
)
def test_other_than_boolean_arrays_of_fitting_shapes_are_refused(change, message):
    with pytest.raises(LotteryError, match=message):
        StructuredSubnetwork(**(BOOLEAN | change))
    for bad in ({}, {"0.query.weight": np.ones(3)}, {"0.query.weight": [True]}):
        with pytest.raises(LotteryError, match="subnetwork"):
            WeightSubnetwork(bad)


# --- equality, complement, overlap -------------------------------------------


@given(any_values)
@settings(max_examples=40, deadline=None)
def test_equality_and_complement(subnetwork):
    other = subnetwork.complement()
    assert subnetwork == copy.deepcopy(subnetwork) != other
    assert other.complement() == subnetwork
    for mine, theirs in zip(flat(subnetwork), flat(other), strict=True):
        assert (mine ^ theirs).all()


def test_other_names_and_other_kinds_differ_and_a_part_may_stay():
    kept = np.ones(2, dtype=bool)
    assert WeightSubnetwork({"0.a": kept}) != WeightSubnetwork({"0.b": kept})
    one = structured()
    assert one != weights()
    assert one.complement(("heads",)) == StructuredSubnetwork(~one.heads, one.mlps)
    assert one.complement(("mlps",)) == StructuredSubnetwork(one.heads, ~one.mlps)


def test_overlaps_are_shares_of_the_first():
    one = StructuredSubnetwork(np.array([[1, 1], [1, 0]], bool), np.array([1, 0], bool))
    two = StructuredSubnetwork(np.array([[1, 0], [0, 1]], bool), np.array([1, 1], bool))
    assert one.overlap(two) == {"heads": pytest.approx(1 / 3), "mlps": 1.0}
    assert two.overlap(one) == {"heads": 0.5, "mlps": 0.5}
    nothing = StructuredSubnetwork(np.zeros((2, 2), bool), np.zeros(2, bool))
    assert all(np.isnan(share) for share in nothing.overlap(one).values())
    shape = Shape(layers=2, heads=2, hidden=8, intermediate=16, total=10**4)
    head, mlp = shape.head_parameters, shape.mlp_parameters
    assert one.shared_share(two, shape) == pytest.approx((head + mlp) / (3 * head + mlp))
    assert np.isnan(nothing.shared_share(one, shape))
    a, b = weights(1), weights(2)
    shared = sum(int((a.weights[name] & b.weights[name]).sum()) for name in a.weights)
    assert a.overlap(b) == {"weights": a.shared_share(b, shape)} == {"weights": shared / a.size}


# --- sizes -------------------------------------------------------------------


def test_bert_base_has_85_million_dense_parameters():
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 768 + 3072
    assert BERT_BASE.encoder_parameters == 85_017_600 == 12 * layer
    assert BERT_BASE.head_parameters == 64 * 768 * 3 + 64 * 3 + 64 * 768
    everything = full_subnetwork(BERT_BASE)
    assert everything.density(BERT_BASE) == 1.0
    assert everything.printed_share(BERT_BASE) == pytest.approx(1 - 0.21)


@pytest.mark.parametrize("family", KINDS)
def test_density_counts_what_is_left_after_removal(family, family_model):
    model = family_model(family)
    shape = shape_of(model)
    subnetwork = structured(1, shape.layers, shape.heads)
    subnetwork.heads[1] = False
    before = sum(parameter.numel() for parameter in model.parameters())
    remove(model, subnetwork)
    layers = model.base_model.get_submodule(ARCHITECTURES[family].layers)
    dense = [module for module in layers.modules() if isinstance(module, torch.nn.Linear)]
    left = sum(parameter.numel() for module in dense for parameter in module.parameters())
    assert subnetwork.density(shape) == left / shape.encoder_parameters
    now = sum(parameter.numel() for parameter in model.parameters())
    assert before - now == shape.encoder_parameters - left
    assert subnetwork.printed_share(shape) == pytest.approx(now / before - 0.21)


def some_weights(model):
    draw = np.random.default_rng(3)
    weights = prunable_weights(model).items()
    return WeightSubnetwork({name: draw.random(tuple(p.shape)) < 0.4 for name, p in weights})


def test_density_of_weights_counts_the_unranked_ones_as_surviving(family_model):
    model = family_model("bert")
    shape, subnetwork = shape_of(model), some_weights(model)
    unranked = sum(layer.mlp_out.bias.numel() for layer in layers_of(model))
    assert subnetwork.capacity == shape.encoder_parameters - unranked
    left = sum(int(kept.sum()) for kept in subnetwork.weights.values())
    assert subnetwork.size == left
    assert subnetwork.density(shape) == (left + unranked) / shape.encoder_parameters
    pruned = subnetwork.complement().size
    assert pruned == subnetwork.capacity - left
    wanted = (shape.total - pruned) / shape.total - 0.21
    assert subnetwork.printed_share(shape) == pytest.approx(wanted)


# --- random and bad samples --------------------------------------------------


@given(any_values, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_samples_have_exactly_the_size_of_the_good_one(good, seed):
    before = copy.deepcopy(good)
    for sample in (random_like(good, seed), bad_like(good, seed)):
        assert type(sample) is type(good)
        for mine, theirs in zip(flat(sample), flat(good), strict=True):
            assert mine.shape == theirs.shape
            assert mine.sum() == theirs.sum()
    assert good == before
    for bad, kept in zip(flat(bad_like(good, seed)), flat(good), strict=True):
        forced = max(0, int(kept.sum()) - int((~kept).sum()))
        assert (bad & kept).sum() == forced
        if forced:
            assert bad[~kept].all()  # all that was pruned comes first


@pytest.mark.parametrize("good", [structured(), weights()], ids=["structured", "weights"])
def test_every_seed_and_number_draws_another_sample_and_always_the_same(good):
    asked = [*itertools.product((random_like, bad_like), range(4), range(3))]
    found = [sample(good, seed, number=number) for sample, seed, number in asked]
    assert not any(one == other for one, other in itertools.combinations(found, 2))
    assert [sample(good, seed, number=number) for sample, seed, number in asked] == found


def test_a_draw_of_weights_does_not_depend_on_who_listed_them():
    good = weights()
    order = ["10.query.weight", *reversed([name for name in good.weights if name[0] != "1"])]
    other = WeightSubnetwork({n: good.weights[n] for n in [*order, "1.query.weight"]})
    assert random_like(other, 1) == random_like(good, 1) == random_like(good, 1, "bernoulli")
    assert bad_like(other, 1) == bad_like(good, 1)
    few = weights(share=0.3)  # drawn in the order of the layers: 2 comes before 10
    natural = sorted(few.weights, key=lambda name: (int(name.split(".")[0]), name))
    pruned = np.flatnonzero(~np.concatenate([few.weights[name].ravel() for name in natural]))
    for kind, sample, pool in ((1, random_like, few.capacity), (2, bad_like, pruned)):
        draw, taken = np.random.default_rng([1, kind]), np.zeros(few.capacity, dtype=bool)
        taken[draw.choice(pool, few.size, replace=False, shuffle=False)] = True
        found = sample(few, 1).weights
        assert np.array_equal(np.concatenate([found[name].ravel() for name in natural]), taken)


@pytest.mark.parametrize("good", [structured(0, share=0.4), weights(0, share=0.3)])
def test_every_element_is_drawn_equally_often(good):
    draws = 400
    samples = [np.concatenate(flat(random_like(good, seed))) for seed in range(draws)]
    shares = np.concatenate([np.full(part.size, part.mean()) for part in flat(good)])
    spread = 5 * np.sqrt(shares * (1 - shares) / draws)
    assert (np.abs(np.mean(samples, axis=0) - shares) < spread + 1e-12).all()


def test_bernoulli_sizes_hold_on_average_only():
    good = StructuredSubnetwork(np.arange(144).reshape(12, 12) < 50, np.arange(12) < 4)
    samples = [random_like(good, seed, "bernoulli") for seed in range(300)]
    heads, mlps = ([getattr(each, part).sum() for each in samples] for part in ("heads", "mlps"))
    assert np.mean(heads) == pytest.approx(50, abs=5 * np.sqrt(50 * (94 / 144) / 300))
    assert np.mean(mlps) == pytest.approx(4, abs=5 * np.sqrt(4 * (8 / 12) / 300))
    assert np.std(heads) > 2
    assert random_like(good, 3, "bernoulli") == samples[3]


# --- files -------------------------------------------------------------------


@given(any_values)
@settings(max_examples=40, deadline=None)
def test_what_is_saved_is_loaded_and_takes_a_bit_a_weight(subnetwork):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "good.safetensors"
        save_subnetwork(subnetwork, file)
        assert load_subnetwork(file) == subnetwork
        large = WeightSubnetwork({"0.query.weight": np.ones((400, 400), bool)})
        save_subnetwork(large, file)
        assert load_subnetwork(file) == large
        assert file.stat().st_size < 400 * 400 / 8 + 500


BITS = np.ones(1, dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "metadata"),
    [
        ({}, None),
        ({"0.query.weight": BITS}, None),
        ({"0.query.weight": BITS}, {"0.query.bias": "3"}),
        ({"heads": np.ones((3, 4)), "mlps": np.ones(3)}, None),
        ({"heads": np.ones((3, 4), dtype=bool)}, None),
        ({"x.weight": BITS}, {"x.weight": "8"}),  # of no layer
        ({"0.weight": BITS}, {"0.weight": "many"}),
        ({"0.weight": BITS}, {"0.weight": "3,100"}),  # too few bits
        ({"0.weight": BITS.astype(np.float32)}, {"0.weight": "8"}),
        *((content, None) for content in (None, b"", b"hello" * 30)),
    ],
)
def test_a_file_with_something_else_is_refused(arrays, metadata, tmp_path):
    file = tmp_path / "good.safetensors"
    if isinstance(arrays, dict):
        save_file(arrays, file, metadata=metadata)
    elif arrays is not None:
        file.write_bytes(arrays)
    with pytest.raises(LotteryError, match=r"good\.safetensors|subnetwork's"):
        load_subnetwork(file)


# --- survival per head and MLP -----------------------------------------------


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_survival_equals_a_slow_count(family, family_model):
    model = family_model(family)
    shape, subnetwork = shape_of(model), some_weights(model)
    subnetwork.weights["1.query.weight"][:] = False
    heads, mlps = head_and_mlp_survival(subnetwork, shape)
    assert heads.shape == (shape.layers, shape.heads)
    for layer, head in np.ndindex(heads.shape):
        part = {name[2:]: a for name, a in subnetwork.weights.items() if name[0] == str(layer)}
        units = slice(head * shape.head_size, (head + 1) * shape.head_size)
        mine = [
            part[f"{m}.{k}"][units] for m in ("query", "key", "value") for k in ("weight", "bias")
        ]
        mine.append(part["output.weight"][:, units])
        assert heads[layer, head] == pytest.approx(np.concatenate([*map(np.ravel, mine)]).mean())
        mlp = [part[name] for name in ("mlp_in.weight", "mlp_in.bias", "mlp_out.weight")]
        assert mlps[layer] == pytest.approx(np.concatenate([*map(np.ravel, mlp)]).mean())


def test_an_encoder_of_another_shape_is_refused():
    shape = Shape(layers=6, heads=8, hidden=32, intermediate=64, total=10**6)
    for size in (structured().density, structured().printed_share):
        with pytest.raises(LotteryError, match="6 layers of 12 heads does not fit"):
            size(shape)
    for one, other in (
        (structured(), StructuredSubnetwork(np.ones((2, 3), dtype=bool), np.ones(2, dtype=bool))),
        (WeightSubnetwork({"a": BOOLEAN["mlps"]}), WeightSubnetwork({"b": BOOLEAN["mlps"]})),
    ):
        with pytest.raises(LotteryError, match="of different encoders"):
            one.overlap(other)
        with pytest.raises(LotteryError, match="of different encoders"):
            one.shared_share(other, shape)


def test_a_sampling_that_there_is_not_is_refused():
    with pytest.raises(LotteryError, match="Unknown sampling 'bernouli'"):
        random_like(structured(), 0, "bernouli")
