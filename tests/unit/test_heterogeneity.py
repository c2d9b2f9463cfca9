"""Heterogeneity: shares of patterns are shares, and the correlation is Pearson's."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr

from lotterylib.heterogeneity import correlation, pattern_shares
from lotterylib.patterns import PATTERNS

COUNTS = arrays(np.int64, (2, 3, len(PATTERNS)), elements=st.integers(0, 40))
MASKS = arrays(bool, (2, 3))


@given(COUNTS, MASKS)
def test_shares_are_those_of_the_maps_of_the_heads_given(counts, heads):
    maps = [
        pattern
        for place in np.argwhere(heads)
        for pattern, count in zip(PATTERNS, counts[tuple(place)], strict=True)
        for _ in range(count)
    ]
    found = pattern_shares(counts, heads)
    assert tuple(found) == PATTERNS
    if not maps:
        assert np.isnan(list(found.values())).all()
        return
    assert sum(found.values()) == pytest.approx(1)
    for pattern in PATTERNS:
        assert found[pattern] == pytest.approx(maps.count(pattern) / len(maps))


def test_without_a_choice_all_heads_count(rng):
    counts = rng.integers(1, 9, (3, 4, len(PATTERNS)))
    assert pattern_shares(counts) == pattern_shares(counts, np.ones((3, 4), dtype=bool))
    totals = counts.sum((0, 1))
    assert list(pattern_shares(counts).values()) == pytest.approx((totals / totals.sum()).tolist())


def points(rng, slope):
    """Two tasks of other sizes: survival in fifths, and shares that follow it more or less."""
    survival = [rng.integers(0, 6, shape) / 5 for shape in ((12, 12), (3, 4))]
    shares = [slope * x + rng.normal(0, 0.3, x.shape) for x in survival]
    return survival, shares


@pytest.mark.parametrize("slope", [-0.8, 0.0, 0.3, 5.0])
def test_the_correlation_is_pearsons_over_all_heads_of_all_tasks(rng, slope):
    survival, shares = points(rng, slope)
    x, y = (np.concatenate([a.ravel() for a in arrays]) for arrays in (survival, shares))
    r, low, high = correlation(survival, shares)
    assert r == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    assert low < r < high
    assert (low > 0) == (slope > 0)
    assert (high < 0) == (slope < 0)


def test_the_interval_is_that_of_points_drawn_anew(rng):
    (x, _), (y, _) = points(rng, 0.5)
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, x.size, x.size)
        drawn.append(np.corrcoef(x.ravel()[rows], y.ravel()[rows])[0, 1])
    _, low, high = correlation([x], [y])
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_the_same_seed_draws_the_same(rng):
    survival, shares = points(rng, 0.3)
    first = correlation(survival, shares, draws=50, seed=1)
    assert first == correlation(survival, shares, draws=50, seed=1)
    assert first[0] == correlation(survival, shares, draws=50, seed=2)[0]
    assert first[1:] != correlation(survival, shares, draws=50, seed=2)[1:]


def test_points_on_a_line_leave_no_doubt():
    x = np.arange(12).reshape(3, 4) / 12
    assert correlation([x], [0.2 + 0.5 * x], draws=100) == pytest.approx((1, 1, 1))
    assert correlation([x], [0.9 - 0.5 * x], draws=100) == pytest.approx((-1, -1, -1))


def test_survivors_may_be_a_mask(rng):
    kept = np.arange(144).reshape(12, 12) % 2 == 0
    share = rng.random((12, 12))
    assert correlation([kept], [share], 50) == correlation([kept.astype(float)], [share], 50)


@pytest.mark.parametrize("constant", ["survival", "share"])
def test_what_does_not_vary_correlates_with_nothing(rng, constant):
    vary, flat = rng.random((3, 4)), np.full((3, 4), 0.25)
    pair = ([flat, flat], [vary, vary]) if constant == "survival" else ([vary, vary], [flat, flat])
    with warnings.catch_warnings(action="error"):
        assert np.isnan(correlation(*pair)).all()


def test_draws_that_leave_the_only_survivor_out_do_no_harm(rng):
    survival = np.zeros((12, 12))
    survival[3, 4] = 1
    share = rng.random((12, 12))
    with warnings.catch_warnings(action="error"):
        r, low, high = correlation([survival], [share])
    assert r == pytest.approx(pearsonr(survival.ravel(), share.ravel()).statistic)
    assert np.isnan([low, high]).all() or low <= r <= high
