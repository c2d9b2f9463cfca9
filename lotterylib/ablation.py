"""Ablation: what the score loses when a single head is taken out (after Michel et al., 2019).

The importance of section 3.3 is a gradient at an open gate. Closing the gate is what it stands for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedModel

from lotterylib.anatomy import layers_of
from lotterylib.batches import Encoded
from lotterylib.gates import gate_values, gated
from lotterylib.scoring import evaluate
from lotterylib.store import Key, read_json, write_json
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import Task
from lotterylib.training import Progress

if TYPE_CHECKING:
    from lotterylib.experiment import Experiment


def ablate_heads(
    model: PreTrainedModel, split: Encoded, task: Task, progress: Progress | None = None
) -> np.ndarray:
    """The score of the model without each of its heads.

    Args:
        model: a fine-tuned model from which nothing has been removed.
        split: the examples that are scored, once per head.
        task: it decides the metric, the one that the paper reports.
        progress: told after every head.

    Returns:
        float64[layers, heads] of scores.
    """
    shape = (len(layers_of(model)), model.config.num_attention_heads)
    scores = np.zeros(shape)
    for number, place in enumerate(np.ndindex(shape), start=1):
        heads = np.ones(shape, dtype=bool)
        heads[place] = False
        subnetwork = StructuredSubnetwork(heads, np.ones(shape[0], dtype=bool))
        with gated(model, *gate_values(subnetwork, model.device)):
            scores[place] = evaluate(model, split, task).metrics[task.metric]
        if progress is not None:
            progress(number / scores.size, f"without head {place[0] + 1}.{place[1] + 1}")
    return scores


def ablation_key(experiment: Experiment, seed: int) -> Key:
    """Where the store keeps the scores without each head."""
    config = {"finetuned": experiment.finetuned_key(seed).digest}
    return Key(experiment.encoder.name, experiment.task.name, "ablation", config, seed)


def ablation(experiment: Experiment, seed: int, report: Progress | None = None) -> np.ndarray:
    """The full model's dev score with one head's gate closed, from the store if it is there.

    Returns:
        float64[layers, heads], in the metric that the paper reports.
    """

    def make(folder: Path) -> None:
        model, dev = experiment.finetuned(seed), experiment.splits[1]
        write_json(
            folder / "scores.json", ablate_heads(model, dev, experiment.task, report).tolist()
        )

    folder = experiment.store.fetch(ablation_key(experiment, seed), make, experiment.device_name)
    return np.array(read_json(folder / "scores.json"))
