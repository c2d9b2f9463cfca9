"""The counted lengths are those of GLUE's texts."""

from collections import Counter

import pytest

from lotterylib.batches import encode
from lotterylib.data.glue import load_data
from lotterylib.data.loading import load_tokenizer
from lotterylib.errors import LotteryError
from lotterylib.runs.lengths import length_counts, sample_lengths
from lotterylib.tasks import TASKS, find_task

GLUE = [task.name for task in TASKS.values() if not task.is_bundled]


def test_every_task_of_glue_is_counted():
    table = length_counts()
    assert set(table["task"]) == set(GLUE)
    assert set(table["split"]) == {"train", "validation"}
    assert table["length"].between(3, 128).all()
    assert not table.duplicated(["task", "split", "length"]).any()
    sizes = table.groupby(["task", "split"])["examples"].sum()
    for name in GLUE:
        train, dev = find_task(name).sizes
        assert sizes[name, "train"] <= train
        assert sizes[name, "validation"] <= dev
    for name in ("cola", "sst2", "mrpc", "stsb", "rte", "wnli"):  # counted whole
        assert tuple(sizes[name]) == find_task(name).sizes


def test_samples_are_distributed_as_the_counts():
    table = length_counts().query("task == 'rte' and split == 'validation'")
    mean = (table["length"] * table["examples"]).sum() / table["examples"].sum()
    drawn = sample_lengths("rte", "validation", 20000)
    assert set(drawn) <= set(table["length"])
    assert sum(drawn) / len(drawn) == pytest.approx(mean, rel=0.02)
    assert drawn == sample_lengths("rte", "validation", 20000)
    assert drawn != sample_lengths("rte", "validation", 20000, seed=1)


@pytest.mark.parametrize(("task", "split"), [("rtee", "validation"), ("acceptability", "train")])
def test_what_was_not_counted_is_a_sentence(task, split):
    with pytest.raises(LotteryError, match=f"Unknown split of GLUE '{task} {split}'"):
        sample_lengths(task, split, 3)


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "rte", "wnli"])
def test_the_counts_are_those_of_the_real_texts(name, minilm, glue_dir):
    task, tokenizer = find_task(name), load_tokenizer(minilm)
    data = load_data(task, str(glue_dir))
    for split, rows in (("train", data.train), ("validation", data.dev)):
        table = length_counts()
        table = table[(table["task"] == name) & (table["split"] == split)]
        counts = dict(zip(table["length"], table["examples"], strict=True))
        assert Counter(encode(rows, task, tokenizer).lengths) == counts
