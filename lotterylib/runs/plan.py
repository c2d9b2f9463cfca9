"""Planning: which jobs a run has still to do, where each stands, and how long they will take.

A few batches are timed on the real model, and the lengths of the task's own texts tell what a whole
fine-tuning and a whole scoring take. All jobs are multiples of these (`COSTS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lotterylib.batches import Encoded
from lotterylib.finetuning import train
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Job, Piece, Plan, pieces_of
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.schedule import makespan
from lotterylib.scoring import EVALUATION_BATCH, evaluate

COSTS: dict[str, tuple[float, float, float]] = {
    "frozen": (0.2, 1.0, 0.0),
    "bag": (0.1, 0.0, 0.5),
    "bilstm": (0.08, 0.0, 0.0),
    "guess": (0.0, 0.0, 0.1),
    "finetune": (1.0, 1.0, 0.0),
    "search structured": (0.0, 25.0, 0.0),
    "search magnitude": (0.0, 10.0, 0.0),
    "search iterative": (2.0, 0.0, 0.0),
    "search derived": (0.0, 0.0, 0.5),
    "pruned structured": (0.0, 0.8, 0.0),
    "pruned magnitude": (0.0, 1.3, 0.0),
    "retrained structured": (0.7, 0.7, 0.0),
    "retrained magnitude": (1.1, 1.0, 0.0),
    "longer structured": (1.35, 0.7, 0.0),
    "from scratch structured": (0.7, 0.7, 0.0),
    "rewound structured": (0.75, 0.7, 0.0),
    "rewound magnitude": (1.1, 1.0, 0.0),
    "importance": (0.0, 3.0, 0.0),
    "ablation": (0.0, 36.0, 0.0),
    "classifier": (0.0, 0.0, 60.0),
    "patterns": (0.0, 0.0, 10.0),
}
"""What a job costs: fine-tunings, scorings of the dev set, and seconds beside them.

"""

HEADS = 72
"""The heads of the encoder that `COSTS` were measured on: ablation and patterns look at each."""

State = Literal["done", "running", "failed", "missing"]

_STAGES = {
    "baseline": "baselines",
    "finetune": "fine-tuning",
    "search": "searches",
    "pruned": "pruned",
    "retrained": "retrained",
    "importance": "importance",
    "ablation": "importance",
    "classifier": "attention",
    "patterns": "attention",
}


@dataclass(frozen=True)
class Pace:
    """What one process takes, in seconds, or in any other unit for relative times.

    Attributes:
        training, reading: for a token in training and in scoring.
        opening: to load the encoder, as every job does.
    """

    training: float
    reading: float
    opening: float


RELATIVE = Pace(training=3.5, reading=1.0, opening=0.0)
"""For relative times where nothing was measured: gradients cost two passes more, steps the rest."""


def measure(experiment: Experiment) -> Pace:
    """Time the encoder's loading, some training steps and two batches of scoring on real rows."""
    (train_split, dev_split), recipe = experiment.splits, experiment.recipe
    began = time.perf_counter()
    model = experiment.pretrained(seed=0)
    opening = time.perf_counter() - began
    rows = _typical(train_split, 2 * recipe.batch_size, recipe.order == "random")

    def steps(epochs: int) -> float:
        some = replace(recipe, learning_rate=1e-6, epochs=epochs)
        return _seconds(lambda: train(model, rows, experiment.task, some, seed=0))

    steps(1)  # the first time everything takes longer
    more = 10 if torch.cuda.is_available() else 1
    training = max(steps(1 + more) - steps(1), 1e-6) / more
    read = _typical(dev_split, 2 * EVALUATION_BATCH, mixed=False)
    evaluate(model, read, experiment.task)
    reading = _seconds(lambda: evaluate(model, read, experiment.task))
    return Pace(training / sum(rows.lengths), reading / sum(read.lengths), opening)


def _typical(split: Encoded, rows: int, mixed: bool) -> Encoded:
    """So many rows, half of them around each quartile of the lengths, or mixed as in the split."""
    order = np.argsort(split.lengths, kind="stable")
    rows, last = min(rows, len(order)), len(order) - 1
    if mixed:
        return split.subset(order[np.linspace(0, last, rows).astype(int)].tolist())
    starts = [max(0, round(share * last) - rows // 4) for share in (0.25, 0.75)]
    return split.subset([row for start in starts for row in order[start:][: -(-rows // 2)]])


def _seconds(work: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def kind_of(job: Job) -> str:
    """The name under which `COSTS` has a job."""
    if job.stage == "baseline":
        return job.kind
    if not job.method:
        return job.stage
    method = ALL_METHODS[job.method]
    way = "structured" if method.is_structured else "magnitude"
    if job.stage == "search" and method.way not in ("search", "to half"):
        way = "iterative" if method.way == "iterative" else "derived"
    return f"{job.stage} {way}"


def expected_seconds(piece: Piece, pace: Pace) -> float:
    """What a job is expected to take in one process."""
    experiment, kind = piece.experiment, kind_of(piece.job)
    trainings, scorings, seconds = COSTS[kind]
    train_split, dev_split = experiment.splits
    training = experiment.recipe.epochs * pace.training * sum(train_split.lengths)
    reading = pace.reading * sum(dev_split.lengths)
    heads = experiment.shape.layers * experiment.shape.heads / HEADS
    scale = heads if piece.job.stage in ("ablation", "patterns") else 1.0
    return scale * (trainings * training + scorings * reading + seconds) + pace.opening


@dataclass(frozen=True)
class Standing:
    """Where a job stands.

    Attributes:
        piece: which.
        state: "done" if the store has it, "running" if some process is computing it, "failed" if
            the last attempt did and none has succeeded since.
        reason: why it failed, in a line.
        seconds: what it took.
    """

    piece: Piece
    state: State
    reason: str = ""
    seconds: float = 0.0


def standings(plan: Plan) -> dict[Path, Standing]:
    """Where every job of a plan stands, by its place in the store."""
    return {place: _standing(piece) for place, piece in pieces_of(plan).items()}


def _standing(piece: Piece) -> Standing:
    store, key = piece.experiment.store, piece.key
    if store.has(key):
        try:
            return Standing(piece, "done", seconds=float(store.provenance(key)["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # damaged: it has to be computed again
    if store.is_claimed(key):
        return Standing(piece, "running")
    reason = store.failure(key)
    return Standing(piece, "failed" if reason else "missing", reason)


def seconds_left(found: Mapping[Path, Standing], pace: Pace | None) -> dict[Path, float]:
    """What each job that is not done is expected to take.

    Args:
        found: where every job stands.
        pace: as measured; None to judge by what was done already.

    Returns:
        Seconds by place in the store; empty if there is nothing to judge by.
    """
    expected = {place: expected_seconds(s.piece, pace or RELATIVE) for place, s in found.items()}
    done = [place for place, s in found.items() if s.state == "done"]
    if pace is None and not done:
        return {}
    took = sum(found[place].seconds for place in done)
    scale = 1.0 if pace else took / sum(expected[place] for place in done)
    return {place: scale * expected[place] for place, s in found.items() if s.state != "done"}


def describe(
    found: Mapping[Path, Standing], seconds: Mapping[Path, float], processes: int
) -> str:
    """Where the jobs stand, stage by stage, and how long the rest will take, as a text.

    Args:
        found: where every job stands.
        seconds: as `seconds_left` gives them.
        processes: how many jobs are computed at once.
    """
    stages = [_STAGES.get(s.piece.job.stage, "retrained") for s in found.values()]
    states = pd.Categorical([s.state for s in found.values()], get_args(State))
    order = list(dict.fromkeys(_STAGES.values()))
    table = pd.crosstab(pd.Categorical(stages, order), states, dropna=False)
    table = table.loc[table.any(axis=1)].rename_axis(index=None, columns=None)
    done = sum(s.state == "done" for s in found.values())
    said = f"{done} of {len(found)} jobs are done."
    if done == len(found):
        return f"{table.to_string()}\n{said} Nothing is left to compute."
    if not seconds:
        return f"{table.to_string()}\n{said} 'lottery plan' tells how long the rest will take."
    each = pd.Series([seconds.get(place, 0.0) for place in found]).groupby(stages, sort=False).sum()
    table["time left"] = [tqdm.format_interval(each[name] / processes) for name in table.index]
    needs = {place: found[place].piece.needs for place in seconds}
    whole = tqdm.format_interval(makespan(needs, seconds, processes))
    many = "process" if processes == 1 else "processes"
    return f"{table.to_string()}\n{said} The rest will take about {whole} with {processes} {many}."
