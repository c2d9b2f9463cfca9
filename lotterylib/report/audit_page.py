"""The audit's page: its tables, and the sentences that are computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from statsmodels.stats.multitest import multipletests

from lotterylib.agreement import SIGNIFICANCE
from lotterylib.report.audit_tables import sharing_table
from lotterylib.report.imported import FAMILIES, Found
from lotterylib.report.tables import NOTHING, counted, markdown_table
from lotterylib.tasks import TASKS


def describe_families(found: Found) -> str:
    """Which families were imported, of how many tasks and seeds, and which were not."""
    lines = ["Imported were:", ""]
    for name, tasks in found.items():
        seeds = len({seed for each in tasks.values() for seed in each})
        size = f"{counted(len(tasks), 'task')}, {counted(seeds, 'seed')}"
        lines.append(f"* {FAMILIES[name].title}: {size}")
    lacking = [family.title for name, family in FAMILIES.items() if name not in found]
    end = f"Not imported: {', '.join(lacking)}." if lacking else "Nothing is lacking."
    return "\n".join([*lines, "", end])


def describe_sharing(tables: Mapping[str, pd.DataFrame]) -> str:
    """On how many tasks the seeds share more than chance gives, and where the test could tell.

    Tasks on which the least possible p-value is not below the level are no evidence for chance, and
    are told apart. The others are one family of tests: Holm's correction stands beside.

    Args:
        tables: `agreement_of`, by what was compared, such as "heads".
    """
    told = []
    for name, table in tables.items():
        could = (table["overlap_p_least"] < SIGNIFICANCE).to_numpy(dtype=bool)
        p = table["overlap_p"].to_numpy(dtype=float)[could]
        holm = multipletests(p, SIGNIFICANCE, "holm")[0].sum() if len(p) else 0
        text = f"{name} on {(p < SIGNIFICANCE).sum()} of {len(p)} tasks ({holm} after Holm)"
        if not could.all():
            text += f", and on {(~could).sum()} the test has no way to tell"
        told.append(text)
    return (
        "By a permutation test at the 5% level, the seeds share more than their sizes explain: "
        f"{'; '.join(told)}."
    )


def describe_bad(found: Found) -> str:
    """How much of the good is in the bad, on how many tasks more than half, and how it is known."""
    table = sharing_table(found)
    measured = bool(table["found"].notna().any())
    share = table["found" if measured else "forced"].drop("wnli", errors="ignore").dropna()
    if share.empty:
        return "There is no task but WNLI to tell it of."
    return (
        f"{'In the released masks' if measured else 'By the sizes alone'}, "
        f"{share.min():.0%} to {share.max():.0%} of a bad subnetwork, by parameters, are in the "
        f"good one too, and more than half on {(share > 0.5).sum()} of {len(share)} tasks (WNLI "
        "left out)."
    )


def describe_audit(checks: Mapping[str, bool]) -> str:
    """Which of the checks agree with what is reported, in a list."""
    lines = [f"* {name}: **{'equal' if same else 'different'}**" for name, same in checks.items()]
    good = sum(checks.values())
    return f"{good} of {len(checks)} comparisons give the known values.\n\n" + "\n".join(lines)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.4f}"


Columns = Mapping[str, tuple[str, str | Callable[[Any], str]]]
"""The columns of a table of the page: by name, the heading and how values are written."""

SIZES: Columns = {"agrees": ("as reported", _yes), "heads": ("heads", str), "MLPs": ("MLPs", str)}
SHARES: Columns = {
    "encoder": ("encoder", "{:.2%}"),
    "encoder (authors)": ("encoder, authors' count", "{:.2%}"),
    "printed": ("printed share", "{:.2%}"),
    "printed (authors)": ("printed share, authors' count", "{:.2%}"),
    "reported": ("reported", "{:.2%}"),
}
KAPPA: Columns = {
    "agrees": ("as known", _yes),
    "kappa": ("kappa", "{:.4f}"),
    "kappa known": ("known", "{:.4f}"),
    "cochran_q": ("Cochran's Q", "{:.2f}"),
    "cochran_p": ("p of Q", _p),
    "cochran_p known": ("known", _p),
}
SHARED: Columns = {
    "jaccard": ("Jaccard", "{:.3f}"),
    "overlap": ("shared by two seeds", "{:.1f}"),
    "chance": ("by chance", "{:.1f}"),
    "overlap_p": ("p", _p),
    "overlap_p_least": ("least possible p", _p),
}
SUPER: Columns = {
    "agrees": ("as reported", _yes),
    "heads": ("heads", "{:.0f}"),
    "MLPs": ("MLPs", "{:.0f}"),
    "printed": ("printed share", "{:.1%}"),
}
SHARING: Columns = {
    "found": ("good in bad", "{:.0%}"),
    "forced": ("forced by size", "{:.0%}"),
    "forced heads": ("of heads", "{:.0%}"),
    "forced MLPs": ("of MLPs", "{:.0%}"),
}


def markdown(table: pd.DataFrame, columns: Columns) -> str:
    """A table for a page: the task, then those of the columns that the table has, in their order.

    Args:
        table: one row per task, named or titled in its index.
        columns: what to show; nan becomes a dash.
    """
    shown = {name: column for name, column in columns.items() if name in table}
    rows = []
    for task, row in table.iterrows():
        cells = [TASKS[str(task)].title if task in TASKS else str(task)]
        for name, (_, form) in shown.items():
            write = form.format if isinstance(form, str) else form
            cells.append(NOTHING if pd.isna(row[name]) else write(row[name]))
        rows.append(cells)
    return markdown_table(["task", *(heading for heading, _ in shown.values())], rows)
