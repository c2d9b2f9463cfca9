"""The audit's numbers: all that follows from the authors' masks, in full precision.

`audit` sets them beside what is reported, the audit's page shows them, and `save_audit` keeps them
as CSV beside that page.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.agreement import PARTS, Part, agreement, stack
from lotterylib.data.files import write_whole
from lotterylib.overlap import TaskOverlap, task_overlap
from lotterylib.report import paper
from lotterylib.report.imported import BERT_BASE, FAMILIES, ByTask, Found
from lotterylib.super_survivors import super_survivors

_AGREEMENT = [
    *("kappa", "kappa_low", "kappa_high", "cochran_q", "cochran_p", "jaccard"),
    *("overlap", "chance", "overlap_p", "overlap_p_least"),
]


def agreement_of(found: ByTask, part: Part) -> pd.DataFrame:
    """Agreement over seeds: a row per task, the fields of `Agreement`."""
    rows = {task: asdict(agreement(stack([*by.values()], part))) for task, by in found.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def overlaps(found: ByTask, part: Part, of: str = "good") -> TaskOverlap:
    """What the tasks share.

    Args:
        found: good subnetworks by task and seed.
        part: "heads" or "mlps".
        of: "good" for the subnetworks seed by seed, "super" for the super-survivors.
    """
    kept = {task: list(seeds.values()) for task, seeds in found.items()}
    if of == "super":
        kept = {task: [super_survivors(each)] for task, each in kept.items()}
    return task_overlap(kept, part)


def sharing_table(found: Found) -> pd.DataFrame:
    """How much of the good subnetwork is in the bad one of the same size.

    Returns:
        One row per task, means over seeds (those without anything left are passed over), shares
        from 0 to 1. `forced heads` is what the sizes alone force: where the good one keeps the
        share k > 1/2 of all heads, what it pruned does not suffice, and (2k - 1) / k of a bad one
        is in it. `forced MLPs` likewise; `forced` weighs both by parameters. `found`, `found heads`
        and `found MLPs` are measured in the bad masks (nan where they were not imported). The sizes
        are those of the imported good masks, else the reported ones.
    """
    good = found.get("structured", {})
    sizes = paper.sizes().query("method == 'structured' and subnetwork == 'good'")
    if good:
        sizes = sizes_table({"structured": good})
    kept = sizes.set_index("task")[["heads", "mlps"]].astype(float)
    items = [BERT_BASE.layers * BERT_BASE.heads, BERT_BASE.layers]
    share = ((2 * kept - items) / kept).clip(lower=0).where(kept > 0)
    weight = kept * [BERT_BASE.head_parameters, BERT_BASE.mlp_parameters]
    forced = {
        "forced": (share * weight).sum(axis=1) / weight.sum(axis=1),
        "forced heads": share["heads"],
        "forced MLPs": share["mlps"],
    }
    measured = []
    for task, seeds in found.get("bad", {}).items():
        for seed in (each for each in seeds if each in good.get(task, {})):
            bad, its = seeds[seed], good[task][seed]
            shares = bad.overlap(its)
            whole = bad.shared_share(its, BERT_BASE)
            measured.append((task, whole, shares["heads"], shares["mlps"]))
    columns = ["task", "found", "found heads", "found MLPs"]
    theirs = pd.DataFrame(measured, columns=columns).set_index("task").astype(float)
    means = [each.groupby(level=0, sort=False).mean() for each in (pd.DataFrame(forced), theirs)]
    return means[0].join(means[1])


def sizes_table(found: Found) -> pd.DataFrame:
    """The size of every subnetwork that was imported.

    Returns:
        One row per family, task and seed: `heads`, `mlps`, how many layers have lost all heads
        (`empty_layers`), the share of the encoder's dense parameters and the printed share, each
        with the W_O biases of these layers counted as kept (this project's count) and as removed
        (the authors', `_authors`), and of bad ones the share of the good in them, by parameters.
    """
    rows = []
    each = ((name, task, by) for name, tasks in found.items() for task, by in tasks.items())
    for family, task, seeds in each:
        for seed, kept in seeds.items():
            good = found.get("structured", {}).get(task, {}).get(seed)
            beside = family == "bad" and good is not None
            empty = int((~kept.heads.any(1)).sum())
            encoder, printed = kept.density(BERT_BASE), kept.printed_share(BERT_BASE)
            lost = empty * BERT_BASE.hidden
            rows.append(
                {"family": family, "task": task, "seed": seed}
                | {"heads": int(kept.heads.sum()), "mlps": int(kept.mlps.sum())}
                | {"empty_layers": empty, "encoder": encoder}
                | {"encoder_authors": encoder - lost / BERT_BASE.encoder_parameters}
                | {"printed": printed, "printed_authors": printed - lost / BERT_BASE.total}
                | {"share_of_good": kept.shared_share(good, BERT_BASE) if beside else np.nan}  # type: ignore[arg-type]
            )
    return pd.DataFrame(rows)


def audit_table(found: Found) -> pd.DataFrame:
    """All that masks alone tell of each family and task.

    Returns:
        One row per family and task: `seeds`; mean `heads` and `mlps` and the shares of
        `sizes_table`, averaged over seeds; how many `super_heads` and `super_mlps` all seeds keep;
        and for heads and MLPs, with the prefixes `heads_` and `mlps_`, the agreement over seeds
        (see `Agreement`). Empty where a part was not chosen from, or a value is undefined.
    """
    groups = sizes_table(found).groupby(["family", "task"], sort=False)
    table = groups.mean().drop(columns="seed")
    table.insert(0, "seeds", groups.size())
    every = [list(found[family][task].values()) for family, task in table.index]
    supers = [super_survivors(seeds) for seeds in every]
    for part in PARTS:
        table[f"super_{part}"] = [int(getattr(kept, part).sum()) for kept in supers]
    for part in PARTS:
        chosen = {name: found[name] if part in FAMILIES[name].parts else {} for name in found}
        agreed = pd.concat(
            {name: agreement_of(tasks, part) for name, tasks in chosen.items()},
            names=table.index.names,
        )
        table = table.join(agreed.reindex(columns=_AGREEMENT).add_prefix(f"{part}_"))
    return table.reset_index()


def overlap_table(found: Found) -> pd.DataFrame:
    """What each two tasks share, of the good subnetworks of every search and their super-survivors.

    Returns:
        One row per family, kind ("good" or "super"), part and pair of tasks: `mean` and `sd` over
        seeds of the number shared, its level of `chance`, and `p` of the permutation test. A task
        beside itself is there with how many survive; it has no `p`.
    """
    rows = []
    searched = [name for name in found if FAMILIES[name].found]
    for family, of in itertools.product(searched, ("good", "super")):
        for part in FAMILIES[family].parts:
            shared = overlaps(found[family], part, of)
            for a, b in zip(*np.tril_indices(len(shared.tasks)), strict=True):
                values = {n: getattr(shared, n)[a, b] for n in ("mean", "sd", "chance", "p")}
                row = {"family": family, "kind": of, "part": part}
                rows.append(row | {"task": shared.tasks[a], "other": shared.tasks[b]} | values)
    return pd.DataFrame(rows)


TABLES = {"audit.csv": audit_table, "sizes.csv": sizes_table, "overlaps.csv": overlap_table}
"""The files beside the audit's page."""


def save_audit(found: Found, folder: Path) -> None:
    """Write `TABLES` into a folder, every number so that it is read back as it was."""
    for name, table in TABLES.items():
        write_whole(folder / name, table(found).to_csv(index=False, lineterminator="\n"))
