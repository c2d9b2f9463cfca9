"""Figures of heads and MLPs: what survives, how far seeds and tasks agree, where heads attend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from lotterylib.overlap import TaskOverlap
from lotterylib.patterns import PATTERNS
from lotterylib.report.figures.style import COLOURS, legend_below, new_axes
from lotterylib.tasks import title_of

if TYPE_CHECKING:  # figures of results should not wait for torch
    from lotterylib.importance import Importance

_SHARES: dict[str, Any] = {"vmin": 0, "vmax": 1, "cmap": "cividis"}


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
    widths = {"width_ratios": [count, 2.1]}
    figure, (left, right) = new_axes(2, 8.6, 0.46 * layers + 1.5, gridspec_kw=widths)
    look = _SHARES | {"linewidths": 0.6, "annot_kws": {"size": 8}, "fmt": ""}
    for axes, values, names in ((left, heads, count), (right, mlps[:, :, None], 1)):
        columns = range(1, names + 1) if names > 1 else ["MLP"]
        look |= {"xticklabels": columns, "yticklabels": range(1, layers + 1)}
        texts = _mean_and_deviation(values)
        sns.heatmap(values.mean(0), ax=axes, annot=texts, cbar=axes is right, **look)
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
    axes.hist(values, bins=24, range=(0, 1), color=COLOURS[0])
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
    for colour, (seed, states) in zip(COLOURS, traces.items(), strict=False):
        heads = [state.normalised().heads.ravel() for state in states]
        first = [stats.spearmanr(heads[0], later).statistic for later in heads]
        axes.plot(range(len(first)), first, "o-", ms=4, color=colour, label=f"seed {seed}")
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(xlabel="step of the search", ylabel="rank correlation with step 0", ylim=(-0.3, 1.05))
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
    look: dict[str, Any] = {"fmt": "D", "color": "0.15", "mfc": "white", "ms": 6, "capsize": 3}
    for axes, (name, kept) in zip(panels, masks.items(), strict=True):
        places = np.arange(len(kept) + 1)
        drawn = np.array([_count(draw.permuted(kept, axis=1)) for _ in range(permutations)])
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
    own = np.eye(count, dtype=bool)
    upper = np.triu(np.ones((count, count), dtype=bool), 1)
    error = np.where(np.isfinite(overlap.sd), overlap.sd, 0)
    deviation = np.vectorize(lambda sd: f"\n±{sd:.1f}" if sd else "", otypes=[object])(error)
    texts = np.vectorize("{:.1f}".format, otypes=[object])(overlap.mean) + deviation
    look: dict[str, Any] = {"xticklabels": names, "yticklabels": names, "annot_kws": {"size": 8}}
    look |= {"fmt": "", "cbar": False}
    sns.heatmap(overlap.mean, ax=left, mask=upper, annot=texts, cmap="cividis", vmin=0, **look)
    limit = max(float(np.abs(above[~own]).max(initial=0)), 0.1)
    look |= {"vmin": -limit, "vmax": limit, "cmap": "PuOr"}
    texts = np.vectorize("{:+.1f}".format)(above.round(1) + 0)
    sns.heatmap(above, ax=right, mask=upper | own, annot=texts, **look)
    left.set_title(f"{'heads' if overlap.part == 'heads' else 'MLPs'} in common")
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
    look: dict[str, Any] = {"cmap": "cividis", "edgecolors": "0.2", "linewidths": 0.4, "s": 34}
    points = axes.scatter(importance, loss, c=np.indices(importance.shape)[0] + 1, **look)
    axes.axhline(0, color="0.45", linestyle=":")
    axes.set(xlabel="importance (normalised)", ylabel="score lost without the head")
    bar = figure.colorbar(points, ax=axes, ticks=range(1, len(importance) + 1))
    bar.set_label("layer")
    return figure


def units_of_best_and_worst(shares: Mapping[str, np.ndarray]) -> Figure:
    """Which units the best and the worst tickets of half the units keep.

    Args:
        shares: for "pruned" and "retrained", what `lottery.units_of_extremes` gives.
    """
    layers = next(iter(shares.values())).shape[-1]
    figure, panels = new_axes(2, 8.6, 0.5 * layers + 1.6, sharey=True)
    names = [f"{place}\n{phase}" for phase in shares for place in ("best", "worst")]
    look = _SHARES | {"linewidths": 0.6, "annot": True, "fmt": ".0%", "annot_kws": {"size": 9}}
    look |= {"xticklabels": names, "yticklabels": range(1, layers + 1)}
    for part, (axes, title) in enumerate(zip(panels, ("attention blocks", "MLPs"), strict=True)):
        kept = np.concatenate([of_phase[:, part] for of_phase in shares.values()]).T
        sns.heatmap(kept, ax=axes, cbar=part == 1, **look)
        axes.tick_params(rotation=0)
        axes.set(title=title, ylabel="" if part else "layer")
    panels[1].collections[0].colorbar.set_label("share that keeps it")  # type: ignore[union-attr]
    return figure


# Attention


def map_gallery(maps: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Example maps, a row per pattern (the paper's Figure 4a) or per kind of map.

    Args:
        maps: by the name to print, equally many float[n, n]; rows attend to columns.
    """
    columns = max(len(row) for row in maps.values())
    figure, panels = new_axes(columns, 1.35 * columns + 1.5, 1.4 * len(maps), rows=len(maps))
    for axes in panels:
        axes.set_axis_off()
    for number, (name, row) in enumerate(maps.items()):
        line = panels[number * columns :]
        for axes, weights in zip(line, row, strict=False):
            axes.imshow(weights, cmap="cividis", vmin=0, vmax=np.quantile(weights, 0.99))
        line[0].set_axis_on()
        line[0].grid(visible=False)
        line[0].set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        sns.despine(ax=line[0], left=True, bottom=True)
    return figure


def pattern_bars(shares: pd.DataFrame) -> Figure:
    """The paper's Figure 4b and 4c: stacked shares of the patterns, a bar per row of the table.

    Args:
        shares: a row per bar; its index is printed; a column per pattern, shares from 0 to 1.
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
    """Confusion matrices, a panel each: rows are labels, columns what a classifier said.

    Args:
        tables: int[patterns, patterns] by title.
    """
    count = len(tables)
    columns = min(2, count)
    rows = -(-count // columns)
    figure, panels = new_axes(columns, 4.5 * columns, 3.9 * rows, rows=rows)
    short = [name.replace("vertical+diagonal", "vert.+diag.") for name in PATTERNS]
    look = _SHARES | {"fmt": "d", "cbar": False, "xticklabels": short, "yticklabels": short}
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes, (title, counts) in zip(panels, tables.items(), strict=False):
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        sns.heatmap(share, ax=axes, annot=counts, **look)
        axes.set(title=title, xlabel="classifier says", ylabel="label")
        axes.tick_params(axis="x", rotation=40)
        axes.tick_params(axis="y", rotation=0)
    return figure


def survival_and_pattern(survival: np.ndarray, share: np.ndarray) -> Figure:
    """Each head's survival against the share of its maps that are heterogeneous.

    Args:
        survival: float[points], the share of seeds that keep the head.
        share: float[points], from 0 to 1.
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
