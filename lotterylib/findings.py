"""Findings: what the results say, in sentences whose every number is computed from the table.

The rules that turn numbers into verdicts stand here, so that a reader can disagree with them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lotterylib.figures import METRIC_NAMES
from lotterylib.results import t_interval
from lotterylib.subnetworks import KINDS
from lotterylib.tasks import TASKS

TRAINABLE = 0.5
"""A retrained subnetwork counts as trainable if it recovers at least this share of the way from the
majority class to the full model."""


def scores(results: pd.DataFrame, method: str, subnetwork: str, phase: str) -> pd.Series:
    """The reported metric of one kind of subnetwork, a value per seed (indexed by seed).

    Args:
        results: the results table of one task.
        method: "structured", "magnitude", or "none" for the full model and the majority class.
        subnetwork: "good", "random", "bad", "full" or "majority".
        phase: "pruned", "retrained", "fine-tuned", or "none" for the majority class.
    """
    chosen = results[
        results["reported"]
        & (results["method"] == method)
        & (results["subnetwork"] == subnetwork)
        & (results["phase"] == phase)
    ]
    return chosen.set_index("seed")["value"]


def full_and_majority(results: pd.DataFrame) -> tuple[pd.Series, float]:
    """The full model's score per seed, and the majority class's."""
    full = scores(results, "none", "full", "fine-tuned")
    return full, float(scores(results, "none", "majority", "none").iloc[0])


def spell(values: pd.Series) -> str:
    """A mean with its 95% interval over seeds, or the values where an interval makes no sense."""
    if len(values) < 2:
        return f"{values.iloc[0]:.3f} (one seed)"
    low, high = t_interval(values)
    return f"{values.mean():.3f} (95% interval over {len(values)} seeds {low:.3f} to {high:.3f})"


def warn(results: pd.DataFrame) -> str:
    """What a reader must know before believing the table; empty where there is nothing."""
    task = TASKS[str(results["task"].iloc[0])]
    notes = [task.warning] if task.warning else []
    if results["encoder"].iloc[0] == "tiny" or results["budget"].iloc[0] == "smoke":
        notes.append("This run only exercises the code: its scores mean nothing.")
    full, majority = full_and_majority(results)
    if not full.mean() > majority:
        notes.append(
            f"The full model ({full.mean():.3f}) does not beat the majority class "
            f"({majority:.3f}), so there is nothing for a subnetwork to keep."
        )
    constant = results[results["reported"] & results["constant"] & (results["method"] != "none")]
    if len(constant):
        kinds = constant.groupby(["method", "subnetwork", "phase"], sort=False).size()
        listed = "; ".join(
            f"{kind[0]} {kind[1]} {kind[2]}: {count}"  # type: ignore[index]
            for kind, count in kinds.items()
        )
        notes.append(f"Constant predictors (seeds in which every answer is the same): {listed}.")
    return "\n\n".join(notes)


def describe_full(results: pd.DataFrame) -> str:
    """What fine-tuning found."""
    full, majority = full_and_majority(results)
    metric = METRIC_NAMES[str(results.loc[results["reported"], "metric"].iloc[0])]
    text = f"The full model reaches a {metric} of **{spell(full)}**; always giving the commonest "
    text += f"training label reaches {majority:.3f}"
    frozen = scores(results, "none", "frozen", "linear layer")
    text += f", a linear layer on the frozen encoder {frozen.iloc[0]:.3f}."
    if len(full) > 1:
        text += (
            f" The seeds alone move the score by up to {full.max() - full.min():.3f}: differences "
            "between subnetworks that are smaller than this say little."
        )
    return text


def describe_search(results: pd.DataFrame, method: str) -> str:
    """What a search found: the size of the good subnetwork, and what its score is worth."""
    good = scores(results, method, "good", "pruned")
    full, _ = full_and_majority(results)
    rows = results[results["reported"] & (results["method"] == method)]
    density = rows.loc[rows["subnetwork"] == "good"].groupby("seed")["density"].first()
    return (
        f"The good subnetwork keeps **{density.mean():.0%}** of the encoder's dense parameters on "
        f"average over {len(density)} seeds (from {density.min():.0%} to {density.max():.0%}) and "
        f"scores {spell(good)}, against {full.mean():.3f} for the full model. The search chose it "
        "on the very examples that it is scored on, as in the paper, so this score is optimistic."
    )


def recovered(results: pd.DataFrame, method: str, kind: str) -> float:
    """How much of the way from the majority class to the full model retraining recovers: 1 is all.

    Returns:
        A mean over seeds; nan where the full model does not beat the majority class.
    """
    full, majority = full_and_majority(results)
    way = full.mean() - majority
    if not way > 0:
        return float("nan")
    return (scores(results, method, kind, "retrained").mean() - majority) / way


def difference(results: pd.DataFrame, method: str, phase: str, one: str, other: str) -> pd.Series:
    """Score of one kind of subnetwork less that of another, paired by seed."""
    return scores(results, method, one, phase) - scores(results, method, other, phase)


def describe_subnetworks(results: pd.DataFrame, method: str) -> str:
    """How good, random and bad subnetworks compare, pruned and retrained."""
    pruned = {kind: scores(results, method, kind, "pruned").mean() for kind in KINDS}
    retrained = {kind: scores(results, method, kind, "retrained") for kind in KINDS}
    listed = ", ".join(f"{kind} {value:.3f}" for kind, value in pruned.items())
    again = ", ".join(
        f"{kind} {values.mean():.3f} ({recovered(results, method, kind):.0%} of the way)"
        for kind, values in retrained.items()
    )
    gap = difference(results, method, "retrained", "good", "bad")
    return (
        f"**{method.capitalize()} pruning.** As pruned: {listed}. Retrained, with the share of the "
        f"way from the majority class to the full model that is recovered: {again}. Good less bad, "
        f"retrained, seed by seed: {spell(gap)}."
    )


def claims(results: pd.DataFrame) -> pd.DataFrame:
    """The paper's claims on one task, each held against a stated rule, and one more.

    The last is ours: what a linear layer reads off the frozen encoder needs no trainable
    subnetwork, so a bad one shows that it was trained only by doing better.

    Returns:
        One row per method and claim: `claim`, `rule`, `measured`, `verdict` ("yes" or "no", or
        "undecided" where the 95% interval over seeds of a difference contains zero, or where the
        full model does not beat the majority class).
    """
    full, majority = full_and_majority(results)
    learnt = full.mean() > majority
    rows = []
    for method in ("structured", "magnitude"):
        good = scores(results, method, "good", "retrained")
        line = full.mean() - (full.std(ddof=1) if len(full) > 1 else 0.0)
        rows.append(
            (
                method,
                "good subnetworks, retrained, match the full model",
                "mean at or above the full model's less one standard deviation",
                f"{good.mean():.3f} against {line:.3f}",
                ("yes" if good.mean() >= line else "no") if learnt else "undecided",
            )
        )
        for phase in ("pruned", "retrained"):
            gap = difference(results, method, phase, "good", "bad")
            rows.append(
                (
                    method,
                    f"good subnetworks beat bad ones, {phase}",
                    "difference above zero, paired by seed",
                    f"{gap.mean():+.3f}",
                    _sign(gap),
                )
            )
        share = recovered(results, method, "bad")
        rows.append(
            (
                method,
                "bad subnetworks remain trainable",
                f"at least {TRAINABLE:.0%} of the way from majority to full",
                f"{share:.0%}" if np.isfinite(share) else "full model below majority",
                ("yes" if share >= TRAINABLE else "no") if np.isfinite(share) else "undecided",
            )
        )
        frozen = scores(results, "none", "frozen", "linear layer").iloc[0]
        gain = scores(results, method, "bad", "retrained") - frozen
        rows.append(
            (
                method,
                "bad subnetworks, retrained, beat the frozen encoder",
                "difference to a linear layer on it above zero, by seed",
                f"{gain.mean():+.3f}",
                _sign(gain),
            )
        )
    return pd.DataFrame(rows, columns=["method", "claim", "rule", "measured", "verdict"])


def _sign(gap: pd.Series) -> str:
    low, high = t_interval(gap)
    if not (low > 0 or high < 0):
        return "undecided"
    return "yes" if low > 0 else "no"
