"""Status: how far a grid of runs has come, from the store's own record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lotterylib.runs.cost import amounts_of, work_of
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Cell, cells_of, key_of, provenance

State = Literal["done", "running", "failed", "missing"]


@dataclass(frozen=True)
class CellState:
    """Where a cell stands.

    Attributes:
        task, seed, cell: which.
        state: "done" if the store has it, "running" if some process is computing it, "failed" if
            the last attempt did and none has succeeded since.
        reason: why it failed, in a line.
        seconds: what it took.
        flop: its arithmetic, as `cost` estimates it.
    """

    task: str
    seed: int
    cell: Cell
    state: State
    reason: str
    seconds: float
    flop: float


def states_of(plan: Sequence[tuple[Experiment, Sequence[str]]]) -> list[CellState]:
    """Where every cell behind these pages stands."""
    found = {}
    for experiment, pages in plan:
        store = experiment.store
        for cell in cells_of(experiment.settings, pages):
            key = key_of(experiment, cell)
            seconds, reason = 0.0, ""
            state: State = "missing"
            if store.has(key) and not math.isnan(took := _seconds(experiment, cell)):
                state, seconds = "done", took
            elif store.is_claimed(key):
                state = "running"
            elif reason := store.failure(key):
                state = "failed"
            flop = work_of(cell, amounts_of(experiment)).flop
            found[key.path] = CellState(
                experiment.task.title, cell.seed, cell, state, reason, seconds, flop
            )
    return list(found.values())


def _seconds(experiment: Experiment, cell: Cell) -> float:
    """What a cell took; nan if it is damaged, so that it has to be computed again."""
    try:
        return float(provenance(experiment, cell)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan


def table_of(states: Sequence[CellState]) -> pd.DataFrame:
    """A row per task and seed (0: what needs none): cells of each state, and of what they are."""
    rows = pd.DataFrame(
        [(s.task, s.seed, s.state, _GROUPS.get(s.cell.stage, "scores")) for s in states],
        columns=["task", "seed", "state", "group"],
    )
    names = {0: "baselines"}
    rows["seed"] = rows["seed"].map(lambda seed: names.get(seed, str(seed)))
    by = [rows["task"], rows["seed"]]
    total = pd.crosstab(by, rows["group"])
    done = pd.crosstab(by, rows["group"][rows["state"] == "done"]).reindex_like(total).fillna(0)
    columns = [name for name in _ORDER if name in total]
    table = pd.DataFrame(index=total.index)
    for name in columns:
        pairs = zip(done[name].astype(int), total[name], strict=True)
        table[name] = [f"{some}/{every}" if every else "" for some, every in pairs]
    for state in ("running", "failed", "missing"):
        table[state] = (rows["state"] == state).groupby(by).sum()
    order = list(dict.fromkeys(zip(rows["task"], rows["seed"], strict=True)))
    return table.loc[order]


_GROUPS = {
    "finetune": "full model",
    "search": "searches",
    "importance": "importance",
    "ablation": "importance",
    "patterns": "attention",
    "baseline": "baselines",
}
_ORDER = ("baselines", "full model", "searches", "scores", "importance", "attention")


def seconds_left(states: Sequence[CellState], jobs: int) -> float | None:
    """Seconds until all is done, by what was done already takes; None if there is nothing to judge
    by.

    Args:
        states: of all cells.
        jobs: processes at once.
    """
    done = [state for state in states if state.state == "done" and state.flop]
    if not done:
        return None
    pace = sum(state.seconds for state in done) / sum(state.flop for state in done)
    return pace * sum(state.flop for state in states if state.state != "done") / jobs
