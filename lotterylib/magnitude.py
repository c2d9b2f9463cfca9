"""Magnitude pruning: the search for a good subnetwork of single weights (section 3.2).

At each step a share of the remaining weights goes, those of the smallest magnitude in the whole
encoder. Nothing is trained in between, so every step thresholds the same fine-tuned weights: they
are ranked once, and a step only moves the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lotterylib.presets import Preset
from lotterylib.subnetworks import WeightSubnetwork


@dataclass(frozen=True)
class Ranking:
    """The encoder's weights from the smallest magnitude to the largest.

    Attributes:
        order: int[weights], positions in the concatenation of the parameters.
        shapes: the parameters' shapes by name, in the order of the concatenation.
    """

    order: np.ndarray
    shapes: Mapping[str, tuple[int, ...]]

    def smallest_pruned(self, pruned: int) -> WeightSubnetwork:
        """What is left when that many of the smallest weights are pruned."""
        return self._select(self.order[pruned:])

    def largest_pruned(self, pruned: int) -> WeightSubnetwork:
        """What is left when that many of the largest weights are pruned (the authors' bad
        subnetwork).
        """
        return self._select(self.order[: len(self.order) - pruned])

    def _select(self, positions: np.ndarray) -> WeightSubnetwork:
        flat = np.zeros(len(self.order), dtype=bool)
        flat[positions] = True
        weights, start = {}, 0
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            weights[name] = flat[start : start + size].reshape(shape)
            start += size
        return WeightSubnetwork(weights)


def rank(weights: Mapping[str, np.ndarray]) -> Ranking:
    """Rank weights by magnitude over all parameters together; ties keep their order."""
    flat = np.concatenate([np.abs(array).ravel() for array in weights.values()])
    order = np.argsort(flat, kind="stable")
    return Ranking(order, {name: array.shape for name, array in weights.items()})


def pruned_counts(weights: int, share: float, steps: int) -> Iterator[int]:
    """How many weights are pruned after each step: a share of those that remain, rounded.

    The first is 0. `torch.nn.utils.prune.global_unstructured`, applied again and again, counts the
    same way.
    """
    pruned = 0
    yield pruned
    for _ in range(steps):
        pruned += round(share * (weights - pruned))
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
    preset: Preset,
    on_step: Callable[[MagnitudeStep], None] = lambda step: None,
) -> list[MagnitudeStep]:
    """Move the threshold up until the score falls below its share of the full model's.

    Args:
        measure: scores a subnetwork; it is called once per step.
        ranking: of the fine-tuned weights.
        preset: threshold, step, and the largest number of steps.
        on_step: told of every step as it is taken.

    Returns:
        Every state that was tried; the good subnetwork is `ranking.smallest_pruned` of the last
        one kept.
    """
    total = len(ranking.order)
    steps: list[MagnitudeStep] = []
    for pruned in pruned_counts(total, preset.magnitude_step, preset.magnitude_max_steps):
        score = measure(ranking.smallest_pruned(pruned))
        passed = not steps or score >= preset.threshold * steps[0].score
        steps.append(MagnitudeStep(pruned, 1 - pruned / total, score, passed))
        on_step(steps[-1])
        if not passed:
            break
    return steps


def last_kept(steps: list[MagnitudeStep]) -> MagnitudeStep:
    """The smallest state that kept its score."""
    return next(step for step in reversed(steps) if step.kept)
