"""The magnitude search: torch's own pruning is the reference for what a step prunes."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from lotterylib.magnitude import last_kept, pruned_counts, rank, search_magnitude


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_every_step_equals_torchs_global_pruning_applied_again(share):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Linear(5, 11, bias=False))
    parts = [(module[0], "weight"), (module[0], "bias"), (module[1], "weight")]
    names = ("0.weight", "0.bias", "1.weight")
    arrays = [getattr(part, kind).detach().numpy().copy() for part, kind in parts]
    ranking = rank(dict(zip(names, arrays, strict=True)))
    counts = pruned_counts(7 * 5 + 5 + 5 * 11, share, 15)
    assert next(counts) == 0
    for pruned in counts:
        prune.global_unstructured(parts, pruning_method=prune.L1Unstructured, amount=share)
        ours = ranking.smallest_pruned(pruned).weights
        for name, (part, kind) in zip(names, parts, strict=True):
            assert np.array_equal(ours[name], getattr(part, f"{kind}_mask").numpy().astype(bool))


@given(st.integers(1, 10**7), st.floats(0.01, 0.99), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_counts_start_at_nothing_and_never_fall_or_exceed(weights, share, steps):
    counts = list(pruned_counts(weights, share, steps))
    assert len(counts) == steps + 1 or counts[-1] == weights
    assert counts[0] == 0
    for before, after in pairwise(counts):
        assert after == before + round(share * (weights - before))
    assert counts[-1] <= weights


def test_ties_are_pruned_in_any_layout_of_memory():
    kept = rank({"0.a": np.ones((2, 3), order="F")}).smallest_pruned(2).weights["0.a"]
    assert kept.tolist() == [[False, False, True], [True, True, True]]


_FLOATS = st.floats(-4, 4, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-42, -3e38])


@given(st.lists(_FLOATS, min_size=1, max_size=40), st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_selection_equals_a_stable_sort(dtype, values, data):
    with np.errstate(over="ignore"):
        flat = np.array(values, dtype=dtype)
    cut = data.draw(st.integers(0, len(flat)))
    pruned = data.draw(st.integers(0, len(flat)))
    expected = np.ones(len(flat), dtype=bool)
    expected[np.argsort(np.abs(flat), kind="stable")[:pruned]] = False
    ranking = rank({"0.a": flat[:cut], "0.b": flat[cut:]})
    kept = ranking.smallest_pruned(pruned).weights
    assert np.array_equal(np.concatenate([kept["0.a"], kept["0.b"]]), expected)


def ranking_of(count):
    return rank({"0.query.weight": np.random.default_rng(0).normal(size=(count // 10, 10))})


def test_the_search_stops_at_the_first_failure_and_keeps_the_step_before():
    # the third is below nine tenths of the second, but not of the first; the last just fails
    scores = {1000: 0.8, 900: 0.85, 810: 0.75, 729: 0.9 * 0.8, 656: 0.9 * 0.8 - 1e-9}
    told, sizes = [], []

    def measure(subnetwork):
        sizes.append(subnetwork.size)
        return scores[subnetwork.size]

    steps = search_magnitude(measure, ranking_of(1000), on_step=told.append)
    assert sizes == list(scores)
    assert [step.pruned for step in steps] == [0, 100, 190, 271, 344]
    assert [step.surviving for step in steps] == pytest.approx([1, 0.9, 0.81, 0.729, 0.656])
    assert [step.kept for step in steps] == [True, True, True, True, False]
    assert [step.score for step in steps] == list(scores.values())
    assert told == steps
    assert last_kept(steps) == steps[3]


@pytest.mark.parametrize("most", [0, 1, 7])
def test_the_number_of_steps_is_capped(most):
    steps = search_magnitude(lambda _: 1.0, ranking_of(1000), max_steps=most)
    assert len(steps) == most + 1
    assert last_kept(steps) == steps[-1]


def test_a_share_of_the_initial_weights_goes_in_equal_steps():
    assert list(pruned_counts(10, 0.3, 9, "initial")) == [0, 3, 6, 9, 10]
    assert list(pruned_counts(10, 0.3, 2, "initial")) == [0, 3, 6]
    assert list(pruned_counts(10, 0.5, 3, "remaining")) == [0, 5, 7, 9]
