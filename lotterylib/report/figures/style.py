"""What all figures share: colours, and axes in one style."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from seaborn.utils import relative_luminance

COLOURS = sns.color_palette("colorblind")
SHARES: dict[str, Any] = {"vmin": 0, "vmax": 1, "cmap": "cividis"}
"""How heatmaps draw shares."""

_STYLE = {"axes.spines.right": False, "axes.spines.top": False, "figure.dpi": 110}


def new_axes(
    columns: int, width: float, height: float, rows: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` axes, width and height in inches."""
    with sns.axes_style("whitegrid", _STYLE), sns.plotting_context("notebook", font_scale=0.95):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options
        )
    # An open figure is shown twice in a notebook: once by the cell's value, once by pyplot.
    plt.close(figure)
    return figure, list(axes.ravel())


def heatmap(values: np.ndarray, axes: Axes, **look: Any) -> None:
    """Seaborn's heatmap of float[rows, columns] with `annot`, every number in black or white,
    whichever stands out more (seaborn turns to black too late for small type).
    """
    sns.heatmap(values, ax=axes, **look)
    cells = axes.collections[0]
    cells.update_scalarmappable()  # gives the cells their colours before they are drawn
    shown = ~np.ma.getmaskarray(np.ma.array(cells.get_array())).ravel()
    for text, colour in zip(axes.texts, np.asarray(cells.get_facecolor())[shown], strict=True):
        light = relative_luminance(colour) > 0.179  # where black and white contrast equally
        text.set_color("black" if light else "white")


def new_panels(
    count: int, width: float, height: float, extra: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """As many axes in at most two columns, each of this size, and `extra` inches below them."""
    columns, rows = min(2, count), math.ceil(count / 2)
    figure, panels = new_axes(columns, width * columns, height * rows + extra, rows=rows)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """The legend of one panel, below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
