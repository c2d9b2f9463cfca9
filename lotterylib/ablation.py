"""Ablation: what the score loses when a single head is taken out (after Michel et al., 2019).

The importance of section 3.3 is a gradient at an open gate. Closing the gate is what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BatchEncoding, PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.encoder import stack_of
from lotterylib.fast import gpu
from lotterylib.fast.cpu import use_onednn
from lotterylib.finetuning import Progress, silent
from lotterylib.gates import gated
from lotterylib.scoring import EVALUATION_BATCH, decide, in_order, score_predictions
from lotterylib.tasks import Task


@torch.inference_mode()
def ablate_heads(
    model: PreTrainedModel, split: Encoded, task: Task, progress: Progress = silent
) -> np.ndarray:
    """The score of a fine-tuned model without each of its heads, float64[layers, heads], in the
    metric that the paper reports.

    What comes before a head's layer does not change without it, so it is computed once per batch.
    `progress` is told after every head of every batch.
    """
    use_onednn(model.eval())
    stack = stack_of(model)
    shape = (len(stack), model.config.num_attention_heads)
    decisions: dict[tuple[int, ...], list[torch.Tensor]] = {p: [] for p in np.ndindex(shape)}
    batches = reading_batches(split.lengths, EVALUATION_BATCH)
    with gpu.without_sync(model), gpu.autocast(model):
        for number, rows in enumerate(batches):
            inputs, _ = split.batch(rows, model.device)
            outputs = _outputs(model, stack, inputs)
            for place in np.ndindex(shape):
                heads = torch.ones(shape, device=model.device)
                heads[place] = 0
                with (
                    gated(model, heads, torch.ones_like(heads[:, 0])),
                    known_layers(stack, outputs, place[0]),
                ):
                    decisions[place].append(decide(model(**inputs).logits.float(), task))
                done = number + (place[0] * shape[1] + place[1] + 1) / heads.numel()
                progress(done / len(batches), f"without head {place[0] + 1}.{place[1] + 1}")
    scores = [
        score_predictions(in_order(found, batches), split.labels.numpy(), task).metrics[task.metric]
        for found in decisions.values()
    ]
    return np.reshape(scores, shape)


def _outputs(model: PreTrainedModel, stack: nn.ModuleList, inputs: BatchEncoding) -> list[Any]:
    """What every layer gives."""
    outputs: list[Any] = []
    with ExitStack() as hooks:
        for layer in stack:
            hook = layer.register_forward_hook(lambda _module, _given, out: outputs.append(out))
            hooks.callback(hook.remove)
        model(**inputs)
    return outputs


@contextmanager
def known_layers(stack: nn.ModuleList, outputs: list[Any], count: int) -> Iterator[None]:
    """Within it, so many first layers of a model give what they gave before, `outputs`."""
    layers = list(stack[:count])
    for number in range(count):
        stack[number] = _Known(outputs[number])
    try:
        yield
    finally:
        for number, layer in enumerate(layers):
            stack[number] = layer


class _Known(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: object, **__: object) -> Any:
        return self.output
