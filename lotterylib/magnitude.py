"""Magnitude pruning: the search for a good subnetwork of single weights (section 3.2).

At each step a share of the remaining weights goes, those of the smallest magnitude in the whole
encoder (`encoder.prunable_weights`). Nothing is trained in between, so every step selects from the
same fine-tuned weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lotterylib.subnetworks import WeightSubnetwork


@dataclass(frozen=True)
class Ranking:
    """The encoder's weights by magnitude; equal ones in the order of the parameters.

    Attributes:
        shapes: of the parameters, by name.
        magnitudes: float[weights], of all parameters one after the other.
        ordered: the same, sorted once for all steps.
    """

    shapes: Mapping[str, tuple[int, ...]]
    magnitudes: np.ndarray
    ordered: np.ndarray

    @property
    def size(self) -> int:
        """How many weights are ranked."""
        return self.magnitudes.size

    def smallest_pruned(self, pruned: int) -> WeightSubnetwork:
        """What is left when that many of the smallest weights are pruned."""
        kept = np.ones(self.size, dtype=bool)
        if pruned:
            last = self.ordered[pruned - 1]
            kept = self.magnitudes > last
            equal = np.flatnonzero(self.magnitudes == last)  # the first of them go, the rest stays
            kept[equal[pruned - np.searchsorted(self.ordered, last) :]] = True
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes.values()])
        parts = zip(self.shapes.items(), np.split(kept, ends[:-1]), strict=True)
        return WeightSubnetwork({name: part.reshape(shape) for (name, shape), part in parts})


def rank(weights: Mapping[str, np.ndarray]) -> Ranking:
    """Rank weights by magnitude over all parameters together; they are not changed."""
    shapes = {name: array.shape for name, array in weights.items()}
    magnitudes = np.concatenate([np.abs(array).ravel() for array in weights.values()])
    return Ranking(shapes, magnitudes, np.sort(magnitudes))


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
    """Prune step by step until the score falls below its share of the full model's.

    Args:
        measure: scores a subnetwork; it is called once per step.
        ranking: of the fine-tuned weights.
        threshold: the share of the full model's score that the good subnetwork keeps; a state that
            has just that share passes.
        step: the share that goes at a step, 0 to 1 (section 3.2: 0.1; the released sizes come from
            0.05), `share` of `pruned_counts`.
        of: as for `pruned_counts`.
        max_steps: at most; the project's own limit.
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
