"""What holds: the five claims of the paper's abstract, each with its number, ours, and the verdict.

Claims (a) to (c) are about scores and come from `evidence`. Two more are about subnetworks: that
good ones are unstable over seeds (d), and that attention patterns do not explain them (e).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.heterogeneity import correlation
from lotterylib.report import overview, paper
from lotterylib.report.evidence import Terms, claims_of, mean_over_tasks
from lotterylib.report.findings import learnt_tasks
from lotterylib.report.published import load_patterns, load_subnetworks
from lotterylib.report.tables import markdown_table
from lotterylib.runs.methods import METHODS
from lotterylib.tasks import TASKS

UNSTABLE = 0.6
"""Subnetworks are unstable over seeds if the interval of Fleiss' kappa is below this, from where
on agreement is called substantial (Landis and Koch, 1977)."""

EXPLAINED = 0.1
"""Patterns do not explain what survives on a task if they could explain less than this share of its
variance anywhere in the interval of the correlation."""

METHOD_NAMES = {"structured": "heads and MLPs", "magnitude": "single weights"}


@dataclass(frozen=True)
class Held:
    """One claim, judged.

    Attributes:
        letter: "a" to "e".
        claim: in words.
        what: which subnetworks or maps.
        number: what the two numbers are.
        paper, value: the paper's number and ours; means over the tasks that were run here, but
            for claim (e), where the paper's correlation is over all of its tasks.
        low, high: the 95 % interval of ours.
        rule: when the claim holds.
        verdicts: on how many tasks it has which verdict, such as `{"yes": 3, "undecided": 1}`.
    """

    letter: str
    claim: str
    what: str
    number: str
    paper: float
    value: float
    low: float
    high: float
    rule: str
    verdicts: Mapping[str, int]


def glue_tasks(results: pd.DataFrame) -> list[str]:
    """GLUE's tasks on which the full model beats the majority class, in the order of the table."""
    return [name for name in learnt_tasks(results) if name in TASKS and not TASKS[name].is_bundled]


def what_holds(results: pd.DataFrame, pages: Path, encoder: str) -> list[Held]:
    """The claims of the abstract, judged on GLUE's tasks.

    Args:
        results: of one encoder.
        pages: the folder of the published pages.
        encoder: the encoder's folder in it.
    """
    tasks = glue_tasks(results)
    if not tasks:
        return []
    judged = overview.judged(results[results["task"].isin(tasks)], pages / encoder)
    _, good = load_subnetworks(pages, encoder)
    own = {task: good[task] for task in tasks if task in good}
    patterns = load_patterns(pages, encoder)
    patterns = patterns[patterns["task"].isin(own)]
    maps = {"raw": "raw attention maps", "normed": "norm-weighted maps"}
    return [
        *_on_scores(judged, tasks),
        *_stability(own),
        *(_patterns(patterns, own, kind, title) for kind, title in maps.items()),
    ]


_NUMBERS = {
    "a": "retrained good subnetworks less the full model",
    "b": "the difference of scores, retrained",
    "c": "retrained bad subnetworks less halfway from majority class to full model",
}


def _on_scores(judged: pd.DataFrame, tasks: Sequence[str]) -> list[Held]:
    held = []
    for method in METHODS:
        for claim in claims_of(method):
            rows = judged[(judged["method"] == method) & (judged["claim"] == claim.name)]
            names = claim.letter, claim.name, METHOD_NAMES[method], _NUMBERS[claim.letter]
            theirs = _of_paper(claim.shown, tasks)
            ours = mean_over_tasks(*rows[["value", "error", "freedom"]].to_numpy().T)
            held.append(Held(*names, theirs, *ours, claim.rule, Counter(rows["verdict"])))
    return sorted(held, key=lambda each: each.letter)


def _of_paper(terms: Terms, tasks: Sequence[str]) -> float:
    """A weighted sum of the paper's mean scores, over the same tasks as ours."""
    means = paper.scores().groupby(["task", "method", "subnetwork", "phase"])["mean"].first()
    return float(
        np.mean([sum(factor * means[task, *model] for factor, model in terms) for task in tasks])
    )


def _stability(good: overview.Good) -> list[Held]:
    stable = overview.stability_over_tasks(good)
    if stable.empty:
        return []
    heads = stable.xs("heads", level="part")
    known = heads[heads["kappa"].notna()]
    kappa, low, high = known[["kappa", "low", "high"]].to_numpy().T
    mean = kappa.mean()  # intervals of the tasks' own are not Student's
    bounds = zip(heads["low"], heads["high"], strict=True)
    return [
        Held(
            letter="d",
            claim="good subnetworks differ from seed to seed",
            what="heads",
            number="Fleiss' kappa over seeds (0 is chance, 1 is equality)",
            paper=float(known["paper"].mean()),
            value=mean,
            low=mean - np.linalg.norm(kappa - low) / len(kappa),
            high=mean + np.linalg.norm(high - kappa) / len(kappa),
            rule=f"the interval of kappa is below {UNSTABLE}",
            verdicts=Counter(_below(*each, UNSTABLE) for each in bounds),
        )
    ]


def _patterns(patterns: pd.DataFrame, good: overview.Good, kind: str, title: str) -> Held:
    points = overview.survival_and_heterogeneity(patterns, good, f"fine-tuned, {kind}")
    r, low, high = correlation(*points)
    return Held(
        letter="e",
        claim="attention patterns do not explain which heads survive",
        what=title,
        number="correlation of survival with heterogeneous attention, over all tasks at once",
        paper=paper.PATTERN_CORRELATION[kind],
        value=r,
        low=low,
        high=high,
        rule=f"nowhere in the interval of a task does r² reach {EXPLAINED}",
        verdicts=Counter(
            verdict for *_, verdict in explained_by_task(patterns, good, kind).values()
        ),
    )


def explained_by_task(
    patterns: pd.DataFrame, good: overview.Good, kind: str
) -> dict[str, tuple[float, float, float, str]]:
    """Claim (e) on each task, which a correlation over all tasks at once can hide (section 5.3).

    Args:
        patterns: counts of attention patterns, as `published.load_patterns` reads them.
        good: the good subnetworks by task, method and seed.
        kind: of attention maps, "raw" or "normed".

    Returns:
        By task the correlation of survival with heterogeneous attention, the bounds of its 95 %
        interval, and the verdict; nan and "not defined" where one of the two does not vary.
    """
    found = {}
    for task in good:
        own = patterns[patterns["task"] == task], {task: good[task]}
        r, low, high = correlation(
            *overview.survival_and_heterogeneity(*own, f"fine-tuned, {kind}")
        )
        furthest = max(abs(low), abs(high))
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        found[task] = r, low, high, _below(nearest**2, furthest**2, EXPLAINED)
    return found


def _below(low: float, high: float, line: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "not defined"
    return "yes" if high < line else "no" if low >= line else "undecided"


def spell_verdicts(held: Held) -> str:
    """The verdicts in words, such as "yes on 3 of 4 tasks, undecided on 1"."""
    total = sum(held.verdicts.values())
    first, *others = (
        word for word in ("yes", "no", "undecided", "not defined") if word in held.verdicts
    )
    if not others:
        return f"{first} on " + {1: "1 task", 2: "both tasks"}.get(total, f"all {total} tasks")
    told = [f"{first} on {held.verdicts[first]} of {total} tasks"]
    return ", ".join(told + [f"{word} on {held.verdicts[word]}" for word in others])


def table_of(held: Sequence[Held]) -> str:
    """The claims as a table in Markdown: claim, the paper's number, ours, and the verdict."""
    rows = []
    for each in held:
        bounds = f"{each.low:+.2f} to {each.high:+.2f}"
        ours = f"{each.value:+.2f} ({'not defined' if np.isnan(each.low) else bounds})"
        told = f"({each.letter}) {each.claim[0].upper()}{each.claim[1:]}"
        verdicts = f"**{spell_verdicts(each)}**"
        rows.append((told, each.what, f"{each.paper:+.2f}", ours, verdicts))
    return markdown_table(("Claim", "Of", "Paper", "Ours (95% interval)", "Holds?"), rows)
