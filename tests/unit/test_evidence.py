"""The rules of evidence: intervals over seeds and dev examples, and verdicts that need them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from lotterylib.report.evidence import (
    FROZEN,
    FULL,
    MAJORITY,
    Estimate,
    Predictions,
    claims_of,
    estimate,
    estimate_by_seeds,
    holm,
    judge,
    load_predictions,
    mean_over_tasks,
    save_predictions,
    verdict,
    weighted_scores,
)

GOOD, RANDOM, BAD = (("structured", kind, "retrained") for kind in ("good", "random", "bad"))


def noisy(draw, labels, right, seeds=5):
    return {s: np.where(draw.random(len(labels)) < right, labels, 1 - labels) for s in range(seeds)}


@pytest.fixture
def found():
    draw = np.random.default_rng(0)
    labels = (draw.random(400) < 0.6).astype(int)
    models = {FULL: noisy(draw, labels, 0.9), GOOD: noisy(draw, labels, 0.89)}
    models |= {BAD: noisy(draw, labels, 0.7), RANDOM: models[GOOD]}
    models |= {MAJORITY: {0: np.ones(400, dtype=int)}, FROZEN: {0: noisy(draw, labels, 0.8)[0]}}
    return Predictions("accuracy", labels, models)


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("accuracy", accuracy_score),
        ("matthews", matthews_corrcoef),
        ("f1", lambda truth, guess: f1_score(truth == 1, guess == 1)),
        ("pearson", lambda truth, guess: stats.pearsonr(guess, truth).statistic),
    ],
)
def test_weighted_scores_are_those_of_repeated_examples(metric, reference, rng):
    labels = rng.integers(0, 3, 40) if metric != "pearson" else rng.random(40)
    guesses = rng.integers(0, 3, (2, 40)) if metric != "pearson" else rng.random((2, 40))
    weights = rng.multinomial(40, np.full(40, 1 / 40), 3)
    found = weighted_scores(guesses, labels, weights.astype(float), metric)
    rows = [np.repeat(np.arange(40), counts) for counts in weights]
    wanted = [[reference(labels[r], guess[r]) for guess in guesses] for r in rows]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_constants_have_no_correlation():
    weights = np.ones((1, 4))
    for metric in ("matthews", "pearson"):
        assert weighted_scores(np.ones((1, 4)), np.array([0, 1, 1, 0]), weights, metric) == 0


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_variance_is_that_of_seeds_and_examples_without_what_both_share(seeds, found):
    models = {model: {s: found.models[model][s] for s in range(seeds)} for model in (GOOD, BAD)}
    gap = estimate(Predictions("accuracy", found.labels, models), ((1.0, GOOD), (-1.0, BAD)))
    right = np.array(
        [
            (found.models[GOOD][s] == found.labels).astype(float)
            - (found.models[BAD][s] == found.labels)
            for s in range(seeds)
        ]
    )
    assert gap.value == pytest.approx(right.mean())
    of_seeds = right.mean(1).var(ddof=1) / seeds
    of_examples = right.mean(0).var(ddof=1) / 400
    both = (right - right.mean(0) - right.mean(1)[:, None] + right.mean()).var() / 400 / (seeds - 1)
    variance = max(of_seeds, of_examples, of_seeds + of_examples - both)
    assert gap.error**2 == pytest.approx(variance, rel=0.1)
    assert gap.freedom == pytest.approx((seeds - 1) * (gap.error**2 / of_seeds) ** 2)
    reach = stats.t.ppf(0.975, gap.freedom) * gap.error
    assert (gap.high - gap.low) / 2 == pytest.approx(reach)
    assert gap.p == pytest.approx(2 * stats.t.sf(gap.value / gap.error, gap.freedom))
    assert gap.student == pytest.approx(
        stats.t.interval(0.95, seeds - 1, right.mean(), stats.sem(right.mean(1)))
    )


def test_what_is_not_defined_has_no_interval(found):
    nothing = estimate(found, ((1.0, GOOD), (-1.0, GOOD)))
    assert np.isnan([nothing.low, nothing.high, nothing.p]).all()
    labels = np.array([0, 1])  # so few that the interval would be wider than the scale
    few = Predictions("accuracy", labels, {GOOD: {0: labels, 1: 1 - labels}})
    assert np.isnan(estimate(few, ((1.0, GOOD),)).low)
    one, less = ((1.0, GOOD),), ((1.0, GOOD), (-0.9, FULL), (-0.1, MAJORITY))
    for terms, metric, defined in (
        (one, "accuracy", False),  # 0.4 ± 0.64, of 0 to 1
        (one, "f1", False),
        (one, "pearson", False),  # which could reach 1, not more
        (less, "accuracy", True),  # -0.59 ± 0.64, of -1 to 1
        (less, "matthews", True),  # of -2 to 2
    ):
        scores = {GOOD: [0.35, 0.45], FULL: [0.6, 0.6], MAJORITY: [0.5]}
        scores = {model: pd.Series(each) for model, each in scores.items()}
        wide = estimate_by_seeds(scores, terms, metric)
        assert np.isfinite([wide.low, wide.student[0], wide.p]).all() == defined


def test_two_seeds_that_agree_do_not_make_a_difference_sure():
    draw = np.random.default_rng(0)
    labels = np.zeros(400, dtype=int)

    def right(share):
        return draw.permutation(np.arange(400) >= share * 400).astype(int)

    models = {GOOD: {0: right(0.9), 1: right(0.7)}, FULL: {0: right(0.8), 1: right(0.6)}}
    found = estimate(Predictions("accuracy", labels, models), ((1.0, GOOD), (-1.0, FULL)))
    assert found.value == pytest.approx(0.1)
    assert found.freedom < 10  # not endless
    assert found.p > 0.01


def test_models_without_a_common_seed_cannot_be_compared(found):
    models = {GOOD: {3: found.models[GOOD][3]}, FULL: {4: found.labels}}
    scores = {model: pd.Series(dict.fromkeys(runs, 0.5)) for model, runs in models.items()}
    terms = ((1.0, GOOD), (-1.0, FULL))
    for each in (
        estimate(Predictions("accuracy", found.labels, models), terms),
        estimate_by_seeds(scores, terms, "accuracy"),
    ):
        assert np.isnan([each.value, each.low, each.p]).all()


def test_a_model_of_one_seed_is_not_held_against_the_other_seeds(found):
    models = {**found.models, GOOD: {3: found.models[GOOD][3]}}
    terms = ((1.0, GOOD), (-1.0, FULL), (-1.0, MAJORITY))
    gap = estimate(Predictions("accuracy", found.labels, models), terms)
    scores = {
        model: pd.Series({s: (run == found.labels).mean() for s, run in runs.items()})
        for model, runs in models.items()
    }
    alone = estimate_by_seeds(scores, terms, "accuracy")
    wanted = scores[GOOD][3] - scores[FULL][3] - scores[MAJORITY][0]
    for each in (gap, alone):
        assert (each.over, each.value) == ("one seed", pytest.approx(wanted))
        assert np.isnan([each.low, each.p]).all()


def given(value, p):
    return Estimate(value, "seeds", p=p)


def test_both_conditions_must_hold_and_one_failure_suffices():
    assert judge([given(0.1, 0.01), given(0.2, 0.04)]) == (0.04, 1)
    assert judge([given(-0.1, 0.01), given(0.2, 0.04)]) == (0.02, -1)
    assert judge([given(-0.1, 0.3), given(-0.2, 0.04)]) == (0.08, -1)
    assert judge([given(-0.1, 0.6), given(-0.2, 0.7)]) == (1, -1)
    assert judge([given(-0.1, 0.6)]) == (0.6, -1)
    assert np.isnan(judge([given(0.1, 0.01), given(0.2, float("nan"))])[0])
    assert judge([given(0.1, float("nan")), given(-0.2, 0.01)]) == (0.02, -1)
    assert np.isnan(judge([given(-0.1, float("nan")), given(0.2, 0.01)])[0])
    told = {
        (0.049, 1): "yes",
        (0.049, -1): "no",
        (0.05, 1): "undecided",
        (np.nan, 1): "not defined",
    }
    assert {case: verdict(*case) for case in told} == told


def test_holm_counts_every_test_that_was_made():
    """The smallest of four p-values counts four times, the next thrice, and none less than it; one
    that is not defined is the largest.
    """
    assert holm([0.01, 0.04, np.nan, 0.03]) == pytest.approx(
        [0.04, 0.09, np.nan, 0.09], nan_ok=True
    )
    assert np.isnan(holm([float("nan")])).all()


def test_claims_are_judged_by_all_their_sums(found):
    told = [
        verdict(*judge([estimate(found, terms) for terms in claim.sums]))
        for claim in claims_of("structured")
    ]
    assert told == ["yes", "not defined", "yes", "no"]  # random ones are the good ones here


def test_claims_are_held_against_shares_of_the_way_from_majority_to_full():
    scores = {FULL: 0.9, MAJORITY: 0.5, FROZEN: 0.6, GOOD: 0.87, BAD: 0.72, RANDOM: 0.8}
    sums = [
        [sum(factor * scores[model] for factor, model in terms) for terms in claim.sums]
        for claim in claims_of("structured")
    ]
    assert sums == [pytest.approx(each) for each in ([0.01], [0.07], [0.15], [0.02, 0.12])]


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_predictions_are_read_back(metric, found, tmp_path, rng):
    labels = found.labels if metric == "accuracy" else rng.random(400).astype(np.float32)
    save_predictions(Predictions(metric, labels, found.models), tmp_path / "predictions.parquet")
    again = load_predictions(tmp_path / "predictions.parquet")
    assert again.metric == metric
    np.testing.assert_array_equal(again.labels, labels)
    assert again.models.keys() == found.models.keys()
    for model, runs in found.models.items():
        for seed, values in runs.items():
            np.testing.assert_array_equal(again.models[model][seed], values)


def test_the_interval_of_a_mean_over_tasks_is_that_of_independent_errors():
    one = mean_over_tasks([0.3], [0.1], [4.0])
    assert one == pytest.approx(
        (0.3, 0.3 - stats.t.ppf(0.975, 4) * 0.1, 0.3 + 0.1 * stats.t.ppf(0.975, 4))
    )
    mean, low, high = mean_over_tasks([1.0, 3.0], [0.2, 0.2], [2.0, 2.0])
    reach = stats.t.ppf(0.975, 4) * np.hypot(0.2, 0.2) / 2
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - reach, 2.0 + reach))
    assert np.isnan(mean_over_tasks([1.0, 3.0], [np.nan, 0.2], [np.nan, 2.0])[1])
