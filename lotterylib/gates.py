"""Gates: the paper's mask variables xi (heads) and nu (MLPs), and removal, which does the same.

Section 3.3: a head's output is multiplied by xi, an MLP's output by nu before the residual is
added. transformers 5 has no argument for either, so they are hooks. They work with any attention
implementation, and need no change to the model's code.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import prune_linear_layer

from lotterylib.encoder import Layer, architecture_of, layers_of, prunable_weights
from lotterylib.errors import LotteryError
from lotterylib.subnetworks import StructuredSubnetwork, WeightSubnetwork


@contextmanager
def gated(model: PreTrainedModel, heads: torch.Tensor, mlps: torch.Tensor) -> Iterator[None]:
    """Within it, every head's and every MLP's output is multiplied by its gate.

    Args:
        model: a model from which nothing has been removed.
        heads: float[layers, heads], or float[batch, layers, heads] for a gate per example.
        mlps: float[layers], or float[batch, layers].

    Raises:
        LotteryError: the gates do not fit the model.
    """
    layers = layers_of(model)
    wanted = (len(layers), model.config.num_attention_heads)
    if tuple(heads.shape[-2:]) != wanted or mlps.shape != (*heads.shape[:-2], wanted[0]):
        raise LotteryError(
            f"Gates of shapes {tuple(heads.shape)} and {tuple(mlps.shape)} do not fit a model of "
            f"{wanted[0]} layers of {wanted[1]} heads."
        )
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            head_gate, mlp_gate = heads[..., number, :], mlps[..., number]
            hooks.callback(layer.output.register_forward_pre_hook(_head_hook(head_gate)).remove)
            hooks.callback(layer.mlp_out.register_forward_hook(_mlp_hook(mlp_gate)).remove)
        yield


def _head_hook(gate: torch.Tensor):
    # The input of W_O is the heads' outputs side by side, so a gate spreads over a head's columns.
    def multiply(module: nn.Linear, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        width = module.in_features // gate.shape[-1]
        return (inputs[0] * gate.repeat_interleave(width, dim=-1).unsqueeze(-2),)

    return multiply


def _mlp_hook(gate: torch.Tensor):
    def multiply(_module: nn.Linear, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * gate[..., None, None]

    return multiply


@contextmanager
def closed_mlps_skipped(model: PreTrainedModel, mlps: np.ndarray) -> Iterator[None]:
    """Within it, closed MLPs give zeros without being computed, two thirds of a layer's work.

    `mlps`, bool[layers], says which are open; the model is whole again afterwards.
    """
    architecture = architecture_of(model)
    closed = [layer for layer, is_open in zip(layers_of(model), mlps, strict=True) if not is_open]
    for layer in closed:
        layer.module.set_submodule(architecture.mlp_in, _Zeros(0))
        layer.module.set_submodule(architecture.mlp_out, _Zeros(layer.mlp_out.out_features))
    try:
        yield
    finally:
        for layer in closed:
            layer.module.set_submodule(architecture.mlp_in, layer.mlp_in)
            layer.module.set_submodule(architecture.mlp_out, layer.mlp_out)


class _Zeros(nn.Module):
    """A dense layer whose outputs are zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.new_zeros(*rows.shape[:-1], self.width)


def gate_values(
    subnetwork: StructuredSubnetwork, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """A subnetwork as gates: float32[layers, heads] and float32[layers] of zeros and ones."""
    return (
        torch.from_numpy(subnetwork.heads).to(device, torch.float32),
        torch.from_numpy(subnetwork.mlps).to(device, torch.float32),
    )


def check_fits(model: PreTrainedModel, subnetwork: StructuredSubnetwork) -> None:
    """Refuse a subnetwork of another number of layers or heads, with a `LotteryError`."""
    layers, heads = len(layers_of(model)), model.config.num_attention_heads
    if subnetwork.heads.shape != (layers, heads):
        raise LotteryError(
            f"A subnetwork of shape {subnetwork.heads.shape} does not fit a model of {layers} "
            f"layers of {heads} heads."
        )


@torch.no_grad()
def remove(
    model: PreTrainedModel, subnetwork: StructuredSubnetwork, drop_empty_bias: bool = False
) -> PreTrainedModel:
    """Take the pruned heads and MLPs out of a whole model, in place; it becomes smaller and faster.

    The logits equal those of the gated model, also where a layer loses all its heads: the bias of
    its W_O stays, which belongs to no head. With `drop_empty_bias` it goes too, as in the authors'
    `BertAttention.prune_heads`.

    Raises:
        LotteryError: the subnetwork does not fit the model.
    """
    check_fits(model, subnetwork)
    layers = layers_of(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        for layer, heads, mlp in zip(layers, subnetwork.heads, subnetwork.mlps, strict=True):
            if not heads.all():
                _remove_heads(model, layer, heads, drop_empty_bias)
            if not mlp:
                _remove_mlp(model, layer)
    return model


def _remove_heads(
    model: PreTrainedModel, layer: Layer, heads: np.ndarray, drop_empty_bias: bool
) -> None:
    architecture = architecture_of(model)
    width = layer.output.in_features // len(heads)
    index = _index(np.repeat(heads, width))
    for name in ("query", "key", "value"):
        smaller = prune_linear_layer(getattr(layer, name), index)
        layer.module.set_submodule(getattr(architecture, name), smaller)
    output = prune_linear_layer(layer.output, index, dim=1)
    layer.module.set_submodule(architecture.output, output)
    if not heads.any():
        if drop_empty_bias:
            output.bias = None  # type: ignore[assignment]
        projection = output if architecture.attention_projects else None
        layer.module.set_submodule(architecture.attention, _NoHeads(projection))
        return
    if hasattr(layer.attention, "all_head_size"):
        layer.attention.all_head_size = len(index)  # type: ignore[assignment]
    if architecture.heads_share_bias:
        layer.attention.register_forward_pre_hook(_bias_hook(_index(heads)))


def _bias_hook(kept: torch.Tensor):
    def select(_module: nn.Module, inputs: tuple) -> tuple:
        hidden, mask, bias = inputs
        return hidden, mask, bias.index_select(1, kept.to(bias.device))

    return select


class _NoHeads(nn.Module):
    """Attention without heads: an empty context, or what W_O makes of it, which is its bias."""

    def __init__(self, projection: nn.Linear | None) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, hidden_states: torch.Tensor, *_: object, **__: object) -> tuple:
        empty = hidden_states[..., :0]
        return (empty if self.projection is None else self.projection(empty)), None


def _remove_mlp(model: PreTrainedModel, layer: Layer) -> None:
    architecture = architecture_of(model)
    nothing = _index(np.zeros(1, dtype=bool))
    layer.module.set_submodule(architecture.mlp_in, prune_linear_layer(layer.mlp_in, nothing))
    output = prune_linear_layer(layer.mlp_out, nothing, dim=1)
    output.bias = None  # type: ignore[assignment]
    layer.module.set_submodule(architecture.mlp_out, output)


def _index(kept: np.ndarray) -> torch.LongTensor:
    return torch.from_numpy(np.flatnonzero(kept))  # type: ignore[return-value]


@torch.no_grad()
def zero_pruned_weights(model: PreTrainedModel, subnetwork: WeightSubnetwork) -> PreTrainedModel:
    """Set the weights outside a subnetwork, which must fit the model, to zero, in place."""
    for parameter, kept in _matched(model, subnetwork):
        parameter.mul_(kept)
    return model


@contextmanager
def pruned_weights_frozen(model: PreTrainedModel, subnetwork: WeightSubnetwork) -> Iterator[None]:
    """Within it, weights outside the subnetwork get no gradient, so they stay zero in training.

    The gradients are masked before they are clipped or reach the optimizer.
    """
    with ExitStack() as hooks:
        for parameter, kept in _matched(model, subnetwork):
            handle = parameter.register_hook(lambda gradient, kept=kept: gradient * kept)
            hooks.callback(handle.remove)
        yield


def _matched(
    model: PreTrainedModel, subnetwork: WeightSubnetwork
) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
    parameters = prunable_weights(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    given = {name: kept.shape for name, kept in subnetwork.weights.items()}
    for name in shapes | given:
        if shapes.get(name) != given.get(name):
            raise LotteryError(
                f"The subnetwork's weights are not those of this model: the shape of {name} is "
                f"{given.get(name, 'missing')} there and {shapes.get(name, 'missing')} here."
            )
    for name, parameter in parameters.items():
        yield parameter, torch.from_numpy(subnetwork.weights[name]).to(parameter.device)
