"""Planning: how long a run will take on this machine, told before it starts.

A few training steps and a few passes are timed on random word pieces, as long as the task's own
texts. With the arithmetic of all cells (`cost`) they give hours; beside these stand two limits that
no program can beat: the products at the fastest rate this machine multiplies large matrices, and
the optimizer's traffic at the fastest rate it moves memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from lotterylib.batches import Encoded, encode
from lotterylib.data.loading import load_model, load_tokenizer, quiet_transformers
from lotterylib.data.pretrained import ENCODERS, find_encoder
from lotterylib.encoder import longest_input, shape_of
from lotterylib.errors import LotteryError
from lotterylib.fast import gpu
from lotterylib.fast.cpu import keep_freed_memory, use_onednn
from lotterylib.finetuning import Recipe, batches_of, train
from lotterylib.runs.cost import Amounts, Split, Work, split_of, work_of
from lotterylib.runs.jobs import cells_of
from lotterylib.runs.lengths import random_examples, sample_lengths
from lotterylib.runs.request import load_task_data
from lotterylib.runs.settings import Settings
from lotterylib.scoring import EVALUATION_BATCH, evaluate

TRAFFIC = 40
"""Bytes that a parameter costs at a step: both passes read it and one writes its gradient; then the
optimizer reads parameter, gradient and two moments, and writes all but the gradient. All are
float32."""

_ROWS, _WARM, _STEPS = 1600, 1, 5  # the first steps of one stretch of buckets are timed


@dataclass(frozen=True)
class Machine:
    """What this machine does at best, in one process with its share of the processors.

    Attributes:
        multiplies: FLOP a second, in products of large matrices, on a GPU in half precision.
        moves: bytes a second, read and written.
    """

    multiplies: float
    moves: float


@dataclass(frozen=True)
class Speed:
    """What one process does on a task, in FLOP a second: in training steps, and otherwise."""

    training: float
    reading: float


def plan(wanted: Sequence[tuple[Settings, Collection[str]]], jobs: int) -> pd.DataFrame:
    """What runs will cost on this machine.

    Args:
        wanted: settings, and the pages that are wanted of each.
        jobs: processes at once; PyTorch should have been told its threads.

    Returns:
        A row per task and one for all: `cells`, optimizer `steps`, `pflop`, `hours` as measured,
        and the hours that `arithmetic` or `traffic` would take alone. In its `attrs`, sentences on
        what was measured.

    Raises:
        LotteryError: the encoder or the data are not what they should be.
    """
    keep_freed_memory()
    machine = measure_machine()
    rows, notes, memory = [], [], 0.0
    for settings, pages in wanted:
        model, origin = _model(settings)
        train_lengths, dev_lengths, counted = _lengths(settings)
        notes += [origin, counted]
        published = settings.task.sizes if counted else (0, 0)  # a directory may hold a part
        amounts = Amounts(
            _whole(train_lengths, settings.train_rows, *published[:1]),
            _whole(dev_lengths, settings.dev_rows, *published[1:]),
            shape_of(model),
            settings.epochs,
            Recipe.batch_size,
        )
        speed = measure_speed(model, settings, train_lengths, dev_lengths)
        memory = max(memory, measure_memory(model, settings))
        cells = list(cells_of(settings, pages))
        work = sum((work_of(cell, amounts) for cell in cells), Work())
        moved = TRAFFIC * work.weight_steps * amounts.shape.encoder_parameters
        opening = _seconds(lambda model=model: model.load_state_dict(model.state_dict()))  # type: ignore[misc]
        seconds = {
            "hours": work.training / speed.training
            + work.reading / speed.reading
            + opening * len(cells),
            "arithmetic": work.flop / machine.multiplies,
            "traffic": moved / machine.moves,
        }
        rows.append(
            {
                "task": settings.task.title,
                "cells": len(cells),
                "steps": round(work.steps),
                "pflop": work.flop / 1e15,
                **{name: value / 3600 / jobs for name, value in seconds.items()},
            }
        )
    table = pd.DataFrame(rows).groupby("task", sort=False).sum()
    table.loc["all"] = table.sum()
    table.attrs["notes"] = [note for note in dict.fromkeys(notes) if note] + [
        f"{jobs} processes at once, each measured alone with {torch.get_num_threads()} threads: "
        f"large products at {machine.multiplies / 1e9:,.0f} GFLOP/s, memory at "
        f"{machine.moves / 1e9:,.0f} GB/s, {memory / 1e9:.1f} GB of memory a process at its peak."
    ]
    return table


def measure_machine() -> Machine:
    """Time large products and copies."""
    device = _device()
    kind = gpu.half_on(device) or torch.float32
    size, length = (8192, 1 << 28) if gpu.on_gpu(device) else (2048, 1 << 25)
    layer = nn.Linear(size, size, device=device, dtype=kind)
    use_onednn(layer)
    rows = torch.randn(size, size, device=device, dtype=kind)
    block, other = (torch.ones(length, device=device) for _ in range(2))
    with torch.inference_mode():
        product = min(_seconds(lambda: layer(rows)) for _ in range(5))
        copy = min(_seconds(lambda: other.copy_(block)) for _ in range(5))
    return Machine(2 * size**3 / product, 2 * block.nbytes / copy)


def measure_speed(
    model: PreTrainedModel,
    settings: Settings,
    train_lengths: Sequence[int],
    dev_lengths: Sequence[int],
) -> Speed:
    """Time some training steps and some passes on random word pieces of these lengths.

    Args:
        model: its weights are changed.
        settings: task and order of batches.
        train_lengths, dev_lengths: word pieces per example of the two splits, or of a sample.
    """
    shape, words = shape_of(model), model.config.vocab_size
    tokenizer = load_tokenizer(find_encoder("tiny"))  # nothing is read, only padded
    draw = np.random.default_rng(0)
    lengths = draw.choice(train_lengths, _ROWS).tolist()
    split = random_examples(lengths, tokenizer, words)
    recipe = Recipe(1e-6, epochs=1, order=settings.batch_order)  # type: ignore[arg-type]
    training = _speed_alone(model, split, settings, recipe)
    read = random_examples(
        draw.choice(dev_lengths, 4 * EVALUATION_BATCH).tolist(), tokenizer, words
    )
    reading = _seconds(lambda: evaluate(model, read, settings.task))
    return Speed(training, split_of(read.lengths).forward(shape) / reading)


def _speed_alone(
    model: PreTrainedModel, split: Encoded, settings: Settings, recipe: Recipe
) -> float:
    batches = batches_of(split, recipe, seed=0)
    # A GPU is through with a few steps sooner than with what comes before the first.
    last = len(batches) if gpu.on_gpu(model.device) else _STEPS
    timed = split_of([split.lengths[row] for batch in batches[_WARM:last] for row in batch])

    def steps(number: int) -> float:
        part = (0.0, number / len(batches))
        return _seconds(lambda: train(model, split, settings.task, recipe, 0, part=part))

    steps(_WARM)
    spent = max(steps(last) - steps(_WARM), 1e-3)
    return 3 * timed.forward(shape_of(model)) / spent


def measure_memory(model: PreTrainedModel, settings: Settings) -> float:
    """Bytes at the peak of a training step on the longest batch there may be; on a CPU those of
    this process so far, with its libraries.
    """
    tokenizer = load_tokenizer(find_encoder("tiny"))
    longest = random_examples(
        [min(settings.max_length, longest_input(model.config))] * Recipe.batch_size,
        tokenizer,
        model.config.vocab_size,
    )
    train(model, longest, settings.task, Recipe(1e-6, epochs=1), 0)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _model(settings: Settings) -> tuple[PreTrainedModel, str]:
    """The encoder under its task layer, or one of random weights in its sizes, and which it is."""
    try:
        encoder = find_encoder(settings.encoder)
        model, origin = load_model(encoder, settings.task, seed=0), ""
    except LotteryError:
        source = ENCODERS.get(settings.encoder)
        if source is None or source.kind != "hub":
            raise
        with quiet_transformers():
            config = AutoConfig.for_model(
                source.name.split("-")[0], num_labels=settings.task.outputs
            )
            model = AutoModelForSequenceClassification.from_config(config)
        origin = f"{source.name} cannot be had here: random weights of its sizes were measured."
    return model.eval().to(_device()), origin


def _lengths(settings: Settings) -> tuple[list[int], list[int], str]:
    """Word pieces per example of both splits, or of a sample of them, and whose they are."""
    task = settings.task
    if not task.tsv_folder or settings.data_dir:
        data, tokenizer = load_task_data(settings), load_tokenizer(find_encoder(settings.encoder))
        train_lengths, dev_lengths = (
            encode(split, task, tokenizer).lengths for split in (data.train, data.dev)
        )
        return train_lengths, dev_lengths, ""
    counted = "Lengths of GLUE's texts as counted beforehand; no data were read."
    return (
        sample_lengths(task.name, "train", 4096),
        sample_lengths(task.name, "validation", 4096),
        counted,
    )


def _whole(lengths: Sequence[int], rows: int, published: int) -> Split:
    """A split whose lengths, or a sample of them, are given: cut to `rows` if these are fewer."""
    total = published or len(lengths)
    return split_of(lengths, min(rows or total, total))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _seconds(work: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began
