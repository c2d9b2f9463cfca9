"""Attention maps of every head, raw or weighted by the length of what each token contributes.

Section 5.2 sorts heads by the pattern of their maps. A raw map holds the softmax weights alpha. A
norm-weighted one holds ||alpha * f(x)|| (Kobayashi et al., 2020), where f(x) is the attended
token's value vector as W_O passes it on: a large weight on a short vector counts for little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from lotterylib.batches import Encoded, reading_batches
from lotterylib.encoder import Layer, layers_of
from lotterylib.errors import LotteryError, unknown

Slices = Literal["columns", "rows"]

_BATCH = 16  # 12 layers of 12 heads at 128 tokens make 151 MB


@torch.no_grad()
def attention_maps(
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    norm_weighted: bool = False,
    slices: Slices = "columns",
) -> torch.Tensor:
    """The maps of every head for one batch, without dropout.

    Within `gates.gated` they are those of a subnetwork: closed gates change what later layers see.
    A closed head still has its map, since the gate acts behind it. The model is left as it was.

    Args:
        model: a model from which no head has been removed, in any attention implementation.
        inputs: what the model is called with; input_ids and attention_mask are [batch, length].
        norm_weighted: multiply each column by the length of f(x) = (x W_V + b_V) W_O of its token,
            W_O being cut to the head's columns. Otherwise every row of a map sums to 1.
        slices: "rows" cuts the head's rows out of W_O instead, as the authors' `model_bert.py`
            does; the heads' contributions then no longer sum to what the attention layer adds.

    Returns:
        float32[batch, layers, heads, length, length]; rows attend to columns. Zero where either
        token is padding.

    Raises:
        LotteryError: heads have been removed, or unknown `slices`.
    """
    if slices not in get_args(Slices):
        raise unknown("slices of W_O", slices, get_args(Slices))
    layers, heads = _layers_with_all_heads(model), model.config.num_attention_heads
    own = inputs["attention_mask"].to(model.device, torch.float32)
    batch, length = own.shape
    maps = own.new_empty(batch, len(layers), heads, length, length)
    with _eager(model), ExitStack() as hooks:
        for number, layer in enumerate(layers):
            triangles = _triangles(layer.output, heads, slices) if norm_weighted else None
            hooks.enter_context(_recorded(layer, maps[:, number], triangles))
        model(**inputs)
    maps *= (own[:, :, None] * own[:, None, :])[:, None, None]
    return maps


def _layers_with_all_heads(model: PreTrainedModel) -> list[Layer]:
    try:
        layers = layers_of(model)
    except AttributeError:  # a layer that lost all its heads has no projections to find
        layers = []
    if not layers or any(layer.output.in_features < layer.output.out_features for layer in layers):
        raise LotteryError(
            "Attention maps need a model with all its heads, but heads have been removed from this "
            "one: close the gates of the whole model with gates.gated instead."
        )
    return layers


def maps_of(
    model: PreTrainedModel,
    encoded: Encoded,
    rows: Sequence[int],
    norm_weighted: bool = False,
    slices: Slices = "columns",
    token_types: bool = True,
) -> list[np.ndarray]:
    """The maps of chosen examples of a split, each cut to its own tokens, as in `attention_maps`.

    Args:
        model, norm_weighted, slices: as for `attention_maps`; gates are for all examples.
        encoded, rows: the split, and which of its examples, in any order.
        token_types: whether the model learns which text of a pair a token belongs to. The authors'
            `head_classification.ipynb` left that out.

    Returns:
        Per row float32[layers, heads, n, n] with its n tokens.
    """
    found: dict[int, np.ndarray] = {}
    for places in reading_batches([encoded.lengths[row] for row in rows], _BATCH):
        inputs, _ = encoded.batch([rows[place] for place in places], model.device)
        if not token_types:
            inputs.pop("token_type_ids", None)
        maps = attention_maps(model, inputs, norm_weighted, slices)
        for place, example in zip(places, maps, strict=True):
            n = encoded.lengths[rows[place]]
            found[place] = example[..., :n, :n].cpu().numpy()
    return [found[place] for place in range(len(rows))]


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Within it, the model evaluates and its attention returns weights, which SDPA never does."""
    implementation, training = model.config._attn_implementation, model.training
    try:
        model.eval().set_attn_implementation("eager")
        yield
    finally:
        model.train(training).set_attn_implementation(implementation)


@contextmanager
def _recorded(layer: Layer, into: torch.Tensor, triangles: torch.Tensor | None) -> Iterator[None]:
    """Within it, the layer writes its maps into float32[batch, heads, length, length].

    Hooks of our own, since those behind transformers' `output_attentions` stay in most models for
    good, and since a layer's maps are then held once only.
    """
    values: list[torch.Tensor] = []

    def ask(_module: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
        return given, {**named, "output_attentions": True}  # MPNet returns weights on demand only

    def keep_values(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        values[:] = [output]

    def keep_maps(_module: nn.Module, _inputs: object, output: tuple) -> None:
        into.copy_(output[1])
        if triangles is not None:
            into.mul_(_contribution_norms(values.pop(), triangles).unsqueeze(-2))

    with ExitStack() as hooks:
        hooks.callback(layer.attention.register_forward_pre_hook(ask, with_kwargs=True).remove)
        hooks.callback(layer.value.register_forward_hook(keep_values).remove)
        hooks.callback(layer.attention.register_forward_hook(keep_maps).remove)
        yield


def _triangles(output: nn.Linear, heads: int, slices: Slices) -> torch.Tensor:
    """The triangle R of each head's slice of W_O = QR: float32[heads, width, width].

    Q keeps lengths, so ||W_O v|| = ||R v||, and no vector of the hidden size is needed. (R^T R is
    the slice's Gram matrix; taking R directly does not square the rounding error.)
    """
    weight = output.weight.float()
    by_head = (weight if slices == "columns" else weight.T).unflatten(1, (heads, -1))
    return torch.linalg.qr(by_head.transpose(0, 1), mode="r").R


def _contribution_norms(values: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """||f(x)|| as float32[batch, heads, length], from W_V's output [batch, length, hidden]."""
    by_head = values.float().unflatten(-1, (len(triangles), -1)).transpose(1, 2)
    return (by_head @ triangles.mT).norm(dim=-1)
