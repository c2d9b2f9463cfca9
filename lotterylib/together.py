"""Several trainings at once, of models stacked into one: five seeds, or one seed's subnetworks.

For GPUs. A training's batches, its learning rate and its clipping are those of `training.train`;
what it gives is the same up to rounding, but dropout draws other masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import numpy as np
import torch
from transformers import PreTrainedModel

from lotterylib import gpu
from lotterylib.anatomy import layers_of, prunable_weights
from lotterylib.batches import Encoded
from lotterylib.gates import gate_values, gated, pruned_weights_frozen, zero_pruned_weights
from lotterylib.replaying import replayed
from lotterylib.scoring import example_losses
from lotterylib.stacking import stack
from lotterylib.subnetworks import StructuredSubnetwork, Subnetwork, WeightSubnetwork
from lotterylib.tasks import Task
from lotterylib.training import Progress, Recipe, batches_of, no_number, silent
from lotterylib.vocabulary import own_vocabulary

_ROUND = 8
"""Lengths are rounded up to a multiple of this: a GPU records a step once for each shape."""


def train_together(
    models: Sequence[PreTrainedModel],
    split: Encoded,
    task: Task,
    recipe: Recipe,
    seeds: Sequence[int],
    subnetworks: Sequence[Subnetwork | None],
    progress: Progress = silent,
) -> list[list[float]]:
    """Train models of one shape in place, as `training.train` would one after another.

    Args:
        models: from which nothing has been removed; left in evaluation mode.
        split: the training examples, of all of them.
        task: it decides the loss.
        recipe: how.
        seeds: of each model's order of examples; the first is also that of everybody's dropout.
        subnetworks: of each model, None for all of it. Weights outside are set to zero and stay
            zero; heads and MLPs outside are closed by gates and stay what they are, so that
            removing them afterwards gives what `training.train` makes of what is left.
        progress: told now and then.

    Returns:
        For each model, the loss of each step.

    Raises:
        LotteryError: the models cannot be stacked, or a loss is no longer a number.
    """
    device = models[0].device
    with torch.random.fork_rng(), ExitStack() as stacks:
        for model in models:  # all have the same words, as they have the same examples
            ids = stacks.enter_context(own_vocabulary(model, split))
        stacked = stack(models).train()
        stacks.enter_context(gpu.without_waiting(stacked))
        weights = _stacked_weights(subnetworks, stacked)
        if weights is not None:
            zero_pruned_weights(stacked, weights)
            stacks.enter_context(pruned_weights_frozen(stacked, weights))
        trained = _Trained(models, stacked, task, recipe, _gates(subnetworks, stacked))
        steps = _steps([batches_of(split, recipe, seed) for seed in seeds], split, device)
        step = stacks.enter_context(replayed(trained.step, device))
        torch.manual_seed(seeds[0])
        found: list[torch.Tensor] = []
        losses: list[list[float]] = []
        often = gpu.looks_after(device)
        for number, (rows, shares, length) in enumerate(steps, start=1):
            inputs, labels = split.padded(rows, length)
            inputs["input_ids"] = ids[inputs["input_ids"]]
            trained.rate.fill_(recipe.learning_rate * (1 - (number - 1) / len(steps)))
            found.append(step({"labels": labels, "shares": shares, **inputs}))
            if number % often == 0 or number == len(steps):
                for each in torch.stack(found).tolist():
                    losses.append(each)
                    if not all(map(math.isfinite, each)):
                        raise no_number(models[0], task, recipe, len(losses), len(steps))
                found.clear()
                least, most = min(losses[-1]), max(losses[-1])
                progress(number / len(steps), f"losses {least:.3f} to {most:.3f}")
    for model in models:
        model.eval()
        model.zero_grad()
        # The last step has no loss after it that would tell.
        if not torch.stack([value.isfinite().all() for value in model.parameters()]).all():
            raise no_number(model, task, recipe, len(steps), len(steps))
    return [list(of_one) for of_one in zip(*losses, strict=True)]


class _Trained:
    """What a step changes, all of it in place: what a GPU has recorded it can only do again."""

    def __init__(
        self,
        models: Sequence[PreTrainedModel],
        stacked: PreTrainedModel,
        task: Task,
        recipe: Recipe,
        gates: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> None:
        self.models, self.stacked, self.task, self.gates = models, stacked, task, gates
        self.clip = recipe.clip
        self.rate = torch.tensor(recipe.learning_rate, device=stacked.device)
        self.optimizer = torch.optim.AdamW(
            stacked.parameters(),
            lr=self.rate,
            eps=1e-8,
            weight_decay=0.0,
            fused=True,
            capturable=gpu.on_gpu(stacked.device),
        )
        for parameter in stacked.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for number, model in enumerate(models):
            pairs = zip(model.parameters(), stacked.parameters(), strict=True)
            for parameter, all_of_them in pairs:
                assert all_of_them.grad is not None
                parameter.grad = all_of_them.grad[number]

    def step(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """One step of every model; its mean losses, float32[models].

        Args:
            batch: labels [models x examples], shares float32[models x examples] of each example in
                its model's loss, and the inputs of the stacked model.
        """
        inputs = dict(batch)
        labels, shares = inputs.pop("labels"), inputs.pop("shares")
        many = len(labels) // len(self.models)
        closed: AbstractContextManager[None] = nullcontext()
        if self.gates is not None:
            heads, mlps = (gate.repeat_interleave(many, 0) for gate in self.gates)
            closed = gated(self.stacked, heads, mlps)
        with closed, gpu.autocast(self.stacked.device, scaled=False):
            logits = self.stacked(**inputs).logits
        losses = example_losses(logits.float(), labels, self.task) * shares
        losses.sum().backward()
        for model in self.models:  # their gradients are views of the stacked model's
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return losses.detach().unflatten(0, (-1, many)).sum(1)


def _steps(
    batches: Sequence[Sequence[Sequence[int]]], split: Encoded, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """All steps of several trainings, each with the batches of all.

    Returns:
        Per step rows int64[models x examples], shares float32[models x examples] and a length in
        word pieces. Where a model's batch has fewer examples than another's, it is filled up with
        examples whose share in its loss is 0; the others' is one over how many they are.
    """
    rows, shares, lengths, sizes = [], [], [], []
    for of_all in zip(*batches, strict=True):
        most = max(map(len, of_all))
        for own in of_all:
            missing = most - len(own)
            rows += [*own, *own[:1] * missing]
            shares += [1 / len(own)] * len(own) + [0.0] * missing
        longest = max(split.lengths[row] for own in of_all for row in own)
        lengths.append(-(-longest // _ROUND) * _ROUND)
        sizes.append(len(of_all) * most)
    return list(
        zip(
            torch.tensor(rows, device=device).split(sizes),
            torch.tensor(shares, device=device).split(sizes),
            lengths,
            strict=True,
        )
    )


def _gates(
    subnetworks: Sequence[Subnetwork | None], stacked: PreTrainedModel
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Gates float32[models, layers, heads] and float32[models, layers]; None where all are open."""
    if not any(isinstance(each, StructuredSubnetwork) for each in subnetworks):
        return None
    shape = len(layers_of(stacked)), stacked.config.num_attention_heads
    heads, mlps = torch.ones(len(subnetworks), *shape), torch.ones(len(subnetworks), shape[0])
    for number, each in enumerate(subnetworks):
        if isinstance(each, StructuredSubnetwork):
            heads[number], mlps[number] = gate_values(each)
    return heads.to(stacked.device), mlps.to(stacked.device)


def _stacked_weights(
    subnetworks: Sequence[Subnetwork | None], stacked: PreTrainedModel
) -> WeightSubnetwork | None:
    """Which weights of a stacked model are inside; None where all of them are."""
    if not any(isinstance(each, WeightSubnetwork) for each in subnetworks):
        return None
    return WeightSubnetwork(
        {
            name: np.stack(
                [
                    each.weights[name]
                    if isinstance(each, WeightSubnetwork)
                    else np.ones(parameter.shape[1:], dtype=bool)
                    for each in subnetworks
                ]
            )
            for name, parameter in prunable_weights(stacked).items()
        }
    )
