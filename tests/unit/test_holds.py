"""What holds: numbers of the claims against their own arithmetic, words against whole sentences."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lotterylib.report import holds, paper
from lotterylib.report.evidence import claims_of
from lotterylib.report.results import load_results


def mean_of_paper(tasks, *setting):
    known = paper.scores().set_index(["task", "method", "subnetwork", "phase"])["mean"]
    return np.mean([known[(task, *setting)] for task in tasks])


@pytest.mark.parametrize("tasks", [["cola", "rte"], ["mrpc"]])
def test_numbers_of_the_paper_are_means_over_the_tasks_that_were_run(tasks):
    full = mean_of_paper(tasks, "none", "full", "fine-tuned")
    majority = mean_of_paper(tasks, "none", "majority", "none")
    good = mean_of_paper(tasks, "magnitude", "good", "retrained")
    bad = mean_of_paper(tasks, "magnitude", "bad", "retrained")
    a, _, b, c = claims_of("magnitude")
    assert holds._of_paper(a.shown, tasks) == pytest.approx(good - full)
    assert holds._of_paper(b.shown, tasks) == pytest.approx(good - bad)
    assert holds._of_paper(c.shown, tasks) == pytest.approx(bad - (full + majority) / 2)


def test_a_line_decides_only_where_the_whole_interval_is_on_one_side(monkeypatch):
    told = {
        (0.1, 0.5): "yes",
        (0.6, 0.7): "no",
        (0.5, 0.6): "undecided",
        (np.nan, 0.1): "not defined",
    }
    assert {bounds: holds._below(*bounds, 0.6) for bounds in told} == told
    # 0.1 is what patterns may explain, of r squared; an interval around zero comes near none of it
    for bounds, word in {(-0.3, 0.3): "yes", (-0.5, 0.4): "undecided", (-0.8, -0.4): "no"}.items():
        monkeypatch.setattr(holds, "correlation", lambda *_, bounds=bounds: (0.0, *bounds))
        monkeypatch.setattr(holds.overview, "survival_and_heterogeneity", lambda *_: ())
        tables = pd.DataFrame({"task": []}), {"cola": {}}
        assert holds._patterns(*tables, "raw", "maps").verdicts == {word: 1}


def test_tasks_that_pull_apart_are_judged_each_by_its_own_heads(monkeypatch):
    heads = np.linspace(0, 1, 24)
    points = {"cola": (heads, heads), "rte": (heads, 1 - heads)}  # together they cancel

    def given(patterns, good, condition):
        assert set(patterns["task"]) == set(good)
        assert condition == "fine-tuned, normed"
        return tuple(np.array([points[task][part] for task in good]) for part in (0, 1))

    monkeypatch.setattr(holds.overview, "survival_and_heterogeneity", given)
    tables = pd.DataFrame({"task": ["cola", "rte"]}), {"cola": {}, "rte": {}}
    held = holds._patterns(*tables, "normed", "maps")
    assert held.value == pytest.approx(0)
    assert held.verdicts == {"no": 2}
    found = holds.explained_by_task(*tables, "normed")
    assert [found[task][0] for task in points] == pytest.approx([1, -1])


def test_the_kappa_is_a_mean_over_tasks_with_the_interval_of_one(monkeypatch):
    table = pd.DataFrame(
        {"kappa": [0.2, 0.6], "low": [0.1, 0.4], "high": [0.5, 0.7], "paper": [0.3, 0.4]},
        index=pd.MultiIndex.from_product([["a", "b"], ["heads"]], names=["task", "part"]),
    )
    monkeypatch.setattr(holds.overview, "stability_over_tasks", lambda _: table)
    (held,) = holds._stability({})
    assert (held.value, held.paper) == pytest.approx((0.4, 0.35))
    bounds = (0.4 - np.hypot(0.1, 0.2) / 2, 0.4 + np.hypot(0.3, 0.1) / 2)
    assert (held.low, held.high) == pytest.approx(bounds)
    assert held.verdicts == {"yes": 1, "undecided": 1}


def test_claims_are_judged_on_glue_only(pages):
    results = load_results(pages)
    assert holds.glue_tasks(results) == ["cola", "rte"]
    held = holds.what_holds(results, pages, "minilm")
    both = ["heads and MLPs", "single weights"]
    assert [each.what for each in held if each.letter in "ac"] == both * 2
    assert "".join(each.letter for each in held) == "aabbbbccdee"
    assert all(sum(each.verdicts.values()) == 2 for each in held if each.letter in "abc")
    # In one of the two tasks good beats random by .1 in every seed, in the other they are equal.
    by_random = next(each for each in held if each.claim.startswith("random"))
    assert by_random.value == pytest.approx(0.05)
    # RTE has one seed, so that only CoLA has a kappa
    known = paper.stability().set_index(["part", "task"])["kappa"]
    assert held[8].paper == pytest.approx(known["heads", "cola"], abs=1e-4)


def test_verdicts_in_words():
    some = holds.Held(
        "b", "one thing is so", "heads", "n", 0.25, -0.5, -0.75, -0.125, "r", {"yes": 2}
    )
    assert holds.spell_verdicts(some) == "yes on both tasks"
    assert holds.spell_verdicts(replace(some, verdicts={"no": 1})) == "no on 1 task"
    mixed = replace(some, verdicts={"undecided": 1, "yes": 3})
    assert holds.spell_verdicts(mixed) == "yes on 3 of 4 tasks, undecided on 1"
    table = holds.table_of([some, replace(mixed, low=float("nan"))]).splitlines()
    assert table[2:] == [
        "| (b) One thing is so | heads | +0.25 | -0.50 (-0.75 to -0.12) | **yes on both tasks** |",
        "| (b) One thing is so | heads | +0.25 | -0.50 (not defined) | "
        "**yes on 3 of 4 tasks, undecided on 1** |",
    ]
