"""How long GLUE's texts are: counts of word pieces, so that costs can be told without the data."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd

from lotterylib.errors import unknown


def length_counts() -> pd.DataFrame:
    """Word pieces of GLUE's examples, special ones included, as BERT's uncased vocabulary has them.

    Counted over the published splits, cut at 128; over a part of MNLI, QNLI and QQP.

    Returns:
        A row per `task`, `split` ("train" or "validation") and `length`: how many `examples`.
    """
    with (files("lotterylib") / "glue_lengths.csv").open(encoding="utf-8") as file:
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
