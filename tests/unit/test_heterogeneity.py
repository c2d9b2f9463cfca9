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
    totals = [sum(head[pattern] for head in counts[heads]) for pattern in range(len(PATTERNS))]
    found = pattern_shares(counts, heads)
    assert pattern_shares(counts[heads][None]) == pytest.approx(found, nan_ok=True)
    assert tuple(found) == PATTERNS
    wanted = [total / sum(totals) if sum(totals) else np.nan for total in totals]
    assert list(found.values()) == pytest.approx(wanted, nan_ok=True)


def points(rng, slope):
    """Two tasks that keep more and less: survival in fifths, and shares that follow it."""
    survival = rng.integers(0, 6, (2, 144)) / 5 * np.array([[1.0], [0.4]])
    noise = rng.normal(0, 0.2, survival.shape) + np.array([[0.0], [3.0]])
    return survival, slope * survival + noise


def centred(values):
    return np.concatenate([task - task.mean() for task in values])


@pytest.mark.parametrize("slope", [-0.8, 0.0, 5.0])
def test_the_correlation_is_pearsons_within_tasks(rng, slope):
    survival, shares = points(rng, slope)
    r, low, high = correlation(survival, shares)
    assert r == pytest.approx(pearsonr(centred(survival), centred(shares)).statistic, abs=1e-12)
    assert low < r < high
    assert (low > 0) == (slope > 0)
    assert (high < 0) == (slope < 0)


def test_the_interval_is_that_of_heads_drawn_anew_with_all_their_tasks(rng):
    x, y = points(rng, 0.5)
    a, b = (z - z.mean(1, keepdims=True) for z in (x, y))
    drawn = []
    for _ in range(4000):
        heads = rng.integers(0, 144, 144)
        drawn.append(np.corrcoef(a[:, heads].ravel(), b[:, heads].ravel())[0, 1])
    r, low, high = correlation(x, y)
    assert correlation(x, y, seed=1)[0] == r
    assert correlation(x, y, seed=1)[1:] != (low, high) == correlation(x, y)[1:]
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)


@pytest.mark.parametrize("constant", ["survival", "share"])
def test_what_does_not_vary_correlates_with_nothing(rng, constant):
    vary, flat = rng.random((2, 12)), np.full((2, 12), 0.25)
    pair = (flat, vary) if constant == "survival" else (vary, flat)
    with warnings.catch_warnings(action="error"):
        assert np.isnan(correlation(*pair)).all()


def test_draws_that_leave_the_only_survivor_out_do_no_harm(rng):
    survival, share = np.zeros((2, 144)), np.ones((2, 1)) * rng.random(144)
    survival[:, 40] = share[:, 40] = 1
    with warnings.catch_warnings(action="error"):
        r, low, high = correlation(survival, share)
    assert r == pytest.approx(pearsonr(centred(survival), centred(share)).statistic)
    assert 0.01 < low <= r <= high  # they do not count as draws without a correlation


def test_the_interval_of_one_task_misses_no_correlation_as_often_as_it_says(rng):
    """Also where a few heads have far larger shares than the others."""
    missed = 0
    for _ in range(400):
        share = rng.lognormal(sigma=1.5, size=72)
        _, low, high = correlation(rng.binomial(3, 0.5, 72) / 3, share / share.max())
        missed += not low < 0 < high
    assert missed <= 32  # 5% of 400 and three standard errors
    few = correlation(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.4]))
    assert few[1:] == (-1, 1)  # three heads tell nothing
