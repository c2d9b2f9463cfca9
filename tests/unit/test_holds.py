"""What holds: numbers of the claims against their own arithmetic, words against whole sentences."""

from dataclasses import replace

import numpy as np
import pytest

from lotterylib.report import holds, paper
from lotterylib.report.evidence import claims_of
from lotterylib.report.results import load_results


def mean_of_paper(tasks, *setting):
    known = paper.scores().set_index(["task", "method", "subnetwork", "phase"])["mean"]
    return np.mean([known[(task, *setting)] for task in tasks])


@pytest.mark.parametrize("tasks", [["cola", "rte"], ["mrpc"]])
def test_numbers_of_the_paper_are_means_over_the_tasks_that_were_run(tasks):
    full, majority = (
        mean_of_paper(tasks, "none", "full", "fine-tuned"),
        mean_of_paper(tasks, "none", "majority", "none"),
    )
    good = mean_of_paper(tasks, "magnitude", "good", "retrained")
    bad = mean_of_paper(tasks, "magnitude", "bad", "retrained")
    a, _, b, c = claims_of("magnitude")
    assert holds._of_paper(a.shown, tasks) == pytest.approx(good - full)
    assert holds._of_paper(b.shown, tasks) == pytest.approx(good - bad)
    assert holds._of_paper(c.shown, tasks) == pytest.approx(bad - (full + majority) / 2)


def test_the_kappa_of_the_paper_is_over_the_tasks_that_have_one_here(pages):
    """RTE has one seed."""
    known = paper.stability().set_index(["part", "task"])["kappa"]
    held = holds.what_holds(load_results(pages), pages, "minilm")
    unstable = next(each for each in held if each.letter == "d")
    assert unstable.paper == pytest.approx(known["heads", "cola"], abs=1e-4)


def test_a_line_decides_only_where_the_whole_interval_is_on_one_side():
    cases = {
        (0.1, 0.5): "yes",
        (0.6, 0.7): "no",
        (0.5, 0.6): "undecided",
        (np.nan, 0.1): "not defined",
    }
    assert {bounds: holds._below(*bounds, 0.6) for bounds in cases} == cases


def test_claims_are_judged_on_glue_only(pages):
    results = load_results(pages)
    assert holds.glue_tasks(results) == ["cola", "rte"]
    held = holds.what_holds(results, pages, "minilm")
    assert [(each.letter, each.what) for each in held if each.letter in "ac"] == [
        ("a", "heads and MLPs"),
        ("a", "single weights"),
        ("c", "heads and MLPs"),
        ("c", "single weights"),
    ]
    assert all(sum(each.verdicts.values()) == 2 for each in held if each.letter in "abc")
    # In one of the two tasks good beats random by .1 in every seed, in the other they are equal.
    by_random = next(each for each in held if each.claim.startswith("random"))
    assert by_random.value == pytest.approx(0.05)


def test_verdicts_in_words():
    some = holds.Held(
        "b", "one thing is so", "heads", "n", 0.25, -0.5, -0.75, -0.125, "r", {"yes": 2}
    )
    assert holds.spell_verdicts(some) == "yes on both tasks"
    assert holds.spell_verdicts(replace(some, verdicts={"no": 1})) == "no on 1 task"
    mixed = replace(some, verdicts={"undecided": 1, "yes": 3})
    assert holds.spell_verdicts(mixed) == "yes on 3 of 4 tasks, undecided on 1"
    assert holds.spell_verdicts(replace(some, letter="e", verdicts={"no": 1})) == "no"
    table = holds.table_of([some, replace(mixed, low=float("nan"))]).splitlines()
    assert table[2:] == [
        "| (b) One thing is so | heads | +0.25 | -0.50 (-0.75 to -0.12) | **yes on both tasks** |",
        "| (b) One thing is so | heads | +0.25 | -0.50 (not defined) | "
        "**yes on 3 of 4 tasks, undecided on 1** |",
    ]
