"""An encoder taken apart: its layers, the six dense modules of each, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from lotterylib.encoders import ARCHITECTURES, Architecture
from lotterylib.errors import LotteryError
from lotterylib.shape import Shape

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
