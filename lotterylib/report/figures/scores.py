"""Figures of scores: the paper's Figure 2, and rows of scores side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotterylib.report import paper
from lotterylib.report.figures.style import COLOURS, legend_below, new_axes, new_panels
from lotterylib.runs.methods import ALL_METHODS, KINDS, METHODS, PHASES
from lotterylib.tasks import METRIC_NAMES, in_order, title_of


def subnetwork_bars(results: pd.DataFrame, method: str) -> Figure:
    """A panel of the paper's Figure 2: good, random and bad subnetworks of a task, pruned and
    retrained. Bars are means over seeds, points are seeds (hollow: a constant predictor).
    """
    figure, (axes,) = new_axes(1, 6.8, 4.2)
    _draw_bars(axes, results[results["reported"]], method)
    legend_below(figure, axes, 3)
    return figure


def overview_bars(results: pd.DataFrame, encoder: str, method: str) -> Figure:
    """The paper's Figure 2 for one method: `subnetwork_bars` of each task that has it; one must."""
    part = results[(results["encoder"] == encoder) & results["reported"]]
    tasks = in_order(part.loc[part["method"] == method, "task"])
    figure, panels = new_panels(len(tasks), 4.4, 3.6, extra=0.6)
    for axes, task in zip(panels, tasks, strict=True):
        _draw_bars(axes, part[part["task"] == task], method)
        axes.set_title(f"{title_of(task)}\n{axes.get_title().rsplit(', ', 1)[1]}")
    legend_below(figure, panels[0], 3)
    return figure


def _draw_bars(axes: Axes, reported: pd.DataFrame, method: str) -> None:
    of = reported.groupby("subnetwork")["value"]
    full, deviation = of.mean()["full"], of.std()["full"]
    axes.axhspan(full - deviation, full + deviation, color="0.85", zorder=0)
    axes.axhline(full, color="0.25", linewidth=1.2, label="full model (±1 sd)")
    majority, frozen = (of.mean().get(kind, np.nan) for kind in ("majority", "frozen"))
    axes.axhline(majority, color="0.45", linestyle=":", label="majority class")
    axes.axhline(frozen, color="0.45", linestyle="-.", label="linear layer, frozen encoder")
    for place, kind in enumerate(KINDS):
        for side, phase, colour in zip((-0.2, 0.2), PHASES, COLOURS, strict=False):
            cell = _cell(reported, method, kind, phase)
            look: dict[str, Any] = {"width": 0.36, "color": colour, "alpha": 0.75}
            label = None if place else phase
            axes.bar(place + side, cell["value"].mean(), label=label, **look)
            spread = np.linspace(-0.09, 0.09, max(len(cell), 2))[: len(cell)]
            look = {"s": 22, "facecolors": _faces(cell, "0.1"), "edgecolors": "0.1", "zorder": 3}
            axes.scatter(place + side + spread, cell["value"], **look)
    good = (reported["method"] == method) & (reported["subnetwork"] == "good")
    kept = reported[good].groupby("seed")["density"].first().mean()
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.grid(axis="x", visible=False)
    name = method if method in METHODS else ALL_METHODS[method].title
    metric = reported["metric"].iloc[0]
    axes.set(ylabel=METRIC_NAMES[metric], title=f"{name}, {kept:.0%} of the encoder")


def _cell(table: pd.DataFrame, method: str, kind: str, phase: str) -> pd.DataFrame:
    chosen = (table["method"] == method) & (table["subnetwork"] == kind) & (table["phase"] == phase)
    return table[chosen]


def _faces(cell: pd.DataFrame, colour: Any) -> list[Any]:
    """The points of constant predictors are hollow."""
    return ["white" if constant else colour for constant in cell["constant"]]


def score_dots(results: pd.DataFrame, rows: Sequence[tuple[str, str, str, str]]) -> Figure:
    """Scores of a task side by side: points are seeds (hollow: constant), bars their mean. A row is
    a name to print, method, subnetwork and phase; it is left out if there are no results.
    """
    reported = results[results["reported"]]
    full = reported.loc[reported["subnetwork"] == "full", "value"]
    cells = {name: _cell(reported, *names) for name, *names in rows}
    cells = {name: cell for name, cell in cells.items() if len(cell)}
    figure, (axes,) = new_axes(1, 7.2, 0.42 * len(cells) + 1.3)
    deviation = full.std(ddof=1) if len(full) > 1 else 0.0
    axes.axvspan(full.mean() - deviation, full.mean() + deviation, color="0.88", zorder=0)
    axes.axvline(full.mean(), color="0.25", linewidth=1.2, label="full model (±1 sd)")
    for place, cell in enumerate(cells.values()):
        look: dict[str, Any] = {"facecolors": _faces(cell, COLOURS[0]), "edgecolors": COLOURS[0]}
        axes.scatter(cell["value"], [place] * len(cell), s=34, zorder=3, **look)
        axes.plot([cell["value"].mean()] * 2, [place - 0.28, place + 0.28], color="0.1", lw=2.2)
    _name_rows(axes, list(cells))
    axes.set(xlabel=METRIC_NAMES[reported["metric"].iloc[0]])
    axes.legend(frameon=False, loc="best")
    return figure


def seen_and_unseen(table: pd.DataFrame, metric: str) -> Figure:
    """Scores on examples that a search saw and on others, from `comparisons.held_out_table`."""
    names = list(dict.fromkeys(zip(table["method"], table["searched on"], strict=True)))
    figure, (axes,) = new_axes(1, 7.2, 0.5 * len(names) + 1.4)
    for place, (method, where) in enumerate(names):
        cell = table[(table["method"] == method) & (table["searched on"] == where)]
        for side, (column, marker) in enumerate((("seen", "o"), ("unseen", "D"))):
            height = place - 0.14 + 0.28 * side
            look: dict[str, Any] = {"color": COLOURS[side], "marker": marker, "s": 32, "zorder": 3}
            label = f"on examples the search {'did not see' if side else 'saw'}"
            axes.scatter(cell[column], [height] * len(cell), label=None if place else label, **look)
            if cell[column].notna().any():
                mean = cell[column].mean()
                axes.plot([mean] * 2, [height - 0.12, height + 0.12], color="0.1", lw=2)
    axes.axvline(0, color="0.25", linewidth=1.2)
    _name_rows(axes, [f"{method}, {where}" for method, where in names])
    axes.set(xlabel=f"{METRIC_NAMES[metric]} less the full model's")
    legend_below(figure, axes, 2)
    return figure


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def printed_beside_true() -> Figure:
    """The bar that the paper's Figure 2a prints for random subnetworks, retrained, which is that of
    the good ones, beside their released score; lines are standard deviations over five seeds.
    """
    known = paper.scores().query("method == 'structured' and phase == 'retrained'")
    tasks = known["task"].unique()
    figure, (axes,) = new_axes(1, 7.2, 4.0)
    bars = (
        ("good", "printed as random: the score of the good ones", COLOURS[7]),
        ("random", "released score of the random ones", COLOURS[0]),
    )
    ends = {"elinewidth": 1, "ecolor": "0.2", "capsize": 2}
    for side, (kind, label, colour) in enumerate(bars):
        own = known[known["subnetwork"] == kind].set_index("task").loc[tasks]
        places = np.arange(len(tasks)) - 0.2 + 0.4 * side
        look: dict[str, Any] = {"color": colour, "label": label, "error_kw": ends}
        axes.bar(places, own["mean"], width=0.38, yerr=own["sd"], **look)
    axes.set_xticks(range(len(tasks)), [title_of(task) for task in tasks])
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="score, as reported for each task", ylim=(0, 1.05))
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure


def recovery(ours: pd.DataFrame, encoder: str) -> Figure:
    """From pruned to retrained, on the way from the majority class (0) to the full model (1):
    `shares_of_way` of our runs of an encoder, and the paper's on the same tasks, as far as it has
    them. Arrows join means over tasks; dots are single tasks, retrained. Our linear layer on the
    frozen encoder, again a mean, is a line; the paper has none.
    """
    theirs = shares_of_way(paper.scores().rename(columns={"mean": "value"}))
    theirs = theirs[theirs["task"].isin(ours["task"])]
    figure, panels = new_axes(2, 8.4, 3.8, sharex=True, sharey=True)
    sides = ((ours, COLOURS[0], f"ours, {encoder}"), (theirs, COLOURS[3], "paper, BERT-base"))
    titles = ("Whole heads and MLPs", "Single weights")
    frozen = ours.loc[ours["subnetwork"] == "frozen", "share"].mean()
    line: dict[str, Any] = {"color": COLOURS[0], "linestyle": "-.", "linewidth": 1.2}
    for axes, method, title in zip(panels, METHODS, titles, strict=True):
        for place, kind in enumerate(KINDS):
            for side, (table, colour, who) in enumerate(sides):
                height = place - 0.17 + 0.34 * side
                shares = [_cell(table, method, kind, phase)["share"] for phase in PHASES]
                pruned, retrained = (values.mean() for values in shares)
                arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0}
                axes.annotate("", (retrained, height), (pruned, height), arrowprops=arrow)
                axes.plot(pruned, height, "o", color=colour, mfc="white", ms=7)
                heights, label = np.full(len(shares[1]), height), None if place else who
                axes.plot(shares[1], heights, "o", color=colour, alpha=0.45, ms=4, label=label)
        axes.axvline(0, color="0.45", linestyle=":")
        axes.axvline(1, color="0.25", linewidth=1.2)
        axes.axvline(frozen, **line)
        axes.set_title(title, fontsize=12)
        axes.set_yticks(range(len(KINDS)), list(KINDS))
        axes.set_xticks([0, 0.5, 1], ["majority\nclass", "half", "full\nmodel"])
    key: dict[str, Any] = {"linestyle": "", "color": "0.35"}
    panels[0].plot([], [], marker="o", mfc="white", ms=7, label="mean, pruned", **key)
    panels[0].plot([], [], marker=">", ms=6, label="mean, retrained", **key)
    panels[0].plot([], [], marker="o", ms=4, label="a task, retrained", **key)
    panels[0].plot([], [], label="frozen encoder, linear layer (ours)", **line)
    panels[0].set_ylim(len(KINDS) - 0.5, -0.5)
    legend_below(figure, panels[0], 3)
    return figure


def shares_of_way(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean scores over seeds as a `share` of the way from the majority class to the full model, a
    row per task that it learnt, method, subnetwork and phase.
    """
    settings = ["method", "subnetwork", "phase"]
    means = scores.pivot_table(index="task", columns=settings, values="value", aggfunc="mean")
    full, majority = means["none", "full", "fine-tuned"], means["none", "majority", "none"]
    learnt = full > majority
    shares = means[learnt].sub(majority[learnt], axis=0).div((full - majority)[learnt], axis=0)
    return shares.melt(ignore_index=False, value_name="share").reset_index().dropna()
