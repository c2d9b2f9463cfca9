"""Cost: how much arithmetic each cell of a run is, from the lengths of its examples.

Counted are the products of matrices in the encoder, as two operations (FLOP) per multiplication
with addition. What a search will find cannot be known beforehand, so sizes and numbers of states
are those that the paper's own searches had on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lotterylib.encoder import Shape
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Cell
from lotterylib.runs.methods import ALL_METHODS
from lotterylib.runs.pattern_counts import EXAMPLES

STATES = 10
"""States that a search tries."""

KEPT = 0.68
"""Share of the encoder in a structured subnetwork: the mean of the paper's tasks without WNLI."""


@dataclass(frozen=True)
class Split:
    """What a pass over a split depends on.

    Attributes:
        rows: its examples.
        tokens: their word pieces.
        squares: the sum over examples of the square of their word pieces: entries of one map.
    """

    rows: int
    tokens: float
    squares: float

    def forward(self, shape: Shape) -> float:
        """FLOP of one pass of the whole encoder over the split."""
        dense = 2 * shape.encoder_parameters * self.tokens
        return dense + 4 * shape.hidden * shape.layers * self.squares


def split_of(lengths: Sequence[int], rows: int = 0) -> Split:
    """A split of these lengths, or of so many rows whose lengths are spread as these."""
    array = np.asarray(lengths, dtype=np.float64)
    scale = (rows or len(array)) / len(array)
    return Split(rows or len(array), scale * array.sum(), scale * (array**2).sum())


@dataclass(frozen=True)
class Work:
    """The work of a cell, or of several.

    Attributes:
        training: FLOP in training steps.
        reading: FLOP in passes that train nothing: scores, importance, attention maps.
        weight_steps: optimizer steps, each times the share of the encoder that it moves.
        steps: optimizer steps.
    """

    training: float = 0.0
    reading: float = 0.0
    weight_steps: float = 0.0
    steps: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.training + other.training,
            self.reading + other.reading,
            self.weight_steps + other.weight_steps,
            self.steps + other.steps,
        )

    @property
    def flop(self) -> float:
        """All of it."""
        return self.training + self.reading


@dataclass(frozen=True)
class Amounts:
    """How much a run of one task computes.

    Attributes:
        train, dev: the task's splits.
        shape: of the encoder.
        epochs, batch: of the recipe.
    """

    train: Split
    dev: Split
    shape: Shape
    epochs: int
    batch: int


@lru_cache(maxsize=64)  # counting lengths takes a second or so where there are many
def amounts_of(experiment: Experiment) -> Amounts:
    """The amounts of an experiment."""
    train, dev = (split_of(split.lengths) for split in experiment.splits)
    recipe = experiment.recipe
    return Amounts(train, dev, experiment.shape, recipe.epochs, recipe.batch_size)


def work_of(cell: Cell, amounts: Amounts) -> Work:
    """What a cell will compute."""
    reading = amounts.dev.forward(amounts.shape)
    if cell.stage == "finetune":
        return _training(amounts)
    if cell.stage == "search":
        return _search(cell, amounts)
    if cell.stage == "importance":
        return Work(reading=2 * reading)
    if cell.stage == "ablation":  # what comes before a head's layer is computed once
        return Work(reading=amounts.shape.layers * amounts.shape.heads * reading / 2)
    if cell.stage == "patterns":
        return Work(reading=reading * min(1.0, EXAMPLES / amounts.dev.rows))
    if cell.stage == "baseline":
        once = amounts.train.forward(amounts.shape)
        return Work(reading=once + reading if cell.kind == "frozen" else 0.0)
    kept = KEPT if ALL_METHODS[cell.method].is_structured else 1.0
    if cell.stage == "pruned":
        return Work(reading=kept * reading)
    return _training(amounts, kept, passes=2.0 if cell.stage == "longer" else 1.0)


def _training(amounts: Amounts, kept: float = 1.0, passes: float = 1.0) -> Work:
    """Training a share of the encoder for so many times the recipe's epochs, and its score."""
    epochs = passes * amounts.epochs
    steps = epochs * amounts.train.rows / amounts.batch
    # Back costs twice as much as forth: gradients of what came in, and of the weights.
    training = 3 * epochs * kept * amounts.train.forward(amounts.shape)
    return Work(training, kept * amounts.dev.forward(amounts.shape), kept * steps, steps)


def _search(cell: Cell, amounts: Amounts) -> Work:
    method = ALL_METHODS[cell.method]
    if method.way in ("search", "to half"):
        # Structured: forth, and back to the gates, through what is not closed yet.
        state = 2 * (1 + KEPT) / 2 if method.is_structured else 1.0
        half = 0.5 if method.searched_on == "half" else 1.0
        return Work(reading=STATES * state * half * amounts.dev.forward(amounts.shape))
    if method.way == "iterative":
        return _training(amounts, passes=2.0)
    return Work()
