"""The picture of good, random and bad subnetworks by task, method and phase."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.report import paper
from lotterylib.report.evidence import FROZEN, FULL, MAJORITY, Model, Predictions
from lotterylib.report.findings import estimate_on, reported_metric, rows_of, scores
from lotterylib.report.holds import METHOD_NAMES
from lotterylib.report.pictures import frame
from lotterylib.report.published import predictions_of
from lotterylib.report.tables import NOTHING
from lotterylib.runs.methods import KINDS, METHODS, PHASES
from lotterylib.tasks import METRIC_NAMES, in_order, title_of


def comparison(results: pd.DataFrame, pages: Path) -> str:
    """Good, random and bad subnetworks of every task, method and phase, beside the paper's.

    Args:
        results: of one encoder; tasks that lack one of the methods are left out.
        pages: the folder of the encoder's pages, which may hold predictions.
    """
    methods = results.groupby("task")["method"].unique()
    whole = [task for task in in_order(results["task"]) if {*METHODS} <= {*methods[task]}]
    tasks = [_task(task, results[results["task"] == task], pages) for task in whole]
    rows = [
        (task["title"], setting["title"], *(row["mean"] for row in setting["rows"]))
        for task in tasks
        for setting in task["settings"]
    ]
    header = ("Task", "Subnetworks of", "Full model", *map(str.capitalize, KINDS))
    return frame("comparison", {"tasks": tasks}, "Mean scores over seeds", header, rows)


def _task(task: str, results: pd.DataFrame, pages: Path) -> dict:
    """One task: its lines, and a row per model for each method and phase."""
    found = predictions_of(pages / task)
    known = paper.scores().query("task == @task").set_index(["method", "subnetwork", "phase"])
    full, majority, frozen = (scores(results, *model).mean() for model in (FULL, MAJORITY, FROZEN))
    threshold = results["threshold"].iloc[0]
    settings = []
    for method, phase in itertools.product(METHODS, PHASES):
        models = [FULL, *((method, kind, phase) for kind in KINDS)]
        size = rows_of(results, method, "good", "pruned")["density"].mean()
        name, rows = METHOD_NAMES[method], [_row(results, found, known, model) for model in models]
        setting = {"method": name, "phase": phase, "title": f"{name}, {phase}"}
        settings.append(setting | {"size": f"{size:.0%}", "rows": rows})
    lines = (
        ("full", "full model", full),
        ("kept", f"{threshold:.0%} of it", threshold * full),
        ("frozen", "linear layer on the frozen encoder", frozen),
        ("majority", "majority class", majority),
    )
    return {
        "title": title_of(task),
        "metric": METRIC_NAMES[reported_metric(results)],
        "seeds": ", ".join(map(str, scores(results, *FULL).index)),
        "over": estimate_on(results, found, [(1.0, FULL)]).over,
        "lines": [
            {"kind": kind, "name": name, "at": round(float(at), 4), "told": f"{at:.3f}"}
            for kind, name, at in lines
        ],
        "settings": settings,
    }


def _row(
    results: pd.DataFrame, found: Predictions | None, known: pd.DataFrame, model: Model
) -> dict:
    """One model: what the table says of it, and where it is drawn."""
    own = rows_of(results, *model)
    full, majority = (scores(results, *each).mean() for each in (FULL, MAJORITY))
    bounds = estimate_on(results, found, [(1.0, model)])
    row = {
        "name": "Full model" if model == FULL else model[1].capitalize(),
        "mean": f"{bounds.value:.3f}",
        "interval": f"{bounds.low:.3f} to {bounds.high:.3f}",
        "runs": ", ".join(f"{value:.3f}" for value in own["value"]),
        "way": _way(bounds.value, majority, full),
        "shared": NOTHING if model[1] == "good" else _share(own["overlap_with_good"].mean()),
        "paper": NOTHING,
        "points": own["value"].round(4).tolist(),
        "value": round(bounds.value, 4),
        "bounds": [round(bounds.low, 4), round(bounds.high, 4)],
        "theirs": None,
    }
    if np.isnan(bounds.low):
        row |= {"interval": NOTHING, "bounds": [None, None]}
    if model in known.index:
        mean, sd = known.loc[[model]].iloc[0][["mean", "sd"]]
        way = _way(mean, known["mean"][MAJORITY], known["mean"][FULL])
        row["paper"] = f"{mean:.3f} ± {sd:.3f}" + (f" ({way})" if way != NOTHING else "")
        row["theirs"] = [round(mean, 4), round(sd, 4)]
    return row


def _share(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{round(value, 2) + 0:.0%}"


def _way(score: float, majority: float, full: float) -> str:
    """The share of the way from the majority class to a full model that learnt."""
    return _share((score - majority) / (full - majority)) if full > majority else NOTHING
