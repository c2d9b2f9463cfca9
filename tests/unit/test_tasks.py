"""The nine tasks of GLUE with the paper's metrics, and the three generated ones."""

import pytest

from lotterylib.errors import LotteryError
from lotterylib.tasks import BUNDLED, TASKS, find_task, in_order

ONE, PAIR = ("sentence",), ("sentence1", "sentence2")
ENTAILMENT = ("entailment", "not_entailment")
GLUE = {
    # name: text columns, classes in the order of their codes on the hub, reported metric
    "cola": (ONE, ("unacceptable", "acceptable"), "matthews"),
    "sst2": (ONE, ("negative", "positive"), "accuracy"),
    "mrpc": (PAIR, ("not_equivalent", "equivalent"), "accuracy"),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), "accuracy"),
    "stsb": (PAIR, (), "pearson"),
    "mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), "accuracy"),
    "qnli": (("question", "sentence"), ENTAILMENT, "accuracy"),
    "rte": (PAIR, ENTAILMENT, "accuracy"),
    "wnli": (PAIR, ENTAILMENT[::-1], "accuracy"),
}


@pytest.mark.parametrize("name", GLUE)
def test_a_glue_task_is_as_in_the_paper(name):
    task, (columns, labels, metric) = find_task(name), GLUE[name]
    assert (task.name, task.columns, task.labels, task.metric) == (name, columns, labels, metric)
    assert task.dev_split == ("validation_matched" if name == "mnli" else "validation")
    assert task.is_regression == (name == "stsb")
    assert task.outputs == (len(labels) or 1)
    assert not task.is_bundled
    assert task.official_stop_metric == ("pearson_spearman" if name == "stsb" else metric)
    assert tuple(TASKS) == (*GLUE, *BUNDLED)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("acceptability", "cola"), ("entailment", "rte"), ("similarity", "stsb")]
)
def test_a_generated_task_has_the_form_of_its_glue_task(ours, theirs):
    task, model = TASKS[ours], TASKS[theirs]
    assert task.is_bundled
    for name in ("columns", "labels", "metric", "official_stop_metric", "label_range"):
        assert getattr(task, name) == getattr(model, name)


def test_names_in_print_find_their_task_and_own_tasks_stand_last():
    for name in GLUE:
        assert find_task(TASKS[name].title) is find_task(name.upper()) is TASKS[name]
    assert [name for name, task in TASKS.items() if task.warning] == ["wnli"]
    names = ["mood", "similarity", "a-mood", "rte"]
    assert in_order(names) == ["rte", "similarity", "a-mood", "mood"]


@pytest.mark.parametrize(("given", "near"), [("colla", "cola"), ("sst", "sst2")])
def test_an_unknown_task_is_refused_with_the_nearest(given, near):
    with pytest.raises(LotteryError, match=f"Did you mean '{near}'"):
        find_task(given)
