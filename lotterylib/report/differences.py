"""What the differences between the paper's text and the authors' code change, where it was run.

`paper.differences` lists them. The preset `paper+<option>` makes one choice the other way; where a
run with it stands beside a run with the preset `paper`, on the same task, seeds and data, what it
changes can be told. An encoder's pages are all of one preset, so each has a folder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lotterylib.report import paper
from lotterylib.report.imported import SOURCE
from lotterylib.report.results import COLUMNS
from lotterylib.report.tables import counted
from lotterylib.runs.methods import PHASES
from lotterylib.runs.presets import OFFICIAL, PRESETS, READINGS

_MAY_DIFFER = (
    *("preset", "request", *OFFICIAL, *READINGS),
    *("value", "density", "printed_share", "overlap_with_good", "constant"),
    *("seconds", "threads", "device"),
)
_SAME = [name for name in COLUMNS if name not in _MAY_DIFFER]
"""The columns in which two rows must be alike for their difference to be that of a choice."""

NOT_RUN = "not run yet"
NO_SCORES = "changes attention patterns, no size and no score"
NO_OPTION = "nothing to switch"


def folders_in(variants: Path) -> list[Path]:
    """The folders of pages below a folder, by name; none where there is no such folder."""
    return sorted(path for path in variants.glob("*") if path.is_dir())


def differences_table(results: pd.DataFrame) -> pd.DataFrame:
    """The differences, each with its effect on the subnetwork that it is about.

    Args:
        results: the results table, of any presets and tasks.

    Returns:
        `paper.differences`, and `effect`: per option the mean difference in size (points of the
        encoder) and in score (pruned, retrained) from the preset `paper`, and over how many tasks
        and seeds; or why there is none.
    """
    table = paper.differences()
    table["effect"] = [
        _effects(results, option.split(), affects)
        for option, affects in zip(table["option"], table["affects"], strict=True)
    ]
    return table


def _effects(results: pd.DataFrame, options: Sequence[str], affects: str) -> str:
    if not options:
        return NO_OPTION
    told = [_effect(results, option, affects) for option in options]
    if len(told) == 1:
        return told[0]
    return "; ".join(f"{option}: {each}" for option, each in zip(options, told, strict=True))


def _effect(results: pd.DataFrame, option: str, affects: str) -> str:
    if not affects:
        return NO_SCORES
    pairs = matched(results, option, *affects.split())
    if pairs.empty:
        return NOT_RUN
    size = 100 * (pairs["density"] - pairs["density_paper"]).groupby(pairs["phase"]).mean().mean()
    told = [f"size {size:+.1f} points"]
    for phase in PHASES:
        rows = pairs[pairs["phase"] == phase]
        if len(rows):
            told.append(f"{phase} {(rows['value'] - rows['value_paper']).mean():+.3f}")
    tasks, seeds = len(pairs.groupby(["encoder", "task"])), pairs["seed"].nunique()
    return f"{', '.join(told)} ({counted(tasks, 'task')}, {counted(seeds, 'seed')})"


def matched(results: pd.DataFrame, option: str, method: str, kind: str) -> pd.DataFrame:
    """Reported scores of a subnetwork with the preset `paper+<option>`, each beside the one with
    `paper` of the same task, seed and data, all other settings alike.

    Returns:
        The rows of the first, with `value_paper` and `density_paper` of the second.
    """
    own = results["reported"].astype(bool) & results["phase"].isin(PHASES)
    rows = results[own & (results["method"] == method) & (results["subnetwork"] == kind)]
    by_paper = rows[rows["preset"] == "paper"][[*_SAME, "value", "density"]]
    otherwise = rows[rows["preset"] == f"paper+{option}"]
    return otherwise.merge(by_paper, on=_SAME, suffixes=("", "_paper"))


def describe_differences(table: pd.DataFrame) -> str:
    """The rows of `differences_table` as a list for a page."""
    lines = []
    for row in table.itertuples():
        switch = ", ".join(map(_switch, str(row.option).split()))
        lines.append(
            f"{row.number}. **{_capital(str(row.topic))}.** Paper: {row.paper}. Code: {row.code}. "
            f"Here: {row.here}."
            + (f" Switch: {switch}. Effect: {row.effect}." if switch else "")
            + f" *Evidence: {str(row.evidence).replace(f'{SOURCE}@f02280f, ', '')}.*"
        )
    return "\n".join(lines)


def describe_misprints() -> str:
    """The rows of `paper.misprints` as a list for a page, less the procedures, which are among the
    differences.
    """
    table = paper.misprints().query("kind != 'procedure'")
    return "\n".join(
        f"* **{_capital(str(row.where))}.** Printed: {row.printed}. Instead: {row.should_be}. "
        f"{row.why}"
        for row in table.itertuples()
    )


def _switch(option: str) -> str:
    preset = f"paper+{option}"
    return f"`{preset}`" if preset in PRESETS else f"`{option}` of the preset"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
