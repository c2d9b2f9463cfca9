"""Figures: the paper's, drawn with seaborn from traces, subnetworks and the results table.

Every function returns a matplotlib figure and shows nothing. Colours are seaborn's colour-blind
palette; heatmaps use cividis, which reads the same with any kind of colour vision.
"""

from lotterylib.report.figures.masks import (
    confusion_heatmap,
    importance_and_ablation,
    importance_evolution,
    importance_histogram,
    kept_by_seeds,
    map_gallery,
    overlap_heatmap,
    pattern_bars,
    survival_and_pattern,
    survival_heatmap,
    units_of_best_and_worst,
)
from lotterylib.report.figures.scores import (
    overview_bars,
    printed_beside_true,
    recovery,
    retrained_by_highest,
    score_dots,
    search_curves,
    seen_and_unseen,
    shares_of_way,
    subnetwork_bars,
    ticket_distribution,
    training_curves,
)
from lotterylib.tasks import METRIC_NAMES
