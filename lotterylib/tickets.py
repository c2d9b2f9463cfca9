"""The whole lottery: every subnetwork of a small encoder whose units are whole blocks.

A unit is the attention of a layer (all its heads) or its MLP. An encoder of six layers has twelve
units, so 4,096 subnetworks, here called tickets. All of them can be scored, and all of half size
retrained. This is not in the paper. It asks how many tickets win, and where among them the one
lies that a search picks (sections 3.3 and 4.2).

A ticket is a number: bit l (from 0) says whether the attention of layer l + 1 survives, bit
layers + l whether its MLP does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import nn
from transformers import BatchEncoding, PreTrainedModel

from lotterylib.ablation import known_layers
from lotterylib.batches import Encoded, reading_batches
from lotterylib.encoder import Shape, stack_of
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


def subnetwork_of(ticket: int, shape: Shape) -> StructuredSubnetwork:
    """The subnetwork of a ticket."""
    bits = np.array([ticket >> bit & 1 for bit in range(2 * shape.layers)], dtype=bool)
    heads = np.repeat(bits[: shape.layers, None], shape.heads, axis=1)
    return StructuredSubnetwork(heads, bits[shape.layers :])


def units_of(tickets: np.ndarray, layers: int) -> np.ndarray:
    """Which units tickets keep: bool[tickets, 2, layers], attention first, then MLPs."""
    bits = np.asarray(tickets)[:, None] >> np.arange(2 * layers) & 1
    return bits.astype(bool).reshape(-1, 2, layers)


def tickets_of_size(layers: int, units: int) -> list[int]:
    """All tickets with so many units, ascending."""
    return sorted(sum(1 << bit for bit in bits) for bits in combinations(range(2 * layers), units))


@torch.inference_mode()
def score_all(
    model: PreTrainedModel,
    split: Encoded,
    task: Task,
    progress: Progress = silent,
    drop_empty_bias: bool = False,
) -> list[Score]:
    """The scores of all 4^layers tickets of a fine-tuned model, as pruned, in their order.

    Tickets that agree in their first layers share what these layers compute: the layers are walked
    depth first, so that a batch costs 4 + 16 + ... + 4^layers layers and not layers * 4^layers.
    Equal to removing what each ticket prunes (`gates.remove`) and scoring what is left. `progress`
    is told after every batch; the model's weights stay as they are, its mode is left at evaluation.

    Raises:
        LotteryError: a family whose layers hand on more than their hidden states.
    """
    use_onednn(model.eval())
    layers = len(stack_of(model))
    variants = _variants(model, drop_empty_bias)
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    found: list[list[torch.Tensor]] = [[] for _ in range(4**layers)]
    with gpu.without_sync(model), gpu.autocast(model):
        for number, rows in enumerate(batches, start=1):
            inputs, _ = split.batch(rows, model.device)
            for ticket, logits in _walk(model, variants, inputs):
                found[ticket].append(decide(logits.float(), task))
            progress(number / len(batches), f"{number} of {len(batches)} batches")
    labels = split.labels.numpy()
    return [score_predictions(in_order(each, batches), labels, task) for each in found]


def _variants(
    model: PreTrainedModel, drop_empty_bias: bool
) -> dict[tuple[int, int], nn.ModuleList]:
    """The layers with and without their attention and their MLP; they share their parameters."""
    shape = len(stack_of(model)), model.config.num_attention_heads
    variants = {}
    for attention, mlp in product((0, 1), repeat=2):
        kept = StructuredSubnetwork(
            np.full(shape, attention, dtype=bool), np.full(shape[0], mlp, dtype=bool)
        )
        shared = {id(each): each for each in (model.config, *model.parameters())}
        twin = copy.deepcopy(model, shared)
        variants[attention, mlp] = stack_of(remove(twin, kept, drop_empty_bias))
    return variants


def _walk(
    model: PreTrainedModel, variants: dict[tuple[int, int], nn.ModuleList], inputs: BatchEncoding
) -> Iterator[tuple[int, torch.Tensor]]:
    """Every ticket with the logits of a batch."""
    stack, given = stack_of(model), []

    def begin(_module: nn.Module, args: tuple, named: dict) -> None:
        given.append((args, named))

    hook = stack[0].register_forward_pre_hook(begin, with_kwargs=True)
    try:
        model(**inputs)
    finally:
        hook.remove()
    ((first, *others), named) = given[0]
    # The task layer reads what the last layer gave: the texts are not embedded for every ticket.
    least = {name: values[:1, :1] for name, values in inputs.items()}

    def deeper(layer: int, hidden: torch.Tensor, ticket: int) -> Iterator[tuple[int, torch.Tensor]]:
        if layer == len(stack):
            with known_layers(stack, [hidden] * len(stack), len(stack)):
                yield ticket, model(**least).logits
            return
        for (attention, mlp), layers in variants.items():
            output = layers[layer](hidden, *others, **named)
            if not isinstance(output, torch.Tensor):
                raise LotteryError(
                    f"Tickets of {model.config.model_type!r} cannot be scored at once: its layers "
                    "hand on more than hidden states."
                )
            bits = attention << layer | mlp << (len(stack) + layer)
            yield from deeper(layer + 1, output, ticket | bits)

    yield from deeper(0, first, 0)


@dataclass(frozen=True)
class TicketStep:
    """One state of the search over tickets.

    Attributes:
        ticket: what was left.
        attention, mlps: float64[layers], importance measured in that state: the mean over examples
            of the absolute gradient of the loss with respect to the block's gate.
        score: in the metric that the paper reports.
    """

    ticket: int
    attention: np.ndarray
    mlps: np.ndarray
    score: float


def search_tickets(
    model: PreTrainedModel, split: Encoded, task: Task, progress: Progress = silent
) -> list[TicketStep]:
    """What the paper's structured search picks where whole blocks are the units: its states.

    In each step the attention and the MLP of least importance go, among those that are left, and
    importance is measured anew on the split, as in the first phase of section 3.3, down to one of
    each. There is nothing to normalise, since attention and MLPs are never compared with each
    other. The state with half of the units is the search's pick.
    """
    layers = len(stack_of(model))
    states: list[TicketStep] = []
    ticket = 4**layers - 1
    for step in range(layers):
        attention, mlps, score = _measure(model, split, task, ticket)
        states.append(TicketStep(ticket, attention, mlps, score))
        progress((step + 1) / layers, f"{2 * (layers - step)} units score {score:.3f}")
        for start, importance in ((0, attention), (layers, mlps)):
            left = [unit for unit in range(layers) if ticket >> (start + unit) & 1]
            ticket &= ~(1 << (start + min(left, key=importance.__getitem__)))
    return states


def _measure(
    model: PreTrainedModel, split: Encoded, task: Task, ticket: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Importance of attention blocks and MLPs, and the score, in the state of a ticket."""
    use_onednn(model.eval())
    layers, heads = len(stack_of(model)), model.config.num_attention_heads
    bits = torch.tensor([float(ticket >> bit & 1) for bit in range(2 * layers)])
    totals, decisions = torch.zeros(2 * layers), []
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    for rows in batches:
        inputs, labels = split.batch(rows, model.device)
        gates = bits.to(model.device).expand(len(rows), -1).clone().requires_grad_()
        blocks = gates[:, :layers, None].expand(-1, -1, heads)
        with gpu.autocast(model), gated(model, blocks, gates[:, layers:]):
            logits = model(**inputs).logits.float()
        (gradient,) = torch.autograd.grad(example_losses(logits, labels, task).sum(), gates)
        totals += gradient.abs().sum(0).cpu()
        decisions.append(decide(logits.detach(), task))
    score = score_predictions(in_order(decisions, batches), split.labels.numpy(), task)
    means = totals.double().numpy() / len(split)
    return means[:layers], means[layers:], score.metrics[task.metric]
