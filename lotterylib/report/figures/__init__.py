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
from lotterylib.report.figures.scores import (
    overview_bars,
    printed_beside_true,
    recovery,
    score_dots,
    seen_and_unseen,
    shares_of_way,
    subnetwork_bars,
)
from lotterylib.report.figures.searches import (
    importance_and_ablation,
    importance_evolution,
    importance_histogram,
    search_curves,
    training_curves,
)
from lotterylib.report.figures.survival import kept_by_seeds, overlap_heatmap, survival_heatmap
from lotterylib.report.figures.tickets import (
    retrained_by_highest,
    ticket_distribution,
    units_of_best_and_worst,
)
from lotterylib.tasks import METRIC_NAMES
