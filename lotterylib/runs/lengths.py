"""How long GLUE's texts are: counts of word pieces, so that costs can be told without the data."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from lotterylib.batches import Encoded
from lotterylib.errors import unknown


def length_counts() -> pd.DataFrame:
    """Word pieces of GLUE's examples, special ones included, as BERT's uncased vocabulary has them.

    Counted over the published splits, cut at 128; over a part of MNLI, QNLI and QQP.

    Returns:
        A row per `task`, `split` ("train" or "validation") and `length`: how many `examples`.
    """
    with (files("lotterylib.runs") / "glue_lengths.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def sample_lengths(task: str, split: str, rows: int, seed: int = 0) -> list[int]:
    """Lengths as those of a split's examples: int[rows], drawn with replacement.

    Args:
        task: the name of a task of GLUE.
        split: "train" or "validation".
        rows: how many to draw.
        seed: of the draw.

    Raises:
        LotteryError: nothing was counted under these names.
    """
    table = length_counts()
    part = table[(table["task"] == task) & (table["split"] == split)]
    if part.empty:
        known = (table["task"] + " " + table["split"]).unique()
        raise unknown("split of GLUE", f"{task} {split}", known)
    share = part["examples"] / part["examples"].sum()
    return np.random.default_rng(seed).choice(part["length"], rows, p=share).tolist()


def random_examples(
    lengths: Sequence[int], tokenizer: PreTrainedTokenizerBase, words: int, seed: int = 0
) -> Encoded:
    """Examples of these lengths to measure speed with: random word pieces, labels 0 and 1.

    Args:
        lengths: word pieces of each.
        tokenizer: which pads them.
        words: the size of the vocabulary.
        seed: of the draw.
    """
    draw = torch.Generator().manual_seed(seed)
    least = min(1000, words // 2)  # below stand the special ones
    features = [
        {"input_ids": torch.randint(least, words, (length,), generator=draw).tolist()}
        for length in lengths
    ]
    return Encoded(features, torch.randint(2, (len(lengths),), generator=draw), tokenizer)
