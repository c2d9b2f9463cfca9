"""Evidence: the rules that turn paired predictions into intervals and verdicts.

A claim about a task is a weighted sum of scores, such as good less random. Seeds and dev examples
could have been others. The variance of the examples is measured by a bootstrap, which draws the
same ones for all models of the sum, that of the seeds from their scores. Noise of single seeds on
single examples is in both, so it is taken out once (plain resampling in two ways counts it three
times: Owen, 2007, "The pigeonhole bootstrap"). Few seeds determine their variance badly, so
intervals and p-values are Student's, with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05
"""Of all tests, after Holm's correction over the tasks of a claim."""

MARGIN = 0.1
"""A subnetwork matches the full model if it loses less than this share of the way from the majority
class to the full model; the searches themselves give away as much of the score (section 3)."""

TRAINABLE = 0.5
"""A subnetwork is trainable if it recovers more than this share of that way, and beats a linear
layer on the frozen encoder."""

RESAMPLES = 2000
_NOTHING = 1e-12  # what sums of scores that are equal may differ by
_SEED = 20200561

Model = tuple[str, str, str]
"""A method, a kind of subnetwork and a phase, as in the results table."""

FULL: Model = ("none", "full", "fine-tuned")
MAJORITY: Model = ("none", "majority", "none")
FROZEN: Model = ("none", "frozen", "linear layer")

Terms = Sequence[tuple[float, Model]]
"""A weighted sum of scores."""


@dataclass(frozen=True)
class Predictions:
    """What all models of a task predicted on its dev set.

    Attributes:
        metric: the one that is reported: "accuracy", "matthews", "f1" or "pearson".
        labels: of the dev examples, int or float[examples].
        models: per model and seed its predictions, like the labels; baselines have one seed.
    """

    metric: str
    labels: np.ndarray
    models: Mapping[Model, Mapping[int, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of scores with what is known of its uncertainty; nan is "not defined".

    Attributes:
        value: the mean over seeds.
        over: what the interval covers, in words.
        student: bounds of Student's 95 % interval over seeds alone.
        error, freedom: standard error of the mean and its degrees of freedom.
        low, high: bounds of the 95 % interval.
        p: two-sided, of a sum of zero.
    """

    value: float
    over: str
    student: tuple[float, float] = (np.nan, np.nan)
    error: float = np.nan
    freedom: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan


def weighted_scores(
    predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray, metric: str
) -> np.ndarray:
    """Scores under weights of the examples, as if each stood there so many times.

    Args:
        predictions: [models, examples], class codes or values.
        labels: [examples].
        weights: float[resamples, examples].
        metric: "accuracy", "matthews", "f1" (of the class 1) or "pearson".

    Returns:
        float64[resamples, models]; correlations of constants are 0.
    """
    total = weights.sum(1)[:, None]
    if metric == "accuracy":
        return weights @ (predictions == labels).T.astype(float) / total
    if metric == "f1":
        hits = weights @ ((predictions == 1) & (labels == 1)).T.astype(float)
        guessed, true = (weights @ (each == 1).T.astype(float) for each in (predictions, labels))
        return 2 * hits / np.maximum(guessed + np.reshape(true, (-1, 1)), 1e-18)
    if metric == "matthews":
        right = weights @ (predictions == labels).T.astype(float)
        both = squares = trues = 0.0
        for code in np.unique(np.concatenate([labels, predictions.ravel()])):
            guessed = weights @ (predictions == code).T.astype(float)
            true = weights @ (labels == code).astype(float)[:, None]
            both, squares, trues = both + guessed * true, squares + guessed**2, trues + true**2
        return _divided(right * total - both, (total**2 - squares) * (total**2 - trues))
    x, y = predictions.T.astype(float), labels.astype(float)[:, None]
    x, y = x - x.mean(0), y - y.mean()  # sums of squares of small numbers lose no digits
    sums = [weights @ part / total for part in (x, y, x * y, x * x, y * y)]
    product = (sums[3] - sums[0] ** 2) * (sums[4] - sums[1] ** 2)
    return _divided(sums[2] - sums[0] * sums[1], product)


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    safe = below > 1e-18
    return np.where(safe, above / np.sqrt(np.where(safe, below, 1.0)), 0.0)


def lowest_score(metric: str) -> float:
    """The lowest that a metric can be: 0 for accuracy and F1, -1 for correlations; all are at most
    1.
    """
    return 0.0 if metric in ("accuracy", "f1") else -1.0


def estimate(found: Predictions, terms: Terms) -> Estimate:
    """A weighted sum of scores with its interval over seeds and examples; baselines, which have no
    seed, are held against every seed.
    """
    seeds = _common_seeds({model: found.models[model] for _, model in terms})
    if not seeds:
        return Estimate(np.nan, "no seed that all have")
    weights = _example_weights(len(found.labels))
    sums = np.zeros((len(weights), len(seeds)))
    for factor, model in terms:
        runs = found.models[model]
        part = np.array([runs[seed] for seed in (seeds if _has_seeds(model) else runs)])
        sums += factor * weighted_scores(part, found.labels, weights, found.metric)
    own, resampled = sums[0], sums[1:]
    if len(seeds) < 2:
        return Estimate(float(own.mean()), "one seed")
    of_seeds = own.var(ddof=1) / len(seeds)
    of_examples = resampled.mean(1).var(ddof=1)
    alone = resampled.var(0, ddof=1).mean() / len(seeds)  # had each seed examples of its own
    common = max(0.0, (len(seeds) * alone - of_examples) / (len(seeds) - 1))
    variance = max(of_seeds, of_examples, of_seeds + of_examples - common)
    # that few seeds agree does not show that seeds make no difference
    from_seeds = of_seeds if np.ptp(own) > _NOTHING else common
    freedom = (len(seeds) - 1) * (variance / from_seeds) ** 2 if from_seeds > 0 else np.inf
    return _student(own, np.sqrt(variance), freedom, "seeds and examples", terms, found.metric)


@lru_cache(maxsize=2)
def _example_weights(examples: int) -> np.ndarray:
    """How often each example is drawn in each resample, after a row of ones: float64."""
    draw = np.random.default_rng(_SEED)
    drawn = draw.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES)
    return np.concatenate([np.ones((1, examples)), drawn])


def estimate_by_seeds(scores: Mapping[Model, pd.Series], terms: Terms, metric: str) -> Estimate:
    """A weighted sum of scores of which no predictions are known: an interval over seeds alone.

    Args:
        scores: in this metric, per model, by seed.
        terms: as in `estimate`.
        metric: "accuracy", "matthews", "f1" or "pearson".
    """
    seeds = _common_seeds({model: scores[model] for _, model in terms})
    if not seeds:
        return Estimate(np.nan, "no seed that all have")
    sums = np.zeros(len(seeds))
    for factor, model in terms:
        own = scores[model]
        sums += factor * (own.loc[seeds].to_numpy() if _has_seeds(model) else own.iloc[0])
    if len(seeds) < 2:
        return Estimate(float(sums.mean()), "one seed")
    error = sums.std(ddof=1) / np.sqrt(len(seeds))
    return _student(sums, error, len(seeds) - 1, "seeds", terms, metric)


def _has_seeds(model: Model) -> bool:
    return model[0] != "none" or model == FULL


def _common_seeds(runs: Mapping[Model, Mapping[int, object] | pd.Series]) -> list[int]:
    """The seeds that all models have; of baselines alone, the one they stand under."""
    first, *others = [r for model, r in runs.items() if _has_seeds(model)] or [*runs.values()][:1]
    return [seed for seed in first.keys() if all(seed in run for run in others)]  # noqa: SIM118


def _student(
    sums: np.ndarray, error: float, freedom: float, over: str, terms: Terms, metric: str
) -> Estimate:
    """The estimate of a mean with a standard error and its degrees of freedom. An interval that
    goes beyond what the sum can be is not defined.
    """
    value = float(sums.mean())
    ends = lowest_score(metric), 1.0
    least = sum(min(factor * end for end in ends) for factor, _ in terms) - _NOTHING
    most = sum(max(factor * end for end in ends) for factor, _ in terms) + _NOTHING
    low, high = t_interval(sums)
    found = Estimate(value, over, (low, high) if least <= low <= high <= most else (np.nan, np.nan))
    reach = float(stats.t.ppf(1 - LEVEL / 2, freedom) * error)
    if not error > _NOTHING or value - reach < least or value + reach > most:
        return found
    return replace(
        found,
        error=float(error),
        freedom=float(freedom),
        low=value - reach,
        high=value + reach,
        p=float(2 * stats.t.sf(abs(value) / error, freedom)),
    )


def t_interval(values: Iterable[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean over seeds; nan for fewer than two, or if all agree."""
    array = np.asarray(list(values), dtype=float)
    if len(array) < 2 or not np.ptp(array) > _NOTHING:
        return np.nan, np.nan
    low, high = stats.t.interval(1 - LEVEL, len(array) - 1, array.mean(), stats.sem(array))
    return float(low), float(high)


def mean_over_tasks(
    values: Sequence[float], errors: Sequence[float], freedoms: Sequence[float]
) -> tuple[float, float, float]:
    """The mean of estimates of different tasks, whose errors are independent, and its 95 % interval
    with Satterthwaite's degrees of freedom; nan where an error is not defined.
    """
    mean, variances = float(np.mean(values)), np.square(errors)
    total = variances.sum()
    freedom = total**2 / (variances**2 / np.asarray(freedoms)).sum()
    reach = stats.t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(total) / len(variances)
    return mean, float(mean - reach), float(mean + reach)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper's abstract about one method on one task.

    Attributes:
        letter: under which the book lists it.
        name: in words.
        rule: when it holds, in words.
        sums: weighted sums of scores, all of which must exceed zero.
        shown: the sum whose value is shown.
    """

    letter: str
    name: str
    rule: str
    sums: tuple[Terms, ...]
    shown: Terms


def claims_of(method: str) -> list[Claim]:
    """The claims that scores can decide, for a method."""
    good, random, bad = ((method, kind, "retrained") for kind in ("good", "random", "bad"))
    line = [(-(1 - MARGIN), FULL), (-MARGIN, MAJORITY)]
    way = [(-TRAINABLE, FULL), (-(1 - TRAINABLE), MAJORITY)]
    return [
        Claim(
            "a",
            "good subnetworks, retrained, match the full model",
            f"they lose less than {MARGIN:.0%} of the way from majority class to full model",
            (((1.0, good), *line),),
            ((1.0, good), (-1.0, FULL)),
        ),
        Claim(
            "b",
            "random subnetworks, retrained, do worse than good ones (section 4.2)",
            "good less random is above zero, paired by seed",
            (((1.0, good), (-1.0, random)),),
            ((1.0, good), (-1.0, random)),
        ),
        Claim(
            "b",
            "bad subnetworks, retrained, do worse than good ones",
            "good less bad is above zero, paired by seed",
            (((1.0, good), (-1.0, bad)),),
            ((1.0, good), (-1.0, bad)),
        ),
        Claim(
            "c",
            "even bad subnetworks remain trainable",
            f"they recover more than {TRAINABLE:.0%} of the way from majority class to full model, "
            "and beat a linear layer on the frozen encoder",
            (((1.0, bad), *way), ((1.0, bad), (-1.0, FROZEN))),
            ((1.0, bad), *way),
        ),
    ]


def judge(estimates: Sequence[Estimate]) -> tuple[float, int]:
    """The p-value of a claim whose sums must all exceed zero, and which way it points: 1 or -1.

    To say yes all must be shown to be above zero (the largest p counts); to say no one that is
    below suffices (the smallest of those counts, times the number of sums, any of which might have
    been below). nan if none of these p is defined, and, to say yes, if one is not.
    """
    below = [each.p for each in estimates if each.value <= 0]
    if below:
        return float(np.minimum(1.0, np.fmin.reduce(below) * len(estimates))), -1
    return float(np.max([each.p for each in estimates])), 1


def verdict(p: float, direction: int) -> str:
    """The verdict of a corrected p-value and its direction: yes, no, undecided or not defined."""
    if np.isnan(p):
        return "not defined"
    return "undecided" if p >= LEVEL else "yes" if direction > 0 else "no"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction over one family. nan stays nan and counts like a p of 1: a test that is too
    uncertain to be defined was nevertheless one of the tests.
    """
    values = np.asarray(p_values, dtype=float)
    corrected = multipletests(np.nan_to_num(values, nan=1.0), LEVEL, method="holm")[1]
    return np.where(np.isnan(values), np.nan, corrected)


def save_predictions(found: Predictions, path: Path) -> None:
    """Write predictions as parquet: a row per model and seed, and one of the labels."""
    packed = np.float32 if found.metric == "pearson" else np.int8
    rows = [("", "labels", found.metric, 0, np.asarray(found.labels, packed))]
    for model, runs in found.models.items():
        rows += [(*model, seed, np.asarray(values, packed)) for seed, values in runs.items()]
    names = ["method", "subnetwork", "phase", "seed", "predictions"]
    pd.DataFrame(rows, columns=names).to_parquet(path, index=False, compression="zstd")


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote."""
    models: dict[Model, dict[int, np.ndarray]] = {}
    (_, _, metric, _, labels), *rows = pd.read_parquet(path).itertuples(index=False)
    for method, kind, phase, seed, values in rows:
        models.setdefault((method, kind, phase), {})[seed] = values
    return Predictions(metric, labels, models)
