"""The audit's numbers: all that follows from the authors' masks, in full precision.

`audit` sets them beside what is reported, the audit's page shows them, and `save_audit` keeps them
as CSV beside that page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.agreement import PARTS, Part, agreement, stack
from lotterylib.data.files import write_whole
from lotterylib.overlap import TaskOverlap, task_overlap
from lotterylib.report import paper
from lotterylib.report.imported import BERT_BASE, FAMILIES
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.super_survivors import super_survivors

ByTask = Mapping[str, Mapping[int, StructuredSubnetwork]]
"""Subnetworks by task and seed."""

Found = Mapping[str, ByTask]
"""What was imported: subnetworks by family, task and seed."""

_AGREEMENT = [
    *("kappa", "kappa_low", "kappa_high", "cochran_q", "cochran_p", "jaccard"),
    *("overlap", "chance", "overlap_p", "overlap_p_least"),
]


def without_empty_layers(kept: StructuredSubnetwork) -> tuple[float, float]:
    """Share of the encoder and printed share where a layer that has lost all its heads loses the
    bias of its W_O as well: the authors' count. `density` and `printed_share` keep that bias.
    """
    lost = int((~kept.heads.any(1)).sum()) * BERT_BASE.hidden
    return (
        kept.density(BERT_BASE) - lost / BERT_BASE.encoder_parameters,
        kept.printed_share(BERT_BASE) - lost / BERT_BASE.total,
    )


def agreement_of(found: ByTask, part: Part) -> pd.DataFrame:
    """Agreement over seeds: a row per task, the fields of `Agreement`."""
    rows = {
        task: asdict(agreement(stack([*seeds.values()], part))) for task, seeds in found.items()
    }
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


def forced_share(kept: int, items: int) -> float:
    """The least share of the good in a bad subnetwork of the same size, (2k - 1) / k where the good
    one keeps the share k of all items: what it pruned does not suffice. 0 up to one half; nan where
    nothing is kept.
    """
    return max(0, 2 * kept - items) / kept if kept else float("nan")


def sharing_table(found: Found) -> pd.DataFrame:
    """How much of the good subnetwork is in the bad one of the same size.

    Returns:
        One row per task, means over seeds (those without anything left are passed over), shares
        from 0 to 1: `forced`, what the sizes alone force, of all parameters, and `forced heads`,
        `forced MLPs`; likewise `found`, measured in the bad masks (nan where they were not
        imported). The sizes are those of the imported good masks, else the reported ones.
    """
    good, bad = found.get("structured", {}), found.get("bad", {})
    sizes = paper.sizes().query("method == 'structured' and subnetwork == 'good'")
    if good:
        sizes = sizes_table({"structured": good})
    counts = sizes[["task", "heads", "mlps"]].itertuples(index=False)
    forced = ((task, *_forced(int(heads), int(mlps))) for task, heads, mlps in counts)
    measured = (
        (task, *_measured(kept, good[task][seed]))
        for task, seeds in bad.items()
        for seed, kept in seeds.items()
        if seed in good.get(task, {})
    )
    return _mean_shares(forced, "forced").join(_mean_shares(measured, "found"))


def _forced(heads: int, mlps: int) -> tuple[float, float, float]:
    shares = (
        forced_share(heads, BERT_BASE.layers * BERT_BASE.heads),
        forced_share(mlps, BERT_BASE.layers),
    )
    weights = heads * BERT_BASE.head_parameters, mlps * BERT_BASE.mlp_parameters
    shared = sum(w * share for w, share in zip(weights, shares, strict=True) if w)
    return shared / sum(weights) if any(weights) else float("nan"), *shares


def _measured(bad: StructuredSubnetwork, good: StructuredSubnetwork) -> tuple[float, float, float]:
    shares = bad.overlap(good)
    return bad.shared_share(good, BERT_BASE), shares["heads"], shares["mlps"]


def _mean_shares(rows: Iterable[tuple[str, float, float, float]], name: str) -> pd.DataFrame:
    columns = ["task", name, f"{name} heads", f"{name} MLPs"]
    table = pd.DataFrame(rows, columns=columns).set_index("task").astype(float)
    return table.groupby(level=0, sort=False).mean()


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
            encoder, printed = without_empty_layers(kept)
            good = found.get("structured", {}).get(task, {}).get(seed)
            beside = family == "bad" and good is not None
            rows.append(
                {"family": family, "task": task, "seed": seed}
                | {"heads": int(kept.heads.sum()), "mlps": int(kept.mlps.sum())}
                | {"empty_layers": int((~kept.heads.any(1)).sum())}
                | {"encoder": kept.density(BERT_BASE), "encoder_authors": encoder}
                | {"printed": kept.printed_share(BERT_BASE), "printed_authors": printed}
                | {"share_of_good": _measured(kept, good)[0] if beside else float("nan")}  # type: ignore[arg-type]
            )
    return pd.DataFrame(rows)


def audit_table(found: Found) -> pd.DataFrame:
    """All that masks alone tell of each family and task.

    Returns:
        One row per family and task: `seeds`; mean `heads` and `mlps` and the shares of
        `sizes_table`, averaged over seeds; how many `super_heads` and `super_mlps` all seeds keep;
        and for heads and MLPs, with the prefixes `heads_` and `mlps_`, Fleiss' kappa with its
        interval, Cochran's Q and p, Jaccard, the overlap of two seeds beside its level of chance,
        and the p-value of the permutation test with the least that it could have been. Empty where
        a part was not chosen from, or a value is undefined.
    """
    sizes = sizes_table(found).drop(columns="seed").groupby(["family", "task"], sort=False).mean()
    tables = []
    for family, tasks in found.items():
        table = sizes.xs(family)
        table.insert(0, "family", family)
        table.insert(1, "seeds", [len(tasks[task]) for task in table.index])
        for part in PARTS:
            together = [super_survivors(list(tasks[task].values())) for task in table.index]
            table[f"super_{part}"] = [int(getattr(kept, part).sum()) for kept in together]
        for part in PARTS:
            chosen = part in FAMILIES[family].parts
            agreed = agreement_of(tasks, part) if chosen else pd.DataFrame(columns=_AGREEMENT)
            table = table.join(agreed[_AGREEMENT].add_prefix(f"{part}_"))
        tables.append(table.reset_index())
    whole = pd.concat(tables, ignore_index=True)
    return whole[["family", "task", *whole.columns.drop(["family", "task"])]]


def overlap_table(found: Found) -> pd.DataFrame:
    """What each two tasks share, of the good subnetworks of every search and their super-survivors.

    Returns:
        One row per family, kind ("good" or "super"), part and pair of tasks: `mean` and `sd` over
        seeds of the number shared, its level of `chance`, and `p` of the permutation test. A task
        beside itself is there with how many survive; it has no `p`.
    """
    rows = []
    searched = [FAMILIES[name] for name in found if FAMILIES[name].found]
    wanted = [(f, of, part) for f in searched for of in ("good", "super") for part in f.parts]
    for family, of, part in wanted:
        shared = overlaps(found[family.name], part, of)
        for a, b in zip(*np.tril_indices(len(shared.tasks)), strict=True):
            row = {"family": family.name, "kind": of, "part": part}
            row |= {"task": shared.tasks[a], "other": shared.tasks[b]}
            rows.append(row | {n: getattr(shared, n)[a, b] for n in ("mean", "sd", "chance", "p")})
    return pd.DataFrame(rows)


TABLES = {"audit.csv": audit_table, "sizes.csv": sizes_table, "overlaps.csv": overlap_table}
"""The files beside the audit's page."""


def save_audit(found: Found, folder: Path) -> None:
    """Write `TABLES` into a folder, every number so that it is read back as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in TABLES.items():
        write_whole(folder / name, table(found).to_csv(index=False, lineterminator="\n"))
