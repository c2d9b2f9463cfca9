"""The structured search with made-up measures: no model, so every path can be built."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lotterylib.importance import Importance
from lotterylib.structured import (
    good_subnetwork,
    heads_at_once,
    prune_least_important,
    prune_to_half,
    search_structured,
)
from lotterylib.subnetworks import StructuredSubnetwork, bad_like

SPARING = {"min_heads_per_layer": 1}


def everything(layers=12, heads=12):
    return StructuredSubnetwork(np.ones((layers, heads), dtype=bool), np.ones(layers, dtype=bool))


def counts(subnetwork):
    return int(subnetwork.heads.sum()), int(subnetwork.mlps.sum())


def fixed_importance(layers=12, heads=12, seed=0):
    draw = np.random.default_rng(seed)
    return Importance(draw.random((layers, heads)), draw.random(layers))


def limits(least_heads, least_mlps, full_score=1.0):
    """A measure that passes for as long as that many heads and MLPs are left."""
    importance = fixed_importance()

    def measure(subnetwork):
        heads, mlps = counts(subnetwork)
        return importance, full_score if heads >= least_heads and mlps >= least_mlps else 0.0

    return measure


def trail(steps):
    return [(step.phase, *counts(step.subnetwork), step.kept) for step in steps]


def test_three_phases_with_exact_counts_and_undone_steps():
    steps = search_structured(limits(95, 6), everything())
    assert trail(steps) == [
        ("full", 144, 12, True),
        ("together", 130, 11, True),
        ("together", 116, 10, True),
        ("together", 102, 9, True),
        ("together", 88, 8, False),
        ("heads", 95, 9, True),
        ("heads", 88, 9, False),
        ("mlps", 95, 8, True),
        ("mlps", 95, 7, True),
        ("mlps", 95, 6, True),
        ("mlps", 95, 5, False),
    ]
    assert good_subnetwork(steps) == steps[9].subnetwork


@given(st.integers(0, 144), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_every_search_obeys_the_rules(least_heads, least_mlps):
    measured, told = [], []
    passes = limits(least_heads, least_mlps)

    def measure(subnetwork):
        measured.append(subnetwork)
        return passes(subnetwork)

    steps = search_structured(measure, everything(), on_step=told.append)
    assert told == steps
    assert [step.subnetwork for step in steps] == measured  # once each, in order
    order = [("full", "together", "heads", "mlps").index(step.phase) for step in steps]
    assert order == sorted(order)
    best = steps[0]
    for step in steps[1:]:
        heads, mlps = counts(best.subnetwork)
        lost = {"together": (14, 1), "heads": (7, 0), "mlps": (0, 1)}[step.phase]
        assert counts(step.subnetwork) == (max(heads - lost[0], 0), mlps - lost[1])
        assert not (step.subnetwork.heads & ~best.subnetwork.heads).any()  # nothing comes back
        assert not (step.subnetwork.mlps & ~best.subnetwork.mlps).any()
        assert step.kept == (step.score >= 0.9)
        best = step if step.kept else best
    assert good_subnetwork(steps) == best.subnetwork
    for phase in ("together", "heads", "mlps"):
        assert sum(not step.kept for step in steps if step.phase == phase) <= 1
    heads, mlps = counts(best.subnetwork)  # no step further could have passed
    assert heads >= least_heads
    assert mlps == least_mlps or heads == mlps == 0
    assert heads == 0 or heads - 7 < least_heads


def test_a_score_that_never_falls_ends_in_nothing():
    steps = search_structured(limits(0, 0), everything())
    together = [("together", max(144 - 14 * n, 0), 12 - n, True) for n in range(1, 12)]
    assert trail(steps) == [("full", 144, 12, True), *together, ("mlps", 0, 0, True)]
    assert counts(good_subnetwork(steps)) == (0, 0)


@pytest.mark.parametrize("factor", [0.37, 1.0])
def test_the_threshold_is_a_share_of_the_full_model_and_passes_itself(factor):
    scores = [1.0, 0.95, 0.9, 0.9 - 1e-9, 0.0, 0.0]
    given = iter(scores)
    steps = search_structured(lambda _: (fixed_importance(), factor * next(given)), everything())
    assert [step.kept for step in steps] == [True, True, True, False, False, False]


def test_importance_is_measured_anew_after_every_kept_step():
    """Whatever is least important now goes next: here, always the next one of a list."""
    order = np.random.default_rng(1).permutation(12).tolist()

    def measure(subnetwork):
        mlps, left = np.full(12, 5.0), [mlp for mlp in order if subnetwork.mlps[mlp]]
        mlps[left[:1]] = 1.0
        return Importance(np.arange(144.0).reshape(12, 12), mlps), float(subnetwork.heads.all())

    steps = search_structured(measure, everything())
    pruned = [~step.subnetwork.mlps for step in steps if step.phase == "mlps"]
    wanted = [sorted(order[: n + 1]) for n in range(12)]
    assert [np.flatnonzero(gone).tolist() for gone in pruned] == wanted


def test_stale_importance_changes_the_path():
    """The first step fails; what it measured must count only for the authors' variant."""

    def measure(subnetwork):
        whole = subnetwork == everything(2, 2)
        mlps = np.array([0.0, 1.0]) if whole else np.array([1.0, 0.0])
        heads = np.array([[1.0, 2.0], [3.0, 4.0]])
        return Importance(heads if whole else heads[::-1, ::-1].copy(), mlps), float(whole)

    fresh, stale = (
        search_structured(measure, everything(2, 2), stale_importance=s) for s in (False, True)
    )
    assert trail(fresh) == trail(stale)
    assert fresh[1].subnetwork == stale[1].subnetwork  # the first phase starts from the full model
    assert fresh[-1].subnetwork.mlps.tolist() == [False, True]
    assert stale[-1].subnetwork.mlps.tolist() == [True, False]
    assert fresh[2].subnetwork != stale[2].subnetwork


def slowly_pruned(kept, scores, lose, least=0):
    """One after the other, the least important of those that may go."""
    kept = kept.copy()
    spared = set()
    for layer in range(len(kept)):
        alive = [head for head in range(kept.shape[1]) if kept[layer, head]]
        best = sorted(alive, key=lambda head: (-scores[layer, head], head))[:least]
        spared |= {(layer, head) for head in best}
    for _ in range(lose):
        may_go = [place for place in zip(*np.nonzero(kept), strict=True) if place not in spared]
        if not may_go:
            break
        kept[min(may_go, key=lambda place: (scores[place], place))] = False
    return kept


levels = st.integers(0, 5).map(float)


@given(
    arrays(bool, (3, 4)),
    arrays(bool, 3),
    arrays(float, (3, 4), elements=levels),
    arrays(float, 3, elements=levels),
    *(st.integers(0, most) for most in (14, 4, 5)),
)
@settings(max_examples=150, deadline=None)
def test_the_least_important_survivors_go_but_for_a_layers_best(
    heads, mlps, head_scores, mlp_scores, lose, lose_mlps, least
):
    importance, before = Importance(head_scores, mlp_scores), heads.copy()
    smaller = prune_least_important(
        StructuredSubnetwork(heads, mlps), importance, lose, lose_mlps, least
    )
    scores = importance.normalised()
    assert np.array_equal(smaller.heads, slowly_pruned(heads, scores.heads, lose, least))
    assert np.array_equal(smaller.mlps, slowly_pruned(mlps[None], scores.mlps[None], lose_mlps)[0])
    assert np.array_equal(heads, before)


# --- heads alone, MLPs alone (appendix B) --------------------------------------


@pytest.mark.parametrize("sparing", [{}, SPARING])  # of no matter but to heads alone
def test_mlps_alone_go_one_by_one_and_only_heads_alone_are_spared(sparing):
    steps = search_structured(limits(144, 10), everything(), **sparing, parts=("mlps",))
    states = [("mlps", 144, 11, True), ("mlps", 144, 10, True), ("mlps", 144, 9, False)]
    assert trail(steps) == [("full", 144, 12, True), *states]
    joint = search_structured(limits(5, 3), everything(), **sparing)
    assert trail(joint) == trail(search_structured(limits(5, 3), everything()))


@given(st.integers(0, 144), st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_a_search_for_heads_can_leave_every_layer_one(least_heads, seed):
    importance = fixed_importance(seed=seed)

    def measure(subnetwork):
        return importance, float(counts(subnetwork)[0] >= least_heads)

    steps = search_structured(measure, everything(), **SPARING, parts=("heads",))
    normalised = importance.normalised().heads
    for before, after in pairwise(steps):
        wanted = slowly_pruned(before.subnetwork.heads, normalised, 14, 1)
        assert after.subnetwork == StructuredSubnetwork(wanted, everything().mlps)
    good = good_subnetwork(steps)
    assert counts(good)[0] - 14 < max(least_heads, 12)
    if least_heads <= 12:  # the score never stops it: the best head of every layer is left
        assert np.array_equal(good.heads.argmax(1), normalised.argmax(1))
        assert counts(good) == (12, 12)


# --- to one half, whatever the score -------------------------------------------


def test_half_of_heads_and_mlps_are_left_after_exact_steps():
    def halved(layers, heads, **step):
        found = fixed_importance(layers, heads), 0.0  # a score that never holds
        return trail(prune_to_half(lambda _: found, everything(layers, heads), **step))

    together = [("together", 144 - 14 * n, 12 - n, True) for n in range(1, 6)]
    assert halved(12, 12) == [("full", 144, 12, True), *together, ("together", 72, 6, True)]
    heads = [("heads", left, 1, True) for left in (9, 8, 7, 6)]
    assert halved(3, 4)[1:] == [("together", 11, 2, True), ("together", 10, 1, True), *heads]
    assert halved(12, 1)[1:] == [("together", left, left, True) for left in range(11, 5, -1)]
    few = [("together", 4, 3, True), ("mlps", 4, 2, True)]
    assert halved(4, 2, heads_step=0.5)[1:] == few
    assert [heads_at_once(share, 18) for share in (0.01, 0.1, 0.2)] == [1, 1, 3]


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.05, 0.1, 0.4]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_half_is_reached_step_by_step_and_leaves_room_for_a_bad_one(layers, heads, step, seed):
    measured, told = [], []

    def measure(subnetwork):
        draw = np.random.default_rng([seed, len(measured)])
        found = Importance(draw.random((layers, heads)), draw.random(layers)), draw.random()
        measured.append((subnetwork, *found))
        return found

    steps = prune_to_half(measure, everything(layers, heads), step, told.append)
    assert told == steps
    assert [(each.subnetwork, each.importance, each.score) for each in steps] == measured
    for (before, importance, _), (after, _, _) in pairwise(measured):
        lost = [mine - theirs for mine, theirs in zip(counts(before), counts(after), strict=True)]
        assert after == prune_least_important(before, importance, *lost)
        assert sum(lost) > 0
    good = good_subnetwork(steps)
    assert good == steps[-1].subnetwork
    bad = bad_like(good, seed)
    assert counts(good) == counts(bad) == (layers * heads // 2, layers // 2)
    assert not (bad.heads & good.heads).any()
    assert not (bad.mlps & good.mlps).any()
