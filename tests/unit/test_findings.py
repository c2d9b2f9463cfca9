"""Results, findings, tables and figures, from tables whose answers are known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lotterylib import figures, findings
from lotterylib.results import (
    COLUMNS,
    format_verdicts,
    load_results,
    save_results,
    summarise,
    t_interval,
    verdicts,
)
from lotterylib.tables import score_table, search_states, trace_table

SEEDS = (1, 2, 3)


def row(seed, method, subnetwork, phase, value, **others):
    values = {
        "encoder": "minilm",
        "task": "sst2",
        "preset": "paper",
        "budget": "full",
        "metric": "accuracy",
        "reported": True,
        "density": 1.0,
        "constant": False,
    }
    named = {"seed": seed, "method": method, "subnetwork": subnetwork, "phase": phase}
    return dict.fromkeys(COLUMNS) | values | named | {"value": value} | others


def table(full=0.9, majority=0.5, frozen=0.7, good=0.9, bad=0.8, seeds=SEEDS, **others):
    """Full and subnetworks a hundredth apart per seed; random ones halfway between good and bad."""
    rows = [
        row(0, "none", "majority", "none", majority),
        row(0, "none", "frozen", "linear layer", frozen),
    ]
    for place, seed in enumerate(seeds):
        step = 0.01 * (place - (len(seeds) - 1) / 2)
        rows.append(row(seed, "none", "full", "fine-tuned", full + step))
        means = {"good": good, "random": (good + bad) / 2, "bad": bad}
        for method, kind, phase in itertools.product(
            ("structured", "magnitude"), means, ("pruned", "retrained")
        ):
            size = {"density": 0.4, "overlap_with_good": 1.0 if kind == "good" else 0.0}
            rows.append(row(seed, method, kind, phase, means[kind] + step, **size))
    return pd.DataFrame([r | others for r in rows], columns=list(COLUMNS))


def verdict(results, claim, method="structured"):
    rows = findings.claims(results)
    return rows[(rows["method"] == method) & rows["claim"].str.contains(claim)]["verdict"].item()


def test_the_interval_is_students():
    values = [0.1, 0.4, 0.35, 0.2]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values) == pytest.approx((low, high))
    assert all(math.isnan(bound) for bound in t_interval([0.3]))


def test_a_summary_is_over_seeds():
    line = (
        summarise(table())
        .set_index(["method", "subnetwork", "phase"])
        .loc[("structured", "bad", "retrained")]
    )
    assert (line["mean"], line["sd"]) == (pytest.approx(0.8), pytest.approx(0.01))
    assert (line["seeds"], line["constant"]) == (3, 0)


def test_verdicts_are_a_line_per_method_in_the_order_of_the_tasks():
    both = pd.concat([table(), table(task="cola", metric="matthews")])
    lines = verdicts(both)
    assert list(lines["task"]) == ["CoLA", "CoLA", "SST-2", "SST-2"]
    assert lines["kept"].tolist() == pytest.approx([0.4] * 4)
    assert lines["random retrained"].tolist() == pytest.approx([0.85] * 4)
    assert "40%" in format_verdicts(lines)


def test_a_results_table_is_read_back_as_it_was_saved(tmp_path):
    path = tmp_path / "minilm" / "sst2" / "results.csv"
    save_results(table(), path)
    first = path.read_bytes()
    save_results(load_results(tmp_path), path)
    assert path.read_bytes() == first
    assert load_results(tmp_path / "nothing").empty


@pytest.mark.parametrize(("good", "expected"), [(0.895, "yes"), (0.885, "no")])
def test_good_matches_full_down_to_one_standard_deviation(good, expected):
    assert verdict(table(good=good), "match the full model") == expected


def test_a_difference_is_decided_by_its_interval():
    assert verdict(table(good=0.9, bad=0.8), "beat bad ones, pruned") == "yes"
    assert verdict(table(good=0.7, bad=0.8), "beat bad ones, pruned") == "no"
    wide = table(good=0.9, bad=0.899)
    noisy = (wide["subnetwork"] == "bad") & (wide["seed"] == 1)
    wide.loc[noisy, "value"] += 0.05
    assert verdict(wide, "beat bad ones, pruned") == "undecided"
    assert verdict(table(seeds=(1,)), "beat bad ones, pruned") == "undecided"


@pytest.mark.parametrize(("bad", "expected"), [(0.71, "yes"), (0.69, "no")])
def test_trainable_is_half_of_the_way(bad, expected):
    assert verdict(table(bad=bad), "remain trainable") == expected
    assert findings.recovered(table(bad=bad), "structured", "bad") == pytest.approx(
        (bad - 0.5) / 0.4
    )


def test_the_frozen_encoder_is_a_bar_of_its_own():
    assert verdict(table(bad=0.8, frozen=0.7), "beat the frozen encoder") == "yes"
    assert verdict(table(bad=0.8, frozen=0.85), "beat the frozen encoder") == "no"


def test_where_the_full_model_learnt_nothing_nothing_is_decided():
    flat = table(full=0.5, good=0.5, bad=0.5)
    assert verdict(flat, "match the full model") == "undecided"
    assert verdict(flat, "remain trainable") == "undecided"
    assert "does not beat the majority class" in findings.warn(flat)


def test_warnings_name_what_must_be_known():
    assert findings.warn(table()) == ""
    assert "opposite label" in findings.warn(table(task="wnli"))
    assert "exercises the code" in findings.warn(table(budget="smoke"))
    results = table()
    results.loc[(results["subnetwork"] == "bad") & (results["seed"] == 2), "constant"] = True
    assert "structured bad pruned: 1" in findings.warn(results)


def test_sentences_hold_the_numbers_of_the_table():
    results = table()
    assert "0.900 (95% interval over 3 seeds" in findings.describe_full(results)
    assert "frozen encoder 0.700" in findings.describe_full(results)
    assert "**40%**" in findings.describe_search(results, "structured")
    told = findings.describe_subnetworks(results, "magnitude")
    assert "bad 0.800 (75% of the way)" in told
    assert "0.100 (95% interval" in told


def test_the_score_table_has_a_column_per_seed_and_no_nan():
    shown = score_table(table())
    assert list(shown.columns) == list(SEEDS)
    assert shown.loc[("none", "majority", "none")].tolist() == ["0.500", "", ""]
    assert "nan" not in shown.to_string().lower()


def test_traces_of_both_searches_become_tables():
    structured = {
        "phase": "heads",
        "heads": [[1, 0], [1, 1]],
        "mlps": [0, 1],
        "density": 0.5,
        "score": 0.8,
        "kept": True,
    }
    shown = trace_table([structured]).iloc[0]
    assert (shown["heads"], shown["MLPs"], shown["encoder left"]) == (3, 1, 0.5)
    magnitude = {"pruned": 10, "surviving": 0.9, "score": 0.4, "kept": False}
    assert search_states([structured, magnitude])["left"].tolist() == [0.5, 0.9]
    assert not search_states([structured, magnitude])["held"].iloc[1]


def test_bars_stand_at_the_means_and_points_at_the_seeds():
    axes = figures.subnetwork_bars(table(), "structured").axes[0]
    heights = [
        patch.get_height() for patch in axes.patches if patch.get_width() == pytest.approx(0.36)
    ]
    assert heights == pytest.approx([0.9, 0.9, 0.85, 0.85, 0.8, 0.8])
    points = np.concatenate([dots.get_offsets()[:, 1] for dots in axes.collections])
    assert len(points) == 6 * len(SEEDS)
    assert sorted(points)[:2] == pytest.approx([0.79, 0.79])


def test_a_constant_predictor_is_a_hollow_point():
    results = table()
    results.loc[(results["subnetwork"] == "bad") & (results["seed"] == 2), "constant"] = True
    axes = figures.subnetwork_bars(results, "structured").axes[0]
    faces = np.concatenate([dots.get_facecolors() for dots in axes.collections])
    assert (faces[:, :3] == 1).all(axis=1).sum() == 2


def test_a_heatmap_shows_mean_and_deviation_over_seeds():
    heads = np.zeros((2, 3, 4))
    heads[0, 0, 0] = 1
    axes = figures.survival_heatmap(heads, np.ones((2, 3))).axes
    assert axes[0].texts[0].get_text() == "0.50\n±0.71"
    assert {text.get_text() for text in axes[1].texts} == {"1.00\n±0.00"}


def test_undone_steps_are_hollow_and_off_the_line():
    states = pd.DataFrame({"left": [1, 0.5, 0.4], "score": [0.9, 0.85, 0.2], "held": [1, 1, 0]})
    states["held"] = states["held"].astype(bool)
    axes = figures.search_curves({1: states}, "accuracy", 0.9, 0.5).axes[0]
    line, undone, threshold = axes.lines[:3]
    assert line.get_ydata().tolist() == [0.9, 0.85]
    assert undone.get_ydata().tolist() == [0.2]
    assert threshold.get_ydata()[0] == pytest.approx(0.81)


def test_an_overview_has_a_panel_per_task():
    both = pd.concat([table(), table(task="cola", metric="matthews"), table(task="rte")])
    drawn = [
        axes for axes in figures.overview_bars(both, "minilm", "magnitude").axes if axes.axison
    ]
    assert [axes.get_title().split("\n")[0] for axes in drawn] == ["CoLA", "SST-2", "RTE"]


def test_no_figure_stays_open():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.training_curves({1: [0.7, 0.6], 2: [0.7, 0.5]})
    assert plt.get_fignums() == before
