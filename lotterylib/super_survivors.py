"""Super-survivors: the heads and MLPs that every seed of a task keeps (paper, 4.2 and Appendix E).

Beside them stand a bad and a random subnetwork of exactly their size. The good one is the same for
every seed; the others are drawn anew for each. The rules follow the authors'
`compute_super_masks.py`, but for two: the authors draw the bad one once for all seeds of a task
(`masks/heads_mlps_super_bizzaro`), and `bad_super` names the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lotterylib.agreement import PARTS, stack
from lotterylib.errors import LotteryError
from lotterylib.subnetworks import StructuredSubnetwork


def super_survivors(good: Sequence[StructuredSubnetwork]) -> StructuredSubnetwork:
    """The heads and MLPs that survive in all seeds; there may be none.

    Raises:
        LotteryError: fewer than two subnetworks.
    """
    if len(good) < 2:
        raise LotteryError(
            f"Super-survivors need the subnetworks of at least two seeds, not of {len(good)}."
        )
    return _by_part(good, lambda kept: np.all(kept, axis=0))


def bad_super(good: Sequence[StructuredSubnetwork], seed: int) -> StructuredSubnetwork:
    """As many heads and as many MLPs as super-survivors, drawn from those pruned in all seeds.

    Where these are too few, all of them are taken, then elements that some seeds prune, and only
    then super-survivors. (Where even the first two are too few, the authors draw from both the
    others at random, so that their bad subnetwork then holds more super-survivors than it must.)
    """
    draw = np.random.default_rng([seed, 3])

    def choose(kept: np.ndarray) -> np.ndarray:
        always, never = np.all(kept, axis=0), ~np.any(kept, axis=0)
        return _draw(always.sum(), [never, ~always & ~never, always], draw)

    return _by_part(good, choose)


def random_super(good: Sequence[StructuredSubnetwork], seed: int) -> StructuredSubnetwork:
    """As many heads and as many MLPs as super-survivors, drawn from those that are neither
    super-survivors nor in the bad subnetwork of this seed; topped up from both at random where
    these are too few.
    """
    draw = np.random.default_rng([seed, 4])

    def choose(kept: np.ndarray) -> np.ndarray:
        always, bad = np.all(kept[:-1], axis=0), kept[-1]
        return _draw(always.sum(), [~always & ~bad, always | bad], draw)

    return _by_part([*good, bad_super(good, seed)], choose)


def _draw(size: int, pools: list[np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """`size` items: from the first pool, and from the next only when it is used up."""
    drawn = np.zeros(pools[0].size, dtype=bool)
    for pool in pools:
        wanted = min(int(size - drawn.sum()), int(pool.sum()))
        drawn[draw.choice(np.flatnonzero(pool), wanted, replace=False, shuffle=False)] = True
    return drawn


def _by_part(
    good: Sequence[StructuredSubnetwork], choose: Callable[[np.ndarray], np.ndarray]
) -> StructuredSubnetwork:
    """The heads and the MLPs that `choose` makes of bool[seeds, items]."""
    heads, mlps = (choose(stack(good, part)) for part in PARTS)
    return StructuredSubnetwork(heads.reshape(good[0].heads.shape), mlps)
