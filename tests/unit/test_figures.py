"""Figures: what is drawn stands at the numbers that were given."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from lotterylib.importance import Importance
from lotterylib.overlap import TaskOverlap
from lotterylib.patterns import PATTERNS
from lotterylib.report import figures, paper
from lotterylib.report.figures.style import SHARES, heatmap, new_axes
from lotterylib.runs.methods import ALL_METHODS, KINDS, PHASES
from lotterylib.tasks import TASKS
from tests.results import SEEDS, results_of

TITLES = {task.title: name for name, task in TASKS.items()}
CELLS = {
    ("none", "majority", "none"): (0.5,),
    ("none", "frozen", "linear layer"): (0.6,),
    ("none", "full", "fine-tuned"): (0.90, 0.92, 0.97),
    ("structured", "good", "pruned"): (0.81, 0.82, 0.83),
    ("structured", "good", "retrained"): (0.88, 0.90, 0.95),
    ("structured", "random", "pruned"): (0.50, 0.60, 0.55),
    ("structured", "random", "retrained"): (0.70, 0.72, 0.77),
    ("structured", "bad", "pruned"): (0.50, 0.50, 0.52),
    ("structured", "bad", "retrained"): (0.61, 0.66, 0.68),
    ("super", "good", "retrained"): (0.75, 0.77, 0.76),
}

SPREAD = np.std(CELLS["none", "full", "fine-tuned"], ddof=1)


def hollow(dots):
    """Which points of a scatter are white."""
    return (dots.get_facecolors()[:, :3] == 1).all(axis=1).tolist()


def line_of(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def texts(labels):
    return [label.get_text() for label in labels]


def cells_of(axes):
    """The values of a heatmap's panel, masked where nothing is shown."""
    rows, columns = len(axes.get_yticks()), len(axes.get_xticks())
    return np.ma.array(axes.collections[0].get_array()).reshape(rows, columns)


def overlap_of(tasks, mean, chance, sd=None):
    count = len(tasks)
    sd = np.full((count, count), np.nan) if sd is None else np.array(sd, dtype=float)
    p = np.full((count, count), np.nan)
    return TaskOverlap("heads", tuple(tasks), np.array(mean, float), sd, np.array(chance, float), p)


BOTH = CELLS | {
    ("magnitude", *cell): tuple(value - 0.02 for value in CELLS["structured", *cell])
    for cell in itertools.product(KINDS, PHASES)
}


def test_arrows_lead_from_pruned_to_retrained_on_the_tasks_that_were_learnt():
    unlearnt = {name: (0.4,) if name[1] == "full" else values for name, values in BOTH.items()}
    both = pd.concat([results_of(BOTH), results_of(unlearnt, task="rte")])
    shares = figures.shares_of_way(both[both["reported"]])
    ends = shares.set_index(["subnetwork", "phase"])["share"]
    assert (ends["majority", "none"], ends["full", "fine-tuned"]) == (0, 1)
    before = plt.get_fignums()
    figure = figures.recovery(shares, "MiniLM")
    assert plt.get_fignums() == before
    figure.draw_without_rendering()
    for axes, method in zip(figure.axes, ("structured", "magnitude"), strict=True):
        own = shares[shares["method"] == method].set_index(["phase", "subnetwork"])["share"]
        pruned, retrained = (own[phase].loc[[*KINDS]].tolist() for phase in PHASES)
        arrows = axes.texts[::2]  # the others are the paper's
        assert {arrow.arrowprops["arrowstyle"] for arrow in arrows} == {"-|>"}
        assert [arrow.xyann[0] for arrow in arrows] == pytest.approx(pruned)
        assert [arrow.xy[0] for arrow in arrows] == pytest.approx(retrained)
        dots = [line for line in axes.lines if line.get_alpha() == 0.45][::2]
        assert [x for line in dots for x in line.get_xdata()] == pytest.approx(retrained)


# Scores


def test_bars_stand_at_the_means_and_points_at_the_seeds():
    axes = figures.subnetwork_bars(results_of(CELLS), "structured").axes[0]
    wanted = [CELLS["structured", *cell] for cell in itertools.product(KINDS, PHASES)]
    bars = [patch for patch in axes.patches if patch.get_width() == pytest.approx(0.36)]
    assert [bar.get_height() for bar in bars] == pytest.approx([np.mean(v) for v in wanted])
    for bar, dots, values in zip(bars, axes.collections, wanted, strict=True):
        places = dots.get_offsets()
        assert places[:, 1].tolist() == pytest.approx(values)
        middle = bar.get_x() + bar.get_width() / 2
        assert places[:, 0].mean() == pytest.approx(middle)
        assert abs(places[:, 0] - middle).max() < bar.get_width() / 2
    lines = {"full model (±1 sd)": 0.93, "majority class": 0.5, "linear layer, frozen encoder": 0.6}
    for label, score in lines.items():
        assert line_of(axes, label).get_ydata()[0] == pytest.approx(score)
    band = axes.patches[0]
    assert (band.get_y(), band.get_height()) == pytest.approx((0.93 - SPREAD, 2 * SPREAD))
    assert axes.get_title() == "structured, 40% of the encoder"
    assert axes.get_ylabel() == "accuracy"
    other = results_of(CELLS).replace({"method": {"structured": "disjoint"}})
    title = figures.subnetwork_bars(other, "disjoint").axes[0].get_title()
    assert title == f"{ALL_METHODS['disjoint'].title}, 40% of the encoder"


def test_a_constant_predictor_is_hollow_and_no_other_is():
    results, cells = results_of(CELLS), [*itertools.product(KINDS, PHASES)]
    one = (results["subnetwork"] == "random") & (results["phase"] == "pruned")
    results.loc[one & (results["seed"] == 2), "constant"] = True
    wanted = [[cell == ("random", "pruned") and seed == 2 for seed in SEEDS] for cell in cells]
    bars = figures.subnetwork_bars(results, "structured").axes[0]
    dots = figures.score_dots(results, [(str(cell), "structured", *cell) for cell in cells]).axes[0]
    for axes in (bars, dots):
        assert [hollow(points) for points in axes.collections] == wanted


def test_panels_of_an_overview_are_those_of_each_task_and_encoder_that_has_the_method():
    other = {name: tuple(v - 0.1 for v in values) for name, values in CELLS.items()}
    del other["super", "good", "retrained"]
    results = pd.concat(
        [
            results_of(CELLS, task="rte"),
            results_of(other, task="cola", metric="matthews"),
            results_of(CELLS, task="mrpc"),
            results_of(CELLS, task="qnli", encoder="tiny"),
        ]
    )
    figure = figures.overview_bars(results, "minilm", "structured")
    shown = [axes for axes in figure.axes if axes.axison]
    titles = [f"{title}\n40% of the encoder" for title in ("CoLA", "MRPC", "RTE")]
    assert [axes.get_title() for axes in shown] == titles
    assert [axes.get_ylabel() for axes in shown] == ["Matthews correlation", *["accuracy"] * 2]
    first = [patch.get_height() for patch in shown[0].patches if patch.get_width() < 0.4]
    assert first[0] == pytest.approx(0.72)
    few = figures.overview_bars(results, "minilm", "super")
    assert [axes.get_title() for axes in few.axes if axes.axison] == titles[1:]


def test_dots_stand_at_the_seeds_in_the_order_of_the_rows_that_have_some():
    rows = [
        ("bad", "structured", "bad", "retrained"),
        ("from scratch", "structured", "random", "from scratch"),
        ("good", "structured", "good", "retrained"),
        ("majority", "none", "majority", "none"),
    ]
    axes = figures.score_dots(results_of(CELLS), rows).axes[0]
    del rows[1]
    assert texts(axes.get_yticklabels()) == [name for name, *_ in rows]
    means = [line for line in axes.lines if len(set(line.get_ydata())) == 2 and line.get_lw() > 2]
    shown = zip(rows, axes.collections, means, strict=True)
    for place, ((_, *cell), dots, mean) in enumerate(shown):
        points = dots.get_offsets()
        assert points[:, 0].tolist() == pytest.approx(CELLS[tuple(cell)])
        assert points[:, 1].tolist() == [place] * len(points)
        assert mean.get_xdata() == pytest.approx([np.mean(CELLS[tuple(cell)])] * 2)
        assert np.mean(mean.get_ydata()) == pytest.approx(place)
    assert axes.yaxis_inverted()
    assert line_of(axes, "full model (±1 sd)").get_xdata()[0] == pytest.approx(0.93)
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((0.93 - SPREAD, 2 * SPREAD))
    assert axes.get_xlabel() == "accuracy"
    one = results_of({name: values[:1] for name, values in CELLS.items()})
    assert figures.score_dots(one, rows).axes[0].patches[0].get_width() == 0


def test_seen_and_unseen_stand_in_rows_of_their_own():
    columns = {
        "seen": [-0.01, -0.03, 0.02, 0.04],
        "unseen": [None, None, -0.05, -0.07, -0.08, -0.1],
    }
    held_out = pd.DataFrame.from_dict(columns, orient="index").T
    held_out["method"] = "structured"
    held_out["searched on"] = np.repeat(["all of dev", "half of dev", "training rows"], 2)
    axes = figures.seen_and_unseen(held_out, "accuracy").axes[0]
    places = ("all of dev", "half of dev", "training rows")
    assert texts(axes.get_yticklabels()) == [f"structured, {place}" for place in places]
    shown = [np.ma.filled(np.ma.array(dots.get_offsets()), np.nan) for dots in axes.collections]
    columns = held_out[["seen", "unseen"]].to_numpy().reshape(3, 2, 2)  # place, seed, column
    for dots, (place, column) in zip(shown, itertools.product(range(3), range(2)), strict=True):
        np.testing.assert_allclose(dots[:, 0], columns[place, :, column])
        given = np.isfinite(columns[place, :, column])
        assert ((dots[given, 1] > place) == bool(column)).all()
    labels = [f"on examples the search {which}" for which in ("saw", "did not see")]
    assert [dots.get_label() for dots in axes.collections[:2]] == labels
    means = [line.get_xdata()[0] for line in axes.lines if line.get_lw() == 2]
    assert means == pytest.approx([-0.02, 0.03, -0.06, -0.09])  # none where there is nothing
    assert axes.get_xlabel() == "accuracy less the full model's"


def test_training_losses_are_averaged_over_a_moving_window():
    losses = {1: [4.0, 2.0, *[0.0] * 20], 7: [1.0]}
    axes = figures.training_curves(losses).axes[0]
    shown = line_of(axes, "seed 1")
    assert shown.get_ydata()[[0, 1, 2, 19, 20, 21]].tolist() == [4, 3, 2, 0.3, 0.1, 0]
    assert shown.get_xdata().tolist() == list(range(1, 23))
    assert line_of(axes, "seed 7").get_ydata().tolist() == [1]


def test_searches_of_all_seeds_share_a_panel():
    states = {"left": [1, 0.5, 0.4], "score": [0.9, 0.85, 0.2], "held": [True, True, False]}
    first = pd.DataFrame(states)
    lower = first.assign(score=first["score"] - 0.1)
    axes = figures.search_curves({1: first, 2: lower}, "matthews", 0.9, 0.5).axes[0]
    assert line_of(axes, "seed 2").get_xdata().tolist() == [100, 50]
    assert line_of(axes, "seed 2").get_ydata().tolist() == pytest.approx([0.8, 0.75])
    dashed = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([0.9 * 0.9, 0.9 * 0.8])
    undone = [line for line in axes.lines if line.get_mfc() == "white" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in undone] == [[0.2], [pytest.approx(0.1)]]
    assert (axes.get_ylabel(), axes.xaxis_inverted()) == ("Matthews correlation", True)


# Masks


def test_cells_of_a_survival_heatmap_are_means_over_seeds(rng):
    heads, mlps = rng.random((3, 4, 5)), rng.random((3, 4))
    left, right, bar = figures.survival_heatmap(heads, mlps, "what it is").axes
    np.testing.assert_allclose(cells_of(left), heads.mean(0))
    np.testing.assert_allclose(cells_of(right), mlps.mean(0)[:, None])
    assert texts(left.texts)[7] == f"{heads[:, 1, 2].mean():.2f}\n±{heads[:, 1, 2].std(ddof=1):.2f}"
    assert texts(right.texts)[2] == f"{mlps[:, 2].mean():.2f}\n±{mlps[:, 2].std(ddof=1):.2f}"
    assert bar.get_ylabel() == "what it is"
    assert all(axes.collections[0].get_clim() == (0, 1) for axes in (left, right))
    left, *_ = figures.survival_heatmap(np.ones((1, 2, 3)), np.zeros((1, 2))).axes
    assert texts(left.texts) == ["1.00"] * 6  # one mask has no deviation


@pytest.mark.parametrize("pruned", [14, 144])
def test_the_dashed_line_parts_what_goes_first_from_the_rest(rng, pruned):
    scores = rng.random((12, 12))
    axes = figures.importance_histogram(scores, pruned).axes[0]
    bars = [patch.get_height() for patch in axes.patches]
    assert (len(bars), sum(bars)) == (24, 144)
    np.testing.assert_array_equal(bars, np.histogram(scores, bins=24, range=(0, 1))[0])
    (line,) = axes.lines
    assert (scores < line.get_xdata()[0]).sum() == min(pruned, 143)
    assert f"first {pruned} heads" in line.get_label()


def test_the_order_of_importance_is_followed_from_its_first_state(rng):
    traces = {
        seed: [Importance(rng.random((3, 4)), rng.random(3)) for _ in range(states)]
        for seed, states in ((7, 4), (2, 3))
    }
    axes = figures.importance_evolution(traces).axes[0]
    for seed, states in traces.items():
        order = [stats.rankdata(state.normalised().heads) for state in states]
        wanted = [np.corrcoef(order[0], later)[0, 1] for later in order]
        line = line_of(axes, f"seed {seed}")
        assert line.get_ydata() == pytest.approx(wanted)
        assert line.get_xdata().tolist() == list(range(len(states)))
        assert line.get_ydata()[0] == pytest.approx(1)


def test_the_range_of_chance_is_that_of_all_draws():
    """Two seeds keep two of four items: 36 pairs of masks, of which 6 are the same."""
    kept = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
    masks = [np.isin(range(4), chosen) for chosen in itertools.combinations(range(4), 2)]
    counts = [
        np.bincount(np.add(one, other, dtype=int), minlength=3)
        for one, other in itertools.product(masks, masks)
    ]
    axes = figures.kept_by_seeds({"heads": kept}).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 2, 1]
    (container,) = [c for c in axes.containers if hasattr(c, "has_yerr") and c.has_yerr]
    points, _, (bars,) = container.lines
    assert points.get_ydata() == pytest.approx(np.mean(counts, axis=0), abs=0.1)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends.T, np.quantile(counts, [0.025, 0.975], axis=0), atol=0.01)


def test_an_overlap_is_shown_once_and_its_diagonal_is_what_survives():
    overlap = overlap_of(
        ("cola", "rte", "entailment"),
        [[3, 1, 2], [1, 2.5, 0], [2, 0, 4]],
        [[1, 1.5, 1.5], [1.5, 1, 1], [1.5, 1, 1]],
        [[1, 0.5, 0], [0.5, 0.25, 0], [0, 0, 2]],
    )
    left, right = figures.overlap_heatmap(overlap).axes
    shown, above = cells_of(left), cells_of(right)
    np.testing.assert_array_equal(shown.mask, np.triu(np.ones((3, 3), dtype=bool), 1))
    assert shown.compressed().tolist() == [3, 1, 2.5, 2, 0, 4]
    told = ["3.0\n±1.0", "1.0\n±0.5", "2.5\n±0.2", "2.0", "0.0", "4.0\n±2.0"]
    assert texts(left.texts) == told
    np.testing.assert_array_equal(above.mask, np.triu(np.ones((3, 3), dtype=bool)))
    assert above.compressed().tolist() == [-0.5, 0.5, -1]
    assert texts(right.texts) == ["-0.5", "+0.5", "-1.0"]
    assert right.collections[0].get_clim() == (-1, 1)  # zero is in the middle
    assert texts(left.get_xticklabels()) == ["CoLA", "RTE", "Entailment"]
    assert (left.get_title(), right.get_title()) == ("heads in common", "above chance")


def test_few_and_many_tasks_are_drawn_whole(rng):
    near = overlap_of(("cola", "rte"), [[3, 1], [1, 2]], [[1, 1.001], [1.001, 1]])
    left, right = figures.overlap_heatmap(near).axes
    assert texts(left.texts) == ["3.0", "1.0", "2.0"]  # super-survivors have no deviation
    assert texts(right.texts) == ["+0.0"]  # exactly chance has no minus
    tasks, square = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli"), rng.random((6, 6))
    upper, lower = figures.overlap_heatmap(overlap_of(tasks, square, square.T)).axes
    assert (cells_of(upper).count(), cells_of(lower).count()) == (21, 15)


def test_importance_stands_against_the_loss_of_the_same_head(rng):
    importance, loss = rng.random((3, 4)), rng.normal(size=(3, 4))
    axes, bar = figures.importance_and_ablation(importance, loss).axes
    (dots,) = axes.collections
    np.testing.assert_allclose(dots.get_offsets(), np.stack([importance, loss], -1).reshape(-1, 2))
    np.testing.assert_array_equal(dots.get_array(), np.repeat([1, 2, 3], 4))
    assert bar.get_ylabel() == "layer"


# Attention


def test_a_gallery_has_a_row_per_pattern_and_shows_every_map(rng):
    maps = {"vertical": [rng.random((5, 5)), rng.random((7, 7))], "block": [rng.random((4, 4))]}
    figure = figures.map_gallery(maps)
    panels = np.array(figure.axes, dtype=object).reshape(2, 2)
    for line, (name, row) in zip(panels, maps.items(), strict=True):
        assert line[0].get_ylabel() == name
        shown = [image.get_array() for axes in line for image in axes.images]
        assert len(shown) == len(row)
        for image, weights in zip(shown, row, strict=True):
            np.testing.assert_array_equal(image, weights)
    assert not panels[1, 1].axison


def test_shares_are_stacked_up_to_100(rng):
    rows = [*rng.dirichlet(np.ones(5), 3), [0.05, 0.3, 0, 0.6, 0.05]]
    shares = pd.DataFrame(
        rows, index=["CoLA, all heads", "CoLA", "RTE", "SST-2"], columns=[*PATTERNS]
    )
    (axes,) = figures.pattern_bars(shares).axes
    ends = np.zeros(4)
    for pattern, bars in zip(PATTERNS, axes.containers, strict=True):
        assert bars.get_label() == pattern
        assert [bar.get_x() for bar in bars] == pytest.approx(ends.tolist())
        ends = ends + 100 * shares[pattern].to_numpy()
        assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx(ends.tolist())
    assert axes.get_xlim() == (0, 100)
    assert texts(axes.get_yticklabels()) == list(shares.index)
    # slices too narrow for a number have none
    last = [text for text in axes.texts if text.get_position()[1] == 3]
    assert texts(last) == ["30", "60"]
    assert [text.get_position()[0] for text in last] == pytest.approx([20, 65])
    assert len(axes.texts) == (100 * shares[list(PATTERNS)] >= 7).to_numpy().sum()


def test_confusions_show_counts_and_are_coloured_by_the_share_of_their_row(rng):
    given = {f"table {i}": rng.integers(0, 30, (5, 5)) for i in range(3)}
    given["table 0"][2] = 0  # a pattern that no map has
    figure = figures.confusion_heatmap(given)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(given)
    for axes, counts in zip(shown, given.values(), strict=True):
        assert texts(axes.texts) == [str(count) for count in counts.ravel()]
        wanted = [[n / sum(row) if sum(row) else 0 for n in row] for row in counts.tolist()]
        np.testing.assert_allclose(cells_of(axes), wanted)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("classifier says", "label")


def test_heads_stand_at_their_survival_and_a_line_at_each_levels_mean():
    survival = np.array([0, 0, 0.5, 1, 1, 1])
    share = np.array([0.2, 0.4, 0.5, 0.1, 0.2, 0.9])
    axes = figures.survival_and_pattern(survival, share).axes[0]
    points = axes.collections[0].get_offsets()
    assert points[:, 1].tolist() == pytest.approx((100 * share).tolist())
    assert abs(points[:, 0] - survival).max() <= 0.02  # only so much aside as to be told apart
    lines = {np.mean(line.get_xdata()): line.get_ydata()[0] for line in axes.lines}
    assert lines == pytest.approx({0.0: 30, 0.5: 50, 1.0: 40})


def test_the_printed_bar_stands_beside_the_true_one():
    (axes,) = figures.printed_beside_true().axes
    known = paper.scores().query("method == 'structured' and phase == 'retrained'")
    known = known.set_index(["subnetwork", "task"])
    tasks = [TITLES[title] for title in texts(axes.get_xticklabels())]
    printed, true = (bars for bars in axes.containers if hasattr(bars, "patches"))
    for bars, kind in ((printed, "good"), (true, "random")):
        own = known.loc[kind].loc[tasks]
        assert [bar.get_height() for bar in bars] == own["mean"].tolist()
        places = [bar.get_x() + bar.get_width() / 2 for bar in bars]
        assert np.round(places).tolist() == list(range(9))
        ends = [segment[:, 1] for segment in bars.errorbar.lines[2][0].get_segments()]
        wanted = np.stack([own["mean"] - own["sd"], own["mean"] + own["sd"]], 1)
        np.testing.assert_allclose(ends, wanted)
    assert printed.get_label() == "printed as random: the score of the good ones"
    assert true.get_label() == "released score of the random ones"


def test_numbers_on_a_heatmap_stand_out_from_their_cells():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    values = np.linspace(0, 1, 30).reshape(5, 6)
    _, (axes,) = new_axes(1, 6, 5)
    heatmap(values, axes, annot=True, mask=values < 0.1, **SHARES)
    cells = axes.collections[0].get_facecolor()[(values >= 0.1).ravel()]
    assert len(axes.texts) == len(cells) == 27
    for text, cell in zip(axes.texts, cells, strict=True):
        dark, light = sorted([luminance(to_rgb(text.get_color())), luminance(cell)])
        assert (light + 0.05) / (dark + 0.05) > 4.5  # as WCAG 2.2 AA asks
