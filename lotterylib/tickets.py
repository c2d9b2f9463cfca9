"""Tickets: subnetworks of whole attention blocks and whole MLPs, so few that all can be tried.

An encoder of L layers has 2 L such units (all heads of a layer are one) and 4^L tickets. A ticket
is a number whose bits say which units survive. From the lowest bit on, they are the attention
blocks of layers 1 to L, then the MLPs of layers 1 to L: in six layers, bit 0 is the attention block
of the first layer, bit 5 that of the last, bit 6 the first MLP and bit 11 the last; 4095 is the
full encoder. Not in the paper, whose heads are units of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.encoder import architecture_of, layers_of
from lotterylib.errors import LotteryError
from lotterylib.fast import gpu
from lotterylib.fast.cpu import use_onednn
from lotterylib.finetuning import Progress, silent
from lotterylib.gates import gated, remove
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

MOST_LAYERS = 6
"""Of encoders whose tickets are tried; one more layer makes four times as many."""


def tickets_of(layers: int, units: int | None = None) -> list[int]:
    """All tickets of an encoder, or those of so many units, in ascending order.

    Raises:
        LotteryError: there are too many.
    """
    if layers > MOST_LAYERS:
        raise LotteryError(
            f"An encoder of {layers} layers has {4**layers:,} tickets, too many to try them all: "
            f"take one of at most {MOST_LAYERS} layers."
        )
    return [ticket for ticket in range(4**layers) if units is None or ticket.bit_count() == units]


def units_of(tickets: int | Sequence[int] | np.ndarray, layers: int) -> np.ndarray:
    """Which units survive: bool[..., 2, layers], attention blocks first, then MLPs."""
    bits = np.asarray(tickets)[..., None] >> np.arange(2 * layers) & 1
    return bits.astype(bool).reshape(*np.shape(tickets), 2, layers)


def subnetwork_of(ticket: int, layers: int, heads: int) -> StructuredSubnetwork:
    """A ticket as a subnetwork of an encoder with so many heads in a layer."""
    attention, mlps = units_of(ticket, layers)
    return StructuredSubnetwork(np.repeat(attention[:, None], heads, axis=1), mlps)


def ticket_of(subnetwork: StructuredSubnetwork) -> int:
    """The number of a subnetwork.

    Raises:
        LotteryError: a layer keeps some of its heads only.
    """
    attention = subnetwork.heads.all(axis=1)
    if (attention != subnetwork.heads.any(axis=1)).any():
        raise LotteryError("A ticket keeps all heads of a layer or none; this one keeps some.")
    kept = np.concatenate((attention, subnetwork.mlps))
    return sum(1 << int(bit) for bit in np.flatnonzero(kept))


def score_all(
    model: PreTrainedModel,
    split: Encoded,
    task: Task,
    drop_empty_bias: bool = False,
    progress: Progress = silent,
) -> list[Score]:
    """The scores of all tickets as pruned, by their numbers.

    Args:
        model, split, task, drop_empty_bias, progress: as for `predict_all`.
    """
    found = predict_all(model, split, task, drop_empty_bias, progress)
    return [score_predictions(each, split.labels.numpy(), task) for each in found]


@torch.inference_mode()
def predict_all(
    model: PreTrainedModel,
    split: Encoded,
    task: Task,
    drop_empty_bias: bool = False,
    progress: Progress = silent,
) -> np.ndarray:
    """What every ticket predicts as pruned, as if by `gates.remove` and `scoring.evaluate`.

    Tickets that agree in their first layers share what these give: a layer is computed in its four
    states after each beginning, 4 + 16 + ... + 4^L times a batch in place of L 4^L.

    Args:
        model: a fine-tuned model from which nothing has been removed; left in evaluation mode.
        split: the examples.
        task: it decides what a prediction is.
        drop_empty_bias: as for `gates.remove`.
        progress: told after every batch.

    Returns:
        float32[tickets, examples].

    Raises:
        LotteryError: the encoder has too many layers.
    """
    use_onednn(model.eval())
    count, heads = len(layers_of(model)), model.config.num_attention_heads
    tickets = tickets_of(count)
    path = architecture_of(model).layers
    states = []
    for attention, mlp in product((False, True), repeat=2):
        kept = np.full((count, heads), attention), np.full(count, mlp)
        pruned = remove(_twin(model), StructuredSubnetwork(*kept), drop_empty_bias)
        bits = attention | mlp << count
        states.append((bits, list(pruned.base_model.get_submodule(path).children())))
    start, rest, known = _twin(model), _twin(model), _Known()
    rest.base_model.set_submodule(path, nn.ModuleList([known]))
    given: dict[str, Any] = {}
    start.base_model.get_submodule(path)[0].register_forward_pre_hook(  # type: ignore[index]
        lambda _module, others, named: given.update(others=others, named=named), with_kwargs=True
    )

    def walk(layer: int, ticket: int, output: Any) -> Iterator[tuple[int, Any]]:
        if layer == count:
            yield ticket, output
            return
        hidden = output[0] if isinstance(output, tuple) else output
        for bits, layers in states:
            after = layers[layer](hidden, *given["others"][1:], **given["named"])
            yield from walk(layer + 1, ticket | bits << layer, after)

    predictions = torch.zeros(len(tickets), len(split), device=model.device)
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    with gpu.without_waiting(model), gpu.autocast(model):
        for number, rows in enumerate(batches, start=1):
            inputs, _ = split.batch(rows, model.device)
            start(**inputs)
            # The task layer reads what is known; the texts are not needed again.
            least = {name: value[:1, :1] for name, value in inputs.items()}
            for ticket, known.output in walk(0, 0, given["others"][0]):
                predictions[ticket, rows] = decide(rest(**least).logits.float(), task).float()
            progress(number / len(batches), f"{len(tickets)} tickets")
    return predictions.cpu().numpy()


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model of other modules with the same parameters."""
    shared = (model.config, *model.parameters())
    return copy.deepcopy(model, {id(each): each for each in shared})


class _Known(nn.Module):
    """Stands for all layers, and gives what they gave."""

    output: Any = None

    def forward(self, *_: object, **__: object) -> Any:
        return self.output


# The search


@dataclass(frozen=True)
class TicketStep:
    """One state of the search; the first is the full encoder, the last the empty one.

    Attributes:
        ticket: what is left.
        importance: float64[2, layers] in units of loss, of attention blocks and of MLPs.
        score: in the metric that decides the search.
    """

    ticket: int
    importance: np.ndarray
    score: float


def block_importance(
    model: PreTrainedModel, split: Encoded, task: Task, ticket: int
) -> tuple[np.ndarray, Score]:
    """Importance as in section 3.3, but with one gate for all heads of a layer, and the score.

    The gradient at a block's gate is the sum of its heads' gradients, and stands inside the
    absolute value: a block's importance is at most the sum of its heads'.

    Args:
        model: a fine-tuned model from which nothing has been removed; left in evaluation mode.
        split: the examples that the mean goes over.
        task: it decides loss and metrics.
        ticket: the gates that are open; importance is measured for closed ones too.

    Returns:
        float64[2, layers] of attention blocks and of MLPs, and the score of the gated model.
    """
    use_onednn(model.eval())
    layers, heads = len(layers_of(model)), model.config.num_attention_heads
    opened = torch.from_numpy(units_of(ticket, layers)).to(model.device, torch.float32)
    total, decisions = torch.zeros_like(opened), []
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in weights:
        parameter.requires_grad_(False)
    try:
        for rows in batches:
            inputs, labels = split.batch(rows, model.device)
            gates = opened.expand(len(rows), 2, layers).clone().requires_grad_()
            by_head = gates[:, 0, :, None].expand(-1, -1, heads)
            with (
                gpu.without_waiting(model),
                gpu.autocast(model, scaled=False),
                gated(model, by_head, gates[:, 1]),
            ):
                logits = model(**inputs).logits.float()
            (gradient,) = torch.autograd.grad(example_losses(logits, labels, task).sum(), gates)
            total += gradient.abs().sum(0)
            decisions.append(decide(logits.detach(), task))
    finally:
        for parameter in weights:
            parameter.requires_grad_(True)
    score = score_predictions(in_order(decisions, batches), split.labels.numpy(), task)
    return total.double().cpu().numpy() / len(split), score


def search_over_tickets(
    measure: Callable[[int], tuple[np.ndarray, float]], layers: int
) -> list[TicketStep]:
    """Prune the least important unit, measure anew, and so on until none is left.

    Args:
        measure: gives the importance float64[2, layers] and the score of a ticket.
        layers: of the encoder.

    Returns:
        All 2 L + 1 states; of equally important units the one of the lower bit goes first.
    """
    steps: list[TicketStep] = []
    ticket = 4**layers - 1
    while True:
        importance, score = measure(ticket)
        steps.append(TicketStep(ticket, importance, score))
        if not ticket:
            return steps
        left = np.where(units_of(ticket, layers), importance, np.inf)
        ticket &= ~(1 << int(left.argmin()))


def picked_half(path: Sequence[TicketStep]) -> int:
    """The ticket of half of the units on a search's path."""
    return path[len(path) // 2].ticket


def picked_good(path: Sequence[TicketStep], threshold: float) -> int:
    """The paper's good subnetwork: the last ticket before the score first falls below its share.

    Args:
        path: of a search.
        threshold: the share of the full encoder's score that is to be kept.
    """
    kept = path[0]
    for step in path:
        if step.score < threshold * path[0].score:
            break
        kept = step
    return kept.ticket
