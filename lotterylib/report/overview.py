"""The overview: tables and sentences over all tasks of an encoder, from what its runs published."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.agreement import PARTS, SIGNIFICANCE, Part, agreement, stack
from lotterylib.heterogeneity import correlation, heterogeneous_share, pattern_shares
from lotterylib.overlap import TaskOverlap
from lotterylib.patterns import PATTERNS
from lotterylib.report import paper
from lotterylib.report.audit_tables import overlaps
from lotterylib.report.findings import claims, claims_over_tasks, spell_interval
from lotterylib.report.published import Found, predictions_of
from lotterylib.report.tables import counted
from lotterylib.super_survivors import super_survivors
from lotterylib.tasks import in_order, title_of

Good = Mapping[str, Found]
"""Good structured subnetworks by task, method and seed (`published.load_subnetworks`)."""

NO_OVERLAP = "The tasks have too few seeds in common to be compared."


def runs_table(results: pd.DataFrame) -> pd.DataFrame:
    """What was run: a row per task with preset, budget, rows, epochs and seeds."""
    names = {"train_rows": "training rows", "examples": "dev rows"}
    columns = ["preset", "budget", "training rows", "dev rows", "epochs"]
    groups = results[results["subnetwork"] == "full"].rename(columns=names).groupby("task")
    table = groups[columns].first().loc[in_order(results["task"])]
    table["seeds"] = groups["seed"].agg(lambda seeds: ", ".join(map(str, seeds.unique())))
    return table.rename(index=title_of)


def judged(results: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The claims of `findings.claims` on all tasks of an encoder, corrected for their number.

    Args:
        results: of one encoder.
        folder: of its published pages, which may hold predictions.
    """
    return claims_over_tasks(
        {
            str(task): claims(part, predictions_of(folder / str(task)))
            for task, part in results.groupby("task", sort=False)
        }
    )


def claims_table(results: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """How often each claim held after the correction: a row per method and claim."""
    told = judged(results, folder)
    counts = told.groupby(["method", "claim"], sort=False)["verdict"].value_counts().unstack()
    return counts.reindex(columns=["yes", "no", "undecided", "not defined"]).fillna(0).astype(int)


def stability_over_tasks(good: Good) -> pd.DataFrame:
    """Agreement over the seeds of each task, a row per task and part, beside the paper's kappa.

    Tasks with a single seed are left out.
    """
    known = paper.stability().set_index(["task", "part"])["kappa"]
    columns = {"seeds": "seeds", "kappa": "kappa", "kappa_low": "low", "kappa_high": "high"}
    columns |= {"overlap": "shared", "chance": "by chance", "overlap_p": "p"}
    columns |= {"overlap_p_least": "least p"}
    rows = {}
    for task, part in itertools.product(good, PARTS):
        masks = list(good[task]["structured"].values())
        if len(masks) > 1:
            found = agreement(stack(masks, part))
            row = {name: getattr(found, field) for field, name in columns.items()}
            rows[title_of(task), part] = row | {"paper": known.get((task, part), np.nan)}
    index = pd.MultiIndex.from_tuples(rows, names=["task", "part"])
    return pd.DataFrame([*rows.values()], index, columns=[*columns.values(), "paper"]).round(4)


def overlap_of(good: Good, part: Part, of: str = "good") -> TaskOverlap | None:
    """What the tasks' good subnetworks share, for the seeds that all tasks have
    (`audit_tables.overlaps`).

    Returns:
        None where the tasks have no seed in common, or, for super-survivors, fewer than two.
    """
    first, *others = (found["structured"] for found in good.values())
    seeds = [seed for seed in first if all(seed in other for other in others)]
    if len(seeds) < (2 if of == "super" else 1):
        return None
    kept = {task: {s: found["structured"][s] for s in seeds} for task, found in good.items()}
    return overlaps(kept, part, of)


def overlap_beside_paper(overlaps: Mapping[str, TaskOverlap | None]) -> pd.DataFrame:
    """What two tasks share here and in the paper, for the pairs of tasks that both have.

    Args:
        overlaps: what `overlap_of` gave, by the part as `paper.task_overlap` names it.

    Returns:
        A row per part and pair: items shared (mean over seeds), the number expected by chance and
        their ratio, here and as reported. Encoders differ in size, so only the ratios compare.
    """
    rows = {}
    for part, overlap in overlaps.items():
        if overlap is None:
            continue
        known = paper.task_overlap(part).set_index(["task", "other"])
        for i, j in itertools.combinations(range(len(overlap.tasks)), 2):
            pair = overlap.tasks[i], overlap.tasks[j]
            if pair in known.index:
                ours = overlap.mean[i, j], overlap.chance[i, j]
                theirs = known.loc[pair, ["mean", "chance"]].to_numpy(dtype=float)
                row = [x for a, b in (ours, theirs) for x in (a, b, a / b)]
                rows[part, " and ".join(map(title_of, pair))] = row
    columns = pd.MultiIndex.from_product([["here", "paper"], ["shared", "by chance", "ratio"]])
    index = pd.MultiIndex.from_tuples(rows, names=["part", "tasks"])
    return pd.DataFrame([*rows.values()], index, columns).round(2)


def patterns_over_tasks(patterns: pd.DataFrame, good: Good, condition: str) -> pd.DataFrame:
    """Shares of the patterns among all heads and among super-survivors, for `figures.pattern_bars`.

    Args:
        patterns: `published.load_patterns`.
        good: subnetworks by task.
        condition: one of `pattern_counts.CONDITIONS`.

    Returns:
        Two rows per task (one where it has a single seed or nothing survives), each followed by
        the paper's where it has the task; a column per pattern, shares from 0 to 1.
    """
    known = paper.attention_patterns()
    known = known[known["weights"] + ", " + known["kind"] == condition]
    theirs = {
        group: dict(zip(part["pattern"], part["share"], strict=True))
        for group, part in known.groupby(["task", "heads"])
    }
    rows: dict[str, Mapping[str, float]] = {}
    for task, counts in _counts(patterns, condition):
        seeds = list(good[task]["structured"].values())
        survivors = super_survivors(seeds).heads if len(seeds) > 1 else np.zeros(0, dtype=bool)
        groups = (("super", "super-survivors", survivors), ("all", "all heads", None))
        for group, name, heads in groups if survivors.any() else groups[1:]:
            row = f"{title_of(task).replace(' (generated)', '')}, {name}"
            rows[row] = pattern_shares(counts, heads)
            if (task, group) in theirs:
                rows[f"{row} (paper)"] = theirs[task, group]
    return pd.DataFrame(rows).T[list(PATTERNS)]


def survival_and_heterogeneity(
    patterns: pd.DataFrame, good: Good, condition: str
) -> tuple[np.ndarray, np.ndarray]:
    """Survival and the share of heterogeneous maps of every head of every task.

    Returns:
        float[tasks, heads] each: the share of seeds that keep the head, and the share of its maps.
    """
    survival, share = [], []
    for task, counts in _counts(patterns, condition):
        kept = np.mean([found.heads for found in good[task]["structured"].values()], axis=0)
        survival.append(kept.ravel())
        share.append(heterogeneous_share(counts).ravel())
    return np.array(survival), np.array(share)


def describe(
    results: pd.DataFrame, good: Good, patterns: pd.DataFrame, overlap: TaskOverlap | None
) -> str:
    """What holds over tasks, in sentences."""
    lines = [f"* {counted(results['task'].nunique(), 'task')}."]
    table = stability_over_tasks(good)
    if len(table):
        heads = table.xs("heads", level="part")
        lines[0] += (
            f" Kappa of heads over seeds: {heads['kappa'].min():.2f} to "
            f"{heads['kappa'].max():.2f}; shared beyond chance at 5% on "
            f"{(heads['p'] < SIGNIFICANCE).sum()} of {len(heads)}."
        )
    if overlap is not None and len(overlap.tasks) > 1:
        pairs = np.tril_indices(len(overlap.tasks), -1)
        gaps = (overlap.mean - overlap.chance)[pairs]
        surer = int((overlap.p[pairs] < SIGNIFICANCE).sum())
        lines.append(
            f"* Two tasks share {overlap.mean[pairs].mean():.1f} heads on average, by chance "
            f"{overlap.chance[pairs].mean():.1f}; {surer} of {len(gaps)} pairs are above chance at "
            "5%, not corrected for their number."
        )
    for condition in ("fine-tuned, raw", "fine-tuned, normed"):
        points = survival_and_heterogeneity(patterns, good, condition)
        lines.append(
            f"* Correlation of survival with heterogeneous attention ({condition.split(', ')[1]} "
            f"maps), over {points[0].size} heads of tasks: {spell_interval(*correlation(*points))}."
        )
    return "\n".join(lines)


def _counts(patterns: pd.DataFrame, condition: str) -> Iterator[tuple[str, np.ndarray]]:
    """Counts over seeds of each task, int[layers, heads, patterns]."""
    for task, part in patterns[patterns["condition"] == condition].groupby("task", sort=False):
        summed = part.groupby(["layer", "head"])[list(PATTERNS)].sum()
        yield str(task), summed.to_numpy().reshape(part["layer"].max() + 1, -1, len(PATTERNS))
