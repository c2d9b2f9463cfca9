"""The nine tasks of GLUE with the paper's metrics, and the three generated ones."""

import pytest

from lotterylib.errors import LotteryError
from lotterylib.tasks import BUNDLED, TASKS, find_task

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


def test_the_nine_of_glue_and_three_of_our_own():
    assert tuple(TASKS) == (*GLUE, "acceptability", "entailment", "similarity")
    assert BUNDLED == ("acceptability", "entailment", "similarity")


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


@pytest.mark.parametrize(
    ("ours", "theirs"), [("acceptability", "cola"), ("entailment", "rte"), ("similarity", "stsb")]
)
def test_a_generated_task_has_the_form_of_its_glue_task(ours, theirs):
    task, model = TASKS[ours], TASKS[theirs]
    assert task.is_bundled
    for name in ("columns", "labels", "metric", "official_stop_metric", "label_range"):
        assert getattr(task, name) == getattr(model, name)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_names_in_print_find_their_task(task):
    if not task.is_bundled:
        assert find_task(task.title) is task
    assert find_task(task.name.upper()) is task


def test_only_wnli_carries_a_warning():
    assert [name for name, task in TASKS.items() if task.warning] == ["wnli"]


@pytest.mark.parametrize(("given", "near"), [("colla", "cola"), ("qqqp", "qqp"), ("sst", "sst2")])
def test_an_unknown_task_is_refused_with_the_nearest(given, near):
    with pytest.raises(LotteryError, match=f"Did you mean '{near}'"):
        find_task(given)
