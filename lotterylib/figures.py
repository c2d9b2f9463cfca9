"""Figures: the paper's, drawn with seaborn from traces, subnetworks and the results table.

Every function returns a matplotlib figure and shows nothing. Colours are seaborn's colour-blind
palette; heatmaps use cividis, which reads the same with any kind of colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotterylib.results import PHASES
from lotterylib.subnetworks import KINDS
from lotterylib.tasks import TASKS

METRIC_NAMES = {
    "accuracy": "accuracy",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "pearson_spearman": "mean of Pearson and Spearman",
}
_STYLE = {"axes.spines.right": False, "axes.spines.top": False, "figure.dpi": 110}


def _axes(
    columns: int, width: float, height: float, rows: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    with sns.axes_style("whitegrid", _STYLE), sns.plotting_context("notebook", font_scale=0.95):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
        )
    # An open figure is shown twice in a notebook: once by the cell's value, once by pyplot.
    plt.close(figure)
    return figure, list(axes.ravel())


def training_curves(losses: Mapping[int, Sequence[float]], window: int = 20) -> Figure:
    """Training loss against steps, a line per seed, averaged over a moving window of steps."""
    figure, (axes,) = _axes(1, 6.4, 3.4)
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
    figure, (axes,) = _axes(1, 6.8, 3.9)
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


def survival_heatmap(
    heads: np.ndarray, mlps: np.ndarray, meaning: str = "share of seeds that keep it"
) -> Figure:
    """The paper's Figure 1: how much of each head and MLP survives, averaged over seeds.

    Args:
        heads: float[seeds, layers, heads], shares from 0 to 1.
        mlps: float[seeds, layers].
        meaning: what the colours stand for.
    """
    layers, count = heads.shape[1:]
    figure, (left, right) = _axes(
        2, 8.6, 0.46 * layers + 1.5, gridspec_kw={"width_ratios": [count, 2.1]}
    )
    shared = {"vmin": 0, "vmax": 1, "cmap": "cividis", "linewidths": 0.6, "annot_kws": {"size": 8}}
    for axes, values, names in ((left, heads, count), (right, mlps[:, :, None], 1)):
        sns.heatmap(
            values.mean(0),
            ax=axes,
            annot=_mean_and_deviation(values),
            fmt="",
            cbar=axes is right,
            xticklabels=range(1, names + 1) if names > 1 else ["MLP"],
            yticklabels=range(1, layers + 1),
            **shared,
        )
        axes.tick_params(axis="y", rotation=0)
    left.set(xlabel="head", ylabel="layer", title="heads")
    right.set(xlabel="", title="MLPs")
    right.collections[0].colorbar.set_label(meaning)  # type: ignore[union-attr]
    return figure


def _mean_and_deviation(values: np.ndarray) -> np.ndarray:
    mean = values.mean(0)
    if len(values) < 2:
        return np.vectorize("{:.2f}".format)(mean)
    return np.vectorize("{:.2f}\n±{:.2f}".format)(mean, values.std(0, ddof=1))


def subnetwork_bars(results: pd.DataFrame, method: str) -> Figure:
    """A panel of the paper's Figure 2: good, random and bad subnetworks, pruned and retrained.

    Bars are means over seeds, points are seeds (hollow: a constant predictor). The band is the full
    model's mean and standard deviation, the dotted line the majority class.

    Args:
        results: the results table of one task.
        method: "structured" or "magnitude".
    """
    reported = results[results["reported"]]
    figure, (axes,) = _axes(1, 6.8, 4.2)
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
    kept = reported.loc[
        (reported["method"] == method) & (reported["subnetwork"] == "good"), "density"
    ].mean()
    axes.set_xticks(range(len(KINDS)), KINDS)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel=METRIC_NAMES.get(metric, metric), title=f"{method}, {kept:.0%} of the encoder")


def overview_bars(results: pd.DataFrame, encoder: str, method: str) -> Figure:
    """The paper's Figure 2 for one method: a panel of `subnetwork_bars` for each task."""
    part = results[(results["encoder"] == encoder) & results["reported"]]
    tasks = [name for name in TASKS if name in set(part["task"])]
    columns = min(2, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure, panels = _axes(columns, 4.4 * columns, 3.6 * rows + 0.6, rows=rows)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(panels, tasks, strict=False):
        draw_subnetwork_bars(axes, part[part["task"] == task], method)
        axes.set_title(f"{TASKS[task].title}\n{axes.get_title().split(', ', 1)[1]}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure
