"""Overlap between tasks: hand-computed cases and exact tests."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lotterylib.errors import LotteryError
from lotterylib.overlap import task_overlap
from lotterylib.subnetworks import StructuredSubnetwork

subnetwork = st.tuples(arrays(bool, (2, 3)), arrays(bool, 2)).map(
    lambda pair: StructuredSubnetwork(*pair)
)
tasks_of_seeds = st.tuples(st.integers(1, 3), st.integers(1, 4)).flatmap(
    lambda sizes: arrays(object, sizes, elements=subnetwork).map(lambda found: found.tolist())
)


def heads_only(*masks):
    """Subnetworks of one layer, from rows such as "1101"."""
    return [
        StructuredSubnetwork(np.array([[letter == "1" for letter in row]]), np.array([True]))
        for row in masks
    ]


@settings(max_examples=50, deadline=None)
@given(tasks_of_seeds, st.sampled_from(["heads", "mlps"]))
def test_each_entry_equals_a_loop_over_seeds(lists, part):
    tasks = {f"task{number}": seeds for number, seeds in enumerate(lists)}
    found = task_overlap(tasks, part, permutations=3)
    assert found.tasks == tuple(tasks)
    assert found.part == part
    for i, one in enumerate(lists):
        for j, other in enumerate(lists):
            pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(one, other, strict=True)]
            shared = [int((a & b).sum()) for a, b in pairs]
            assert found.mean[i, j] == pytest.approx(np.mean(shared))
            expected = [a.sum() * b.sum() / a.size for a, b in pairs]
            assert found.chance[i, j] == pytest.approx(np.mean(expected))
            if len(shared) > 1:
                assert found.sd[i, j] == pytest.approx(np.std(shared, ddof=1))
            else:
                assert np.isnan(found.sd[i, j])
    np.testing.assert_array_equal(found.p, found.p.T)
    assert np.isnan(found.p.diagonal()).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["11000"], ["11010"]),
        (["11000", "10100"], ["10000", "11000"]),
        (["11000"] * 3, ["10100"] * 3),  # seeds that are alike are no independent evidence
    ],
)
def test_the_p_value_is_that_of_all_ways_to_match_the_items(one, other):
    """The items of one task are shuffled against the other's, in the same way for all seeds."""
    a, b = (np.array([[letter == "1" for letter in row] for row in rows]) for rows in (one, other))
    shared = [(a & b[:, list(order)]).sum() for order in itertools.permutations(range(5))]
    exact = np.mean(np.array(shared) >= (a & b).sum())
    tasks = {"a": heads_only(*one), "b": heads_only(*other)}
    found = task_overlap(tasks, "heads", permutations=4000).p[0, 1]
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000) + 1 / 4000)


def test_tasks_that_keep_the_same_items_are_significant_and_opposite_ones_are_not():
    draw = np.random.default_rng(1)
    masks = ["".join(draw.permutation(list("1" * 10 + "0" * 10))) for _ in range(3)]
    turned = [mask.translate(str.maketrans("01", "10")) for mask in masks]
    tasks = {"a": heads_only(*masks), "b": heads_only(*masks), "c": heads_only(*turned)}
    found = task_overlap(tasks, "heads", permutations=499)
    assert (found.p[0, 1], found.p[0, 2]) == (1 / 500, 1)
    again = (task_overlap(tasks, "heads", 99, seed=3).p for _ in "12")
    np.testing.assert_array_equal(*again)


def test_tasks_of_other_seeds_are_refused():
    tasks = {"a": heads_only("110", "011"), "b": heads_only("110")}
    with pytest.raises(LotteryError, match="a has subnetworks of 2 seeds and b of 1"):
        task_overlap(tasks, "heads")
    with pytest.raises(LotteryError, match="different encoders"):
        task_overlap({"a": heads_only("110"), "b": heads_only("1101")}, "heads")
    with pytest.raises(LotteryError, match="no task"):
        task_overlap({}, "heads")
