"""Tasks of one's own: a YAML file of a few lines says where the examples are and what they say.

    name: mood
    train: train.csv
    dev: dev.csv
    text: sentence
    label: mood
    metric: accuracy

`KEYS` has what else may stand there. Files are sought beside the task file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lotterylib.data.files import read_yaml
from lotterylib.data.tables import (
    SUFFIXES,
    coded,
    from_dataset,
    joined,
    label_texts,
    load_hub,
    read_table,
)
from lotterylib.errors import LotteryError, line_of, unknown
from lotterylib.tasks import TASKS, Task, find_task

if TYPE_CHECKING:
    import pandas as pd

KEYS = {
    "name": "of the task, for its folder: up to 40 of a-z, 0-9, - and _",
    "train": "a file of training rows, several in brackets, or a pattern such as `train-*.parquet`",
    "dev": "likewise; or the share of the training rows to hold out, such as 0.2",
    "text": "the column of the texts, or two in brackets for pairs",
    "label": "the column of the labels",
    "metric": "accuracy (the default), matthews, f1 (of two classes) or pearson (of numbers)",
    "seed": "draws the rows that are held out (default: 0)",
    "hub": "a data set of the Hugging Face hub instead of files, such as `owner/name` or, with a "
    "configuration, `[owner/name, configuration]`; `train` and `dev` then name splits",
}
"""What a task file may say, and what it means."""

METRICS = ("accuracy", "matthews", "f1", "pearson")
MOST_CLASSES = 100
LONGEST_LABEL = 60
_RESERVED = ("overview", "audit", "average")  # folders and rows of tables that are not a task's
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class TaskFile:
    """What a task file says, and its path; `dev` may be a share of the training rows."""

    file: Path
    name: str
    train: tuple[str, ...]
    dev: tuple[str, ...] | float
    text: tuple[str, ...]
    label: str
    metric: str
    seed: int
    hub: tuple[str, ...]


def is_task_file(given: str) -> bool:
    """Whether this is meant as the path of a task file rather than as a name."""
    return given.lower().endswith((".yml", ".yaml")) or os.sep in given


def resolve(given: str) -> Task:
    """The task of that name, or the one that a task file describes; a `LotteryError` if none is."""
    if is_task_file(given):
        return read_task(given)
    if given.lower().endswith(SUFFIXES):
        raise LotteryError(
            f"{given} holds data, not a task: name it as 'train' in a task file, such as mood.yml, "
            "and give that."
        )
    try:
        return find_task(given)
    except LotteryError as error:
        if os.path.isfile(beside := f"{given}.yml"):
            raise LotteryError(f"Unknown task {given!r}. Did you mean {beside!r}?") from None
        raise error


def title_of_given(given: str) -> str:
    """The title of a task that was given by name or by file, without a look at its data."""
    return read_task_file(given).name if is_task_file(given) else find_task(given).title


def read_task(given: str) -> Task:
    """The task that a file describes, with data; its classes are those of the training rows.

    Raises:
        LotteryError: as `read_task_file`; data that cannot be read, texts that are none, labels
            that are no classes or no numbers.
    """
    spec = read_task_file(given)
    regression = spec.metric == "pearson"
    train = _read(spec, spec.train)
    task = Task(
        spec.name,
        spec.name,
        tuple("text of label" if name == "label" else name for name in spec.text),
        () if regression else _classes(spec, train),
        metric=spec.metric,
        label_range=(-np.inf, np.inf),
        file=given,
    )
    coded(train, task)
    if len(train) < 2:
        raise LotteryError(f"{spec.file}: train holds a single row.")
    if not isinstance(spec.dev, float):
        coded(_read(spec, spec.dev), task)
    return task


def load(task: Task) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The training and dev rows of a task of one's own, and where they come from."""
    spec = read_task_file(task.file)
    train = _read(spec, spec.train)
    source = f"{' '.join(spec.hub)} from the Hugging Face hub" if spec.hub else "own files"
    origin = f"{source}, as {spec.file.name} says"
    if 0 < len(task.labels) <= 10:
        origin += "; " + ", ".join(f"{code} is {name}" for code, name in enumerate(task.labels))
    if not isinstance(spec.dev, float):
        dev = _read(spec, spec.dev)
        return train, dev, origin + _repeated(train, dev, spec.text)
    count = min(max(1, round(spec.dev * len(train))), len(train) - 1)
    held = np.random.default_rng(spec.seed).permutation(len(train))[:count]
    rest = np.setdiff1d(np.arange(len(train)), held)
    origin += f"; {spec.dev:.0%} of the training rows, drawn by seed {spec.seed}, are dev"
    train, dev = train.iloc[rest], train.iloc[np.sort(held)]
    return train, dev, origin + _repeated(train, dev, spec.text)


def _repeated(train: pd.DataFrame, dev: pd.DataFrame, texts: Sequence[str]) -> str:
    """How many dev rows have texts that stand in training too, to be appended to the origin."""
    seen = set(train[[*texts]].itertuples(index=False, name=None))
    count = sum(row in seen for row in dev[[*texts]].itertuples(index=False, name=None))
    return f"; {count} of {len(dev)} dev rows have texts of training rows" if count else ""


def read_task_file(given: str) -> TaskFile:
    """Read and check a task file, without a look at the data that it names.

    Raises:
        LotteryError: the file cannot be read; a key or a value that is not accepted, with the line.
    """
    file = Path(os.path.expanduser(given))
    values, lines = read_yaml(file, "name: mood")

    def wrong(key: str, why: str) -> LotteryError:
        place = f"{file}, line {lines[key]}" if key in lines else f"{file}"
        return LotteryError(f"{place}: {why}")

    for key in values:
        if key not in KEYS:
            raise wrong(key, str(unknown("key", key, KEYS)))
    for key in ("name", "text", "label", *(() if "hub" in values else ("train", "dev"))):
        if values.get(key) is None:
            raise wrong(key, f"the task lacks {key!r}: {KEYS[key]}.")
    name, metric = values["name"], values.get("metric", "accuracy")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong(
            "name",
            f"the name {name!r} is not fit for a folder: take up to 40 of a-z, 0-9, - and _, such "
            "as mood.",
        )
    taken = [*TASKS, *_RESERVED, *(task.title.lower() for task in TASKS.values())]
    if name in taken or name.replace("-", "") in taken:
        raise wrong("name", f"the name {name!r} is taken: the library has it already.")
    if metric not in METRICS:
        raise wrong("metric", str(unknown("metric", metric, METRICS)))
    seed = values.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise wrong("seed", f"the seed {seed!r} is not a whole number from 0 to {2**32 - 1}.")
    text, (label,) = _texts(values, "text", 2, wrong), _texts(values, "label", 1, wrong)
    if len({*text, label}) <= len(text):
        raise wrong("label", "texts and label must be different columns.")
    if {*text} == {"label", "text of label"}:
        raise wrong("text", "the column 'label' is shown as 'text of label', which is the other's.")
    hub = _texts(values, "hub", 2, wrong) if "hub" in values else ()
    train = _texts({"train": "train"} | values if hub else values, "train", 0, wrong)
    return TaskFile(file, name, train, _dev(values, hub, wrong), text, label, metric, seed, hub)


def scale(train: dict[str, list[Any]], dev: dict[str, list[Any]]) -> str:
    """Turn labels that are not small into 0 to 5, over the range in training, in place.

    The task layer starts near 0 and learns slowly, so it would not come near 1,000 in a few epochs.
    Correlations stay what they are. Returns what to append to the data's origin.
    """
    low, high = min(train["label"]), max(train["label"])
    if max(-low, high) <= 10 or low == high:
        return ""
    for split in (train, dev):
        split["label"] = [5 * (value - low) / (high - low) for value in split["label"]]
    return f"; labels from {low:g} to {high:g} are scaled to 0 to 5"


def _texts(values: Mapping[str, Any], key: str, most: int, wrong: Any) -> tuple[str, ...]:
    """One text or a list of them, up to so many (0: any number)."""
    value = values[key]
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise wrong(key, f"{key!r} is {value!r}: it must be a text; put it between quotes.")
    if most and len(texts) > most:
        raise wrong(key, f"{key!r} names {len(texts)}, and {most} are accepted.")
    return tuple(texts)


def _dev(values: Mapping[str, Any], hub: Sequence[str], wrong: Any) -> tuple[str, ...] | float:
    dev = values.get("dev", "validation" if hub else None)
    if isinstance(dev, int | float):
        if isinstance(dev, bool) or not 0 < dev < 1:
            raise wrong("dev", f"the share {dev!r} of train must lie between 0 and 1, such as 0.2.")
        return float(dev)
    return _texts({"dev": dev}, "dev", 0, wrong)


def _read(spec: TaskFile, names: Sequence[str]) -> pd.DataFrame:
    """Texts and labels of files, or of splits of a data set on the hub."""
    columns = [*spec.text, spec.label]
    if spec.hub:
        return _from_hub(spec, names, columns)
    files = []
    for name in names:
        path = spec.file.parent / os.path.expanduser(name)
        found = [path]
        if "*" in path.name:
            found = [each for each in sorted(path.parent.glob(path.name)) if each.name[0] != "."]
        if not found or not os.path.isfile(found[0]):  # Path's own raises on some
            if os.path.lexists(path):
                raise LotteryError(f"{spec.file}: {name} is not a regular file.")
            folder = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
            there = [each.name for each in folder if each.name.lower().endswith(SUFFIXES)]
            raise LotteryError(f"{spec.file}: {unknown('file', name, there)}")
        files += found
    return joined([read_table(file, columns) for file in files])


def _from_hub(spec: TaskFile, names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    from datasets.exceptions import DatasetNotFoundError

    source = " ".join(spec.hub)
    try:
        loaded = load_hub(*spec.hub)
    except (OSError, DatasetNotFoundError) as error:
        raise LotteryError(
            f"{spec.file}: the data set {source} is not on the Hugging Face hub, or it is "
            "neither in the local cache nor can the hub be reached "
            f"({line_of(error).strip(' .')})."
        ) from None
    except Exception as error:  # a configuration that there is not, a data set that is no table
        reason = line_of(error)[:300].rstrip(" .")
        raise LotteryError(f"{spec.file}: {source} cannot be loaded: {reason}.") from None
    for name in names:
        if name not in loaded:
            raise LotteryError(f"{spec.file}: {unknown(f'split of {source}:', name, loaded)}")
    return joined([from_dataset(loaded[name], columns, f"{source}, {name}") for name in names])


def _classes(spec: TaskFile, table: pd.DataFrame) -> tuple[str, ...]:
    labels = label_texts(table)
    if "" in labels:
        raise LotteryError(f"{table.index[labels.index('')]}: the row has no {spec.label!r}.")
    found = sorted(set(labels))
    told = f"{spec.file}: the label column {spec.label!r} holds"
    if len(found) < 2:
        raise LotteryError(f"{told} {found[0]!r} in every row; there must be two classes or more.")
    if long := [label for label in found if len(label) > LONGEST_LABEL]:
        raise LotteryError(
            f"{told} {long[0][:LONGEST_LABEL]!r}..., and the name of a class has up to "
            f"{LONGEST_LABEL} characters: is it the column of the texts?"
        )
    if len(found) > MOST_CLASSES or len(found) == len(labels) > 4:
        raise LotteryError(
            f"{told} {len(found)} different labels in {len(labels)} rows, and up to {MOST_CLASSES} "
            "classes are accepted; if they are numbers, choose metric: pearson."
        )
    for row, label in enumerate(labels):
        if re.fullmatch(r"[+-]?\d*\.\d+", label):
            raise LotteryError(
                f"{table.index[row]}: the label {label} is no class but a number; for numbers "
                "choose metric: pearson."
            )
    if spec.metric == "f1" and len(found) > 2:
        raise LotteryError(
            f"{told} {len(found)} classes, and f1 is that of two; choose accuracy or matthews."
        )
    whole = all(re.fullmatch(r"[+-]?\d+", label) for label in found)
    return tuple(sorted(found, key=int) if whole else found)
