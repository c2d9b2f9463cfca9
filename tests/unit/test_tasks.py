"""The nine tasks of GLUE with the paper's metrics, and the three generated ones."""

import pytest

from lotterylib.errors import LotteryError
from lotterylib.tasks import BUNDLED, TASKS, find_task, in_order

GLUE = {
    # name: text columns, number of classes (0: regression), reported metric, dev split
    "cola": (("sentence",), 2, "matthews", "validation"),
    "sst2": (("sentence",), 2, "accuracy", "validation"),
    "mrpc": (("sentence1", "sentence2"), 2, "accuracy", "validation"),
    "qqp": (("question1", "question2"), 2, "accuracy", "validation"),
    "stsb": (("sentence1", "sentence2"), 0, "pearson", "validation"),
    "mnli": (("premise", "hypothesis"), 3, "accuracy", "validation_matched"),
    "qnli": (("question", "sentence"), 2, "accuracy", "validation"),
    "rte": (("sentence1", "sentence2"), 2, "accuracy", "validation"),
    "wnli": (("sentence1", "sentence2"), 2, "accuracy", "validation"),
}


@pytest.mark.parametrize("name", GLUE)
def test_a_glue_task_is_as_in_the_paper(name):
    task = find_task(name)
    columns, classes, metric, dev = GLUE[name]
    assert task.name == name
    assert (task.columns, len(task.labels), task.metric) == (columns, classes, metric)
    assert task.dev_split == dev
    assert task.is_regression == (name == "stsb")
    assert task.outputs == (classes or 1)
    assert not task.is_bundled
    stop = "pearson_spearman" if name == "stsb" else metric
    assert task.official_stop_metric == stop


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("rte", ("entailment", "not_entailment")),
        ("qnli", ("entailment", "not_entailment")),
        ("wnli", ("not_entailment", "entailment")),
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("cola", ("unacceptable", "acceptable")),
        ("mrpc", ("not_equivalent", "equivalent")),
    ],
)
def test_codes_are_those_of_the_hub(name, labels):
    assert TASKS[name].labels == labels
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
