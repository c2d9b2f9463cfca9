"""Comparisons: the tables of the further pages, from experiments whose every value is made up."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest

from lotterylib.encoder import Shape
from lotterylib.importance import Importance
from lotterylib.report import comparisons, paper
from lotterylib.report.tables import NOTHING, size_table
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.searches import HALVES_SEED
from lotterylib.scoring import score_predictions
from lotterylib.subnetworks import StructuredSubnetwork, WeightSubnetwork
from lotterylib.tasks import find_task
from tests.results import results_of

SEEDS = (3, 1)
SHAPE = Shape(layers=2, heads=2, hidden=4, intermediate=6, total=1000)
# By hand: a head has 2 x (4 x 4 + 3) = 38 parameters, an MLP 2 x 4 x 6 + 4 + 6 = 58, and 4 biases
# of each W_O belong to no head: 2 x (2 x 38 + 4 + 58) = 276 in all.
HEAD, MLP, ALWAYS, ENCODER = 38, 58, 8, 276


def made_up(task="sst2", seeds=SEEDS, **methods):
    """As much of an experiment as the tables ask for."""
    settings = SimpleNamespace(seeds=tuple(seeds), heads_step=0.25, importance="example")
    return SimpleNamespace(settings=settings, shape=SHAPE, task=find_task(task), **methods)


def structured(heads, mlps):
    """From texts such as "10 11" (a layer a word) and "01"."""
    rows = [[digit == "1" for digit in layer] for layer in heads.split()]
    return StructuredSubnetwork(np.array(rows), np.array([digit == "1" for digit in mlps]))


# Importance. Heads divided by their layer's norm: sqrt(5), 5. The order of A is 1 4 / 2 3.

A = [[1.0, 2.0], [3.0, 4.0]]
B = [[2.0, 1.0], [3.0, 4.0]]  # 4 1 / 2 3
C = [[1.0, 2.0], [4.0, 3.0]]  # 1 4 / 3 2
FLAT = [[2.0, 2.0], [5.0, 5.0]]


def importance(heads, mlps=(1.0, 2.0)):
    return Importance(np.array(heads), np.array(mlps))


def test_ways_of_accumulating_are_compared_by_rank_and_by_what_goes_first():
    ways = ("example", "batch", "cumulative")
    found = {
        3: (importance(A), importance(B, [5.0, 9.0]), importance(C, [9.0, 5.0])),
        1: (importance(A), importance(FLAT, [4.0, 4.0]), importance(A)),
    }
    experiment = made_up(importance=lambda seed, way: found[seed][ways.index(way)])
    table = comparisons.accumulation_table(experiment)
    assert table[["seed", "one", "other"]].to_numpy().tolist() == [
        [seed, *pair] for seed in SEEDS for pair in itertools.combinations(ways, 2)
    ]
    # 1 - 6 sum(d^2) / (n (n^2 - 1)): with 4 heads, 1 - sum(d^2) / 10
    heads = table["heads, rank correlation"].tolist()
    assert heads[:3] == pytest.approx([1 - 18 / 10, 1 - 2 / 10, 1 - 20 / 10])
    assert heads[4] == 1
    assert all(map(math.isnan, (heads[3], heads[5])))
    mlps = table["MLPs, rank correlation"].tolist()
    assert mlps[:3] == [1, -1, -1]
    assert math.isnan(mlps[3])
    # The lowest: of A and C the first head, of B the second. Ties go to the first.
    both = [f"{count} of 1" for count in (0, 1, 0, 1, 1, 1)]
    assert table["pruned first by both"].tolist() == both


def test_importance_is_compared_between_every_two_seeds():
    scores = {3: importance(A), 1: importance(B, [2.0, 1.0]), 7: importance(C)}
    experiment = made_up(
        seeds=(3, 1, 7), importance=lambda seed, way: {"example": scores[seed]}[way]
    )
    table = comparisons.importance_between_seeds(experiment)
    assert list(table.index) == ["3, 1", "3, 7", "1, 7"]
    assert table["heads, rank correlation"].tolist() == pytest.approx([-0.8, 0.8, -1])
    assert table["MLPs, rank correlation"].tolist() == [-1, 1, -1]


# Subnetworks

GOOD = {
    (3, "structured"): structured("11 10", "10"),
    (1, "structured"): structured("10 11", "11"),
    (3, "super"): structured("10 10", "10"),
    (1, "super"): structured("10 10", "10"),
}


def sizes(heads, mlps):
    """How many there are, and both shares, as tables have them."""
    size = ALWAYS + heads * HEAD + mlps * MLP
    shares = size / ENCODER, 1 - (ENCODER - size) / 1000 - 0.21
    return [heads, mlps, *(f"{share:.1%}" for share in shares)]


def test_sizes_of_the_seeds_and_of_what_all_keep():
    experiment = made_up(subnetwork=lambda seed, method, kind: GOOD[seed, method])
    kept = {seed: GOOD[seed, "structured"] for seed in SEEDS}
    assert comparisons.good_structured(experiment) == kept
    table = comparisons.super_table(experiment)
    assert list(table.index) == ["seed 3", "seed 1", "super-survivors"]
    assert table.to_numpy().tolist() == [sizes(3, 1), sizes(3, 2), sizes(2, 1)]
    assert table.loc["super-survivors", "of the encoder"] == "51.4%"  # 142 of 276


def test_sizes_of_each_kind_and_what_it_shares_with_the_good_one():
    kinds = {"good": structured("11 10", "10"), "bad": structured("01 01", "01")}
    experiment = made_up(seeds=(3,), subnetwork=lambda seed, method, kind: kinds[kind])
    table = size_table(experiment, "structured", ("good", "bad"))
    shared = f"{HEAD / (2 * HEAD + MLP):.1%}"  # by parameters
    assert table.loc[3].to_numpy().tolist() == [[*sizes(3, 1), "100.0%"], [*sizes(2, 1), shared]]
    (row,) = size_table(experiment, "structured").to_numpy().tolist()
    assert row == sizes(3, 1)


def test_shared_weights_and_what_chance_would_give():
    found = {
        (3, "magnitude"): ("1110", "100000"),
        (3, "iterative"): ("1100", "100100"),
        (3, "before"): ("0001", "011110"),
        (1, "magnitude"): ("1111", "111100"),
        (1, "iterative"): ("1111", "111100"),
        (1, "before"): ("1111", "001111"),
    }

    def subnetwork(seed, method, kind):
        parts = zip(("0.a", "1.a"), found[seed, method], strict=True)
        return WeightSubnetwork({name: np.array(list(part)) == "1" for name, part in parts})

    table = comparisons.shared_weights(made_up(subnetwork=subnetwork))
    assert table.index.tolist() == [3, 1]
    assert table.columns.tolist() == ["with training in between", "before fine-tuning", "by chance"]
    assert table.to_numpy().tolist() == [[0.75, 0, 0.4], [1, 0.75, 0.8]]


# Held out


PLACES = ("all of dev", "half of dev", "training rows")
SUFFIXES = dict(zip(PLACES, ("", "-half-dev", "-train"), strict=True))
DEV = 31


@pytest.fixture(params=("sst2", "cola", "stsb"))
def searched(request):
    """Predictions of everything, drawn at random; they are what is stored."""
    task, draw = find_task(request.param), np.random.default_rng(5)

    def labels():
        return draw.random(DEV) * 5 if task.is_regression else draw.integers(0, 2, DEV)

    truth = labels()
    stored = {
        model: score_predictions(labels(), truth, task)
        for model in itertools.product(SEEDS, [*ALL_METHODS, "full"])
    }
    experiment = made_up(
        request.param,
        data=SimpleNamespace(train=range(80), dev={"label": truth.tolist()}),
        score=lambda seed, method, *_: stored[seed, method],
        full_score=lambda seed: stored[seed, "full"],
        subnetwork=lambda seed, *_: structured("11 10" if seed == 3 else "10 10", "10"),
    )
    return experiment, stored, truth


def test_seen_and_unseen_are_scores_of_the_rows_seen_and_unseen(searched):
    experiment, stored, truth = searched
    table = comparisons.held_out_table(experiment)
    names = ["method", "searched on", "seed"]
    assert table[names].to_numpy().tolist() == [
        list(row) for row in itertools.product(("structured", "magnitude"), PLACES, SEEDS)
    ]
    half = np.isin(range(DEV), np.random.default_rng(HALVES_SEED).permutation(DEV)[: DEV // 2])
    every = np.ones(DEV, dtype=bool)

    def score(model, rows):
        guesses = np.array(stored[model].predictions)[rows]
        return score_predictions(guesses, truth[rows], experiment.task).metrics[
            experiment.task.metric
        ]

    for row in table.to_dict("records"):
        seen = dict(zip(PLACES, (every, half, ~every), strict=True))[row["searched on"]]
        mine = row["seed"], row["method"] + SUFFIXES[row["searched on"]]
        for name, rows in (("seen", seen), ("unseen", ~seen)):
            if rows.any():
                gap = score(mine, rows) - score((row["seed"], "full"), rows)
                assert row[name] == pytest.approx(gap)
            else:
                assert math.isnan(row[name])
        kept = {3: 3 * HEAD + MLP, 1: 2 * HEAD + MLP}[row["seed"]]
        assert row["density"] == pytest.approx((ALWAYS + kept) / ENCODER)


# Ablation


def test_importance_is_held_against_what_a_heads_removal_costs():
    scores = {3: 0.9 - np.array([[0.1, 0.4], [-0.2, 0.0]]), 1: np.full((2, 2), 0.7)}
    full = {3: 0.9, 1: 0.8}
    experiment = made_up(
        importance=lambda seed, way: importance(A),
        full_score=lambda seed: SimpleNamespace(metrics={"accuracy": full[seed], "f1": 0.1}),
        ablation=scores.get,
    )
    np.testing.assert_allclose(comparisons.score_lost(experiment, 3), [[0.1, 0.4], [-0.2, 0]])
    table = comparisons.ablation_table(experiment)
    assert table["seed"].tolist() == [3, 1]
    # importance has the order 1 4 / 2 3, the loss 3 4 / 1 2: 1 - (4 + 0 + 1 + 1) / 10
    assert table["rank correlation"].iloc[0] == pytest.approx(1 - 6 / 10)
    assert math.isnan(table["rank correlation"].iloc[1])  # every head costs the same
    assert table["largest loss"].tolist() == [0.4, 0.1]
    # the last head costs 0.9 - 0.9, which is nothing
    assert table["heads without loss"].tolist() == ["2 of 4", "0 of 4"]


# Results


def test_variants_are_means_over_seeds():
    found = {
        (3, "structured", "good"): structured("11 10", "10"),
        (1, "structured", "good"): structured("11 11", "10"),
        (3, "heads", "inverted"): structured("00 01", "11"),
        (1, "heads", "inverted"): structured("00 00", "11"),
    }
    cells = {
        ("none", "full", "fine-tuned"): (0.9, 0.9),
        ("structured", "good", "pruned"): (0.8, 0.9),
        ("structured", "good", "retrained"): (0.85, 0.86),
        ("heads", "inverted", "pruned"): (0.5, 0.6),
        ("magnitude-95", "good", "pruned"): (0.7, 0.72),
    }
    experiment = made_up(subnetwork=lambda *place: found[place])
    results = results_of(cells, SEEDS, density=(0.4, 0.5))
    table = comparisons.variant_table(experiment, results)
    names = ["method", "subnetwork", "heads", "MLPs", "of the encoder", "pruned", "retrained"]
    assert table.columns.tolist() == names
    assert table.to_numpy().tolist() == [
        ["heads and MLPs", "good", "3.5", "1.0", "45%", "0.850", "0.855"],
        ["heads alone", "inverted", "0.5", "2.0", "45%", "0.550", NOTHING],
        ["weights, 95% kept", "good", NOTHING, NOTHING, "45%", "0.710", NOTHING],
    ]


CELLS = {
    ("none", "majority", "none"): (0.0,),
    ("none", "frozen", "linear layer"): (0.2,),
    ("none", "full", "fine-tuned"): (0.5, 0.6),
    ("structured", "good", "pruned"): (0.4, 0.5),
    ("structured", "good", "longer"): (0.4, 0.5),
    ("super", "bad", "retrained"): (0.125, 0.125),
    ("union", "good", "pruned"): (0.3,),
    ("matched", "good", "pruned"): (0.3, 0.3),
}


def test_beside_the_papers_numbers_stand_ours_where_both_have_them():
    table = comparisons.beside_paper(results_of(CELLS, task="cola", metric="matthews"))
    names = table[["method", "subnetwork", "phase"]].apply(tuple, axis=1).tolist()
    lacking = {("none", "frozen"), ("matched", "good"), ("structured", "good", "longer")}
    assert names == [n for n in CELLS if not {n, n[:2]} & lacking]
    deviation = math.sqrt(0.005)  # of two values 0.1 apart
    assert table["ours"].tolist() == [
        "0.000",
        f"0.550 ± {deviation:.3f}",
        f"0.450 ± {deviation:.3f}",
        "0.125 ± 0.000",
        "0.300",
    ]
    known = paper.scores().query("task == 'cola'").set_index(["method", "subnetwork", "phase"])
    printed = known.loc[names, ["mean", "sd"]].to_numpy()
    assert table["paper"].tolist() == [f"{mean:.3f} ± {sd:.3f}" for mean, sd in printed]
    assert comparisons.beside_paper(results_of(CELLS, task="entailment")).empty


def test_the_papers_sizes_are_those_of_the_task_and_method():
    structured = comparisons.sizes_of_paper("cola", "structured")
    assert structured["heads"].tolist() == [95, 81, 116, 102, 67]
    assert structured["printed_mean"].unique() == pytest.approx([0.65], abs=0.005)
    assert comparisons.sizes_of_paper("mnli", "magnitude")["steps"].tolist() == [13] * 5
    assert comparisons.sizes_of_paper("acceptability", "structured").empty
