"""Importance, the structured search, norm-weighted attention, each against the plain way."""

from collections.abc import Iterator

import numpy as np
import torch
from captum.attr import LayerGradientXActivation
from transformers import PreTrainedModel

from lotterylib.attention import _contribution_norms, _triangles, attention_maps
from lotterylib.batches import Encoded
from lotterylib.encoder import layers_of, shape_of
from lotterylib.gates import gate_values, gated
from lotterylib.importance import Importance, measure
from lotterylib.scoring import evaluate, example_losses
from lotterylib.structured import StructuredStep, search_structured
from lotterylib.subnetworks import StructuredSubnetwork, full_subnetwork
from lotterylib.tasks import find_task
from tests.benchmarks.harness import Row, compare
from tests.benchmarks.workload import bert, examples, padded

TASK = find_task("sst2")


def importance(quick: bool) -> Iterator[Row]:
    """Exact importance against a forward pass, against single examples, against captum."""
    rows = 32 if quick else 256
    split, model = examples("mrpc", "validation", rows), bert()
    full = full_subnetwork(shape_of(model))
    rounds = 1 if quick else 3

    def ours() -> None:
        measure(model, split, TASK, full)

    yield compare(
        "exact importance of heads and MLPs",
        "forward pass only",
        ours,
        lambda: evaluate(model, split, TASK),
        rounds=rounds,
        at_least=0.47,
        note="a pass back costs as much as one forth, so 0.5 is the limit",
    )
    few = split.subset(range(rows // 8))
    found = measure(model, few, TASK, full)[0].heads
    yield compare(
        "exact importance of heads and MLPs",
        "one example at a time, all gradients",
        ours,
        lambda: _single_examples(model, few, full),
        rounds=rounds,
        work=8,
    )
    difference = np.abs(_captum(model, few) - found).max() / found.max()
    yield compare(
        "exact importance of heads and MLPs",
        "captum's LayerGradientXActivation, heads only",
        ours,
        lambda: _captum(model, few),
        rounds=rounds,
        work=8,
        note=f"largest relative difference of the scores: {difference:.0e}",
    )


def _single_examples(
    model: PreTrainedModel, split: Encoded, subnetwork: StructuredSubnetwork
) -> None:
    for row in range(len(split)):
        inputs, labels = split.batch([row], model.device)
        gates = [gate.requires_grad_() for gate in gate_values(subnetwork)]
        with gated(model, *gates):
            loss = example_losses(model(**inputs).logits, labels, TASK).mean()
        model.zero_grad()
        loss.backward()


def _captum(model: PreTrainedModel, split: Encoded) -> np.ndarray:
    """Head importance as float64[layers, heads]: |activation x gradient| at the input of W_O."""
    outputs = [layer.output for layer in layers_of(model)]
    heads = model.config.num_attention_heads
    totals = torch.zeros(len(outputs), heads, dtype=torch.float64)
    for start in range(0, len(split), 32):
        inputs, labels = split.batch(range(start, min(start + 32, len(split))), model.device)

        def losses(ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return example_losses(model(input_ids=ids, attention_mask=mask).logits, labels, TASK)

        found = LayerGradientXActivation(losses, outputs).attribute(  # type: ignore[arg-type]
            inputs["input_ids"],
            additional_forward_args=(inputs["attention_mask"], labels),
            attribute_to_layer_input=True,
        )
        for layer, attribution in enumerate(found):
            part = attribution[0] if isinstance(attribution, tuple) else attribution
            by_head = part.detach().unflatten(-1, (heads, -1)).sum((1, 3))
            totals[layer] += by_head.abs().sum(0).double()
    return (totals / len(split)).numpy()


PROMISED = {"cola": 12, "sst2": 7, "mrpc": 4, "rte": 3}


def search(quick: bool) -> Iterator[Row]:
    """The whole structured search against the authors' way of taking each of its steps."""
    for task, promised in PROMISED.items():
        yield _search(examples(task, "validation", 16 if quick else 64), task, promised)


def _search(split: Encoded, task: str, promised: float) -> Row:
    model, eager = bert(layers=6), bert(layers=6, attention="eager")

    def look(kept: StructuredSubnetwork) -> tuple[Importance, float]:
        # Random weights score anyhow: this search passes every step down to a third of the heads.
        return measure(model, split, TASK, kept)[0], float(kept.heads.mean() > 1 / 3)

    steps = search_structured(look, full_subnetwork(shape_of(model)))
    return compare(
        f"structured search of {len(steps)} states, lengths of {task}'s dev set",
        "the authors' procedure",
        lambda: _states(model, split, steps),
        lambda: [_padded(eager, split, step.subnetwork) for step in steps],
        rounds=1,
        at_least=promised,
        note="padded to 128, all gradients, attentions kept",
    )


def _states(model: PreTrainedModel, split: Encoded, steps: list[StructuredStep]) -> None:
    for step in steps:
        measure(model, split, TASK, step.subnetwork, closed_mlps=False)


def _padded(model: PreTrainedModel, split: Encoded, subnetwork: StructuredSubnetwork) -> Importance:
    """One state as the authors' `find_head_mlp_masks.py` goes about it: one gate for all."""
    batches = padded(split)
    totals = [np.zeros(gate.shape) for gate in gate_values(subnetwork)]
    for start in range(0, len(batches), 64):
        part = batches[start : start + 64]
        inputs = {
            key: torch.tensor([row[key] for row in part]) for key in ("input_ids", "attention_mask")
        }
        labels = torch.tensor([row["labels"] for row in part])
        gates = [gate.requires_grad_() for gate in gate_values(subnetwork)]
        with gated(model, *gates):
            output = model(**inputs, output_attentions=True)
        example_losses(output.logits, labels, TASK).mean().backward()
        for total, gate in zip(totals, gates, strict=True):
            assert gate.grad is not None
            total += gate.grad.abs().numpy()
    return Importance(*totals)


def norm_weighted(quick: bool) -> Iterator[Row]:
    """||alpha f(x)|| through the norm of f(x) against the tensor of all weighted vectors."""
    model = bert(hidden=768, layers=2, attention="eager")
    ids = torch.randint(1000, 30000, (2 if quick else 8, 64))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    raw = attention_maps(model, inputs)
    values: dict[int, torch.Tensor] = {}
    hooks = [
        layer.value.register_forward_hook(
            lambda _m, _i, out, number=number: values.__setitem__(number, out.detach())
        )
        for number, layer in enumerate(layers_of(model))
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()

    triangles = [_triangles(layer.output, 12, "columns") for layer in layers_of(model)]

    @torch.no_grad()
    def ours() -> torch.Tensor:
        norms = [_contribution_norms(values[n], triangle) for n, triangle in enumerate(triangles)]
        return raw * torch.stack(norms, 1).unsqueeze(-2)

    def peer() -> torch.Tensor:
        return torch.stack(
            [_materialised(raw[:, n], values[n], each.output) for n, each in layers], 1
        )

    layers = list(enumerate(layers_of(model)))
    error = ((peer() - ours()).abs().max() / ours().max()).item()
    yield compare(
        "norm-weighted maps, batch 8 of 64 word pieces, hidden 768",
        "all weighted vectors at once",
        ours,
        peer,
        rounds=1 if quick else 3,
        at_least=150,
        note=f"no tensor of batch x heads x n x n x width; largest relative error {error:.0e}",
    )


@torch.no_grad()
def _materialised(raw: torch.Tensor, values: torch.Tensor, output: torch.nn.Linear) -> torch.Tensor:
    """||alpha f(x)|| as float32[batch, heads, n, n] from a tensor of all weighted vectors."""
    heads = raw.shape[1]
    slices = output.weight.unflatten(1, (heads, -1))  # [hidden, heads, width]
    moved = torch.einsum("bjhw,dhw->bhjd", values.unflatten(-1, (heads, -1)), slices)
    return (raw[..., None] * moved[:, :, None]).norm(dim=-1)
