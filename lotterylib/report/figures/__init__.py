"""Figures: the paper's, drawn with seaborn from traces, subnetworks and the results table.

Every function returns a matplotlib figure and shows nothing. Colours are seaborn's colour-blind
palette; heatmaps use cividis, which reads the same with any kind of colour vision.
"""

from lotterylib.report.figures.attention import (
    confusion_heatmap,
    map_gallery,
    pattern_bars,
    survival_and_pattern,
)
from lotterylib.report.figures.masks import (
    importance_and_ablation,
    importance_evolution,
    importance_histogram,
    kept_by_seeds,
    overlap_heatmap,
    survival_heatmap,
)
from lotterylib.report.figures.recovery import recovery, shares_of_way
from lotterylib.report.figures.scores import (
    draw_subnetwork_bars,
    overview_bars,
    printed_beside_true,
    score_dots,
    search_curves,
    seen_and_unseen,
    subnetwork_bars,
    training_curves,
)
from lotterylib.report.figures.style import METRIC_NAMES
from lotterylib.report.figures.tickets import (
    retrained_by_highest,
    ticket_distribution,
    units_of_best_and_worst,
)

__all__ = [
    "METRIC_NAMES",
    "confusion_heatmap",
    "draw_subnetwork_bars",
    "importance_and_ablation",
    "importance_evolution",
    "importance_histogram",
    "kept_by_seeds",
    "map_gallery",
    "overlap_heatmap",
    "overview_bars",
    "pattern_bars",
    "printed_beside_true",
    "recovery",
    "retrained_by_highest",
    "score_dots",
    "search_curves",
    "seen_and_unseen",
    "shares_of_way",
    "subnetwork_bars",
    "survival_and_pattern",
    "survival_heatmap",
    "ticket_distribution",
    "training_curves",
    "units_of_best_and_worst",
]
