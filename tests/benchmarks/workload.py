"""What the benchmarks work on: random weights and tokens, in lengths as those of a task."""

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedModel

from lotterylib.batches import Encoded
from lotterylib.data.loading import load_tokenizer, quiet_transformers
from lotterylib.data.pretrained import find_encoder

LENGTHS = {
    ("cola", "train"): (4, 7, 8, 9, 10, 10, 11, 12, 14, 17, 47),
    ("cola", "validation"): (5, 7, 8, 9, 10, 10, 11, 13, 15, 18, 35),
    ("sst2", "train"): (3, 4, 6, 7, 8, 10, 13, 16, 20, 27, 66),
    ("sst2", "validation"): (4, 12, 16, 19, 21, 24, 27, 30, 34, 40, 55),
    ("mrpc", "train"): (19, 36, 41, 45, 50, 53, 57, 61, 64, 70, 103),
    ("mrpc", "validation"): (26, 37, 42, 45, 49, 53, 57, 61, 64, 70, 86),
    ("rte", "train"): (13, 33, 40, 45, 50, 56, 62, 72, 103, 128, 128),
    ("rte", "validation"): (17, 34, 38, 43, 48, 53, 59, 71, 98, 128, 128),
    ("qnli", "train"): (13, 30, 35, 39, 43, 46, 50, 55, 61, 71, 128),
}
"""Deciles of the tokens in GLUE's examples under BERT's uncased vocabulary, cut at 128."""


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
    """Random tokens in the lengths of a task, with labels drawn from two classes."""
    draw = np.random.default_rng(seed)
    deciles = LENGTHS[task, split]
    lengths = np.interp(draw.random(rows), np.linspace(0, 1, len(deciles)), deciles).round()
    features = [{"input_ids": draw.integers(1000, 30000, int(n)).tolist()} for n in lengths]
    labels = torch.from_numpy(draw.integers(0, 2, rows))
    return Encoded(features, labels, load_tokenizer(find_encoder("minilm")))


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
