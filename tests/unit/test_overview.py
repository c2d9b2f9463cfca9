"""The overview: tables over tasks, from published folders whose answers are known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from lotterylib.overlap import TaskOverlap
from lotterylib.patterns import PATTERNS
from lotterylib.report import overview, paper
from lotterylib.report.findings import spell_interval
from lotterylib.report.published import load_patterns, load_subnetworks
from lotterylib.report.results import load_results

RAW, NORMED = "fine-tuned, raw", "fine-tuned, normed"


@pytest.fixture
def subnetworks(pages):
    return load_subnetworks(pages, "minilm")[1]


@pytest.fixture
def patterns(pages):
    return load_patterns(pages, "minilm")


def test_runs_are_listed_in_the_order_of_the_tasks_with_what_was_used(pages):
    results = load_results(pages)
    results.loc[results["subnetwork"] != "full", "epochs"] = 9
    table = overview.runs_table(results)
    assert list(table.index) == ["CoLA", "RTE", "Entailment (generated)"]
    named = ["preset", "budget", "training rows", "dev rows", "epochs"]
    assert table.loc["CoLA", named].tolist() == ["paper", "laptop", 1000, 400, 3]
    assert table["seeds"].tolist() == ["1, 2, 42", "42", "42, 1"]


def test_claims_are_counted_over_tasks(pages):
    table = overview.claims_table(load_results(pages), pages / "minilm")
    assert list(table.columns) == ["yes", "no", "undecided", "not defined"]
    assert list(table.index.get_level_values("method")) == ["structured"] * 4 + ["magnitude"] * 4
    assert (table.sum(axis=1) == 3).all()
    structured, magnitude = table.to_numpy().reshape(2, 4, 4)
    assert (structured == magnitude).all()
    # what is the same in all seeds, or has one seed, is not defined
    nothing, worse, trainable = [0, 0, 0, 3], [1, 0, 1, 1], [2, 0, 0, 1]
    assert structured.tolist() == [nothing, nothing, worse, trainable]


def test_stability_beside_the_papers(subnetworks):
    table = overview.stability_over_tasks(subnetworks)
    tasks = ("CoLA", "Entailment (generated)")  # one seed (RTE) has nobody to agree with
    assert table.index.tolist() == list(itertools.product(tasks, ("heads", "mlps")))
    assert table["seeds"].tolist() == [3, 3, 2, 2]
    # Entailment, heads: 1100 twice. MLPs: 11 and 01; agreement 1/2, by chance 3/4^2 + 1/4^2 = 5/8.
    assert table["kappa"].tolist()[2:] == [1, pytest.approx((1 / 2 - 5 / 8) / (3 / 8), abs=5e-4)]
    # CoLA, heads: 1100, 1010, 1110: kept by 3, 2, 2 and 0 of 3 seeds.
    alike = (1 + 1 / 3 + 1 / 3 + 1) / 4
    chance = (7 / 12) ** 2 + (5 / 12) ** 2
    assert table["kappa"].iloc[0] == pytest.approx((alike - chance) / (1 - chance), abs=5e-4)
    assert table["shared"].tolist() == pytest.approx([(1 + 2 + 2) / 3, 1 / 3, 2, 1], abs=5e-4)
    expected = [(4 / 4 + 6 / 4 + 6 / 4) / 3, 1 / 2, 2 * 2 / 4, 2 * 1 / 2]
    assert table["by chance"].tolist() == pytest.approx(expected, abs=5e-4)
    # two masks of two heads out of four are the same by chance in one of six cases
    assert table["p"].iloc[2] == pytest.approx(1 / 6, abs=0.03)
    known = paper.stability().set_index(["task", "part"])["kappa"]["cola"]
    wanted = [known["heads"], known["mlps"], np.nan, np.nan]
    assert table["paper"].tolist() == pytest.approx(wanted, abs=5e-4, nan_ok=True)


def test_tasks_are_compared_in_the_seeds_that_all_have(subnetworks):
    two = {task: subnetworks[task] for task in ("cola", "entailment")}  # both have 1 and 42
    heads = overview.overlap_of(two, "heads")
    assert heads.tasks == ("cola", "entailment")
    # cola keeps 1100 and 1110, entailment 1100 twice
    np.testing.assert_allclose(heads.mean, [[2.5, 2], [2, 2]])
    np.testing.assert_allclose(heads.chance, [[(4 + 9) / 8, (4 + 6) / 8], [(4 + 6) / 8, 1]])
    assert heads.sd[0, 0] == pytest.approx(np.std([2, 3], ddof=1))
    # MLPs of seeds 1 and 42: cola 10 and 01, entailment 01 and 11; seed by seed they share 0 and 1
    np.testing.assert_allclose(overview.overlap_of(two, "mlps").mean, [[1, 0.5], [0.5, 1.5]])
    # all three have only 42 in common: 1110, 0011, 1100
    three = overview.overlap_of(subnetworks, "heads")
    assert three.tasks == ("cola", "rte", "entailment")
    np.testing.assert_allclose(three.mean, [[3, 1, 2], [1, 2, 0], [2, 0, 2]])


def test_super_survivors_are_compared_once(subnetworks):
    two = {task: subnetworks[task] for task in ("cola", "entailment")}
    found = overview.overlap_of(two, "heads", "super")
    # of seeds 1 and 42 both tasks keep 1100; cola's seed 2 keeps but one of them, and is not asked
    np.testing.assert_array_equal(found.mean, [[2, 2], [2, 2]])
    np.testing.assert_array_equal(overview.overlap_of(two, "mlps", "super").mean, [[0, 0], [0, 1]])


def test_tasks_with_too_few_common_seeds_are_not_compared(subnetworks):
    first = {1: subnetworks["cola"]["structured"][1]}
    apart = {"cola": {"structured": first}, "rte": subnetworks["rte"]}
    assert overview.overlap_of(apart, "heads") is None
    # one seed has survivors, but none of several
    assert overview.overlap_of(subnetworks, "heads", "super") is None


def test_patterns_of_all_heads_and_of_survivors_are_each_followed_by_the_papers(
    patterns, subnetworks
):
    table = overview.patterns_over_tasks(patterns, subnetworks, RAW)
    assert list(table.columns) == list(PATTERNS)
    own = [name for name in table.index if not name.endswith("(paper)")]
    assert own == [
        "CoLA, super-survivors",
        "CoLA, all heads",
        "RTE, all heads",  # one seed has no survivors of several
        "Entailment, super-survivors",
        "Entailment, all heads",
    ]
    of_paper = [name for name in own if not name.startswith("Entailment")]
    assert (
        list(table.index) == [n for name in of_paper for n in (name, f"{name} (paper)")] + own[3:]
    )
    # Heterogeneous maps of ten: CoLA's head h has h + 1, 2 + h under seed 42; head 0 survives.
    expected = [
        (1 + 1 + 2) / 30,
        (2 * (1 + 2 + 3 + 4) + (2 + 3 + 4 + 5)) / 120,
        (3 + 4 + 5 + 6) / 40,
        (0 + 1 + 1 + 2) / 40,
        ((0 + 1 + 2 + 3) + (1 + 2 + 3 + 4)) / 80,
    ]
    assert table.loc[own, "heterogeneous"].tolist() == pytest.approx(expected)
    assert table.loc[own, "vertical"].tolist() == pytest.approx([1 - share for share in expected])
    other = overview.patterns_over_tasks(patterns, subnetworks, NORMED)
    assert other.loc["RTE, all heads", "heterogeneous"] == pytest.approx(3 / 40)
    keys = ["task", "weights", "heads", "kind", "pattern"]
    known = paper.attention_patterns().set_index(keys)["share"].sort_index()
    for row, of in (("super-survivors", "super"), ("all heads", "all")):
        wanted = known["cola", "fine-tuned", of, "normed"].to_dict()
        assert other.loc[f"CoLA, {row} (paper)"].to_dict() == wanted


def test_overlaps_stand_beside_the_papers(subnetworks):
    heads = overview.overlap_of(subnetworks, "heads")
    table = overview.overlap_beside_paper({"heads": heads, "mlps": None, "super heads": heads})
    # the paper has no generated task, so of three pairs there is one
    assert list(table.index) == [("heads", "CoLA and RTE"), ("super heads", "CoLA and RTE")]
    assert table["here"].to_numpy().tolist() == [[1, 1.5, 0.67]] * 2
    for part in ("heads", "super heads"):
        (known,) = paper.task_overlap(part).query("task == 'rte' and other == 'cola'").itertuples()
        wanted = [known.mean, known.chance, known.mean / known.chance]
        assert table.loc[part, "paper"].to_numpy().tolist() == [np.round(wanted, 2).tolist()]
    assert overview.overlap_beside_paper({"heads": None}).empty


def test_every_head_of_every_task_is_a_point(patterns, subnetworks):
    survival, share = overview.survival_and_heterogeneity(patterns, subnetworks, RAW)
    by_task = {  # in the order of the task table
        "cola": ([1, 2 / 3, 2 / 3, 0], [(3 * h + 4) / 30 for h in range(4)]),
        "rte": ([0, 0, 1, 1], [(3 + h) / 10 for h in range(4)]),
        "entailment": ([1, 1, 0, 0], [(2 * h + 1) / 20 for h in range(4)]),
    }
    assert survival == pytest.approx(np.array([kept for kept, _ in by_task.values()]))
    assert share == pytest.approx(np.array([shares for _, shares in by_task.values()]))


def test_sentences_hold_the_numbers(pages, patterns, subnetworks):
    overlap = TaskOverlap(
        part="heads",
        tasks=("cola", "rte", "entailment"),
        mean=np.array([[3, 1, 2], [1, 2, 0], [2, 0, 2]], dtype=float),
        sd=np.full((3, 3), np.nan),
        chance=np.array([[9 / 4, 1.5, 1.5], [1.5, 1, 1], [1.5, 1, 1]]),
        p=np.array([[np.nan, 0.2, 0.04], [0.2, np.nan, 0.049], [0.04, 0.049, np.nan]]),
    )
    table = overview.stability_over_tasks(subnetworks).xs("heads", level="part")
    told = overview.describe(load_results(pages), subnetworks, patterns, overlap).splitlines()
    assert told[:2] == [
        "* 3 tasks. Kappa of heads over seeds: 0.31 to 1.00; shared beyond chance at 5% on "
        f"{(table['p'] < 0.05).sum()} of 2.",
        "* Two tasks share 1.0 heads on average, by chance 1.3; 2 of 3 pairs are above chance at "
        "5%, not corrected for their number.",
    ]
    for line, condition, kind in zip(told[2:], (RAW, NORMED), ("raw", "normed"), strict=True):
        x, y = overview.survival_and_heterogeneity(patterns, subnetworks, condition)
        within = [(z - z.mean(1, keepdims=True)).ravel() for z in (x, y)]
        assert line.startswith(
            f"* Correlation of survival with heterogeneous attention ({kind} maps), over 12 heads "
            f"of tasks: {pearsonr(*within).statistic:.3f} (95% interval"
        )


def test_survival_without_any_difference_is_not_correlated(patterns, subnetworks):
    masks = subnetworks["rte"]["structured"][42]
    everything = type(masks)(np.ones((2, 2), dtype=bool), np.ones(2, dtype=bool))
    flat = {task: {"structured": {1: everything, 42: everything}} for task in subnetworks}
    results = pd.DataFrame({"task": ["entailment", "cola", "rte"]})
    told = overview.describe(results, flat, patterns, overview.overlap_of(flat, "heads"))
    assert told.count(f": {spell_interval(np.nan, np.nan, np.nan)}.") == 2


def test_what_could_not_be_computed_is_left_out_of_the_sentences(pages, patterns, subnetworks):
    one = {"rte": subnetworks["rte"]}
    assert overview.stability_over_tasks(one).empty
    results, of_rte = load_results(pages), patterns[patterns["task"] == "rte"]
    told = overview.describe(results[results["task"] == "rte"], one, of_rte, None)
    first, *others = told.splitlines()
    assert first == "* 1 task."
    start = "* Correlation of survival with heterogeneous attention"
    assert [line.split(" (")[0] for line in others] == [start] * 2
    assert "nan" not in told
