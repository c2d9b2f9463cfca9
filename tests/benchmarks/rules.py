"""How often do the rules of evidence judge wrongly? Simulated runs whose truth is known.

    python -m tests.benchmarks.rules

Models are right on an example with a probability that depends on the example, the seed and the
model; the truth is the difference of their expected accuracies. Writes the share of each verdict by
situation, dev size and number of seeds to `book/rules_simulated.csv`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from lotterylib.report.evidence import (
    FULL,
    MAJORITY,
    Predictions,
    claims_of,
    estimate,
    judge,
    verdict,
)

GOOD = ("structured", "good", "retrained")
BAD = ("structured", "bad", "retrained")

WORSE = 0.03
"""By how much "slightly worse" is worse, in accuracy on average."""

COLLAPSED = 0.2
"""The share of runs that end at the majority class where some collapse."""

SITUATIONS = {
    # name: (loss of the bad one, share of collapsed runs)
    "equal": (0.0, 0.0),
    "slightly worse": (WORSE, 0.0),
    "equal, some runs collapse": (0.0, COLLAPSED),
    "slightly worse, some runs collapse": (WORSE, COLLAPSED),
}


def simulated(
    draw: np.random.Generator, examples: int, seeds: int, loss: float, collapsed: float
) -> Predictions:
    """A task of two classes, two thirds of one, with a full model, a good and a bad subnetwork."""
    labels = (draw.random(examples) < 2 / 3).astype(int)
    hard = draw.normal(0, 1.5, examples)  # some examples are hard for all

    def run(lower: float) -> np.ndarray:
        right = draw.random(examples) < expit(2.2 - lower + hard + draw.normal(0, 0.15))
        if draw.random() < collapsed:
            return np.ones(examples, dtype=int)
        return np.where(right, labels, 1 - labels)

    def runs(lower: float) -> dict[int, np.ndarray]:
        return {seed: run(lower) for seed in range(seeds)}

    lower = _logits_for(loss)
    models = {FULL: runs(0.0), GOOD: runs(0.0), BAD: runs(lower)}
    return Predictions("accuracy", labels, models | {MAJORITY: {0: np.ones(examples, dtype=int)}})


def _logits_for(loss: float) -> float:
    """By how much the logits must fall for the expected accuracy to fall by `loss`."""
    points = norm.ppf((np.arange(2000) + 0.5) / 2000) * np.hypot(1.5, 0.15)
    shifts = np.linspace(0, 1, 201)
    accuracy = expit(2.2 - shifts[:, None] + points).mean(1)
    return float(np.interp(loss, accuracy[0] - accuracy, shifts))


def share_of_verdicts(examples: int, seeds: int, name: str, repeats: int) -> dict[str, object]:
    """How often good is said to be better than bad, and bad to match the full model."""
    loss, collapsed = SITUATIONS[name]
    draw = np.random.default_rng([examples, seeds, list(SITUATIONS).index(name)])
    better, matches, covered = [], [], []
    matching = claims_of("structured")[0].sums[0]
    of_bad = [(weight, BAD if model == GOOD else model) for weight, model in matching]
    for _ in range(repeats):
        found = simulated(draw, examples, seeds, loss, collapsed)
        gap = estimate(found, ((1.0, GOOD), (-1.0, BAD)))
        better.append(verdict(*judge([gap])))
        covered.append(gap.low <= loss * (1 - collapsed) <= gap.high)
        matches.append(verdict(*judge([estimate(found, of_bad)])))
    row: dict[str, object] = {"situation": name, "examples": examples, "seeds": seeds}
    row |= {"loss": loss, "collapsed": collapsed, "repeats": repeats}
    row["interval holds the truth"] = np.mean(covered)
    for rule, verdicts in (("good beats bad", better), ("bad matches full", matches)):
        for word in ("yes", "no", "undecided", "not defined"):
            row[f"{rule}: {word}"] = np.mean([each == word for each in verdicts])
    return row


def main() -> None:
    """The command `python -m tests.benchmarks.rules`."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rules")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--csv", type=Path, default=Path("book/rules_simulated.csv"))
    options = parser.parse_args()
    rows = [
        share_of_verdicts(examples, seeds, name, options.repeats)
        for name in SITUATIONS
        for seeds in (2, 3, 5)
        for examples in (277, 408, 872, 1043, 1500)
    ]
    table = pd.DataFrame(rows).round(4)
    table.to_csv(options.csv, index=False, lineterminator="\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
