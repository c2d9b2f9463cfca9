"""Findings: what the results say, in sentences whose every number is computed from the table.

The rules that turn numbers into verdicts stand here, so that a reader can disagree with them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lotterylib.agreement import SIGNIFICANCE
from lotterylib.report.evidence import (
    FROZEN,
    FULL,
    MAJORITY,
    Estimate,
    Predictions,
    Terms,
    claims_of,
    estimate,
    estimate_by_seeds,
    holm,
    judge,
    lowest_score,
    t_interval,
    verdict,
)
from lotterylib.report.tables import counted
from lotterylib.runs.methods import KINDS, METHODS
from lotterylib.tasks import METRIC_NAMES, TASKS, in_order

LESS_THAN_A_HEAD = 0.001
"""A density that only the biases of W_O can have, which belong to no head and always stay."""


def rows_of(results: pd.DataFrame, method: str, subnetwork: str, phase: str) -> pd.DataFrame:
    """The rows of one kind of model in the reported metric; names as for `scores`."""
    named = results[["method", "subnetwork", "phase"]] == [method, subnetwork, phase]
    return results[results["reported"] & named.all(axis=1)]


def scores(results: pd.DataFrame, method: str, subnetwork: str, phase: str) -> pd.Series:
    """The reported metric of one kind of model on one task, a value per seed (indexed by seed).

    Its names are those of the results table: the method of the full model and of the baselines is
    "none", the subnetwork "full" or a baseline's name.
    """
    return rows_of(results, method, subnetwork, phase).set_index("seed")["value"]


def learnt_tasks(results: pd.DataFrame) -> list[str]:
    """The tasks on which an encoder's full model beats the majority class, in the table's order.
    On others there is nothing for a subnetwork to keep.
    """
    parts = {str(task): part for task, part in results.groupby("task")}
    return [task for task in in_order(parts) if is_learnt(parts[task])]


def is_learnt(results: pd.DataFrame) -> bool:
    """Whether the full model of one task beats the majority class, on average over seeds."""
    full, majority = full_and_majority(results)
    return bool(full.mean() > majority)


def full_and_majority(results: pd.DataFrame) -> tuple[pd.Series, float]:
    """The full model's score per seed, and the majority class's."""
    return scores(results, *FULL), float(scores(results, *MAJORITY).iloc[0])


def spell(values: pd.Series, lowest: float = -1.0) -> str:
    """A mean with its 95% interval over the seeds that have a value, or why there is none.

    Args:
        values: scores, or differences of scores.
        lowest: the least that they can be; they are at most 1.
    """
    values = values.dropna()
    if values.empty:
        return "not defined"
    mean = _number(values.mean())
    if len(values) == 1:
        return f"{mean} (one seed)"
    low, high = t_interval(values)
    if np.isnan(low):
        return f"{mean} (the same in all {len(values)} seeds)"
    if low < lowest <= values.min() or high > 1 >= values.max():  # no score can be there
        return f"{mean} (interval over {len(values)} seeds not defined)"
    return f"{mean} (95% interval over {len(values)} seeds {_number(low)} to {_number(high)})"


def spell_scores(results: pd.DataFrame, values: pd.Series) -> str:
    """Scores of one task's reported metric, as `spell` tells them."""
    return spell(values, lowest_score(reported_metric(results)))


def reported_metric(results: pd.DataFrame) -> str:
    """The name of the metric that the paper reports on one task."""
    return str(results.loc[results["reported"], "metric"].iloc[0])


def spell_interval(value: float, low: float, high: float) -> str:
    """A value with its 95% interval; "not defined" where there is none."""
    if np.isnan(value):
        return "not defined"
    if np.isnan(low):
        return f"{_number(value)} (interval not defined)"
    return f"{_number(value)} (95% interval {_number(low)} to {_number(high)})"


def _number(value: float, form: str = ".3f") -> str:
    return f"{round(value, 3) + 0:{form}}"  # otherwise a hair below zero is "-0.000"


def warn(results: pd.DataFrame) -> str:
    """What a reader must know before believing the table; empty where there is nothing."""
    task = TASKS.get(str(results["task"].iloc[0]))
    notes = [task.warning] if task and task.warning else []
    if results["encoder"].iloc[0] == "tiny" or results["budget"].iloc[0] == "smoke":
        notes.append("This run only exercises the code: its scores mean nothing.")
    full, majority = full_and_majority(results)
    if not is_learnt(results):
        notes.append(
            f"The full model ({full.mean():.3f}) does not beat the majority class "
            f"({majority:.3f}), so there is nothing for a subnetwork to keep."
        )
    constant = results[results["reported"] & results["constant"] & (results["method"] != "none")]
    if len(constant):
        kinds = constant[["method", "subnetwork", "phase"]].agg(" ".join, axis=1)
        counts = kinds.value_counts(sort=False).items()
        listed = "; ".join(f"{kind}: {count}" for kind, count in counts)
        notes.append(f"Constant predictors (seeds in which every answer is the same): {listed}.")
    return "\n\n".join(notes)


def describe_full(results: pd.DataFrame) -> str:
    """What fine-tuning found."""
    full, majority = full_and_majority(results)
    metric = METRIC_NAMES[reported_metric(results)]
    text = f"The full model's {metric} is **{spell_scores(results, full)}**; always giving the "
    text += f"commonest training label reaches {majority:.3f}"
    frozen = scores(results, *FROZEN).iloc[0]
    text += f", a linear layer on the frozen encoder {frozen:.3f}."
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
    density = rows_of(results, method, "good", "pruned")["density"]
    return (
        f"The good subnetwork keeps **{density.mean():.0%}** of the encoder's dense parameters on "
        f"average over {counted(len(density), 'seed')} (from {density.min():.0%} to "
        f"{density.max():.0%}) and "
        f"scores {spell_scores(results, good)}, against {full.mean():.3f} for the full "
        "model. The search chose it on the very examples that it is scored on, as in the paper, so "
        "this score is optimistic."
    )


def difference(results: pd.DataFrame, method: str, phase: str, one: str, other: str) -> pd.Series:
    """Score of one kind of subnetwork less that of another, paired by seed."""
    return scores(results, method, one, phase) - scores(results, method, other, phase)


def describe_subnetworks(results: pd.DataFrame, method: str) -> str:
    """How good, random and bad subnetworks compare, pruned and retrained, also as shares of the way
    from the majority class to the full model where that beats it.
    """
    full, majority = full_and_majority(results)
    way = full.mean() - majority
    share = ", with the share of the way from the majority class to the full model that is "
    share = f"{share}recovered" if way > 0 else ""
    pruned, retrained = [], []
    for kind in KINDS:
        pruned.append(f"{kind} {scores(results, method, kind, 'pruned').mean():.3f}")
        score = scores(results, method, kind, "retrained").mean()
        told = f" ({(score - majority) / way:.0%} of the way)" if way > 0 else ""
        retrained.append(f"{kind} {score:.3f}{told}")
    gap = difference(results, method, "retrained", "good", "bad")
    return (
        f"**{method.capitalize()} pruning.** As pruned: {', '.join(pruned)}. "
        f"Retrained{share}: {', '.join(retrained)}. "
        f"Good less bad, retrained, seed by seed: {spell(gap)}."
    )


def describe_stability(table: pd.DataFrame) -> str:
    """What `agreement.stability_table` says, in sentences."""
    sentences = []
    for part, name in (("heads", "heads"), ("mlps", "MLPs")):
        row = table.loc[part]
        kappa = "is not defined" if np.isnan(row["kappa"]) else f"is **{row['kappa']:.2f}**"
        if not np.isnan(row["kappa_low"]):
            bounds = f"{row['kappa_low']:.2f} to {row['kappa_high']:.2f}"
            kappa += f" (95% interval over {name} {bounds})"
        if row["overlap_p"] < SIGNIFICANCE:
            told = "more than chance explains"
        elif row["overlap_p_least"] < SIGNIFICANCE:
            told = "not shown to be more than chance explains"
        else:
            told = "too few to tell whether that is more than chance"
        sentences.append(
            f"For {name}, Fleiss' kappa over {row['seeds']:.0f} seeds {kappa}. Two seeds share "
            f"{row['overlap']:.1f} {name} on average where masks of these sizes drawn at random "
            f"would share {row['chance']:.1f}: {told} (permutation test, p = "
            f"{row['overlap_p']:.3g}; for masks of these sizes it is at least "
            f"{row['overlap_p_least']:.2g})."
        )
    return " ".join(sentences)


def describe_super(results: pd.DataFrame) -> str:
    """What super-survivors keep of the full model's score, in sentences."""
    full, majority = full_and_majority(results)
    good = scores(results, "super", "good", "retrained")
    own = scores(results, "structured", "good", "retrained")
    gap = difference(results, "super", "retrained", "good", "bad")
    kept = rows_of(results, "super", "good", "retrained")["density"]
    if not kept.max() > LESS_THAN_A_HEAD:
        return "No head and no MLP survives in every seed: there are no super-survivors here."
    return (
        f"What survives in all {len(full)} seeds is {kept.mean():.0%} of the encoder. Retrained it "
        f"reaches **{spell_scores(results, good)}**, each seed's own good subnetwork "
        f"{own.mean():.3f}, the full model {full.mean():.3f} and the majority class "
        f"{majority:.3f}. Super-survivors less bad ones of their size, retrained, seed by seed: "
        f"{spell(gap)}."
    )


def describe_held_out(table: pd.DataFrame) -> str:
    """What searching and scoring on the same examples is worth, in sentences."""
    sentences = []
    for method, part in table.groupby("method", sort=False):
        half = part[part["searched on"] == "half of dev"]
        gap = half["seen"] - half["unseen"]
        sentences.append(
            f"**{str(method).capitalize()} pruning:** searched on one half of dev, the good "
            f"subnetwork loses {_number(-half['seen'].mean())} on that half and "
            f"{_number(-half['unseen'].mean())} on the other. The difference is {spell(gap)}. It "
            "holds what the search gains by choosing on the examples that score it, and what the "
            "two halves of dev differ in by chance, which an interval over seeds does not cover."
        )
    return "\n\n".join(sentences)


def describe_bad(results: pd.DataFrame) -> str:
    """What the score of a retrained bad subnetwork is worth, in sentences."""
    bad = scores(results, "structured", "bad", "retrained")
    frozen = scores(results, *FROZEN).iloc[0]
    bilstm = scores(results, "none", "bilstm", "trained").iloc[0]
    scratch = scores(results, "structured", "random", "from scratch")
    longer = scores(results, "structured", "bad", "longer") - bad
    halves = difference(results, "disjoint", "retrained", "good", "bad")
    rest = scores(results, "disjoint", "bad", "retrained")
    return "\n".join(
        (
            f"* Bad heads and MLPs, retrained: **{spell_scores(results, bad)}**. A linear layer on "
            f"the frozen encoder reaches {frozen:.3f}, a BiLSTM on its embeddings {bilstm:.3f}, "
            f"random weights trained as long {scratch.mean():.3f}. Bad less frozen: "
            f"{spell(bad - frozen)}.",
            f"* Twice the epochs change the bad ones by {spell(longer)}.",
            f"* Where good and bad share nothing, the less important half, retrained, reaches "
            f"{spell_scores(results, rest)}. The more important half less this one: "
            f"{spell(halves)}.",
        )
    )


def describe_variants(results: pd.DataFrame) -> str:
    """What searching heads and MLPs apart finds, in sentences."""
    full, _ = full_and_majority(results)
    kept = results[results["subnetwork"] == "good"].groupby("method")["density"].mean()
    union = scores(results, "union", "good", "pruned")
    share = f"{union.mean() / full.mean():.0%} of " if full.mean() > 0 else "against "
    return (
        f"Searching for heads alone leaves {kept['heads']:.0%} of the encoder and for MLPs alone "
        f"{kept['mlps']:.0%}; together {kept['structured']:.0%} are left. Both prunings found "
        f"apart, at once, leave {kept['union']:.0%} and score "
        f"**{spell_scores(results, union)}**, "
        f"{share}the full model's {full.mean():.3f}. Keeping 95% of "
        f"the score takes {kept['structured-95']:.0%} of the encoder and 80% takes "
        f"{kept['structured-80']:.0%}; for single weights {kept['magnitude-95']:.0%} and "
        f"{kept['magnitude-80']:.0%}."
    )


def describe_extensions(results: pd.DataFrame) -> str:
    """What the further methods change, in sentences; differences are paired by seed."""

    def less(method: str, phase: str, other: str, other_phase: str) -> str:
        own = scores(results, method, "good", phase)
        return spell(own - scores(results, other, "good", other_phase))

    lines = (
        "Rewound less retrained from the start: heads and MLPs "
        f"{less('structured', 'rewound', 'structured', 'retrained')}; weights "
        f"{less('magnitude', 'rewound', 'magnitude', 'retrained')}.",
        "Training between prunings, less the paper's way: "
        f"{less('iterative', 'retrained', 'magnitude', 'retrained')}.",
        "Pruning before fine-tuning, less the paper's way: "
        f"{less('before', 'retrained', 'magnitude', 'retrained')}.",
        f"As many weights, less heads and MLPs: pruned "
        f"{less('matched', 'pruned', 'structured', 'pruned')}; retrained "
        f"{less('matched', 'retrained', 'structured', 'retrained')}.",
    )
    return "\n".join(f"* {line}" for line in lines)


def claims(results: pd.DataFrame, found: Predictions | None = None) -> pd.DataFrame:
    """The claims of the paper's abstract that scores can decide, on one task (`report.evidence`).

    Args:
        results: the results table of one task.
        found: the predictions behind it; without them intervals are over seeds alone, and say so.

    Returns:
        One row per method and claim: its `letter` and `rule`; the `value` that is shown with its
        interval, `measured` in words; `seeds alone`, Student's interval in words; `p` (two-sided,
        the task alone), `direction`, and `verdict`; `learnt`, whether the full model beats the
        majority class, without which nothing is tested.
    """
    learnt, rows = is_learnt(results), []
    for method, claim in ((name, claim) for name in METHODS for claim in claims_of(name)):
        p, direction = judge([estimate_on(results, found, terms) for terms in claim.sums])
        if not learnt:
            p = float("nan")
        shown = estimate_on(results, found, claim.shown)
        measured = _bounds(shown.low, shown.high)
        measured = f"{measured} over {shown.over}" if measured else "(interval not defined)"
        row = {
            "method": method,
            "letter": claim.letter,
            "claim": claim.name,
            "rule": claim.rule,
            "measured": f"{_number(shown.value, '+.3f')} {measured}"
            if np.isfinite(shown.value)
            else "not defined",
            "seeds alone": _bounds(*shown.student) or "not defined",
            "p": p,
            "direction": direction,
            "verdict": verdict(p, direction),
            "learnt": learnt,
        }
        names = ("value", "error", "freedom", "low", "high", "over")
        rows.append(row | {name: getattr(shown, name) for name in names})
    return pd.DataFrame(rows)


def claims_over_tasks(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of `claims` of several tasks, with `task` and `corrected_p`, and the verdicts that
    hold after Holm's correction, for which each claim and method is one family, of all the tasks
    that were learnt. Generated tasks are a family of their own, so that what GLUE shows does not
    depend on them.
    """
    both = pd.concat([table.assign(task=task) for task, table in tables.items()])
    both = both.reset_index(drop=True)
    generated = both["task"].map(lambda name: name in TASKS and TASKS[name].is_bundled)
    both["corrected_p"] = both.groupby(["claim", "method", generated, "learnt"])["p"].transform(
        lambda values: holm(values.tolist())
    )
    both["verdict"] = [
        verdict(p, way) for p, way in zip(both["corrected_p"], both["direction"], strict=True)
    ]
    return both


def estimate_on(results: pd.DataFrame, found: Predictions | None, terms: Terms) -> Estimate:
    """A weighted sum of scores on one task, from predictions where all of its models have them."""
    if found is not None and all(model in found.models for _, model in terms):
        return estimate(found, terms)
    known = {model: scores(results, *model) for _, model in terms}
    return estimate_by_seeds(known, terms, reported_metric(results))


def _bounds(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
