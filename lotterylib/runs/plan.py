"""Planning: which jobs a run has still to do, where each stands, and how long they will take.

A few batches are timed on the real model; with the lengths of the task's own texts they tell what a
fine-tuning and a scoring of the dev set take, and a job is so and so many of these (`COSTS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from tqdm import tqdm

from lotterylib.batches import Encoded
from lotterylib.errors import LotteryError, reason_of
from lotterylib.fast.cpu import emulates_bfloat16
from lotterylib.fast.gpu import half_on, on_gpu
from lotterylib.finetuning import train
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Job, Piece
from lotterylib.runs.lottery import MOST_LAYERS
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.schedule import makespan
from lotterylib.scoring import EVALUATION_BATCH, evaluate

State = Literal["done", "running", "failed", "missing"]

COSTS = {
    "frozen": (0.1, 1.0, 1.3),
    "bag": (0.0, 0.0, 1.6),
    "bilstm": (0.08, 0.0, 0.0),
    "guess": (0.0, 0.0, 0.1),
    "finetune": (1.0, 1.0, 0.0),
    "search structured": (0.0, 25.0, 0.0),
    "search magnitude": (0.0, 10.0, 0.0),
    "search iterative": (2.3, 0.0, 0.0),
    "search derived": (0.0, 0.0, 0.1),
    "pruned structured": (0.0, 0.7, 0.0),
    "pruned magnitude": (0.0, 1.4, 0.0),
    "retrained structured": (0.7, 0.7, 0.0),
    "retrained magnitude": (1.1, 1.4, 0.0),
    "longer structured": (1.4, 0.7, 0.0),
    "from scratch structured": (0.7, 0.7, 0.0),
    "rewound structured": (0.7, 0.7, 0.0),
    "rewound magnitude": (1.1, 1.4, 0.0),
    "importance": (0.0, 2.6, 0.0),
    "ablation": (0.0, 51.0, 0.0),
    "classifier": (0.0, 0.0, 25.0),
    "patterns": (0.0, 0.0, 1.9),
    "tickets pruned": (0.0, 450.0, 0.0),
    "tickets search": (0.0, 9.0, 0.0),
    "ticket": (0.5, 0.5, 0.0),
}
"""What a job costs: fine-tunings, scorings of the dev set, and seconds beside them.

From the processor time of all jobs of a run: MiniLM, acceptability, 320 training and 200 dev rows,
three epochs, the preset paper, one thread; those of tickets by their arithmetic. What depends on
what a search finds is a mean. Ablation and patterns grow with the heads (there were `HEADS`), and
all tickets with their number.
"""

HEADS = 72
"""Of the encoder that `COSTS` was measured with."""


@dataclass(frozen=True)
class Pace:
    """What one process takes, in seconds: for a token in training and in scoring, and to load the
    encoder, as every job does. The defaults, MiniLM's with one thread, are good for relative times.
    """

    training: float = 1e-3
    reading: float = 3e-4
    opening: float = 0.14


def measure(experiment: Experiment) -> Pace:
    """Time the encoder's loading, some training steps and two batches of scoring on real rows.

    Raises:
        LotteryError: there is too little memory, or whatever else keeps a step from being computed.
    """
    (train_split, dev_split), recipe = experiment.splits, experiment.recipe
    rows = _typical(train_split, 2 * recipe.batch_size)
    read = _typical(dev_split, 2 * EVALUATION_BATCH)

    def steps(epochs: int) -> float:
        some = replace(recipe, learning_rate=1e-6, epochs=epochs)
        return _seconds(lambda: train(model, rows, experiment.task, some, seed=0))

    try:
        began = time.perf_counter()
        model = experiment.pretrained(seed=0)
        opening = time.perf_counter() - began
        more = 10 if on_gpu(model.device) else 1
        steps(1)  # the first time everything takes longer
        training = steps(1 + more) / (1 + more)
        evaluate(model, read, experiment.task)
        reading = _seconds(lambda: evaluate(model, read, experiment.task))
    except RuntimeError as error:
        raise LotteryError(f"No training step can be computed here: {reason_of(error)}") from error
    return Pace(training / sum(rows.lengths), reading / sum(read.lengths), opening)


def _typical(split: Encoded, rows: int) -> Encoded:
    """So many rows, half of them around each quartile of the lengths."""
    order = np.argsort(split.lengths, kind="stable")
    starts = [max(0, int(share * len(split)) - rows // 4) for share in (0.25, 0.75)]
    return split.subset([row for start in starts for row in order[start:][: rows // 2]])


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()  # whose result is plain numbers, so that a GPU has done it
    return time.perf_counter() - began


def kind_of(job: Job) -> str:
    """The name under which `COSTS` has a job."""
    if not job.method or job.stage == "patterns":
        return job.kind if job.stage == "baseline" else job.stage
    method = ALL_METHODS[job.method]
    way = "structured" if method.is_structured else "magnitude"
    if job.stage == "search" and method.builds_on:
        way = "iterative" if method.way == "iterative" else "derived"
    return f"{job.stage} {way}"


def expected_seconds(piece: Piece, pace: Pace) -> float:
    """What a job is expected to take in one process."""
    trainings, scorings, seconds = COSTS[kind_of(piece.job)]
    experiment, (train_split, dev_split) = piece.experiment, piece.experiment.splits
    seconds += trainings * experiment.recipe.epochs * pace.training * sum(train_split.lengths)
    seconds += scorings * pace.reading * sum(dev_split.lengths)
    if piece.job.stage in ("ablation", "patterns"):
        seconds *= experiment.shape.layers * experiment.shape.heads / HEADS
    if piece.job.stage == "tickets pruned":
        seconds *= 4.0 ** (experiment.shape.layers - MOST_LAYERS)
    return seconds + pace.opening


@dataclass(frozen=True)
class Standing:
    """Where a job stands: "done" if the store has it, and its seconds; "running" if some process is
    computing it; "failed" if the last attempt did and none has succeeded since, and why, in a line.
    """

    piece: Piece
    state: State
    reason: str = ""
    seconds: float = 0.0


def standing_of(piece: Piece) -> Standing:
    """Where a job stands, by the store's own record."""
    store, key = piece.experiment.store, piece.key
    if store.has(key):
        with suppress(OSError, ValueError, KeyError, TypeError):  # damaged, and computed again
            return Standing(piece, "done", seconds=float(store.provenance(key)["seconds"]))
    if store.is_claimed(key):
        return Standing(piece, "running")
    reason = store.failure(key)
    return Standing(piece, "failed" if reason else "missing", reason)


def seconds_left(found: Mapping[Path, Standing], pace: Pace | None) -> dict[Path, float]:
    """What each job that is not done will take, by the pace, else by what was done, if anything."""
    expected = {place: expected_seconds(s.piece, pace or Pace()) for place, s in found.items()}
    scale = 1.0
    if pace is None:
        done = [place for place, s in found.items() if s.state == "done"]
        if not done:
            return {}
        took = sum(found[place].seconds for place in done)
        scale = took / sum(expected[place] for place in done)
    return {place: scale * expected[place] for place, s in found.items() if s.state != "done"}


def describe(found: Mapping[Path, Standing], seconds: Mapping[Path, float], processes: int) -> str:
    """Where the jobs stand by stage, and how long the rest (`seconds_left`) will take."""
    rows = [
        (s.piece.job.stage, s.state, seconds.get(place, 0.0) / processes)
        for place, s in found.items()
    ]
    jobs = pd.DataFrame(rows, columns=["stage", "state", "left"])
    table = pd.crosstab(jobs["stage"], jobs["state"]).rename_axis(index=None, columns=None)
    table = table.reindex(index=jobs["stage"].unique(), columns=get_args(State), fill_value=0)
    done = int(table["done"].sum())
    said = f"{done} of {len(found)} jobs are done."
    if done == len(found):
        said += " Nothing is left to compute."
    elif not seconds:
        said += " 'lottery plan' tells how long the rest will take."
    else:
        table["time left"] = jobs.groupby("stage")["left"].sum().map(tqdm.format_interval)
        needs = {place: found[place].piece.needs for place in seconds}
        whole = tqdm.format_interval(makespan(needs, seconds, processes))
        many = "process" if processes == 1 else "processes"
        said += f" The rest will take about {whole} with {processes} {many}."
        first = found[next(iter(seconds))].piece.experiment
        half = half_on(first.device, first.settings.precision)
        if half and not on_gpu(first.device) and emulates_bfloat16():
            said += "\nThis processor has no instructions for bfloat16: float32 would be faster."
    return f"{table.to_string()}\n{said}"
