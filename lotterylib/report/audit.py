"""The audit: what the authors' released masks give, beside what they and the paper report.

Everything here needs masks only, no model: sizes, stability, super-survivors, overlap between
tasks. `imported` brings the masks into the run store; `paper` has the reported numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lotterylib.agreement import SIGNIFICANCE, Part, stability_table
from lotterylib.errors import LotteryError
from lotterylib.overlap import TaskOverlap, task_overlap
from lotterylib.report import paper
from lotterylib.report.imported import BERT_BASE, load_imported
from lotterylib.runs.settings import refuse_misspelt
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.super_survivors import super_survivors
from lotterylib.tasks import TASKS

ByTask = Mapping[str, Mapping[int, StructuredSubnetwork]]
"""Good subnetworks by task and seed."""

DIGITS = {"kappa": 4, "cochran_q": 3, "jaccard": 4, "overlap": 1}
"""Decimals to which the reported stability is known. (Its level of chance was estimated by
permutations, ours is exact: they differ by less than 0.1 and are not compared.)"""


def open_audit(namespace: dict[str, Any]) -> dict[str, ByTask]:
    """The imported subnetworks by method, for a notebook's parameters.

    Args:
        namespace: the notebook's `globals()`, with `run_store`, the folder of the run store.

    Raises:
        LotteryError: a misspelt parameter, or nothing was imported into this store.
    """
    refuse_misspelt(namespace, ["run_store"])
    found = load_imported(Path(str(namespace["run_store"])))
    if "structured" not in found:
        raise LotteryError(
            f"The run store {namespace['run_store']} holds no imported masks of "
            "heads and MLPs found jointly: run 'lottery import-masks DIR' with a copy of "
            "sai-prasanna/bert-experiments."
        )
    check_auditable(
        kept for tasks in found.values() for seeds in tasks.values() for kept in seeds.values()
    )
    if any(len(seeds) < 2 for seeds in found["structured"].values()):
        raise LotteryError("The audit needs the masks of at least two seeds of every task.")
    return {method: dict(tasks) for method, tasks in found.items()}


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


def sizes_beside(found: ByTask, method: str = "structured") -> pd.DataFrame:
    """Heads and MLPs of every seed, both shares of size, and whether they are the reported ones.

    Returns:
        One row per task: heads and MLPs by seed, `encoder` and `printed` (mean over seeds, shares),
        `reported` (the printed share; nan where the paper has none) and `agrees`.
    """
    known = paper.sizes()
    known = known[(known["method"] == method) & (known["subnetwork"] == "good")]
    rows = {}
    for task, seeds in found.items():
        printed = float(np.mean([kept.printed_share(BERT_BASE) for kept in seeds.values()]))
        theirs = known[known["task"] == task].set_index("seed")
        counts = all(
            seed in theirs.index
            and (int(kept.heads.sum()), int(kept.mlps.sum()))
            == (theirs["heads"][seed], theirs["mlps"][seed])
            for seed, kept in seeds.items()
        )
        reported = float(theirs["printed_mean"].iloc[0]) if len(theirs) else float("nan")
        rows[TASKS[task].title] = {
            "heads": ", ".join(str(int(kept.heads.sum())) for kept in seeds.values()),
            "MLPs": ", ".join(str(int(kept.mlps.sum())) for kept in seeds.values()),
            "encoder": np.mean([kept.density(BERT_BASE) for kept in seeds.values()]),
            "printed": printed,
            "reported": reported,
            "agrees": counts and (np.isnan(reported) or _close(printed, reported, 4)),
        }
    return pd.DataFrame(rows).T


def stability_beside(found: ByTask, part: Part) -> pd.DataFrame:
    """Agreement over seeds, recomputed, beside the reported values.

    Returns:
        One row per task: the fields of `stability.Agreement` of that part, the reported `kappa` and
        Cochran's `p` with the suffix " reported", and `agrees`.
    """
    known = paper.stability()
    known = known[known["part"] == part].set_index("task")
    rows = {}
    for task, seeds in found.items():
        row = stability_table(list(seeds.values())).loc[part].to_dict()
        theirs = known.loc[task]
        same = [_close(row[n], float(theirs[n]), d) for n, d in DIGITS.items() if n in theirs]  # type: ignore[arg-type]
        row |= {"kappa known": theirs["kappa"], "cochran_p known": theirs["cochran_p"]}
        row["agrees"] = all(same) and (
            np.isnan(theirs["cochran_p"])
            or bool(np.isclose(row["cochran_p"], theirs["cochran_p"], rtol=5e-4, atol=0))
        )
        rows[TASKS[task].title] = row
    return pd.DataFrame(rows).T


def super_beside(found: ByTask) -> pd.DataFrame:
    """How many heads and MLPs survive in all seeds of a task, beside the reported numbers."""
    known = paper.sizes()
    known = known[(known["method"] == "super") & (known["subnetwork"] == "good")]
    rows = {}
    for task, seeds in found.items():
        kept = super_survivors(list(seeds.values()))
        theirs = known[known["task"] == task].iloc[0]
        ours = int(kept.heads.sum()), int(kept.mlps.sum())
        rows[TASKS[task].title] = {
            "heads": ours[0],
            "MLPs": ours[1],
            "heads reported": int(theirs["heads"]),
            "MLPs reported": int(theirs["mlps"]),
            "printed": kept.printed_share(BERT_BASE),
            "agrees": ours == (int(theirs["heads"]), int(theirs["mlps"])),
        }
    return pd.DataFrame(rows).T


def overlaps(found: ByTask, part: Part, of: str = "good") -> TaskOverlap:
    """What the tasks share.

    Args:
        found: good subnetworks by task and seed.
        part: "heads" or "mlps".
        of: "good" for the subnetworks seed by seed, "super" for the super-survivors.
    """
    if of == "super":
        return task_overlap(
            {task: [super_survivors(list(seeds.values()))] for task, seeds in found.items()}, part
        )
    return task_overlap({task: list(seeds.values()) for task, seeds in found.items()}, part)


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


def describe_sharing(heads: pd.DataFrame, mlps: pd.DataFrame) -> str:
    """On how many tasks the seeds share more than chance gives, from `stability_beside`."""
    told = [
        f"{name} on {int((table['overlap_p'] < SIGNIFICANCE).sum())} of {len(table)} tasks"
        for name, table in (("heads", heads), ("MLPs", mlps))
    ]
    return f"The seeds share more than their sizes explain (p below 5%): {' and '.join(told)}."


def describe_audit(checks: Mapping[str, bool]) -> str:
    """Which of the checks agree with what is reported, in a list."""
    lines = [f"* {name}: **{'equal' if same else 'different'}**" for name, same in checks.items()]
    good = sum(checks.values())
    return f"{good} of {len(checks)} comparisons give the known values.\n\n" + "\n".join(lines)


def _close(ours: float, theirs: float, digits: int) -> bool:
    # where nothing is reported, nothing can disagree
    return bool(np.isnan(theirs) or abs(ours - theirs) <= _half_a_digit(digits))


def _half_a_digit(digits: int) -> float:
    return 0.5 * 10**-digits * 1.0001
