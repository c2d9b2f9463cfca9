"""Figures of subnetworks: what survives, how far seeds and tasks agree (Figures 1, 3 and 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from lotterylib.overlap import TaskOverlap
from lotterylib.report.figures.style import new_axes
from lotterylib.tasks import title_of

if TYPE_CHECKING:  # figures of results should not wait for torch
    from lotterylib.importance import Importance


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
    figure, (left, right) = new_axes(
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


def importance_histogram(scores: np.ndarray, pruned: int) -> Figure:
    """The paper's Figure 3: how the importance of heads is spread before the first pruning.

    Args:
        scores: float[layers, heads], normalised to 0 to 1 (`Importance.normalised`).
        pruned: how many of the lowest go in the first step; the dashed line is drawn behind them.
    """
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    values = np.sort(scores.ravel())
    axes.hist(values, bins=24, range=(0, 1), color=sns.color_palette("colorblind")[0])
    cut = values[min(pruned, len(values) - 1)]
    axes.axvline(cut, color="0.2", linestyle="--", label=f"the first {pruned} heads go")
    axes.set(xlabel="importance of a head (normalised)", ylabel="heads", xlim=(0, 1))
    axes.legend(frameon=False)
    return figure


def importance_evolution(traces: Mapping[int, Sequence[Importance]]) -> Figure:
    """How far the order of the heads, by importance, stays what it was, over a search's steps.

    Args:
        traces: per seed, the raw importance measured in every state, in the order of the search.
    """
    figure, (axes,) = new_axes(1, 6.4, 3.4)
    palette = sns.color_palette("colorblind")
    for colour, (seed, states) in zip(palette, traces.items(), strict=False):
        heads = [state.normalised().heads.ravel() for state in states]
        first = [stats.spearmanr(heads[0], later).statistic for later in heads]
        axes.plot(range(len(first)), first, "o-", ms=4, color=colour, label=f"seed {seed}")
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(
        xlabel="step of the search",
        ylabel="rank correlation with step 0",
        ylim=(-0.3, 1.05),
    )
    axes.legend(frameon=False)
    return figure


def kept_by_seeds(
    masks: Mapping[str, np.ndarray], permutations: int = 1000, seed: int = 0
) -> Figure:
    """How many items no seed keeps, one keeps, and so on to all, beside what chance would give.

    Args:
        masks: bool[seeds, items] by the name of the items, such as "heads".
        permutations: draws of masks of the same sizes, for the bar of chance with its 95% range.
        seed: of the draws.
    """
    figure, panels = new_axes(len(masks), 4.3 * len(masks), 3.4)
    draw = np.random.default_rng(seed)
    colour = sns.color_palette("colorblind")[0]
    for axes, (name, kept) in zip(panels, masks.items(), strict=True):
        places = np.arange(len(kept) + 1)

        def count(array: np.ndarray, places: np.ndarray = places) -> np.ndarray:
            return np.bincount(array.sum(0), minlength=len(places))

        drawn = np.array([count(draw.permuted(kept, axis=1)) for _ in range(permutations)])
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        mean = drawn.mean(0)
        axes.bar(places, count(kept), color=colour, alpha=0.75, label="found")
        axes.errorbar(
            places,
            mean,
            np.clip([mean - low, high - mean], 0, None),
            fmt="D",
            color="0.15",
            mfc="white",
            ms=6,
            capsize=3,
            label="by chance (95% range)",
        )
        axes.set(xlabel="kept by so many seeds", ylabel=name, xticks=places)
        axes.grid(axis="x", visible=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def overlap_heatmap(overlap: TaskOverlap) -> Figure:
    """The paper's Figure 5: what two tasks share, and beside it how far that is above chance.

    On the diagonal of the left panel stands how much survives of each task.
    """
    count = len(overlap.tasks)
    side = max(2.6, 0.72 * count + 1.2)
    if count > 5:  # side by side the numbers would be too small to read
        figure, (left, right) = new_axes(1, side + 1, 1.7 * side, rows=2)
    else:
        figure, (left, right) = new_axes(2, 2 * side + 0.8, side)
    names = [title_of(task).replace(" (generated)", "") for task in overlap.tasks]
    above = overlap.mean - overlap.chance
    upper = np.triu(np.ones((count, count), dtype=bool), 1)
    error = np.where(np.isfinite(overlap.sd), overlap.sd, 0)
    texts = np.array(
        [
            [f"{mean:.1f}" + (f"\n±{sd:.1f}" if sd else "") for mean, sd in zip(*row, strict=True)]
            for row in zip(overlap.mean, error, strict=True)
        ]
    )
    common = {"xticklabels": names, "yticklabels": names, "annot_kws": {"size": 8}, "fmt": ""}
    sns.heatmap(
        overlap.mean, ax=left, mask=upper, annot=texts, cmap="cividis", vmin=0, cbar=False, **common
    )
    limit = max(float(np.abs(above[~np.eye(count, dtype=bool)]).max(initial=0)), 0.1)
    sns.heatmap(
        above,
        ax=right,
        mask=upper | np.eye(count, dtype=bool),
        annot=np.vectorize("{:+.1f}".format)(above.round(1) + 0),
        cmap="PuOr",
        vmin=-limit,
        vmax=limit,
        cbar=False,
        **common,
    )
    part = {"heads": "heads", "mlps": "MLPs"}[overlap.part]
    left.set_title(f"{part} in common")
    right.set_title("above chance")
    for axes in (left, right):
        axes.grid(visible=False)
        axes.tick_params(axis="y", rotation=0)
        axes.tick_params(axis="x", rotation=60)
    return figure


def importance_and_ablation(importance: np.ndarray, loss: np.ndarray) -> Figure:
    """Importance of each head against what the score loses without it.

    Args:
        importance: float[layers, heads], normalised.
        loss: float[layers, heads], full score less the score without the head.
    """
    figure, (axes,) = new_axes(1, 6.0, 3.8)
    layers = np.indices(importance.shape)[0]
    points = axes.scatter(
        importance, loss, c=layers + 1, cmap="cividis", edgecolors="0.2", linewidths=0.4, s=34
    )
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(xlabel="importance (normalised)", ylabel="score lost without the head")
    bar = figure.colorbar(points, ax=axes, ticks=range(1, len(importance) + 1))
    bar.set_label("layer")
    return figure
