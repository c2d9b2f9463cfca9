"""Figures of attention: maps, their patterns, and which heads survive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lotterylib.patterns import PATTERNS
from lotterylib.report.figures.style import COLOURS, SHARES, heatmap, new_axes, new_panels


def map_gallery(maps: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Example maps float[n, n], a row per pattern (the paper's Figure 4a) or per kind of map, whose
    name is printed.
    """
    columns = max(len(row) for row in maps.values())
    figure, panels = new_axes(columns, 1.35 * columns + 1.5, 1.4 * len(maps), rows=len(maps))
    for axes in panels:
        axes.set_axis_off()
    for number, (name, row) in enumerate(maps.items()):
        line = panels[number * columns :]
        for axes, weights in zip(line, row, strict=False):
            axes.imshow(weights, cmap="cividis", vmin=0, vmax=np.quantile(weights, 0.99))
        first = line[0]
        first.set_axis_on()
        first.grid(visible=False)
        first.set(xticks=[], yticks=[])
        first.set_ylabel(name, rotation=0, ha="right", va="center")
        sns.despine(ax=first, left=True, bottom=True)
    return figure


def pattern_bars(shares: pd.DataFrame) -> Figure:
    """The paper's Figure 4b and 4c: stacked shares (0 to 1) of the patterns, which are columns; a
    bar per row of the table, whose index is printed.
    """
    figure, (axes,) = new_axes(1, 7.6, 0.46 * len(shares) + 1.5)
    left, hatches = np.zeros(len(shares)), ("", "//", "..", "xx", "")
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
    text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "bbox": box}
    for pattern, colour, hatch in zip(PATTERNS, COLOURS, hatches, strict=False):
        width = 100 * shares[pattern].to_numpy()
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        axes.barh(range(len(shares)), width, left=left, label=pattern, **look)
        for place, (start, value) in enumerate(zip(left, width, strict=True)):
            if value >= 7:
                axes.text(start + value / 2, place, f"{value:.0f}", **text)
        left = left + width
    axes.set_yticks(range(len(shares)), [str(name) for name in shares.index])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel="% of attention maps", xlim=(0, 100))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def confusion_heatmap(tables: Mapping[str, np.ndarray]) -> Figure:
    """Confusion matrices int[patterns, patterns], by title, a panel each: rows are labels, columns
    what a classifier said.
    """
    figure, panels = new_panels(len(tables), 4.5, 3.9)
    short = [name.replace("vertical+diagonal", "vert.+diag.") for name in PATTERNS]
    look = SHARES | {"fmt": "d", "cbar": False, "xticklabels": short, "yticklabels": short}
    for axes, (title, counts) in zip(panels, tables.items(), strict=True):
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        heatmap(share, axes, annot=counts, **look)
        axes.set(title=title, xlabel="classifier says", ylabel="label")
        axes.tick_params(axis="x", rotation=40)
        axes.tick_params(axis="y", rotation=0)
    return figure


def survival_and_pattern(survival: np.ndarray, share: np.ndarray) -> Figure:
    """The share of seeds that keep a head, against the share of its maps that are heterogeneous;
    both float[points], from 0 to 1.
    """
    figure, (axes,) = new_axes(1, 6.2, 3.8)
    places = survival + np.random.default_rng(0).uniform(-0.02, 0.02, len(survival))
    axes.scatter(places, 100 * share, s=26, color=COLOURS[0], alpha=0.6, edgecolors="0.2")
    for level in np.unique(survival):
        mean = 100 * share[survival == level].mean()
        axes.plot([level - 0.04, level + 0.04], [mean, mean], color="0.1", lw=2.5)
    axes.set(xlabel="share of seeds that keep the head", ylabel="heterogeneous maps (%)")
    axes.set_ylim(-3, 103)
    return figure
