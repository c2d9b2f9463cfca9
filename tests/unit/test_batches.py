"""Word pieces and batches: every row, no more padding than needed."""

import copy

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from lotterylib.batches import encode, load_encoded, reading_batches, save_encoded, training_batches
from lotterylib.tasks import find_task

CPU = torch.device("cpu")
lengths_lists = st.lists(st.integers(3, 128), min_size=1, max_size=300)


def shuffled(lengths, batch_size, order, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return training_batches(lengths, batch_size, order, generator)


@pytest.mark.parametrize("order", ["random", "buckets"])
@given(lengths=lengths_lists, batch_size=st.integers(1, 40), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_an_epoch_holds_each_row_once(order, lengths, batch_size, seed):
    batches = shuffled(lengths, batch_size, order, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(size < batch_size for size in sizes) <= 1
    assert max(sizes) <= batch_size
    assert min(sizes) > 0
    assert batches == shuffled(lengths, batch_size, order, seed)


@pytest.mark.parametrize("order", ["random", "buckets"])
def test_seeds_and_epochs_shuffle_differently(order):
    lengths, generator = list(range(3, 103)), torch.Generator().manual_seed(0)
    found = [training_batches(lengths, 16, order, generator) for _ in range(2)]
    assert found[0] != found[1] != shuffled(lengths, 16, order, 1) != found[0]


def test_buckets_are_made_within_stretches_and_then_shuffled():
    lengths = list(range(3, 2003))
    batches = shuffled(lengths, 10, "buckets")
    drawn = torch.randperm(2000, generator=torch.Generator().manual_seed(0)).tolist()
    wanted = [sorted(drawn[start : start + 500]) for start in range(0, 2000, 500)]
    wanted = [each[start : start + 10] for each in wanted for start in range(0, 500, 10)]
    assert sorted(batches) == sorted(wanted)
    assert batches != wanted


def test_random_batches_are_the_papers_shuffled_epoch():
    """Nothing about the lengths plays a part."""
    flat = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    for lengths in ([3] * 50, list(range(3, 53))):
        assert [row for batch in shuffled(lengths, 8, "random") for row in batch] == flat


@given(lengths=lengths_lists, batch_size=st.integers(1, 70), by_length=st.booleans())
@settings(max_examples=40, deadline=None)
def test_reading_covers_all_rows(lengths, batch_size, by_length):
    batches = reading_batches(lengths, batch_size, by_length)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    if by_length:
        assert [lengths[row] for row in flat] == sorted(lengths)
    else:
        assert flat == list(range(len(lengths)))


@pytest.mark.parametrize("task", ["acceptability", "entailment"])
def test_a_batch_is_what_the_tokenizer_makes_of_it(task, tiny_tokenizer, encoded, rng):
    split = encoded(task, 40)
    for rows in (rng.permutation(40)[:7].tolist(), [3], list(range(40))):
        wanted = tiny_tokenizer.pad([split.features[row] for row in rows], return_tensors="pt")
        inputs, labels = split.batch(rows, CPU)
        assert inputs.keys() == wanted.keys()
        for name, values in wanted.items():
            assert inputs[name].dtype == values.dtype
            assert torch.equal(inputs[name], values)
        assert torch.equal(labels, split.labels[rows])
        part = split.subset(rows)
        assert part.features == [split.features[row] for row in rows]
        assert torch.equal(part.labels, labels)


def test_single_texts_are_cut_at_the_limit(tiny_tokenizer):
    data = Dataset.from_dict({"sentence": ["a" * 126, "a" * 127, "a" * 900], "label": [0, 1, 1]})
    split = encode(data, find_task("sst2"), tiny_tokenizer)
    assert split.lengths == [128, 128, 128]
    ends = {feature["input_ids"][-1] for feature in split.features}
    assert ends == {tiny_tokenizer.sep_token_id}
    shorter = copy.deepcopy(tiny_tokenizer)
    shorter.model_max_length = 20
    assert encode(data, find_task("sst2"), shorter).lengths == [20, 20, 20]


def test_the_longer_text_of_a_pair_is_cut_first(tiny_tokenizer):
    first, second = ["a" * 20, "a" * 300], ["b" * 300] * 2
    data = Dataset.from_dict({"sentence1": first, "sentence2": second, "label": [0, 1]})
    split = encode(data, find_task("rte"), tiny_tokenizer)
    assert split.lengths == [128, 128]
    a, b = (tiny_tokenizer.convert_tokens_to_ids(letter) for letter in "ab")
    first, second = ([f["input_ids"].count(x) for x in (a, b)] for f in split.features)
    assert first == [20, 105]
    assert sum(second) == 125
    types = split.features[1]["token_type_ids"]  # [CLS] and a [SEP] belong to the first text
    assert types == [0] * (second[0] + 2) + [1] * (second[1] + 1)
    assert abs(second[0] - second[1]) <= 1


@pytest.mark.parametrize("task", ["stsb", "cola"])
def test_word_pieces_are_read_as_they_were_written(task, tmp_path, tiny_tokenizer):
    task = find_task(task)
    texts = {name: ["one", "a longer text", "x", ""] for name in task.columns}
    labels = [0.5, 1.0, 0.25, 5.0] if task.is_regression else [0, 1, 1, 0]
    split = encode(Dataset.from_dict({**texts, "label": labels}), task, tiny_tokenizer)
    assert split.labels.tolist() == labels
    assert split.labels.dtype == (torch.float32 if task.is_regression else torch.int64)
    save_encoded(split, tmp_path / "dev.safetensors")
    again = load_encoded(tmp_path / "dev.safetensors", tiny_tokenizer)
    assert again.features == split.features
    assert torch.equal(again.labels, split.labels)
    assert again.labels.dtype == split.labels.dtype
