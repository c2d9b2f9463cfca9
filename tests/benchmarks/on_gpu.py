"""What a GPU is for: one training against the HF Trainer's, and several at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from lotterylib.batches import Encoded
from lotterylib.tasks import find_task
from lotterylib.together import train_together
from lotterylib.training import Recipe, train
from tests.benchmarks.harness import Row, compare
from tests.benchmarks.training import trainer
from tests.benchmarks.workload import bert, examples, padded

TASK = find_task("sst2")
SEEDS = 5


def on_gpu(quick: bool) -> Iterator[Row]:
    """One training, then five, of a BERT as large as bert-base."""
    rows, epochs = (64, 1) if quick else (1600, 10)
    recipe = Recipe(learning_rate=1e-5, epochs=epochs)
    steps = rows // recipe.batch_size * epochs
    for task in ("cola", "sst2", "mrpc", "rte"):
        split, model, other = examples(task, "train", rows), _bert(quick), _bert(quick)
        dataset, theirs = padded(split)[: 32 * 20], 2 if quick else 20

        def one(model: PreTrainedModel = model, split: Encoded = split) -> None:
            train_together([model], split, TASK, recipe, [0], [None])

        row = compare(
            f"a step on a GPU, lengths of {task}, recorded",
            "HF Trainer padded to 128, bfloat16",
            one,
            lambda other=other, dataset=dataset, theirs=theirs: trainer(other, dataset, theirs),
            rounds=1 if quick else 3,
            work=steps / theirs,
            at_least=7,
        )
        yield _a_step(row, theirs)
        models = [_bert(quick) for _ in range(SEEDS)]

        def together(models: list[PreTrainedModel] = models, split: Encoded = split) -> None:
            train_together(models, split, TASK, recipe, range(SEEDS), [None] * SEEDS)

        def in_turn(models: list[PreTrainedModel] = models, split: Encoded = split) -> None:
            for seed, each in enumerate(models):
                train(each, split, TASK, recipe, seed)

        row = compare(
            f"steps of five seeds at once on a GPU, lengths of {task}",
            "one after another",
            together,
            in_turn,
            rounds=1 if quick else 3,
            at_least=3,
        )
        yield _a_step(row, steps)


def _bert(quick: bool) -> PreTrainedModel:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return bert(hidden=24 if quick else 768).to(device)  # type: ignore[arg-type]


def _a_step(row: Row, steps: int) -> Row:
    ours, theirs = row.ours_s / steps, row.peer_s / steps
    return dataclasses.replace(row, ours_s=ours, peer_s=theirs)
