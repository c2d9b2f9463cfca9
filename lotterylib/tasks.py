"""The tasks: the nine of GLUE that the paper uses, and three that the project generates itself.

One row of `TASKS` is all that the rest of the library knows about a task (paper, section 3 and
table 1; metrics of the search as in the authors' `find_head_mlp_masks.py`). A task of one's own is
such a row too, made of a file (`data.custom`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lotterylib.errors import unknown


@dataclass(frozen=True)
class Task:
    """One classification or regression task over a sentence or a pair of sentences.

    Attributes:
        name: the name on the command line and in paths; the configuration name in `nyu-mll/glue`.
        title: the name in print.
        columns: the text columns, one or two.
        labels: the class names in the order of their codes; empty for regression.
        metric: the metric that the paper reports.
        dev_split: the split that GLUE calls dev.
        tsv_folder: the folder in GLUE's own download; empty for other tasks.
        label_range: lowest and highest label of a regression task.
        warning: what a reader must know before believing a number on this task.
        sizes: training and dev examples in GLUE; zeros for all others.
        file: the task file, as it was given; empty for the tasks of the library.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metric: str = "accuracy"
    dev_split: str = "validation"
    tsv_folder: str = ""
    label_range: tuple[float, float] = (0.0, 5.0)
    warning: str = ""
    sizes: tuple[int, int] = (0, 0)
    file: str = ""

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number rather than a class."""
        return not self.labels

    @property
    def is_bundled(self) -> bool:
        """Whether the project generates the task from its own grammar."""
        return not self.tsv_folder and not self.file

    @property
    def outputs(self) -> int:
        """The number of logits, one per class or one for regression."""
        return len(self.labels) or 1

    @property
    def official_stop_metric(self) -> str:
        """The metric that stopped the authors' searches."""
        return "pearson_spearman" if self.is_regression else self.metric


_ONE, _PAIR = ("sentence",), ("sentence1", "sentence2")
_ACCEPTABLE = ("unacceptable", "acceptable")
_ENTAILMENT = ("entailment", "not_entailment")
_WNLI = (
    "WNLI's dev set repeats training sentences with the opposite label, so a model that learns "
    "scores below the majority class; leave it out of averages."
)


def _glue(
    title: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    sizes: tuple[int, int],
    **others: Any,
) -> Task:
    name = title.lower().replace("-", "")
    return Task(name, title, columns, labels, tsv_folder=title, sizes=sizes, **others)


_TASKS = (
    _glue("CoLA", _ONE, _ACCEPTABLE, (8_551, 1_043), metric="matthews"),
    _glue("SST-2", _ONE, ("negative", "positive"), (67_349, 872)),
    _glue("MRPC", _PAIR, ("not_equivalent", "equivalent"), (3_668, 408)),
    _glue("QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), (363_846, 40_430)),
    _glue("STS-B", _PAIR, (), (5_749, 1_500), metric="pearson"),
    _glue(
        "MNLI",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        (392_702, 9_815),
        dev_split="validation_matched",
    ),
    _glue("QNLI", ("question", "sentence"), _ENTAILMENT, (104_743, 5_463)),
    _glue("RTE", _PAIR, _ENTAILMENT, (2_490, 277)),
    _glue("WNLI", _PAIR, _ENTAILMENT[::-1], (635, 71), warning=_WNLI),
    Task("acceptability", "Acceptability (generated)", _ONE, _ACCEPTABLE, metric="matthews"),
    Task("entailment", "Entailment (generated)", _PAIR, _ENTAILMENT),
    Task("similarity", "Similarity (generated)", _PAIR, (), metric="pearson"),
)
TASKS: dict[str, Task] = {task.name: task for task in _TASKS}

BUNDLED = tuple(name for name, task in TASKS.items() if task.is_bundled)

METRIC_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "pearson_spearman": "mean of Pearson and Spearman",
}
"""What pages and figures call a metric."""


def find_task(name: str) -> Task:
    """The task of that name, in any case and with or without its hyphen ("STS-B" is "stsb").

    Raises:
        LotteryError: no such task; the message names the nearest.
    """
    key = str(name).lower().replace("-", "")
    if key not in TASKS:
        raise unknown("task", name, TASKS, ", or the path of a task file")
    return TASKS[key]


def title_of(name: str) -> str:
    """The name in print of a task in a table of results; one's own tasks are called as they are."""
    return TASKS[name].title if name in TASKS else name


def in_order(names: Iterable[str]) -> list[str]:
    """Names of tasks in the order of the task table, one's own tasks after them."""
    found = set(names)
    return [*(name for name in TASKS if name in found), *sorted(found - TASKS.keys())]
