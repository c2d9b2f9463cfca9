"""What the benchmarks work on: random weights and word pieces, at the real lengths of a task."""

from __future__ import annotations

import torch
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedModel

from lotterylib.batches import Encoded
from lotterylib.data.loading import load_tokenizer, quiet_transformers
from lotterylib.data.pretrained import find_encoder
from lotterylib.runs.lengths import random_examples, sample_lengths


def bert(
    hidden: int = 384, layers: int = 12, labels: int = 2, attention: str = "sdpa"
) -> PreTrainedModel:
    """BERT of random weights with twelve heads a layer and its real vocabulary."""
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=4 * hidden,
        num_labels=labels,
    )
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(
            config, attn_implementation=attention
        ).eval()


def examples(task: str, split: str, rows: int, seed: int = 0) -> Encoded:
    """Random word pieces in the lengths of a task, with labels drawn from two classes."""
    lengths = sample_lengths(task, split, rows, seed)
    return random_examples(lengths, load_tokenizer(find_encoder("minilm")), 30000, seed)


def padded(split: Encoded, length: int = 128) -> list[dict[str, list[int]]]:
    """The examples as the usual scripts have them: each padded to the longest there may be."""
    return [
        {
            "input_ids": ids + [split.tokenizer.pad_token_id] * (length - len(ids)),
            "attention_mask": [1] * len(ids) + [0] * (length - len(ids)),
            "labels": int(label),
        }
        for ids, label in zip(
            (feature["input_ids"] for feature in split.features), split.labels, strict=True
        )
    ]
