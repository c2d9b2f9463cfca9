"""An encoder taken apart: its layers, the six dense modules of each, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from lotterylib.encoders import ARCHITECTURES, Architecture
from lotterylib.errors import LotteryError

PRUNED_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("query", "weight"),
    ("query", "bias"),
    ("key", "weight"),
    ("key", "bias"),
    ("value", "weight"),
    ("value", "bias"),
    ("output", "weight"),
    ("output", "bias"),
    ("mlp_in", "weight"),
    ("mlp_in", "bias"),
    ("mlp_out", "weight"),
)
"""What magnitude pruning ranks in each layer; the MLP's last bias is not among it (authors'
`run_glue.py`)."""


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


@dataclass(frozen=True)
class Shape:
    """The sizes that turn a count of heads and MLPs into a share of weights.

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
        """Parameters of one head: its rows of W_Q, W_K, W_V with biases, its columns of W_O."""
        return self.head_size * (4 * self.hidden + 3)

    @property
    def mlp_parameters(self) -> int:
        """Parameters of one MLP: two dense layers with their biases."""
        return 2 * self.hidden * self.intermediate + self.hidden + self.intermediate

    @property
    def encoder_parameters(self) -> int:
        """Parameters of all dense layers in the encoder, the biases of W_O included."""
        layer = self.heads * self.head_parameters + self.hidden + self.mlp_parameters
        return self.layers * layer


def architecture_of(model: PreTrainedModel) -> Architecture:
    """Where the model keeps its heads and MLPs.

    Raises:
        LotteryError: a family that `ARCHITECTURES` has no row for.
    """
    if model.config.model_type not in ARCHITECTURES:
        raise LotteryError(f"Models of type {model.config.model_type!r} cannot be pruned here.")
    return ARCHITECTURES[model.config.model_type]


def layers_of(model: PreTrainedModel) -> list[Layer]:
    """The layers of an encoder with a task layer, first to last."""
    architecture = architecture_of(model)
    names = ("attention", "query", "key", "value", "output", "mlp_in", "mlp_out")
    modules = model.base_model.get_submodule(architecture.layers)
    return [
        Layer(module, *(module.get_submodule(getattr(architecture, name)) for name in names))  # type: ignore[arg-type]
        for module in modules.children()
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

    Returns:
        `{"<layer>.<module>.<weight or bias>": parameter}`, such as `"3.query.weight"`, in a fixed
        order (authors' `run_glue.py`, lines 128 to 146).
    """
    return {
        f"{number}.{module}.{kind}": getattr(getattr(layer, module), kind)
        for number, layer in enumerate(layers_of(model))
        for module, kind in PRUNED_PARAMETERS
    }
