"""The audit's numbers: all that follows from the authors' masks, in full precision.

`audit` sets them beside what is reported, the audit's page shows them, and `save_audit` keeps them
as CSV beside that page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

_AGREEMENT = (
    *("kappa", "kappa_low", "kappa_high", "cochran_q", "cochran_p", "jaccard"),
    *("overlap", "chance", "overlap_p"),
)


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
    """Agreement over seeds of every task.

    Returns:
        One row per task: the fields of `Agreement`.
    """
    rows = {}
    for task, seeds in found.items():
        masks = stack(list(seeds.values()), part)
        rows[task] = asdict(agreement(masks))
    return pd.DataFrame.from_dict(rows, orient="index")


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
    rows = {}
    for task, sizes in _good_sizes(found).items():
        forced = [_forced(heads, mlps) for heads, mlps in sizes]
        good, bad = (found.get(name, {}).get(task, {}) for name in ("structured", "bad"))
        measured = [_measured(bad[seed], good[seed]) for seed in bad if seed in good]
        rows[task] = _means(forced, "forced") | _means(measured, "found")
    return pd.DataFrame.from_dict(rows, orient="index")


def _good_sizes(found: Found) -> dict[str, list[tuple[int, int]]]:
    if "structured" in found:
        return {
            task: [(int(kept.heads.sum()), int(kept.mlps.sum())) for kept in seeds.values()]
            for task, seeds in found["structured"].items()
        }
    known = paper.sizes().query("method == 'structured' and subnetwork == 'good'")
    return {
        str(task): list(zip(rows["heads"].astype(int), rows["mlps"].astype(int), strict=True))
        for task, rows in known.groupby("task", sort=False)
    }


def _forced(heads: int, mlps: int) -> tuple[float, float, float]:
    all_heads = BERT_BASE.layers * BERT_BASE.heads
    weights = heads * BERT_BASE.head_parameters, mlps * BERT_BASE.mlp_parameters
    shares = forced_share(heads, all_heads), forced_share(mlps, BERT_BASE.layers)
    whole = sum(weights)
    shared = sum(w * share for w, share in zip(weights, shares, strict=True) if w)
    return shared / whole if whole else float("nan"), *shares


def _measured(bad: StructuredSubnetwork, good: StructuredSubnetwork) -> tuple[float, float, float]:
    shares = bad.overlap(good)
    return bad.shared_share(good, BERT_BASE), shares["heads"], shares["mlps"]


def _means(rows: Sequence[tuple[float, float, float]], name: str) -> dict[str, float]:
    return {
        name + part: float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
        for part, values in zip(
            ("", " heads", " MLPs"), np.reshape(rows or [(np.nan,) * 3], (-1, 3)).T, strict=True
        )
    }


def sizes_table(found: Found) -> pd.DataFrame:
    """The size of every subnetwork that was imported.

    Returns:
        One row per family, task and seed: `heads`, `mlps`, how many layers have lost all heads
        (`empty_layers`), the share of the encoder's dense parameters and the printed share, each
        with the W_O biases of these layers counted as kept (this project's count) and as removed
        (the authors', `_authors`), and of bad ones the share of the good in them, by parameters.
    """
    rows = []
    for family, tasks in found.items():
        for task, seeds in tasks.items():
            for seed, kept in seeds.items():
                encoder, printed = without_empty_layers(kept)
                good = found.get("structured", {}).get(task, {}).get(seed)
                beside = family == "bad" and good is not None
                rows.append(
                    {
                        "family": family,
                        "task": task,
                        "seed": seed,
                        "heads": int(kept.heads.sum()),
                        "mlps": int(kept.mlps.sum()),
                        "empty_layers": int((~kept.heads.any(1)).sum()),
                        "encoder": kept.density(BERT_BASE),
                        "encoder_authors": encoder,
                        "printed": kept.printed_share(BERT_BASE),
                        "printed_authors": printed,
                        "share_of_good": _measured(kept, good)[0] if beside else float("nan"),  # type: ignore[arg-type]
                    }
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
    rows = []
    for family, tasks in found.items():
        parts = {part: agreement_of(tasks, part) for part in FAMILIES[family].parts}
        for task, seeds in tasks.items():
            together = super_survivors(list(seeds.values()))
            row: dict[str, object] = {"family": family, "task": task, "seeds": len(seeds)}
            row |= {str(name): value for name, value in sizes.xs((family, task)).items()}
            row |= {f"super_{part}": int(getattr(together, part).sum()) for part in PARTS}
            for part in PARTS:
                for name in (*_AGREEMENT, "overlap_p_least"):
                    row[f"{part}_{name}"] = (
                        parts[part].loc[task, name] if part in parts else float("nan")
                    )
            rows.append(row)
    return pd.DataFrame(rows)


def overlap_table(found: Found) -> pd.DataFrame:
    """What each two tasks share, of the good subnetworks of every search and their super-survivors.

    Returns:
        One row per family, kind ("good" or "super"), part and pair of tasks: `mean` and `sd` over
        seeds of the number shared, its level of `chance`, and `p` of the permutation test. A task
        beside itself is there with how many survive; it has no `p`.
    """
    rows = []
    for family, tasks in found.items():
        if not FAMILIES[family].found:
            continue
        for of in ("good", "super"):
            for part in FAMILIES[family].parts:
                shared = overlaps(tasks, part, of)
                for a, task in enumerate(shared.tasks):
                    for b, other in enumerate(shared.tasks[: a + 1]):
                        row = {"family": family, "kind": of, "part": part}
                        row |= {"task": task, "other": other}
                        for name in ("mean", "sd", "chance", "p"):
                            row[name] = getattr(shared, name)[a, b]
                        rows.append(row)
    return pd.DataFrame(rows)


TABLES = {
    "audit.csv": audit_table,
    "sizes.csv": sizes_table,
    "overlaps.csv": overlap_table,
}
"""The files beside the audit's page."""


def save_audit(found: Found, folder: Path) -> None:
    """Write `TABLES` into a folder, every number so that it is read back as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in TABLES.items():
        write_whole(folder / name, table(found).to_csv(index=False, lineterminator="\n"))
