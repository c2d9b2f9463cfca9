"""Agreement of seeds: slow references and hand-computed cases."""

import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lotterylib.agreement import (
    Agreement,
    agreement,
    least_overlap_p,
    pairs_table,
    stability_table,
    stack,
)
from lotterylib.errors import LotteryError
from lotterylib.subnetworks import StructuredSubnetwork

some_masks = st.tuples(st.integers(2, 5), st.integers(1, 9)).flatmap(lambda s: arrays(bool, s))


def masks_of(rows):
    """Rows such as "1101" as masks."""
    return np.array([[letter == "1" for letter in row] for row in rows.split()])


def pairwise_alpha(masks):
    """Krippendorff's nominal alpha by counting coincidences, pair of raters by pair of raters."""
    seeds, items = masks.shape
    coincidences = np.zeros((2, 2))
    for item in range(items):
        for a, b in itertools.permutations(range(seeds), 2):
            coincidences[int(masks[a, item]), int(masks[b, item])] += 1 / (seeds - 1)
    totals, n = coincidences.sum(1), coincidences.sum()
    observed = coincidences[0, 1] + coincidences[1, 0]
    expected = 2 * totals[0] * totals[1] / (n - 1)
    return 1 - observed / expected


def pairwise_kappa(masks):
    """Fleiss' kappa from the share of agreeing pairs of raters."""
    agree = np.mean([a == b for a, b in itertools.combinations(masks, 2)])
    by_chance = masks.mean() ** 2 + (1 - masks.mean()) ** 2
    return (agree - by_chance) / (1 - by_chance)


def all_shuffles_p(masks):
    """The exact p-value: every way to place each seed's survivors is equally likely."""

    def shared(rows):
        return sum((a & b).sum() for a, b in itertools.combinations(rows, 2))

    places = [
        [np.isin(np.arange(len(row)), kept) for kept in itertools.combinations(range(len(row)), n)]
        for row, n in zip(masks, masks.sum(1), strict=True)
    ]
    return np.mean([shared(rows) >= shared(masks) for rows in itertools.product(*places)])


@settings(max_examples=60, deadline=None)
@given(some_masks)
def test_kappa_alpha_jaccard_and_overlap_equal_their_slow_references(masks):
    found = agreement(masks, permutations=1)
    if masks.all() or not masks.any():
        undefined = found.kappa, found.alpha, found.kappa_low, found.kappa_high, found.cochran_q
        assert np.isnan(undefined).all()
        assert found.overlap_p == 1
    else:
        assert found.kappa == pytest.approx(pairwise_kappa(masks))
        assert found.alpha == pytest.approx(pairwise_alpha(masks))
    pairs = list(itertools.combinations([set(np.flatnonzero(row)) for row in masks], 2))
    jaccards = [len(a & b) / len(a | b) if a | b else 0 for a, b in pairs]
    assert found.jaccard == pytest.approx(np.mean(jaccards))
    assert found.overlap == pytest.approx(np.mean([len(a & b) for a, b in pairs]))
    assert found.pairs == len(pairs)
    assert found.identical_pairs == sum(a == b for a, b in pairs)


def test_a_case_by_hand():
    # Rows 1100, 1010, 1100: agreeing pairs per item 3, 1, 1, 3 of 3, so observed agreement 2/3;
    # half of all ratings are 1, so chance is 1/2 and kappa 1/3.
    found = agreement(masks_of("1100 1010 1100"), permutations=10)
    assert found.kappa == pytest.approx(1 / 3)
    assert found.alpha == pytest.approx(1 / 3 + (2 / 3) / 12)
    assert (found.pairs, found.identical_pairs, found.similar_pairs) == (3, 1, 2)
    assert found.cochran_q == 0
    assert found.cochran_p == 1
    assert found.jaccard == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert found.overlap == pytest.approx((1 + 2 + 1) / 3)
    assert found.chance == 1


def test_the_interval_is_the_jackknifes_with_students_t():
    masks = np.random.default_rng(7).random((4, 25)) < np.linspace(0.05, 0.95, 25)
    without = [pairwise_kappa(np.delete(masks, item, axis=1)) for item in range(25)]
    reach = stats.t.ppf(0.975, 24) * np.sqrt(24 / 25 * ((without - np.mean(without)) ** 2).sum())
    found = agreement(masks, permutations=1)
    assert found.kappa_low == pytest.approx(found.kappa - reach)
    assert found.kappa_high == pytest.approx(found.kappa + reach)
    assert -1 / 3 < found.kappa_low < found.kappa_high < 1
    cut = agreement(masks_of("1100 1010 1100"), permutations=1)  # to what kappa can be
    assert (cut.kappa_low, cut.kappa_high) == (-1 / 2, 1)
    one_item = agreement(masks_of("11110 11111"), permutations=1)  # on which all hangs
    assert np.isfinite(one_item.kappa)
    assert np.isnan([one_item.kappa_low, one_item.kappa_high]).all()


def test_cochran_tests_counts_and_not_which_items_are_kept():
    halves = np.zeros((4, 40), dtype=bool)
    halves[::2, :20] = halves[1::2, 20:] = True  # as many each, but opposite ones
    opposite = agreement(halves, permutations=200)
    assert (opposite.cochran_p, opposite.similar_pairs) == (1, 4)
    assert opposite.kappa < 0
    assert opposite.overlap_p > 0.5
    # all that a smaller one keeps, the larger ones keep too
    different = agreement(nested((10, 30, 50), 60), permutations=200)
    assert different.cochran_p < 1e-6
    assert different.similar_pairs == 0
    assert different.overlap_p == pytest.approx(1 / 201)
    two = agreement(masks_of("1111110000000 0000001110001"), permutations=1)  # McNemar's test
    assert two.cochran_q == pytest.approx((6 - 4) ** 2 / (6 + 4))
    assert two.cochran_p == pytest.approx(stats.chi2.sf(two.cochran_q, 1))


@pytest.mark.parametrize("rows", ["11000 10100 11010", "11100 11000"])
def test_the_permutation_test_is_near_the_exact_one_and_of_its_seed(rows):
    masks = masks_of(rows)
    before, exact = masks.copy(), all_shuffles_p(masks)
    assert agreement(masks, permutations=3000).overlap_p == pytest.approx(exact, abs=0.03)
    assert agreement(masks, 99, seed=1) == agreement(masks, 99, seed=1)
    assert len({agreement(masks, 99, seed=seed).overlap_p for seed in range(8)}) > 1
    np.testing.assert_array_equal(masks, before)


def test_the_table_of_pairs():
    table = pairs_table(masks_of("1100 1010 0000 1010"), [7, 8, 9, 10])
    shown = [*zip(*(table[f"seed_{s}"] for s in "ab"), strict=True)]
    assert shown == [(7, 8), (7, 9), (7, 10), (8, 9), (8, 10), (9, 10)]
    columns = ["size_a", "size_b", "shared", "expected", "jaccard"]
    first, empty = table[columns].values.tolist()[:2]
    assert first == [2, 2, 1, 1, pytest.approx(1 / 3)]
    assert empty == [2, 0, 0, 0, 0]
    assert table["mcnemar_p"].tolist()[:2] == [1, pytest.approx(stats.chi2.sf(2, 1))]
    assert table["mcnemar_p"].isna().tolist() == [False] * 4 + [True, False]


def test_the_table_of_a_task_has_heads_and_mlps_apart():
    draw = np.random.default_rng(6)
    good = [StructuredSubnetwork(draw.random((3, 4)) < 0.5, draw.random(3) < 0.7) for _ in range(4)]
    table = stability_table(good)
    assert list(table.columns) == [field.name for field in fields(Agreement)]
    for part in ("heads", "mlps"):
        masks = np.array([getattr(subnetwork, part).ravel() for subnetwork in good])
        assert table.loc[part, "kappa"] == agreement(masks).kappa
        assert (table.loc[part, "seeds"], table.loc[part, "items"]) == masks.shape


def test_agreement_needs_two_seeds():
    with pytest.raises(LotteryError, match="at least two seeds, not of 1"):
        agreement(masks_of("110"))


# The smallest p-value there could be


def nested(sizes, items):
    return np.arange(items) < np.array(sizes)[:, None]


@pytest.mark.parametrize(
    ("sizes", "items", "least"),
    [
        ((3, 3), 6, 1 / 20),  # one of 20 ways to draw 3 of 6
        ((2, 4), 5, 6 / 10),  # 2 of 5 within the 4: 6 of 10 ways
        ((1, 2, 3), 4, (3 / 6) * (2 / 4)),  # the 2 within the 3, the 1 within the 2
        ((5, 5), 5, 1.0),
        ((0, 3), 6, 1.0),
        ((70, 75), 144, 1 / 2001),  # too many ways for 2,000 permutations to tell
    ],
)
def test_the_least_p_value_is_the_chance_that_masks_lie_within_each_other(sizes, items, least):
    draw = np.random.default_rng(0)
    masks = draw.permuted(nested(sizes, items), axis=1)
    assert least_overlap_p(masks) == pytest.approx(least)


@settings(max_examples=30, deadline=None)
@given(some_masks.filter(lambda masks: masks.shape[0] <= 3 and masks.shape[1] <= 4))
def test_no_arrangement_overlaps_more_often_than_the_least_p_value(masks):
    """Against all arrangements of the masks' items, one by one."""
    items = masks.shape[1]
    orders = [np.array(order) for order in itertools.permutations(range(items))]
    totals = [
        sum((a & b).sum() for a, b in itertools.combinations([masks[0], *shuffled], 2))
        for shuffled in itertools.product(*[[mask[o] for o in orders] for mask in masks[1:]])
    ]
    share = np.mean(np.array(totals) == max(totals))
    assert least_overlap_p(masks, permutations=10**6) == pytest.approx(max(share, 1 / (1 + 10**6)))


def test_requests_that_cannot_be_met():
    masks = np.random.default_rng(0).random((2, 5)) < 0.5
    small, large = (
        StructuredSubnetwork(np.ones((layers, 3), dtype=bool), np.ones(layers, dtype=bool))
        for layers in (2, 4)
    )
    for ask, words in (
        (lambda: agreement(masks[:1]), "at least two seeds, not of 1"),
        (lambda: agreement(masks.astype(int)), "array of booleans"),
        (lambda: agreement(masks[:, :0]), "one row per seed"),
        (lambda: stack([small, large], "mlps"), r"one has 2x3 heads \(layers x heads\), another"),
    ):
        with pytest.raises(LotteryError, match=words):
            ask()
