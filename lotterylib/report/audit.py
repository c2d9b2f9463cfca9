"""The audit: what the authors' released masks give, beside what they and the paper report.

Everything here needs masks only, no model. `imported` brings the masks into the run store,
`audit_tables` has the numbers, `paper` the reported ones, `audit_page` the words of the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lotterylib.agreement import Part
from lotterylib.data.files import at_home
from lotterylib.errors import LotteryError
from lotterylib.overlap import TaskOverlap
from lotterylib.report import paper
from lotterylib.report.audit_tables import agreement_of, overlaps, sharing_table, sizes_table
from lotterylib.report.imported import BERT_BASE, FAMILIES, ByTask, Found, load_imported
from lotterylib.runs.settings import refuse_misspelt
from lotterylib.super_survivors import super_survivors
from lotterylib.tasks import TASKS

DIGITS = {"kappa": 4, "cochran_q": 3, "jaccard": 4, "overlap": 1, "similar_pairs": 0}
"""Decimals to which the reported stability is known. (Its level of chance was estimated by
permutations, ours is exact: they differ by less than 0.1 and are not compared.)"""

PART_NAMES: dict[Part, str] = {"heads": "heads", "mlps": "MLPs"}

_SHARES = {
    "structured": ("structured", "good"),
    "heads": ("heads", "good"),
    "mlps": ("mlps", "good"),
    "random": ("structured", "random"),
    "super": ("super", "good"),
}
"""The reported sizes of each family, by method and kind."""

_LIKE = {"bad": "structured", "super-random": "super", "super-bad": "super"}
"""Families of which no shares are reported; they must have as many heads and MLPs as another."""


def open_audit(namespace: dict[str, Any]) -> Found:
    """The imported subnetworks by family, for a notebook's parameters.

    Args:
        namespace: the notebook's `globals()`, with `run_store`, the folder of the run store,
            `pages`, that of the published pages, and `variants`, with those of other presets.

    Raises:
        LotteryError: a misspelt parameter, a single seed, or nothing in this store that a search
            found.
    """
    refuse_misspelt(namespace, ["run_store", "pages", "variants"])
    found = load_imported(at_home(str(namespace["run_store"])))
    if not searches(found):
        raise LotteryError(
            f"The run store {namespace['run_store']} holds no imported masks that a search found: "
            "run 'lottery import-masks DIR' with a copy of sai-prasanna/bert-experiments."
        )
    if any(len(seeds) < 2 for tasks in found.values() for seeds in tasks.values()):
        raise LotteryError("The audit needs the masks of at least two seeds of every task.")
    return found


def searches(found: Iterable[str]) -> list[str]:
    """The families among these that a search found, in the order of `FAMILIES`."""
    return [name for name, family in FAMILIES.items() if family.found and name in set(found)]


def sizes_beside(found: ByTask, family: str = "structured") -> pd.DataFrame:
    """Heads and MLPs of every seed, the shares of size, and whether they are the reported ones.

    Args:
        found: subnetworks by task and seed.
        family: which they are.

    Returns:
        One row per task: heads and MLPs by seed; mean over seeds of the `encoder` share and of the
        `printed` one, each also by the authors' count, ` (authors)`, in which a layer without heads
        has lost the bias of its W_O; `reported` (the printed share; nan where there is none) and
        `agrees`.
    """
    groups = paper.sizes().groupby(["method", "subnetwork"])
    known = groups.get_group(_SHARES[_LIKE.get(family, family)])
    rows = {}
    for task, ours in sizes_table({family: found}).groupby("task", sort=False):
        theirs = known[known["task"] == task].set_index("seed")
        both = ours.set_index("seed").join(theirs, rsuffix="_known")
        counts = all((both[n] == both[f"{n}_known"].fillna(-1)).all() for n in ("heads", "mlps"))
        reported = np.nan if family in _LIKE else theirs["printed_mean"].iloc[0]
        mean = ours.mean(numeric_only=True)
        rows[TASKS[str(task)].title] = {
            "heads": ", ".join(ours["heads"].astype(str)),
            "MLPs": ", ".join(ours["mlps"].astype(str)),
            "encoder": mean["encoder"],
            "encoder (authors)": mean["encoder_authors"],
            "printed": mean["printed"],
            "printed (authors)": mean["printed_authors"],
            "reported": reported,
            "agrees": counts and _close(mean["printed_authors"], reported, 4),
        }
    return pd.DataFrame(rows).T


def stability_beside(found: ByTask, part: Part) -> pd.DataFrame:
    """Agreement over seeds of what was found together, recomputed, beside the reported values.

    Returns:
        One row per task: the columns of `agreement_of`, the reported kappa, Q and its p with the
        suffix " known", and `agrees`.
    """
    table = agreement_of(found, part)
    known = paper.stability().query("part == @part").set_index("task").loc[table.index]
    p = known["cochran_p"]
    agrees = p.isna() | np.isclose(table["cochran_p"], p, rtol=5e-4, atol=0)
    for name, digits in DIGITS.items():
        agrees &= _close(table[name], known[name], digits)
    table = table.join(known[["kappa", "cochran_q", "cochran_p"]], rsuffix=" known")
    return table.assign(agrees=agrees).rename(lambda task: TASKS[task].title)


def super_beside(found: ByTask, family: str = "structured") -> pd.DataFrame:
    """How many heads and MLPs survive in all seeds of a task, beside the reported numbers.

    Returns:
        One row per task: `heads`, `MLPs`, the `printed` share, and, of what was found together (of
        the others nothing is reported), `heads reported`, `MLPs reported` and `agrees`.
    """
    rows = {}
    for task, seeds in found.items():
        kept = super_survivors(list(seeds.values()))
        heads, mlps = int(kept.heads.sum()), int(kept.mlps.sum())
        rows[task] = {"heads": heads, "MLPs": mlps, "printed": kept.printed_share(BERT_BASE)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    if family == "structured":
        known = paper.sizes().query("method == 'super' and subnetwork == 'good'")
        theirs = known.groupby("task")[["heads", "mlps"]].first().loc[table.index].astype(int)
        table[["heads reported", "MLPs reported"]] = theirs
        table["agrees"] = (table[["heads", "MLPs"]].to_numpy() == theirs).all(axis=1)
    return table.rename(lambda task: TASKS[task].title)


def overlap_agrees(overlap: TaskOverlap, of: str = "good") -> bool:
    """Whether an overlap has the reported means, deviations and levels of chance.

    Raises:
        LotteryError: nothing is reported on this part (the super-survivors' MLPs).
    """
    known = paper.task_overlap(f"super {overlap.part}" if of == "super" else overlap.part)
    tasks = list(overlap.tasks)
    digits = {"mean": 1, "chance": 2}
    if of != "super":  # one subnetwork per task has no deviation
        digits["sd"] = 2
    theirs = known.pivot(index="task", columns="other").loc[tasks]
    return all(
        _close(getattr(overlap, name), theirs[name][tasks], count).all(axis=None)
        for name, count in digits.items()
    )


def super_masks_agree(found: Found) -> bool:
    """Whether the released super-survivors are, for every seed, what all seeds of a task keep."""
    return all(
        kept == super_survivors(list(found["structured"][task].values()))
        for task, seeds in found["super"].items()
        for kept in seeds.values()
    )


def bad_holds_no_more_good_than_it_must(found: Found) -> bool:
    """Whether the released bad masks share with the good ones just what their size forces."""
    table = sharing_table(found)
    ours, forced = (table.filter(regex=f"^{name}").to_numpy() for name in ("found", "forced"))
    return np.allclose(ours, forced, atol=1e-12, equal_nan=True)


def checks(found: Found) -> dict[str, bool]:
    """Every comparison that the imported families allow, and whether it comes out equal."""
    told = {}
    for name, tasks in found.items():
        what = "numbers of heads and MLPs" if name in _LIKE else "heads, MLPs and printed share"
        told[f"{what}: {FAMILIES[name].title}"] = bool(sizes_beside(tasks, name)["agrees"].all())
    if "structured" not in found:
        return told
    good = found["structured"]
    for part, name in PART_NAMES.items():
        agrees = bool(stability_beside(good, part)["agrees"].all())
        told[f"kappa, Cochran's Q and Jaccard of {name}"] = agrees
        agrees = overlap_agrees(overlaps(good, part))
        told[f"overlap of {name}, with deviation and level of chance"] = agrees
    told["how many heads and MLPs all seeds keep"] = bool(super_beside(good)["agrees"].all())
    agrees = overlap_agrees(overlaps(good, "heads", "super"), "super")
    told["overlap of super-survivors' heads"] = agrees
    if "super" in found:
        told["released super-survivors: what all seeds keep"] = super_masks_agree(found)
    if "bad" in found:
        agrees = bad_holds_no_more_good_than_it_must(found)
        told["released bad masks: of the good no more than their size forces"] = agrees
    return told


def _close(ours: Any, theirs: Any, digits: int) -> Any:
    # where nothing is reported, nothing can disagree
    return np.isnan(theirs) | (abs(ours - theirs) <= 0.5 * 10**-digits * 1.0001)
