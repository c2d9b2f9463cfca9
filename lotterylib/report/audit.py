"""The audit: what the authors' released masks give, beside what they and the paper report.

Everything here needs masks only, no model: sizes, stability, super-survivors, overlap between
tasks, and how much of the good is in the bad. `imported` brings the masks into the run store,
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
from lotterylib.report.audit_tables import (
    ByTask,
    Found,
    agreement_of,
    overlaps,
    sharing_table,
    sizes_table,
)
from lotterylib.report.imported import BERT_BASE, FAMILIES, load_imported
from lotterylib.runs.settings import refuse_misspelt
from lotterylib.subnetworks import StructuredSubnetwork
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
"""The reported sizes of each family."""
_LIKE = {"bad": "structured", "super-random": "super", "super-bad": "super"}
"""Families that must have as many heads and MLPs as another."""


def open_audit(namespace: dict[str, Any]) -> Found:
    """The imported subnetworks by family, for a notebook's parameters.

    Args:
        namespace: the notebook's `globals()`, with `run_store`, the folder of the run store,
            `pages`, that of the published pages, and `variants`, with those of other presets.

    Raises:
        LotteryError: a misspelt parameter, subnetworks of another encoder, or nothing in this
            store that a search found.
    """
    refuse_misspelt(namespace, ["run_store", "pages", "variants"])
    found = load_imported(at_home(str(namespace["run_store"])))
    if not searches(found):
        raise LotteryError(
            f"The run store {namespace['run_store']} holds no imported masks that a search found: "
            "run 'lottery import-masks DIR' with a copy of sai-prasanna/bert-experiments."
        )
    every = [seeds for tasks in found.values() for seeds in tasks.values()]
    check_auditable(kept for seeds in every for kept in seeds.values())
    if any(len(seeds) < 2 for seeds in every):
        raise LotteryError("The audit needs the masks of at least two seeds of every task.")
    return found


def searches(found: Iterable[str]) -> list[str]:
    """The families among these that a search found, in the order of `FAMILIES`."""
    return [name for name, family in FAMILIES.items() if family.found and name in set(found)]


def check_auditable(subnetworks: Iterable[StructuredSubnetwork]) -> None:
    """Refuse subnetworks of another encoder than BERT-base, of which the audit is.

    Raises:
        LotteryError: naming the shape that was found.
    """
    for kept in subnetworks:
        if kept.heads.shape != (BERT_BASE.layers, BERT_BASE.heads):
            raise LotteryError(
                f"The masks are of {kept.heads.shape[0]} layers of {kept.heads.shape[1]} heads; "
                f"the audit is of BERT-base, {BERT_BASE.layers} layers of {BERT_BASE.heads}."
            )


def sizes_beside(found: ByTask, family: str = "structured") -> pd.DataFrame:
    """Heads and MLPs of every seed, the shares of size, and whether they are the reported ones.

    Args:
        found: subnetworks by task and seed.
        family: which they are. Of "bad", "super-random" and "super-bad" no shares are reported, but
            they must have as many heads and MLPs as what they stand beside.

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
        told = family not in _LIKE and len(theirs)
        reported = float(theirs["printed_mean"].iloc[0]) if told else float("nan")
        printed = ours["printed_authors"].mean()
        rows[TASKS[str(task)].title] = {
            "heads": ", ".join(ours["heads"].astype(str)),
            "MLPs": ", ".join(ours["mlps"].astype(str)),
            "encoder": ours["encoder"].mean(),
            "encoder (authors)": ours["encoder_authors"].mean(),
            "printed": ours["printed"].mean(),
            "printed (authors)": printed,
            "reported": reported,
            "agrees": counts and _close(printed, reported, 4),
        }
    return pd.DataFrame(rows).T


def stability_beside(found: ByTask, part: Part) -> pd.DataFrame:
    """Agreement over seeds of what was found together, recomputed, beside the reported values.

    Returns:
        One row per task: the columns of `agreement_of`, the reported kappa, Q and its p with the
        suffix " known", and `agrees`.
    """
    known = paper.stability().query("part == @part").set_index("task")
    rows = {}
    for task, row in agreement_of(found, part).to_dict("index").items():
        theirs = known.loc[str(task)]
        same = [_close(row[n], float(theirs[n]), d) for n, d in DIGITS.items() if n in theirs]  # type: ignore[arg-type]
        p = float(theirs["cochran_p"])  # type: ignore[arg-type]
        same.append(np.isnan(p) or bool(np.isclose(row["cochran_p"], p, rtol=5e-4, atol=0)))
        row |= {f"{n} known": theirs[n] for n in ("kappa", "cochran_q", "cochran_p")}
        rows[TASKS[str(task)].title] = row | {"agrees": all(same)}
    return pd.DataFrame(rows).T


def super_beside(found: ByTask, family: str = "structured") -> pd.DataFrame:
    """How many heads and MLPs survive in all seeds of a task, beside the reported numbers.

    Returns:
        One row per task: `heads`, `MLPs`, the `printed` share, and, of what was found together (of
        the others nothing is reported), `heads reported`, `MLPs reported` and `agrees`.
    """
    known = paper.sizes().query("method == 'super' and subnetwork == 'good'")
    theirs = known.groupby("task")[["heads", "mlps"]].first().astype(int)
    rows = {}
    for task, seeds in found.items():
        kept = super_survivors(list(seeds.values()))
        ours = int(kept.heads.sum()), int(kept.mlps.sum())
        row = {"heads": ours[0], "MLPs": ours[1], "printed": kept.printed_share(BERT_BASE)}
        if family == "structured":
            heads, mlps = map(int, theirs.loc[task])
            row |= {"heads reported": heads, "MLPs reported": mlps, "agrees": ours == (heads, mlps)}
        rows[TASKS[task].title] = row
    return pd.DataFrame(rows).T


def overlap_agrees(overlap: TaskOverlap, of: str = "good") -> bool:
    """Whether an overlap has the reported means, deviations and levels of chance.

    Raises:
        LotteryError: nothing is reported on this part (the super-survivors' MLPs).
    """
    name = f"super {overlap.part}" if of == "super" else overlap.part
    known = paper.task_overlap(name)
    checked = [(overlap.mean, "mean", 1), (overlap.chance, "chance", 2)]
    if of != "super":  # one subnetwork per task has no deviation
        checked.append((overlap.sd, "sd", 2))
    for ours, column, digits in checked:
        table = known.pivot(index="task", columns="other", values=column)
        theirs = table.loc[list(overlap.tasks), list(overlap.tasks)].to_numpy()
        if not (np.abs(ours - theirs) <= _half_a_digit(digits)).all():
            return False
    return True


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
        agrees = stability_beside(good, part)["agrees"]
        told[f"kappa, Cochran's Q and Jaccard of {name}"] = bool(agrees.all())
        agree = overlap_agrees(overlaps(good, part))
        told[f"overlap of {name}, with deviation and level of chance"] = agree
    told["how many heads and MLPs all seeds keep"] = bool(super_beside(good)["agrees"].all())
    agree = overlap_agrees(overlaps(good, "heads", "super"), "super")
    told["overlap of super-survivors' heads"] = agree
    if "super" in found:
        told["released super-survivors: what all seeds keep"] = super_masks_agree(found)
    if "bad" in found:
        agree = bad_holds_no_more_good_than_it_must(found)
        told["released bad masks: of the good no more than their size forces"] = agree
    return told


def _close(ours: float, theirs: float, digits: int) -> bool:
    # where nothing is reported, nothing can disagree
    return bool(np.isnan(theirs) or abs(ours - theirs) <= _half_a_digit(digits))


def _half_a_digit(digits: int) -> float:
    return 0.5 * 10**-digits * 1.0001
