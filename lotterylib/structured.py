"""Structured pruning: the search for a good subnetwork of whole heads and MLPs (section 3.3).

Three phases, without any training: heads and MLPs together, then heads alone, then MLPs alone. In
each, the least important are pruned and importance is measured anew, for as long as the score keeps
its share of the full model's. A step that falls below is undone and ends its phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lotterylib.importance import Importance
from lotterylib.presets import Preset
from lotterylib.subnetworks import StructuredSubnetwork

Phase = Literal["full", "together", "heads", "mlps"]
Measure = Callable[[StructuredSubnetwork], tuple[Importance, float]]
"""Measures a subnetwork: its (raw) importance scores, and the score that decides the search."""


@dataclass(frozen=True)
class StructuredStep:
    """One state that the search tried; the first is the full model.

    Attributes:
        phase: what was being pruned.
        subnetwork: what was left.
        importance: raw scores measured in that state.
        score: of that state, in the metric that decides the search.
        kept: whether it passed; otherwise the step was undone.
    """

    phase: Phase
    subnetwork: StructuredSubnetwork
    importance: Importance
    score: float
    kept: bool


def search_structured(
    measure: Measure,
    full: StructuredSubnetwork,
    preset: Preset,
    on_step: Callable[[StructuredStep], None] = lambda step: None,
) -> list[StructuredStep]:
    """Search for the good subnetwork.

    Args:
        measure: scores one subnetwork; it is called once per step.
        full: the subnetwork that keeps everything.
        preset: threshold, step size, and whether a new phase starts from stale importance.
        on_step: told of every step as it is taken.

    Returns:
        Every state that was tried, in order; `good_subnetwork` picks the result.
    """
    importance, full_score = measure(full)
    best = StructuredStep("full", full, importance, full_score, kept=True)
    steps = [best]
    on_step(best)
    threshold = preset.threshold * full_score
    together = int(preset.heads_step * full.heads.size)
    plan: tuple[tuple[Phase, int, int], ...] = (
        ("together", max(1, together), 1),
        ("heads", max(1, together // 2), 0),
        ("mlps", 0, 1),
    )
    for phase, heads, mlps in plan:
        basis = steps[-1] if preset.stale_importance else best
        while _can_prune(best.subnetwork, heads, mlps):
            smaller = prune_least_important(best.subnetwork, basis.importance, heads, mlps)
            importance, score = measure(smaller)
            step = StructuredStep(phase, smaller, importance, score, kept=score >= threshold)
            steps.append(step)
            on_step(step)
            if not step.kept:
                break
            best = basis = step
    return steps


def good_subnetwork(steps: list[StructuredStep]) -> StructuredSubnetwork:
    """The last state that kept its score."""
    return next(step.subnetwork for step in reversed(steps) if step.kept)


def prune_least_important(
    subnetwork: StructuredSubnetwork, importance: Importance, heads: int, mlps: int
) -> StructuredSubnetwork:
    """Prune the least important surviving heads and MLPs; ties go to the earlier layer.

    Args:
        subnetwork: what survives so far.
        importance: raw scores; they are normalised here.
        heads: how many heads to prune, or all that are left if there are fewer.
        mlps: likewise for MLPs.
    """
    scores = importance.normalised()
    return StructuredSubnetwork(
        _prune(subnetwork.heads, scores.heads, heads), _prune(subnetwork.mlps, scores.mlps, mlps)
    )


def _can_prune(subnetwork: StructuredSubnetwork, heads: int, mlps: int) -> bool:
    return bool((not heads or subnetwork.heads.any()) and (not mlps or subnetwork.mlps.any()))


def _prune(kept: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(np.where(kept, scores, np.inf).ravel(), kind="stable")
    pruned = kept.copy()
    pruned.ravel()[order[: min(count, int(kept.sum()))]] = False
    return pruned
