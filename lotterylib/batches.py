"""Batches: texts become tokens once, and batches are padded no further than they need.

Training batches come in two named orders: "random", as the paper's (a shuffled epoch cut into
batches), and "buckets", batches of similar length, which is faster but another order of examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import BatchEncoding, PreTrainedTokenizerBase

from lotterylib.tasks import Task

BatchOrder = Literal["random", "buckets"]

_BUCKET_BATCHES = 50
_Moved = tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]
"""On a device: all tokens, the place of each example among them and its length, labels."""


@dataclass(frozen=True)
class Encoded:
    """A split as tokens.

    Attributes:
        features: per example the tokenizer's lists (input_ids and, where there are, token types).
        labels: int64[examples], or float32[examples] for regression.
        tokenizer: which pads.
    """

    features: list[dict[str, list[int]]]
    labels: torch.Tensor
    tokenizer: PreTrainedTokenizerBase

    def __len__(self) -> int:
        return len(self.features)

    def subset(self, rows: Sequence[int]) -> Encoded:
        """These rows, in this order."""
        labels = self.labels[torch.as_tensor(rows, dtype=torch.int64)]
        return Encoded([self.features[row] for row in rows], labels, self.tokenizer)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(feature["input_ids"]) for feature in self.features]

    def batch(
        self, rows: Sequence[int], device: torch.device
    ) -> tuple[BatchEncoding, torch.Tensor]:
        """The model's inputs for these rows, padded to the longest of them, and their labels.

        All tokens are moved to the device once; a batch is put together there, and nothing waits
        for it. Inputs are int64[rows, longest] by name, with `attention_mask`.
        """
        tokens, starts, lengths, labels = self._on(device)
        chosen = torch.as_tensor(rows).to(device, non_blocking=True)
        places = torch.arange(max(self.lengths[row] for row in rows), device=device)
        own = places < lengths[chosen, None]
        places = torch.where(own, starts[chosen, None] + places, 0)
        tokenizer = self.tokenizer
        padding = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        inputs = {
            name: torch.where(own, tokens[name][places].long(), padding[name])
            for name in padding
            if name in tokens
        }
        return BatchEncoding(inputs | {"attention_mask": own.long()}), labels[chosen]

    def flat(self) -> dict[str, torch.Tensor]:
        """The tokens of all examples one after the other: int32 by name."""
        return {
            name: torch.tensor([i for each in self.features for i in each[name]], dtype=torch.int32)
            for name in self.features[0]
        }

    @cached_property
    def _moved(self) -> dict[torch.device, _Moved]:
        return {}

    def _on(self, device: torch.device) -> _Moved:
        if device not in self._moved:
            lengths = torch.tensor(self.lengths)
            self._moved[device] = (
                {name: values.to(device) for name, values in self.flat().items()},
                (lengths.cumsum(0) - lengths).to(device),
                lengths.to(device),
                self.labels.to(device),
            )
        return self._moved[device]


def encode(
    split: Dataset, task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int = 128
) -> Encoded:
    """Tokenize a split, cutting the longer text of a pair where the limit demands it.

    The limit is `max_length` tokens (128 in the paper), or fewer where the tokenizer's
    `model_max_length` is smaller.
    """
    texts = [list(split[column]) for column in task.columns]
    limit = min(max_length, tokenizer.model_max_length)
    pieces = tokenizer(*texts, truncation=True, max_length=limit)
    features = [
        {key: pieces[key][row] for key in pieces} for row in range(len(pieces["input_ids"]))
    ]
    kind = torch.float32 if task.is_regression else torch.int64
    return Encoded(features, torch.tensor(list(split["label"]), dtype=kind), tokenizer)


def save_encoded(split: Encoded, path: Path) -> None:
    """Write a split's tokens and labels as safetensors."""
    lengths = torch.tensor(split.lengths, dtype=torch.int32)
    save_file({"lengths": lengths, "labels": split.labels, **split.flat()}, path)


def load_encoded(path: Path, tokenizer: PreTrainedTokenizerBase) -> Encoded:
    """Read what `save_encoded` wrote; equal to what was saved."""
    flat = {name: value.numpy() for name, value in load_file(path).items()}
    labels, ends = torch.from_numpy(flat.pop("labels")), np.cumsum(flat.pop("lengths"))
    rows = {name: [part.tolist() for part in np.split(flat[name], ends[:-1])] for name in flat}
    features = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    return Encoded(features, labels, tokenizer)


def training_batches(
    lengths: Sequence[int], batch_size: int, order: BatchOrder, generator: torch.Generator
) -> list[list[int]]:
    """One epoch of batches; each row stands in exactly one of them, and only one may be smaller.

    "buckets" sorts the shuffled rows by length within stretches of 50 batches, and shuffles the
    batches again. `lengths` has the tokens of each row.
    """
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    if order == "buckets":
        stretch = batch_size * _BUCKET_BATCHES
        rows = [
            row
            for start in range(0, len(rows), stretch)
            for row in sorted(rows[start : start + stretch], key=lengths.__getitem__)
        ]
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    if order == "buckets":
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return batches


def reading_batches(
    lengths: Sequence[int], batch_size: int, by_length: bool = True
) -> list[list[int]]:
    """Batches in which every row is read once, for evaluation: by length, or in the given order."""
    rows = list(range(len(lengths)))
    if by_length:
        rows.sort(key=lengths.__getitem__)
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
