"""Heterogeneity: do surviving heads attend in ways that depend on the input (section 5.2)?

Heterogeneous maps are what may hold linguistic information beyond position. The paper finds that
super-survivors do not show more of them.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import pearsonr

from lotterylib.patterns import PATTERNS

_NOTHING = 1e-12


def pattern_shares(counts: np.ndarray, heads: np.ndarray | None = None) -> dict[str, float]:
    """The share of each pattern among the maps of some heads (default: all); nan without heads.

    `counts` is int[layers, heads, patterns], `heads` bool[layers, heads].
    """
    kept = counts if heads is None else counts[heads]
    totals = kept.reshape(-1, len(PATTERNS)).sum(0)
    shares = totals / totals.sum() if totals.sum() else np.full(len(PATTERNS), np.nan)
    return dict(zip(PATTERNS, shares.tolist(), strict=True))


def heterogeneous_share(counts: np.ndarray) -> np.ndarray:
    """The share of each head's maps that are heterogeneous, float64[layers, heads] from 0 to 1; nan
    for a head without maps.

    `counts` is int[layers, heads, patterns].
    """
    with np.errstate(invalid="ignore"):
        return counts[..., PATTERNS.index("heterogeneous")] / counts.sum(-1)


def correlation(
    survival: np.ndarray, share: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Pearson correlation of survival with the share of heterogeneous maps, over (task, head).

    A head of a task is one point; its maps are not independent, so they are not points. (The paper
    correlates single maps.) Tasks differ in how much they keep, so each is centred. The interval of
    a single task is Fisher's: a few heads with far more heterogeneous maps than the others make a
    bootstrap too sure. Of several tasks it is a bootstrap, which draws heads, each with all its
    tasks, since a head recurs in every task.

    Args:
        survival, share: float[tasks, heads], the share of seeds that keep a head, and the share of
            its maps that are heterogeneous.
        draws, seed: of the bootstrap.

    Returns:
        The correlation and its 95% interval; nan where one of the two does not vary.
    """
    x, y = (z - z.mean(1, keepdims=True) for z in (np.atleast_2d(survival), np.atleast_2d(share)))
    if np.ptp(x) < _NOTHING or np.ptp(y) < _NOTHING:
        return float("nan"), float("nan"), float("nan")
    if len(x) == 1:
        found = pearsonr(x[0], y[0])
        low, high = found.confidence_interval(0.95)
        return float(found.statistic), float(low), float(high)
    drawn = np.random.default_rng(seed).integers(x.shape[1], size=(draws, x.shape[1]))
    resampled = []
    for heads in drawn:
        a, b = x[:, heads].ravel(), y[:, heads].ravel()
        if np.ptp(a) > _NOTHING and np.ptp(b) > _NOTHING:  # a draw may leave out all that varies
            resampled.append(np.corrcoef(a, b)[0, 1])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(pearsonr(x.ravel(), y.ravel()).statistic), float(low), float(high)
