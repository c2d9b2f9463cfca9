"""Figures of the whole lottery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lotterylib.report.figures.style import COLOURS, SHARES, heatmap, legend_below, new_axes
from lotterylib.tasks import METRIC_NAMES

if TYPE_CHECKING:
    from lotterylib.report.lottery import Marks

_PICKED: dict[str, Any] = {"marker": "v", "linestyle": "", "color": "0.1", "ms": 9} | {
    "label": "the search's ticket"
}


def ticket_distribution(scores: Mapping[str, pd.Series], marks: Marks, metric: str) -> Figure:
    """How the tickets of half the units score, "pruned" and "retrained" (each indexed by ticket),
    with the marks as lines.
    """
    figure, panels = new_axes(1, 7.0, 5.2, rows=len(scores), sharex=True)
    every = np.concatenate([*scores.values(), [marks.full, marks.frozen, marks.majority]])
    bins = np.linspace(every.min(), every.max(), 46).tolist()
    for axes, (phase, values), colour in zip(panels, scores.items(), COLOURS, strict=False):
        axes.hist(values, bins=bins, color=colour, alpha=0.75)
        for score, style in _lines(marks):
            axes.axvline(score, **style)
        picked, height = values[values.index == marks.half], axes.get_xaxis_transform()
        axes.plot(picked, [0.06] * len(picked), transform=height, **_PICKED)
        axes.set(ylabel="tickets", title=f"{phase}: {len(values)} tickets")
    panels[-1].set_xlabel(METRIC_NAMES[metric])
    legend_below(figure, panels[-1], 2)
    return figure


def retrained_by_highest(
    scores: pd.Series, highest: np.ndarray, layers: int, marks: Marks, metric: str
) -> Figure:
    """The scores of retrained tickets (indexed by ticket) of an encoder of so many layers, by the
    highest layer that keeps its attention block: int[tickets], 0 for none.
    """
    figure, (axes,) = new_axes(1, 7.0, 4.4)
    places = highest + np.random.default_rng(0).uniform(-0.28, 0.28, len(scores))
    axes.scatter(places, scores, s=14, color=COLOURS[1], alpha=0.6, linewidths=0)
    for score, style in _lines(marks):
        axes.axhline(score, **style)
    picked = scores.index == marks.half
    axes.plot(places[picked], scores[picked], **_PICKED)
    axes.set_xticks(range(layers + 1), ["none", *map(str, range(1, layers + 1))])
    axes.set_xlim(-0.5, layers + 0.5)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("highest layer that keeps its attention block")
    axes.set_ylabel(METRIC_NAMES[metric])
    legend_below(figure, axes, 2)
    return figure


def _lines(marks: Marks) -> list[tuple[float, dict[str, Any]]]:
    return [
        (marks.full, {"color": "0.25", "linewidth": 1.2, "label": "full model"}),
        (marks.frozen, {"color": "0.45", "ls": "-.", "label": "linear layer, frozen encoder"}),
        (marks.majority, {"color": "0.45", "ls": ":", "label": "majority class"}),
    ]


def units_of_best_and_worst(shares: Mapping[str, np.ndarray]) -> Figure:
    """Which units the best and the worst tickets keep: `lottery.units_of_extremes` by phase."""
    layers = next(iter(shares.values())).shape[-1]
    figure, panels = new_axes(2, 8.6, 0.5 * layers + 1.6, sharey=True)
    names = [f"{place}\n{phase}" for phase in shares for place in ("best", "worst")]
    look = SHARES | {"linewidths": 0.6, "annot": True, "fmt": ".0%", "annot_kws": {"size": 9}}
    look |= {"xticklabels": names, "yticklabels": range(1, layers + 1)}
    for part, (axes, title) in enumerate(zip(panels, ("attention blocks", "MLPs"), strict=True)):
        kept = np.concatenate([of_phase[:, part] for of_phase in shares.values()]).T
        heatmap(kept, axes, cbar=part == 1, **look)
        axes.tick_params(rotation=0)
        axes.set(title=title, ylabel="" if part else "layer")
    panels[1].collections[0].colorbar.set_label("share that keeps it")  # type: ignore[union-attr]
    return figure
