"""Fine-tuning against the HF Trainer, and retraining what is left against retraining with masks."""

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from unittest import mock

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from lotterylib.batches import BatchOrder, Encoded
from lotterylib.finetuning import Recipe, train
from lotterylib.gates import gate_values, gated, remove
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import find_task
from tests.benchmarks.harness import Row, compare
from tests.benchmarks.workload import bert, examples, padded

TASK = find_task("sst2")
EPOCH = 1600
"""Rows of the epoch whose first steps are timed: the stretch within which buckets sort."""

PROMISED = {
    "cola": (11, 8),
    "sst2": (11, 8),
    "mrpc": (3.2, 2.3),
    "rte": (2.4, 1.7),
    "qnli": (2.4, 1.7),
}


def fine_tuning(quick: bool) -> Iterator[Row]:
    """Ours in both orders against the Trainer as the usual GLUE script calls it."""
    for task, promised in PROMISED.items():
        split = examples(task, "train", EPOCH)
        for order, ratio in zip(("buckets", "random"), promised, strict=True):
            yield _fine_tuning(split, task, order, ratio, quick)  # type: ignore[arg-type]


def _fine_tuning(split: Encoded, task: str, order: BatchOrder, promised: float, quick: bool) -> Row:
    model, other = bert(), bert()
    steps, theirs = (2, 1) if quick else (10, 3)
    recipe = Recipe(learning_rate=1e-5, epochs=1, batch_size=32, order=order)
    dataset = padded(split)[: theirs * 32]
    return compare(
        f"fine-tune, lengths of {task}, {order}",
        "HF Trainer padded to 128",
        lambda: train(model, split, TASK, recipe, seed=0, part=(0.0, steps * 32 / EPOCH)),
        lambda: trainer(other, dataset, theirs),
        rounds=1 if quick else 3,
        work=steps / theirs,
        at_least=promised,
    )


def trainer(model: torch.nn.Module, dataset: list[dict[str, list[int]]], steps: int) -> None:
    """Train with the HF Trainer as the usual GLUE script calls it, on a GPU in bfloat16."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=32,
            max_steps=steps,
            learning_rate=1e-5,
            use_cpu=not torch.cuda.is_available(),
            bf16=torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        Trainer(model, arguments, train_dataset=dataset).train()  # type: ignore[arg-type]


def retraining(quick: bool) -> Iterator[Row]:
    """A subnetwork with the rest removed against the whole model with closed gates."""
    steps = 1 if quick else 6
    split = examples("mrpc", "train", EPOCH)
    recipe = Recipe(learning_rate=1e-5, epochs=1, batch_size=32)
    part = (0.0, steps * 32 / EPOCH)
    for density, promised in ((0.5, 1.9), (0.3, 2.9)):
        keep = round(12 * density)
        layers = np.arange(12)
        heads = (layers[None] + layers[:, None]) % 12 < keep
        subnetwork = StructuredSubnetwork(heads, layers % 12 * 5 % 12 < keep)
        masked = bert()
        removed = remove(copy.deepcopy(masked), subnetwork)

        def masks(model: PreTrainedModel, kept: StructuredSubnetwork = subnetwork) -> None:
            with gated(model, *gate_values(kept)):
                train(model, split, TASK, recipe, seed=0, part=part)

        ours = partial(train, removed, split, TASK, recipe, seed=0, part=part)
        what = f"retrain {density:.0%} of the heads and MLPs"
        rounds = 1 if quick else 5
        peer = partial(masks, masked)
        yield compare(what, "closed gates", ours, peer, rounds=rounds, at_least=promised)
        with mock.patch("lotterylib.finetuning.use_onednn"):  # ours has been through it already
            usual = partial(masks, bert())
            plain = "closed gates, PyTorch's own dense layers"
            row = compare(what, plain, ours, usual, rounds=rounds)
        yield row
