"""Fine-tuning and retraining, as in the paper's section 3.1: one loop serves both.

What the text leaves open is as in the authors' `train.sh` and `run_glue.py`: the clipped norm, no
warm-up, no weight decay. The weights and the task layer that a retraining starts from are the
business of `runs.experiment.Experiment.left` and `data.loading.load_model`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from lotterylib.batches import BatchOrder, Encoded, training_batches
from lotterylib.errors import LotteryError
from lotterylib.fast import gpu
from lotterylib.fast.cpu import use_onednn
from lotterylib.fast.layers import compact_embedding, unpadded
from lotterylib.gates import pruned_weights_frozen, zero_pruned_weights
from lotterylib.scoring import example_losses
from lotterylib.subnetworks import WeightSubnetwork
from lotterylib.tasks import Task

Progress = Callable[[float, str], None]
"""Called with the share of the work that is done (0 to 1) and a few words on what was found."""


def silent(share: float, found: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW under a rate that falls linearly to zero.

    Attributes:
        learning_rate: the highest, at the first step that is not warm-up.
        epochs: passes over the training split.
        batch_size: examples per step.
        order: how batches are formed, see `batches.training_batches`.
        clip: the largest norm of a step's gradient.
        warmup: the share of all steps in which the rate rises linearly from zero (paper: none).
        weight_decay: of AdamW, on all parameters (paper: none).
    """

    learning_rate: float
    epochs: int = 3
    batch_size: int = 32
    order: BatchOrder = "buckets"
    clip: float = 1.0
    warmup: float = 0.0
    weight_decay: float = 0.0


def train(
    model: PreTrainedModel,
    split: Encoded,
    task: Task,
    recipe: Recipe,
    seed: int,
    subnetwork: WeightSubnetwork | None = None,
    progress: Progress = silent,
    part: tuple[float, float] = (0.0, 1.0),
) -> list[float]:
    """Train a model in place; the same seed gives the same weights on a CPU.

    Structured subnetworks are trained by removing what they prune beforehand (`gates.remove`).

    Args:
        model: left in evaluation mode.
        split, task, recipe: the examples, what decides the loss, and how to train.
        seed: of the order of examples and of dropout. PyTorch's global generator is left as it was.
        subnetwork: weights outside it are set to zero before the first step and stay zero.
        progress: told after every step, on a GPU less often.
        part: from which share of the steps to which to train, for rewinding (Frankle et al., 2020);
            batches and learning rates are those of the same steps of the whole training.

    Returns:
        The mean loss of each step.

    Raises:
        LotteryError: the loss is no longer a number.
    """
    draw = torch.Generator().manual_seed(seed)
    steps = [
        rows
        for _ in range(recipe.epochs)
        for rows in training_batches(split.lengths, recipe.batch_size, recipe.order, draw)
    ]
    first, last = (round(share * len(steps)) for share in part)
    losses: list[float] = []
    waiting: list[torch.Tensor] = []
    often = gpu.FETCH_INTERVAL if gpu.on_gpu(model.device) else 1
    frozen: AbstractContextManager[None] = nullcontext()
    if subnetwork is not None:
        zero_pruned_weights(model, subnetwork)
        frozen = pruned_weights_frozen(model, subnetwork)
    use_onednn(model.train())
    # Batches of one length have next to no padding to leave aside; a GPU would wait to leave it.
    pad = recipe.order == "buckets" or gpu.on_gpu(model.device)
    packed = gpu.without_sync(model) if pad else unpadded(model)
    words: AbstractContextManager[torch.Tensor] = compact_embedding(model, split)
    if recipe.weight_decay:  # it moves the embeddings of words that never occur too
        words = nullcontext(torch.arange(model.config.vocab_size, device=model.device))
    with torch.random.fork_rng(), frozen, packed, words as ids:
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe.learning_rate,
            eps=1e-8,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_share(first + step, len(steps), recipe.warmup)
        )
        torch.manual_seed(seed)
        for step, rows in enumerate(steps[first:last], start=first + 1):
            inputs, labels = split.batch(rows, model.device)
            inputs["input_ids"] = ids[inputs["input_ids"]]
            with gpu.autocast(model):
                logits = model(**inputs).logits
            loss = example_losses(logits.float(), labels, task).sum() / len(rows)
            model.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            waiting.append(torch.stack((loss.detach(), norm)).double())
            look = step % often == 0 or step == last
            if look:
                for found, size in torch.stack(waiting).tolist():
                    losses.append(found)
                    if not math.isfinite(found) or not math.isfinite(size):
                        raise no_number(model, task, recipe, first + len(losses), len(steps))
                waiting.clear()
            optimizer.step()
            schedule.step()
            if look:
                progress(step / len(steps), f"loss {losses[-1]:.3f}")
    # The last step has no loss after it that would tell.
    finite = torch.stack([value.isfinite().all() for value in model.parameters()])
    if not finite.all():
        raise no_number(model, task, recipe, last, len(steps))
    model.eval()
    return losses


def rate_share(step: int, steps: int, warmup: float) -> float:
    """The share of the highest rate that a step, counted from 0, gets: up in warm-up, which takes a
    share of all steps, then down to zero at the end.
    """
    rising = round(warmup * steps)
    if step < rising:
        return step / rising
    return 1 - (step - rising) / max(1, steps - rising)


def no_number(
    model: PreTrainedModel, task: Task, recipe: Recipe, step: int, steps: int
) -> LotteryError:
    """What to raise when a model, which is put into evaluation mode, has a loss that is none."""
    model.eval()
    return LotteryError(
        f"The loss on {task.title} is no longer a number at step {step} of {steps}: try a learning "
        f"rate below {recipe.learning_rate:g}."
    )
