"""The figure of the landing page: what pruned parts score, and what retraining gives back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lotterylib.report import paper
from lotterylib.report.figures.style import new_axes
from lotterylib.runs.methods import KINDS, METHODS, PHASES

_TITLES = {"structured": "Whole heads and MLPs", "magnitude": "Single weights"}


def recovery(ours: pd.DataFrame, encoder: str) -> Figure:
    """From pruned to retrained, on the way from the majority class (0) to the full model (1).

    Arrows go from the mean over tasks as pruned to the mean when retrained; dots are tasks.

    Args:
        ours: `shares_of_way` of our runs.
        encoder: whose they are.
    """
    theirs = shares_of_way(paper.scores().rename(columns={"mean": "value"}))
    figure, panels = new_axes(2, 8.4, 3.6, sharex=True, sharey=True)
    colours = sns.color_palette("colorblind")
    for axes, method in zip(panels, METHODS, strict=True):
        for place, kind in enumerate(KINDS):
            for side, (table, colour, who) in enumerate(
                ((ours, colours[3], f"ours, {encoder}"), (theirs, colours[0], "paper, BERT-base"))
            ):
                height = place - 0.17 + 0.34 * side
                rows = table[(table["method"] == method) & (table["subnetwork"] == kind)]
                shares = [rows.loc[rows["phase"] == phase, "share"] for phase in PHASES]
                pruned, retrained = (values.mean() for values in shares)
                axes.annotate(
                    "",
                    (retrained, height),
                    (pruned, height),
                    arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0},
                )
                axes.plot(pruned, height, "o", color=colour, mfc="white", ms=7)
                axes.plot(
                    shares[1],
                    np.full(len(shares[1]), height),
                    "o",
                    color=colour,
                    alpha=0.45,
                    ms=4,
                    label=None if place else who,
                )
        axes.axvline(0, color="0.45", linestyle=":")
        axes.axvline(1, color="0.25", linewidth=1.2)
        axes.set_title(_TITLES[method], fontsize=12)
        axes.set_yticks(range(len(KINDS)), list(KINDS))
        axes.set_xticks([0, 0.5, 1], ["majority\nclass", "half", "full\nmodel"])
    panels[0].set_ylim(len(KINDS) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def shares_of_way(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores as shares of the way from the majority class to the full model, on tasks it learnt.

    Args:
        scores: `task`, `method`, `subnetwork`, `phase` and `value`, several rows for several seeds.

    Returns:
        A row per task, method, subnetwork and phase with its mean as a `share`.
    """
    settings = ["method", "subnetwork", "phase"]
    means = scores.pivot_table(index="task", columns=settings, values="value", aggfunc="mean")
    full, majority = means["none", "full", "fine-tuned"], means["none", "majority", "none"]
    learnt = full > majority
    shares = means[learnt].sub(majority[learnt], axis=0).div((full - majority)[learnt], axis=0)
    return shares.melt(ignore_index=False, value_name="share").reset_index().dropna()
