"""Heterogeneity: do surviving heads attend in ways that depend on the input (section 5.2)?

Heterogeneous maps are what may hold linguistic information beyond position. The paper finds that
super-survivors do not show more of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr

from lotterylib.patterns import PATTERNS


def pattern_shares(counts: np.ndarray, heads: np.ndarray | None = None) -> dict[str, float]:
    """The share of each pattern among the maps of some heads (default: all); nan without heads.

    Args:
        counts: int[layers, heads, patterns].
        heads: bool[layers, heads].
    """
    kept = counts if heads is None else counts[heads]
    totals = kept.reshape(-1, len(PATTERNS)).sum(0)
    shares = totals / totals.sum() if totals.sum() else np.full(len(PATTERNS), np.nan)
    return dict(zip(PATTERNS, shares.tolist(), strict=True))


def correlation(
    survival: Sequence[np.ndarray], shares: Sequence[np.ndarray], draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Pearson correlation of survival with the share of heterogeneous maps, over (task, head).

    A head of a task is one point; its maps are not independent, so they are not points. The paper
    correlates single maps.

    Args:
        survival: per task, the share of seeds that keep a head, or whether all do:
            float[layers, heads].
        shares: per task, the share of its maps that are heterogeneous: float[layers, heads].
        draws: of the bootstrap, which draws points anew.
        seed: of the bootstrap.

    Returns:
        The correlation and its 95% bootstrap interval; nan where one of the two does not vary.
    """
    x = np.concatenate([np.asarray(array, dtype=float).ravel() for array in survival])
    y = np.concatenate([np.asarray(array, dtype=float).ravel() for array in shares])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(x), size=(draws, len(x)))
    a, b = (z[drawn] - z[drawn].mean(1, keepdims=True) for z in (x, y))
    spread = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    varied = spread > 1e-12  # a draw may leave out the only head that survives
    low, high = np.quantile((a * b).sum(1)[varied] / spread[varied], [0.025, 0.975])
    return float(pearsonr(x, y).statistic), float(low), float(high)
