"""Importance of heads and MLPs: how much the loss reacts to closing their gates (section 3.3).

`I_h = E_x |dL(x) / d xi_h|`, and likewise for MLPs with nu (Michel et al., 2019). The absolute
value stands inside the expectation, so every example needs a gradient of its own. A gate per
example gives them all in one backward pass: examples do not meet in the encoder, so the gradient of
the summed loss with respect to example i's gates is example i's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.fast import gpu
from lotterylib.fast.cpu import use_onednn
from lotterylib.gates import closed_mlps_skipped, gate_values, gated
from lotterylib.scoring import (
    EVALUATION_BATCH,
    Score,
    decide,
    example_losses,
    in_order,
    score_predictions,
)
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import Task

Accumulation = Literal["example", "batch", "cumulative"]


@dataclass(frozen=True)
class Importance:
    """Raw importance scores in units of loss: float64[layers, heads] and float64[layers]."""

    heads: np.ndarray
    mlps: np.ndarray

    def normalised(self) -> Importance:
        """Head scores divided by their layer's L2 norm, then both spread from 0 to 1.

        The order of the MLPs does not change; heads of different layers become comparable (after
        Molchanov et al., 2017, and Michel et al., 2019).
        """
        norms = np.linalg.norm(self.heads, axis=1, keepdims=True)
        by_layer = np.divide(self.heads, norms, out=np.zeros_like(self.heads), where=norms > 0)
        return Importance(_spread(by_layer), _spread(self.mlps))


def measure(
    model: PreTrainedModel,
    split: Encoded,
    task: Task,
    subnetwork: StructuredSubnetwork,
    accumulation: Accumulation = "example",
    closed_mlps: bool = True,
) -> tuple[Importance, Score]:
    """Importance, before normalisation, and score of a subnetwork, from one pass over the data.

    Args:
        model: a fine-tuned model from which nothing has been removed; its weights are not changed.
        split: the examples to take the expectation over (the paper: the dev set).
        task: it decides loss and metrics.
        subnetwork: the gates that are open; importance is measured for closed ones too, since a
            head's is divided by the norm of its whole layer.
        accumulation: "example" for the formula above; "batch" for the absolute value of each
            batch's mean gradient; "cumulative" for that of the running sum of batch gradients,
            which is what the authors' `find_head_mlp_masks.py` accumulates.
        closed_mlps: whether closed MLPs are measured too; otherwise theirs is 0 and time is saved.
    """
    use_onednn(model.eval())
    device = model.device
    heads, mlps = gate_values(subnetwork, device)
    per_example = accumulation == "example"
    totals = torch.zeros_like(heads), torch.zeros_like(mlps)
    running = torch.zeros_like(heads), torch.zeros_like(mlps)
    # The batch-wise scores depend on which examples share a batch: keep the split's own order.
    batches = reading_batches(split.lengths, EVALUATION_BATCH, by_length=per_example)
    decisions = []
    computed = np.ones_like(subnetwork.mlps) if closed_mlps else subnetwork.mlps
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in weights:
        parameter.requires_grad_(False)
    try:
        for rows in batches:
            inputs, labels = split.batch(rows, device)
            shape = (len(rows),) if per_example else ()
            gates = [
                gate.expand(*shape, *gate.shape).clone().requires_grad_() for gate in (heads, mlps)
            ]
            with (
                gpu.without_sync(model),
                gpu.autocast(model),
                closed_mlps_skipped(model, computed),
                gated(model, *gates),
            ):
                logits = model(**inputs).logits.float()
            losses = example_losses(logits, labels, task)
            gradients = torch.autograd.grad(losses.sum() if per_example else losses.mean(), gates)
            decisions.append(decide(logits.detach(), task))
            for total, carried, gradient in zip(totals, running, gradients, strict=True):
                if accumulation == "cumulative":
                    gradient = carried.add_(gradient)
                total += gradient.abs().sum(0) if per_example else gradient.abs()
    finally:
        for parameter in weights:
            parameter.requires_grad_(True)
    terms = len(split) if per_example else len(batches)
    scores = [total.double().cpu().numpy() / terms for total in totals]
    predictions = in_order(decisions, batches)
    return Importance(*scores), score_predictions(predictions, split.labels.numpy(), task)


def _spread(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)
