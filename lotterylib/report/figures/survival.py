"""Figures of what survives: by head and MLP, over seeds, and over tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lotterylib.overlap import TaskOverlap
from lotterylib.report.figures.style import COLOURS, SHARES, heatmap, legend_below, new_axes
from lotterylib.tasks import title_of


def survival_heatmap(
    heads: np.ndarray, mlps: np.ndarray, meaning: str = "share of seeds that keep it"
) -> Figure:
    """The paper's Figure 1: how much of each head and MLP survives, averaged over seeds.

    Args:
        heads, mlps: float[seeds, layers, heads] and float[seeds, layers], shares from 0 to 1.
        meaning: what the colours stand for.
    """
    layers, count = heads.shape[1:]
    widths = {"width_ratios": [count, 2.1]}
    figure, (left, right) = new_axes(2, 8.6, 0.46 * layers + 1.5, gridspec_kw=widths)
    look = SHARES | {"linewidths": 0.6, "annot_kws": {"size": 8}, "fmt": ""}
    for axes, values, names in ((left, heads, count), (right, mlps[:, :, None], 1)):
        columns = range(1, names + 1) if names > 1 else ["MLP"]
        look |= {"xticklabels": columns, "yticklabels": range(1, layers + 1)}
        texts = _mean_and_deviation(values)
        heatmap(values.mean(0), axes, annot=texts, cbar=axes is right, **look)
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


def kept_by_seeds(masks: Mapping[str, np.ndarray]) -> Figure:
    """How many items no seed keeps, one keeps, and so on to all, beside what 1,000 draws of masks
    of the same sizes give; masks are bool[seeds, items], by the name of the items.
    """
    figure, panels = new_axes(len(masks), 4.3 * len(masks), 3.4)
    draw = np.random.default_rng(0)
    look: dict[str, Any] = {"fmt": "D", "color": "0.15", "mfc": "white", "ms": 6, "capsize": 3}
    for axes, (name, kept) in zip(panels, masks.items(), strict=True):
        places = np.arange(len(kept) + 1)
        drawn = np.array([_count(draw.permuted(kept, axis=1)) for _ in range(1000)])
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        mean = drawn.mean(0)
        axes.bar(places, _count(kept), color=COLOURS[0], alpha=0.75, label="found")
        reach = np.clip([mean - low, high - mean], 0, None)
        axes.errorbar(places, mean, reach, label="by chance (95% range)", **look)
        axes.set(xlabel="kept by so many seeds", ylabel=name, xticks=places)
        axes.grid(axis="x", visible=False)
    legend_below(figure, panels[0], 2)
    return figure


def _count(kept: np.ndarray) -> np.ndarray:
    return np.bincount(kept.sum(0), minlength=len(kept) + 1)


def overlap_heatmap(overlap: TaskOverlap) -> Figure:
    """The paper's Figure 5: what two tasks share (on the diagonal, what survives of one), and
    beside it how far that is above chance.
    """
    count = len(overlap.tasks)
    side = max(2.6, 0.72 * count + 1.2)
    if count > 5:  # side by side the numbers would be too small to read
        figure, (left, right) = new_axes(1, side + 1, 1.7 * side, rows=2)
    else:
        figure, (left, right) = new_axes(2, 2 * side + 0.8, side)
    names = [title_of(task).replace(" (generated)", "") for task in overlap.tasks]
    above = overlap.mean - overlap.chance
    own = np.eye(count, dtype=bool)
    upper = np.triu(np.ones((count, count), dtype=bool), 1)
    error = np.where(np.isfinite(overlap.sd), overlap.sd, 0)
    deviation = np.vectorize(lambda sd: f"\n±{sd:.1f}" if sd else "", otypes=[object])(error)
    texts = np.vectorize("{:.1f}".format, otypes=[object])(overlap.mean) + deviation
    look: dict[str, Any] = {"xticklabels": names, "yticklabels": names, "annot_kws": {"size": 8}}
    look |= {"fmt": "", "cbar": False}
    heatmap(overlap.mean, left, mask=upper, annot=texts, cmap="cividis", vmin=0, **look)
    limit = max(float(np.abs(above[~own]).max(initial=0)), 0.1)
    look |= {"vmin": -limit, "vmax": limit, "cmap": "PuOr"}
    texts = np.vectorize("{:+.1f}".format)(above.round(1) + 0)
    heatmap(above, right, mask=upper | own, annot=texts, **look)
    left.set_title(f"{'heads' if overlap.part == 'heads' else 'MLPs'} in common")
    right.set_title("above chance")
    for axes in (left, right):
        axes.grid(visible=False)
        axes.tick_params(axis="y", rotation=0)
        axes.tick_params(axis="x", rotation=60)
    return figure
