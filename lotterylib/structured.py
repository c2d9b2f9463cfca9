"""Structured pruning: the search for a good subnetwork of whole heads and MLPs (section 3.3).

Three phases, without any training: heads and MLPs together, then heads alone, then MLPs alone. In
each, the least important are pruned and importance is measured anew, for as long as the score keeps
its share of the full model's. A step that falls below is undone and ends its phase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lotterylib.importance import Importance
from lotterylib.subnetworks import Prunable, StructuredSubnetwork

Phase = Literal["full", "together", "heads", "mlps"]
Measure = Callable[[StructuredSubnetwork], tuple[Importance, float]]
"""Measures a subnetwork, giving its (raw) importance and the score that decides the search."""


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


def heads_at_once(share: float, heads: int) -> int:
    """How many heads a step prunes: a share of all heads, rounded down, at least one."""
    return max(1, int(share * heads))


def search_structured(
    measure: Measure,
    full: StructuredSubnetwork,
    threshold: float = 0.9,
    heads_step: float = 0.1,
    heads_alone_step: float = 0.05,
    stale_importance: bool = False,
    min_heads_per_layer: int = 0,
    parts: Sequence[Prunable] = ("heads", "mlps"),
    on_step: Callable[[StructuredStep], None] = lambda step: None,
) -> list[StructuredStep]:
    """Search for the good subnetwork; returns every state that was tried, in order.

    Args:
        measure: scores one subnetwork; it is called once per step.
        full: the subnetwork that keeps everything.
        threshold: the share of the full model's score that the good subnetwork keeps; a state that
            has just that share passes.
        heads_step: the share of all heads that go at a step, as in `heads_at_once`: with one MLP
            (section 3.3), or without where `parts` are heads alone.
        heads_alone_step: likewise in the second phase, when heads go on without MLPs. The paper
            does not state it; authors' `find_head_mlp_masks.py`, line 262. Then MLPs go on, one at
            a step.
        stale_importance: whether a new phase starts from the importance measured in the state that
            just failed, as in the authors' code, instead of in the last one that passed.
        min_heads_per_layer: how many heads a search for heads alone leaves in every layer.
        parts: what is pruned; heads alone or MLPs alone go in one phase (paper, appendix B).
        on_step: told of every step as it is taken.
    """
    importance, full_score = measure(full)
    best = StructuredStep("full", full, importance, full_score, kept=True)
    steps = [best]
    on_step(best)
    lowest = threshold * full_score
    together = heads_at_once(heads_step, full.heads.size)
    alone = heads_at_once(heads_alone_step, full.heads.size)
    plan: tuple[tuple[Phase, int, int], ...] = (
        ("together", together, 1),
        ("heads", alone, 0),
        ("mlps", 0, 1),
    )
    least = 0
    if len(parts) == 1:
        plan = (("heads", together, 0) if "heads" in parts else ("mlps", 0, 1),)
        least = min_heads_per_layer
    for phase, heads, mlps in plan:
        basis = steps[-1] if stale_importance else best
        while _can_prune(best.subnetwork, heads, mlps, least):
            smaller = prune_least_important(best.subnetwork, basis.importance, heads, mlps, least)
            importance, score = measure(smaller)
            step = StructuredStep(phase, smaller, importance, score, kept=score >= lowest)
            steps.append(step)
            on_step(step)
            if not step.kept:
                break
            best = basis = step
    return steps


def prune_to_half(
    measure: Measure,
    full: StructuredSubnetwork,
    heads_step: float = 0.1,
    on_step: Callable[[StructuredStep], None] = lambda step: None,
) -> list[StructuredStep]:
    """Prune the least important until at most half of the heads and half of the MLPs are left.

    The score decides nothing. A bad subnetwork of the result's size then has nothing in common with
    it, unlike in the paper, where a good one of more than half forces an overlap. Arguments are
    those of `search_structured`.
    """
    importance, score = measure(full)
    steps = [StructuredStep("full", full, importance, score, kept=True)]
    on_step(steps[0])
    most = heads_at_once(heads_step, full.heads.size)
    while True:
        last = steps[-1]
        heads = min(most, int(last.subnetwork.heads.sum()) - full.heads.size // 2)
        mlps = min(1, int(last.subnetwork.mlps.sum()) - full.mlps.size // 2)
        if not heads and not mlps:
            return steps
        smaller = prune_least_important(last.subnetwork, last.importance, heads, mlps)
        importance, score = measure(smaller)
        phase: Phase = "together" if heads and mlps else "heads" if heads else "mlps"
        steps.append(StructuredStep(phase, smaller, importance, score, kept=True))
        on_step(steps[-1])


def good_subnetwork(steps: list[StructuredStep]) -> StructuredSubnetwork:
    """The last state that kept its score."""
    return next(step.subnetwork for step in reversed(steps) if step.kept)


def prune_least_important(
    subnetwork: StructuredSubnetwork,
    importance: Importance,
    heads: int,
    mlps: int,
    min_heads_per_layer: int = 0,
) -> StructuredSubnetwork:
    """Prune the least important surviving heads and MLPs; ties go to the earlier layer.

    Args:
        subnetwork: what survives so far.
        importance: raw scores; they are normalised here.
        heads, mlps: how many to prune, or all that are left if there are fewer.
        min_heads_per_layer: a layer's most important heads of this number are never pruned.
    """
    scores = importance.normalised()
    spared = np.where(subnetwork.heads, scores.heads, -np.inf)
    rank = np.argsort(np.argsort(-spared, axis=1, kind="stable"), axis=1)
    may_go = subnetwork.heads & (rank >= min_heads_per_layer)
    return StructuredSubnetwork(
        _prune(subnetwork.heads, scores.heads, heads, may_go),
        _prune(subnetwork.mlps, scores.mlps, mlps, subnetwork.mlps),
    )


def _can_prune(subnetwork: StructuredSubnetwork, heads: int, mlps: int, least: int) -> bool:
    heads_left = bool((subnetwork.heads.sum(1) > least).any())
    return (not heads or heads_left) and (not mlps or bool(subnetwork.mlps.any()))


def _prune(kept: np.ndarray, scores: np.ndarray, count: int, may_go: np.ndarray) -> np.ndarray:
    order = np.argsort(np.where(may_go, scores, np.inf).ravel(), kind="stable")
    pruned = kept.copy()
    pruned.ravel()[order[: min(count, int(may_go.sum()))]] = False
    return pruned
