"""Magnitude pruning: the search for a good subnetwork of single weights (section 3.2).

At each step a share of the remaining weights goes, those of the smallest magnitude in the whole
encoder (`encoder.prunable_weights`). Nothing is trained in between, so every step thresholds the
same fine-tuned weights. They are never sorted: one histogram of their magnitudes serves all steps,
and a step looks closer only at the bin into which its threshold falls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lotterylib.subnetworks import WeightSubnetwork


@dataclass(frozen=True)
class Ranking:
    """The encoder's weights in the order of their magnitudes; equal ones in that of the parameters.

    Attributes:
        weights: float arrays of one dtype by parameter; they are not copied and must not change.
        histogram: int64[32768], how many weights share the upper bits of their magnitude. The bits
            of floats without their signs are ordered as their magnitudes are.
    """

    weights: Mapping[str, np.ndarray]
    histogram: np.ndarray

    @property
    def size(self) -> int:
        """How many weights are ranked."""
        return int(self.histogram.sum())

    def smallest_pruned(self, pruned: int) -> WeightSubnetwork:
        """What is left when that many of the smallest weights are pruned."""
        threshold, ties = self._threshold(pruned)
        kept = {}
        for name, array in self.weights.items():
            bits = _magnitude_bits(array)
            kept[name] = bits >= threshold
            if ties:  # of those that equal the threshold the first go too
                first = np.flatnonzero(bits == threshold)[:ties]
                kept[name].flat[first] = False
                ties -= len(first)
        return WeightSubnetwork(kept)

    def largest_pruned(self, pruned: int) -> WeightSubnetwork:
        """The authors' bad subnetwork: what is left when that many of the largest are pruned."""
        return self.smallest_pruned(self.size - pruned).complement()

    def _threshold(self, pruned: int) -> tuple[int, int]:
        """The magnitude (as bits) below which all are pruned, and how many of it are pruned too."""
        below = np.cumsum(self.histogram)
        if pruned >= below[-1]:
            return 1 << 63, 0  # above every magnitude of a float64
        crossed = int(np.searchsorted(below, pruned, side="right"))
        rest = pruned - int(below[crossed] - self.histogram[crossed])
        near = [
            bits[_upper(bits) == crossed] for bits in map(_magnitude_bits, self.weights.values())
        ]
        threshold = np.partition(np.concatenate(near), rest)[rest]
        return int(threshold), rest - sum(int((bits < threshold).sum()) for bits in near)


def rank(weights: Mapping[str, np.ndarray]) -> Ranking:
    """Rank weights by magnitude over all parameters together; ties keep their order."""
    histogram = np.zeros(1 << 15, dtype=np.int64)
    for array in weights.values():
        histogram += np.bincount(_upper(_magnitude_bits(array)).ravel(), minlength=1 << 15)
    return Ranking(weights, histogram)


def _magnitude_bits(array: np.ndarray) -> np.ndarray:
    bits = array.view(f"u{array.itemsize}")
    return bits & bits.dtype.type((1 << (8 * array.itemsize - 1)) - 1)


def _upper(bits: np.ndarray) -> np.ndarray:
    return bits >> (8 * bits.itemsize - 16)


def pruned_counts(
    weights: int, share: float, steps: int, of: Literal["remaining", "initial"] = "remaining"
) -> Iterator[int]:
    """How many weights are pruned after each step: none at first, then a share more, rounded.

    Of the remaining ones `torch.nn.utils.prune.global_unstructured`, applied again and again,
    counts the same way.

    Args:
        weights: how many there are.
        share: pruned at a step, 0 to 1.
        steps: at most; none follows the one that prunes all weights.
        of: whether `share` is of the weights that remain or of all.
    """
    pruned = 0
    yield pruned
    for _ in range(steps):
        left = weights - pruned
        if not left:
            return
        pruned += min(left, round(share * (left if of == "remaining" else weights)))
        yield pruned


@dataclass(frozen=True)
class MagnitudeStep:
    """One state that the search tried; the first is the full model.

    Attributes:
        pruned: how many weights were pruned.
        surviving: the share of ranked weights left, 0 to 1.
        score: of that state, in the metric that decides the search.
        kept: whether it passed.
    """

    pruned: int
    surviving: float
    score: float
    kept: bool


def search_magnitude(
    measure: Callable[[WeightSubnetwork], float],
    ranking: Ranking,
    threshold: float = 0.9,
    step: float = 0.1,
    of: Literal["remaining", "initial"] = "remaining",
    max_steps: int = 60,
    on_step: Callable[[MagnitudeStep], None] = lambda step: None,
) -> list[MagnitudeStep]:
    """Move the threshold up until the score falls below its share of the full model's.

    Args:
        measure: scores a subnetwork; it is called once per step.
        ranking: of the fine-tuned weights.
        threshold: the share of the full model's score that the good subnetwork keeps.
        step, of, max_steps: as for `pruned_counts`.
        on_step: told of every step as it is taken.

    Returns:
        Every state that was tried; the good subnetwork is that of the last one kept.
    """
    total = ranking.size
    steps: list[MagnitudeStep] = []
    for pruned in pruned_counts(total, step, max_steps, of):
        score = measure(ranking.smallest_pruned(pruned))
        passed = not steps or score >= threshold * steps[0].score
        steps.append(MagnitudeStep(pruned, 1 - pruned / total, score, passed))
        on_step(steps[-1])
        if not passed:
            break
    return steps


def last_kept(steps: list[MagnitudeStep]) -> MagnitudeStep:
    """The smallest state that kept its score."""
    return next(step for step in reversed(steps) if step.kept)
