"""Figures of scores: training, searches, and what subnetworks achieve (the paper's Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotterylib.report import paper
from lotterylib.report.figures.style import METRIC_NAMES, new_axes
from lotterylib.runs.methods import ALL_METHODS, KINDS, METHODS, PHASES
from lotterylib.tasks import in_order, title_of


def training_curves(losses: Mapping[int, Sequence[float]], window: int = 20) -> Figure:
    """Training loss against steps, a line per seed, averaged over a moving window of steps."""
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    for colour, (seed, values) in zip(
        sns.color_palette("colorblind"), losses.items(), strict=False
    ):
        smooth = pd.Series(values).rolling(window, min_periods=1).mean()
        axes.plot(range(1, len(values) + 1), smooth, color=colour, label=f"seed {seed}")
    axes.set(xlabel="training step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def search_curves(
    states: Mapping[int, pd.DataFrame],
    metric: str,
    threshold: float,
    majority: float,
) -> Figure:
    """The score of every state that a search tried, against the share of the encoder left.

    Args:
        states: per seed, a row per state in the order of the search: `left` (a share from 0 to 1),
            `score`, and `held`, false where the step was undone.
        metric: the metric's name.
        threshold: the share of each seed's full score at which its search stops.
        majority: the score of the majority class.
    """
    figure, (axes,) = new_axes(1, 6.8, 3.9)
    for colour, (seed, trace) in zip(sns.color_palette("colorblind"), states.items(), strict=False):
        held = trace[trace["held"]]
        axes.plot(100 * held["left"], held["score"], "o-", color=colour, ms=4, label=f"seed {seed}")
        undone = trace[~trace["held"]]
        axes.plot(100 * undone["left"], undone["score"], "o", color=colour, ms=6, mfc="white")
        axes.axhline(threshold * held["score"].iloc[0], color=colour, linestyle="--", linewidth=1)
    axes.plot([], [], "o", color="0.3", ms=6, mfc="white", label="undone")
    axes.axhline(majority, color="0.45", linestyle=":", label="majority class")
    axes.set(xlabel="encoder left (% of dense parameters)", ylabel=METRIC_NAMES.get(metric, metric))
    axes.invert_xaxis()
    axes.legend(frameon=False)
    return figure


def subnetwork_bars(results: pd.DataFrame, method: str) -> Figure:
    """A panel of the paper's Figure 2: good, random and bad subnetworks, pruned and retrained.

    Bars are means over seeds, points are seeds (hollow: a constant predictor). The band is the full
    model's mean and standard deviation, the dotted line the majority class.

    Args:
        results: the results table of one task.
        method: "structured" or "magnitude".
    """
    reported = results[results["reported"]]
    figure, (axes,) = new_axes(1, 6.8, 4.2)
    draw_subnetwork_bars(axes, reported, method)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_subnetwork_bars(axes: Axes, reported: pd.DataFrame, method: str) -> None:
    """Draw one panel of `subnetwork_bars` on given axes, from reported metrics only."""
    colours = dict(zip(PHASES, sns.color_palette("colorblind")[:2], strict=True))
    full = reported.loc[reported["subnetwork"] == "full", "value"]
    majority = reported.loc[reported["subnetwork"] == "majority", "value"].mean()
    axes.axhspan(
        full.mean() - full.std(ddof=1), full.mean() + full.std(ddof=1), color="0.85", zorder=0
    )
    axes.axhline(full.mean(), color="0.25", linewidth=1.2, label="full model (±1 sd)")
    axes.axhline(majority, color="0.45", linestyle=":", label="majority class")
    frozen = reported.loc[reported["subnetwork"] == "frozen", "value"].mean()
    axes.axhline(frozen, color="0.45", linestyle="-.", label="linear layer, frozen encoder")
    for place, kind in enumerate(KINDS):
        for side, phase in zip((-0.2, 0.2), PHASES, strict=True):
            cell = reported[
                (reported["method"] == method)
                & (reported["subnetwork"] == kind)
                & (reported["phase"] == phase)
            ]
            axes.bar(
                place + side,
                cell["value"].mean(),
                width=0.36,
                color=colours[phase],
                alpha=0.75,
                label=phase if place == 0 else None,
            )
            spread = np.linspace(-0.09, 0.09, max(len(cell), 2))[: len(cell)]
            face = ["white" if constant else "0.1" for constant in cell["constant"]]
            axes.scatter(
                place + side + spread,
                cell["value"],
                s=22,
                facecolors=face,
                edgecolors="0.1",
                zorder=3,
            )
    metric = reported["metric"].iloc[0]
    good = (reported["method"] == method) & (reported["subnetwork"] == "good")
    kept = reported[good].groupby("seed")["density"].first().mean()
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.grid(axis="x", visible=False)
    name = method if method in METHODS else ALL_METHODS[method].title
    axes.set(ylabel=METRIC_NAMES.get(metric, metric), title=f"{name}, {kept:.0%} of the encoder")


def overview_bars(results: pd.DataFrame, encoder: str, method: str) -> Figure:
    """The paper's Figure 2 for one method: a panel of `subnetwork_bars` for each task that has it.

    There must be one.
    """
    part = results[(results["encoder"] == encoder) & results["reported"]]
    tasks = in_order(part.loc[part["method"] == method, "task"])
    columns = min(2, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure, panels = new_axes(columns, 4.4 * columns, 3.6 * rows + 0.6, rows=rows)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(panels, tasks, strict=False):
        draw_subnetwork_bars(axes, part[part["task"] == task], method)
        axes.set_title(f"{title_of(task)}\n{axes.get_title().rsplit(', ', 1)[1]}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def score_dots(results: pd.DataFrame, rows: Sequence[tuple[str, str, str, str]]) -> Figure:
    """Scores side by side, a row each: points are seeds (hollow: constant), bars their mean.

    The band is the full model's mean and standard deviation.

    Args:
        results: the results table of one task.
        rows: name to print, method, subnetwork and phase; a row without results is left out.
    """
    reported = results[results["reported"]]
    full = reported.loc[reported["subnetwork"] == "full", "value"]
    cells = []
    for name, method, kind, phase in rows:
        cell = reported[
            (reported["method"] == method)
            & (reported["subnetwork"] == kind)
            & (reported["phase"] == phase)
        ]
        if len(cell):
            cells.append((name, cell))
    figure, (axes,) = new_axes(1, 7.2, 0.42 * len(cells) + 1.3)
    deviation = full.std(ddof=1) if len(full) > 1 else 0.0
    axes.axvspan(full.mean() - deviation, full.mean() + deviation, color="0.88", zorder=0)
    axes.axvline(full.mean(), color="0.25", linewidth=1.2, label="full model (±1 sd)")
    colour = sns.color_palette("colorblind")[0]
    for place, (_, cell) in enumerate(cells):
        face = ["white" if constant else colour for constant in cell["constant"]]
        axes.scatter(
            cell["value"], [place] * len(cell), s=34, facecolors=face, edgecolors=colour, zorder=3
        )
        axes.plot([cell["value"].mean()] * 2, [place - 0.28, place + 0.28], color="0.1", lw=2.2)
    axes.set_yticks(range(len(cells)), [name for name, _ in cells])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    metric = reported["metric"].iloc[0]
    axes.set(xlabel=METRIC_NAMES.get(metric, metric))
    axes.legend(frameon=False, loc="best")
    return figure


def seen_and_unseen(table: pd.DataFrame, metric: str) -> Figure:
    """What a search's own examples are worth: scores on examples it saw and on others.

    Args:
        table: `comparisons.held_out_table`: `searched on`, `method`, `seed`, and the score less the
            full model's on the same examples, `seen` and `unseen` (nan where there are none).
        metric: the metric's name.
    """
    names = list(dict.fromkeys(zip(table["method"], table["searched on"], strict=True)))
    figure, (axes,) = new_axes(1, 7.2, 0.5 * len(names) + 1.4)
    colours = sns.color_palette("colorblind")
    for place, (method, where) in enumerate(names):
        cell = table[(table["method"] == method) & (table["searched on"] == where)]
        for side, (column, colour, marker) in enumerate(
            zip(("seen", "unseen"), colours, ("o", "D"), strict=False)
        ):
            height = place - 0.14 + 0.28 * side
            label = f"on examples the search {'saw' if column == 'seen' else 'did not see'}"
            axes.scatter(
                cell[column],
                [height] * len(cell),
                color=colour,
                marker=marker,
                s=32,
                label=label if place == 0 else None,
                zorder=3,
            )
            if cell[column].notna().any():
                mean = cell[column].mean()
                axes.plot([mean] * 2, [height - 0.12, height + 0.12], color="0.1", lw=2)
    axes.axvline(0, color="0.25", linewidth=1.2)
    axes.set_yticks(range(len(names)), [f"{method}, {where}" for method, where in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=f"{METRIC_NAMES.get(metric, metric)} less the full model's")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def printed_beside_true() -> Figure:
    """The bar that the paper's Figure 2a prints for random subnetworks, retrained, beside the true.

    Per task: the printed bar, which is that of the good subnetworks, and the released score of the
    random ones; lines at each bar's end are standard deviations over five seeds.
    """
    tasks = list(paper.scores()["task"].unique())
    figure, (axes,) = new_axes(1, 7.2, 4.0)
    for side, (kind, label, colour) in enumerate(
        zip(
            ("good", "random"),
            ("printed as random: the score of the good ones", "released score of the random ones"),
            (sns.color_palette("colorblind")[7], sns.color_palette("colorblind")[0]),
            strict=True,
        )
    ):
        means, deviations = zip(
            *(paper.score(task, "structured", kind, "retrained") for task in tasks), strict=True
        )
        axes.bar(
            np.arange(len(tasks)) - 0.2 + 0.4 * side,
            means,
            width=0.38,
            color=colour,
            label=label,
            yerr=deviations,
            error_kw={"elinewidth": 1, "ecolor": "0.2", "capsize": 2},
        )
    axes.set_xticks(range(len(tasks)), [title_of(task) for task in tasks])
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="score, as reported for each task", ylim=(0, 1.05))
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure
