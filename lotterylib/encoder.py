"""BERT's anatomy: the layers of an encoder, the six dense modules of each, and their sizes.

One row of `ARCHITECTURES` per family says which modules of a transformers 5 layer are the ones that
the paper prunes (section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lotterylib.errors import unknown

if TYPE_CHECKING:  # a wrong name is refused at once, without waiting for torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Shape:
    """How many layers and heads there are, and how wide.

    Attributes:
        layers, heads: how many layers, and heads in each.
        hidden, intermediate: widths of the layer and of its MLP.
        total: all parameters of the encoder with its task layer, embeddings included.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    total: int

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    @property
    def head_parameters(self) -> int:
        """Parameters of one head, its rows of W_Q, W_K, W_V with biases and columns of W_O."""
        return self.head_size * (4 * self.hidden + 3)

    @property
    def mlp_parameters(self) -> int:
        """Parameters of one MLP, two dense layers with their biases."""
        return 2 * self.hidden * self.intermediate + self.hidden + self.intermediate

    @property
    def encoder_parameters(self) -> int:
        """Parameters of all dense layers in the encoder, the biases of W_O included."""
        layer = self.heads * self.head_parameters + self.hidden + self.mlp_parameters
        return self.layers * layer


@dataclass(frozen=True)
class Architecture:
    """Where a family keeps the parts that the paper prunes; module paths within one layer.

    Attributes:
        layers: path of the list of layers in the encoder without its task layer.
        attention: the module that splits into heads; all four projections act on its data.
        query, key, value, output: the projections; `output` is W_O.
        mlp_in, mlp_out: the two dense layers of the MLP.
        attention_projects: whether `attention` itself applies `output`.
        heads_share_bias: whether a position bias with one slice per head is handed to `attention`.
        position_padding: the padding's id after which positions are counted, "config" for that of
            the configuration; None if they start at 0.
    """

    layers: str
    attention: str
    query: str
    key: str
    value: str
    output: str
    mlp_in: str
    mlp_out: str
    attention_projects: bool = False
    heads_share_bias: bool = False
    position_padding: int | Literal["config"] | None = None


_BERT = Architecture(
    layers="encoder.layer",
    attention="attention.self",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    mlp_in="intermediate.dense",
    mlp_out="output.dense",
)
_ROBERTA = replace(_BERT, position_padding="config")

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": _BERT,
    "mpnet": Architecture(
        layers="encoder.layer",
        attention="attention.attn",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        output="attention.attn.o",
        mlp_in="intermediate.dense",
        mlp_out="output.dense",
        attention_projects=True,
        heads_share_bias=True,
        position_padding=1,
    ),
    "distilbert": Architecture(
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        mlp_in="ffn.lin1",
        mlp_out="ffn.lin2",
        attention_projects=True,
    ),
}
"""Keyed by `model_type` of the transformers configuration."""

REFUSED: dict[str, str] = {
    "albert": "its layers share one set of weights, so nothing can be pruned from one layer alone",
    "deberta": "query, key and value of all heads are one matrix",
    "deberta-v2": "its heads score positions too, in code that removal and unpadding do not know",
    "modernbert": "query, key and value of all heads are one matrix, and its MLPs have gates",
}
"""Why families that one might ask for have no row in `ARCHITECTURES`."""


def padding_id_of(config: PreTrainedConfig) -> int | None:
    """The id by which the model itself tells padding, None if it tells positions without."""
    padding = ARCHITECTURES[config.model_type].position_padding
    return config.pad_token_id if padding == "config" else padding


def longest_input(config: PreTrainedConfig) -> int:
    """How many tokens the model has positions for."""
    padding = padding_id_of(config)
    return config.max_position_embeddings - (0 if padding is None else padding + 1)


@dataclass(frozen=True)
class Layer:
    """The modules of one layer that the paper prunes; the fields are those of `Architecture`."""

    module: nn.Module
    attention: nn.Module
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    mlp_in: nn.Linear
    mlp_out: nn.Linear


def architecture_of(model: PreTrainedModel) -> Architecture:
    """Where the model keeps its heads and MLPs.

    Raises:
        LotteryError: a family that `ARCHITECTURES` has no row for.
    """
    if model.config.model_type not in ARCHITECTURES:
        raise unknown("type of model", model.config.model_type, ARCHITECTURES)
    return ARCHITECTURES[model.config.model_type]


def stack_of(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of an encoder with a task layer, as they stand in the model."""
    return model.base_model.get_submodule(architecture_of(model).layers)  # type: ignore[return-value]


def layers_of(model: PreTrainedModel) -> list[Layer]:
    """The layers of an encoder with a task layer, first to last."""
    architecture = architecture_of(model)
    names = ("attention", "query", "key", "value", "output", "mlp_in", "mlp_out")
    return [
        Layer(module, *(module.get_submodule(getattr(architecture, name)) for name in names))  # type: ignore[arg-type]
        for module in stack_of(model)
    ]


def shape_of(model: PreTrainedModel) -> Shape:
    """The sizes of a model from which nothing has been removed."""
    first = layers_of(model)
    return Shape(
        layers=len(first),
        heads=model.config.num_attention_heads,
        hidden=first[0].output.out_features,
        intermediate=first[0].mlp_in.out_features,
        total=sum(parameter.numel() for parameter in model.parameters()),
    )


def prunable_weights(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that magnitude pruning ranks, named alike in every architecture.

    They are those of the six dense modules, but for the MLP's last bias. Never pruned are the
    embeddings (section 3.2) and, as in the authors' code, LayerNorm, pooler and task layer
    (`run_glue.py`, lines 128 to 146).

    Returns:
        Parameters by `"<layer>.<module>.<weight or bias>"`, such as `"3.query.weight"`.
    """
    return {
        f"{number}.{module}.{kind}": getattr(getattr(layer, module), kind)
        for number, layer in enumerate(layers_of(model))
        for module in ("query", "key", "value", "output", "mlp_in", "mlp_out")
        for kind in ("weight", "bias")
        if (module, kind) != ("mlp_out", "bias")
    }
