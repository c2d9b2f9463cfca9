"""Figures of fine-tuning and of the searches: losses, sizes, importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from lotterylib.report.figures.style import COLOURS, new_axes
from lotterylib.tasks import METRIC_NAMES

if TYPE_CHECKING:  # figures of results should not wait for torch
    from lotterylib.importance import Importance


def training_curves(losses: Mapping[int, Sequence[float]]) -> Figure:
    """Training loss against steps, a line per seed, averaged over a moving window of 20 steps."""
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    for colour, (seed, values) in zip(COLOURS, losses.items(), strict=False):
        smooth = pd.Series(values).rolling(20, min_periods=1).mean()
        axes.plot(range(1, len(values) + 1), smooth, color=colour, label=f"seed {seed}")
    axes.set(xlabel="training step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def search_curves(
    states: Mapping[int, pd.DataFrame], metric: str, threshold: float, majority: float
) -> Figure:
    """The score of every state that a search tried, against the share of the encoder left.

    Args:
        states: by seed, what `tables.search_states` gives.
        metric: the metric's name.
        threshold: the share of each seed's full score at which its search stops.
        majority: the majority class's score.
    """
    figure, (axes,) = new_axes(1, 6.8, 3.9)
    for colour, (seed, trace) in zip(COLOURS, states.items(), strict=False):
        held, undone = trace[trace["held"]], trace[~trace["held"]]
        axes.plot(100 * held["left"], held["score"], "o-", color=colour, ms=4, label=f"seed {seed}")
        axes.plot(100 * undone["left"], undone["score"], "o", color=colour, ms=6, mfc="white")
        axes.axhline(threshold * held["score"].iloc[0], color=colour, linestyle="--", linewidth=1)
    axes.plot([], [], "o", color="0.3", ms=6, mfc="white", label="undone")
    axes.axhline(majority, color="0.45", linestyle=":", label="majority class")
    axes.set(xlabel="encoder left (% of dense parameters)", ylabel=METRIC_NAMES[metric])
    axes.invert_xaxis()
    axes.legend(frameon=False)
    return figure


def importance_histogram(scores: np.ndarray, pruned: int) -> Figure:
    """The paper's Figure 3: the normalised importance of heads, float[layers, heads], before the
    first pruning. A dashed line is drawn behind the lowest, so many of which go in the first step.
    """
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    values = np.sort(scores.ravel())
    axes.hist(values, bins=24, range=(0, 1), color=COLOURS[0])
    cut = values[min(pruned, len(values) - 1)]
    axes.axvline(cut, color="0.2", linestyle="--", label=f"the first {pruned} heads go")
    axes.set(xlabel="importance of a head (normalised)", ylabel="heads", xlim=(0, 1))
    axes.legend(frameon=False)
    return figure


def importance_evolution(traces: Mapping[int, Sequence[Importance]]) -> Figure:
    """How far the order of the heads, by importance, stays what it was, over a search's steps; of
    each seed the raw importance measured in every state.
    """
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    for colour, (seed, states) in zip(COLOURS, traces.items(), strict=False):
        heads = [state.normalised().heads.ravel() for state in states]
        first = [stats.spearmanr(heads[0], later).statistic for later in heads]
        axes.plot(range(len(first)), first, "o-", ms=4, color=colour, label=f"seed {seed}")
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(xlabel="step of the search", ylabel="rank correlation with step 0", ylim=(-0.3, 1.05))
    axes.legend(frameon=False)
    return figure


def importance_and_ablation(importance: np.ndarray, loss: np.ndarray) -> Figure:
    """Normalised importance of each head against what the score loses without it, both
    float[layers, heads].
    """
    figure, (axes,) = new_axes(1, 6.0, 3.8)
    look: dict[str, Any] = {"cmap": "cividis", "edgecolors": "0.2", "linewidths": 0.4, "s": 34}
    points = axes.scatter(importance, loss, c=np.indices(importance.shape)[0] + 1, **look)
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(xlabel="importance (normalised)", ylabel="score lost without the head")
    bar = figure.colorbar(points, ax=axes, ticks=range(1, len(importance) + 1))
    bar.set_label("layer")
    return figure
