"""Stability: how far the good subnetworks that several seeds found are the same (paper, 5.1).

Masks are compared item by item, an item being a head or an MLP and a seed being a rater who keeps
it or prunes it. Agreement beyond chance is Fleiss' kappa and Krippendorff's alpha. Cochran's Q,
which the paper reads as a test of similarity, compares how many items the seeds keep, not which.
A permutation test of the overlap says whether the seeds share more items than their sizes explain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.inter_rater import fleiss_kappa

from lotterylib.errors import LotteryError
from lotterylib.subnetworks import StructuredSubnetwork

Part = Literal["heads", "mlps"]
PARTS: tuple[Part, ...] = ("heads", "mlps")

SIGNIFICANCE = 0.05
"""The level of all tests; a pair of seeds with at least this is a similar pair of the paper's."""


@dataclass(frozen=True)
class Agreement:
    """How far the masks of several seeds agree; each value is nan where it is undefined.

    Attributes:
        items, seeds: what was compared.
        kappa: Fleiss' kappa, from -1/(seeds-1) to 1; undefined where every seed keeps every item
            or every seed prunes every item, because chance then agrees as well.
        kappa_low, kappa_high: its 95 % interval over items: the jackknife's standard error and
            Student's t with items - 1 degrees of freedom, cut to the possible range. It tells how
            well so many items determine kappa, not what other seeds would give. With 12 items it is
            too narrow: in a simulation it held the true value about 9 times in 10. Undefined where
            the error would be zero.
        alpha: Krippendorff's nominal alpha, kappa + (1 - kappa) / (items * seeds).
        cochran_q, cochran_p: Cochran's Q with its asymptotic p-value: do the seeds keep equally
            many items, be they the same or not? Undefined where all masks are the same.
        similar_pairs: pairs of seeds for which the same test on the two (McNemar's, without
            continuity correction) has p >= 0.05; the paper's "some pairs were".
        identical_pairs: pairs with the same mask. Their test is undefined, so the authors' count,
            and with it `similar_pairs`, leaves them out.
        pairs: of seeds.
        jaccard: mean over pairs of `|A and B| / |A or B|`; a pair of empty masks counts 0.
        overlap: mean over pairs of `|A and B|`, in items.
        chance: what `overlap` is on average for random masks of these sizes: the mean over pairs of
            `|A| |B| / items`.
        overlap_p: one-sided p-value of a permutation test that shuffles the items of each seed and
            so keeps the sizes: how often the overlap was at least the one found.
        overlap_p_least: the smallest that p can be for masks of these sizes, see `least_overlap_p`.
    """

    items: int
    seeds: int
    kappa: float
    kappa_low: float
    kappa_high: float
    alpha: float
    cochran_q: float
    cochran_p: float
    similar_pairs: int
    identical_pairs: int
    pairs: int
    jaccard: float
    overlap: float
    chance: float
    overlap_p: float
    overlap_p_least: float


def agreement(masks: np.ndarray, permutations: int = 2000, seed: int = 0) -> Agreement:
    """Compare the masks that several seeds found for one task (paper, section 5.1; authors'
    `statistics_on_pruning.ipynb`).

    Args:
        masks: bool[seeds, items], True where an item survives; at least two seeds.
        permutations, seed: of the test; `overlap_p` is (1 + as large) / (1 + permutations),
            and not below what it can be (`least_overlap_p`).

    Raises:
        LotteryError: fewer than two seeds, no items, or not booleans.
    """
    masks = np.asarray(masks)
    if len(masks) < 2:
        raise LotteryError(f"Agreement needs the masks of at least two seeds, not of {len(masks)}.")
    if masks.dtype != np.bool_ or masks.ndim != 2 or not masks.size:
        raise LotteryError("Masks must be an array of booleans with one row per seed.")
    seeds, items = masks.shape
    kappa = _kappa(masks)
    low, high = _interval(masks, kappa)
    q, p = _cochran(masks)
    pairs, least = pairs_table(masks, range(seeds)), least_overlap_p(masks, permutations)
    return Agreement(
        items=items,
        seeds=seeds,
        kappa=kappa,
        kappa_low=low,
        kappa_high=high,
        alpha=kappa + (1 - kappa) / masks.size,
        cochran_q=q,
        cochran_p=p,
        similar_pairs=int((pairs["mcnemar_p"] >= SIGNIFICANCE).sum()),
        identical_pairs=int(pairs["mcnemar_p"].isna().sum()),
        pairs=len(pairs),
        jaccard=float(pairs["jaccard"].mean()),
        overlap=float(pairs["shared"].mean()),
        chance=float(pairs["expected"].mean()),
        overlap_p=max(least, _overlap_p(masks, permutations, np.random.default_rng(seed))),
        overlap_p_least=least,
    )


def least_overlap_p(masks: np.ndarray, permutations: int = 2000) -> float:
    """The smallest p-value that `Agreement.overlap_p` could have for masks of these sizes.

    No masks of these sizes overlap more than those that lie within each other. Shuffled masks do so
    with a probability that follows from the sizes alone, and a test of so many permutations gives
    no value below 1 / (1 + permutations). Where the result is large (few items, or nearly all of
    them kept), a large p-value says nothing about the masks. They are bool[seeds, items].
    """
    sizes = sorted(int(size) for size in masks.sum(1))
    ways = [math.comb(masks.shape[1], size) for size in sizes[:-1]]
    within = [math.comb(b, a) for a, b in itertools.pairwise(sizes)]
    nested = math.prod(map(Fraction, within, ways))
    return max(float(nested), 1 / (1 + permutations))


def pairs_table(masks: np.ndarray, seeds: Sequence[int]) -> pd.DataFrame:
    """Compare the masks of each two seeds, bool[seeds, items].

    Returns:
        One row per pair: the two seeds, their sizes, the items shared, how many random masks of
        these sizes would share, Jaccard (0 for two empty masks), and McNemar's p-value (whether
        the two keep equally many; nan for equal masks).
    """
    rows = []
    for (a, one), (b, other) in itertools.combinations(zip(seeds, masks, strict=True), 2):
        shared, either = int((one & other).sum()), int((one | other).sum())
        rows.append(
            {
                "seed_a": a,
                "seed_b": b,
                "size_a": int(one.sum()),
                "size_b": int(other.sum()),
                "shared": shared,
                "expected": int(one.sum()) * int(other.sum()) / one.size,
                "jaccard": shared / either if either else 0.0,
                "mcnemar_p": _cochran(np.stack([one, other]))[1],
            }
        )
    return pd.DataFrame(rows)


def stability_table(subnetworks: Sequence[StructuredSubnetwork]) -> pd.DataFrame:
    """The agreement of one task's good subnetworks, one per seed: rows "heads" and "mlps", with the
    fields of `Agreement` as columns.

    Raises:
        LotteryError: fewer than two subnetworks, or subnetworks of different encoders.
    """
    rows = [asdict(agreement(stack(subnetworks, part))) for part in PARTS]
    return pd.DataFrame(rows, index=list(PARTS))


def stack(subnetworks: Sequence[StructuredSubnetwork], part: Part) -> np.ndarray:
    """The heads or the MLPs of several subnetworks, as bool[subnetworks, items].

    Raises:
        LotteryError: subnetworks of different encoders.
    """
    shapes = sorted({subnetwork.heads.shape for subnetwork in subnetworks})
    if len(shapes) > 1:
        one, other = ("x".join(map(str, shape)) for shape in shapes[:2])
        raise LotteryError(
            f"These subnetworks are of different encoders: one has {one} heads (layers x heads), "
            f"another {other}."
        )
    return np.stack([getattr(subnetwork, part).ravel() for subnetwork in subnetworks])


def _kappa(masks: np.ndarray) -> float:
    if masks.all() or not masks.any():
        return float("nan")
    kept = masks.sum(0)
    return float(fleiss_kappa(np.stack([kept, len(masks) - kept], axis=1)))


def _interval(masks: np.ndarray, kappa: float) -> tuple[float, float]:
    seeds, items = masks.shape
    if items < 2:
        return float("nan"), float("nan")
    without = np.array([_kappa(np.delete(masks, item, axis=1)) for item in range(items)])
    # nan if any is: where kappa hangs on a single item, the data cannot say how certain it is
    error = np.sqrt((items - 1) * without.var())
    if error < 1e-12:  # as where all masks are equal, which makes nothing certain
        return float("nan"), float("nan")
    reach = stats.t.ppf(0.975, items - 1) * error
    low, high = np.clip([kappa - reach, kappa + reach], -1 / (seeds - 1), 1)
    return float(low), float(high)


def _cochran(masks: np.ndarray) -> tuple[float, float]:
    if (masks == masks[0]).all():
        return float("nan"), float("nan")
    result = cochrans_q(masks.T)
    return float(result.statistic), float(result.pvalue)


def _overlap_p(masks: np.ndarray, permutations: int, draw: np.random.Generator) -> float:
    found = _shared_in_all_pairs(masks)
    as_large = sum(
        _shared_in_all_pairs(draw.permuted(masks, axis=1)) >= found for _ in range(permutations)
    )
    return (1 + as_large) / (1 + permutations)


def _shared_in_all_pairs(masks: np.ndarray) -> int:
    kept = masks.sum(0)
    return int((kept * (kept - 1)).sum() // 2)
