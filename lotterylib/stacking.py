"""Models of one shape side by side, as one, for GPUs.

A small batch should keep a GPU busy for less time than the processor needs to order its operations.
Stacked, several models cost as many operations as one: their examples make one batch, and each
dense layer multiplies every model's share of it by that model's own weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from lotterylib.anatomy import architecture_of
from lotterylib.errors import LotteryError


def stack(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """One model whose batch is that of several models, one after the other.

    From then on they and it have their weights in common, so whoever trains it trains them.

    Args:
        models: of one shape, from which nothing has been removed. Their parameters become views of
            the stacked model's, which have one more dimension, the models, in front.

    Returns:
        A model for inputs int64[models x examples, length], equally many of each model.

    Raises:
        LotteryError: a family that cannot be stacked (MPNet, whose examples share a bias).
    """
    first = models[0]
    if architecture_of(first).heads_share_bias:
        raise LotteryError(
            f"Models of type {first.config.model_type!r} cannot be trained together: the bias of "
            "their attention is one for all examples."
        )
    stacked = copy.deepcopy(first)
    batch = _Batch()
    for name, module in first.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        own = [model.get_submodule(name) for model in models]
        stacked.set_submodule(name, _stacked(own, batch))
    for model in models:
        shapes = {name: value.shape for name, value in model.named_parameters()}
        if shapes != {name: value.shape[1:] for name, value in stacked.named_parameters()}:
            raise LotteryError("Models of different shapes cannot be trained together.")
    for number, model in enumerate(models):
        for parameter, all_of_them in zip(model.parameters(), stacked.parameters(), strict=True):
            parameter.data = all_of_them.data[number]
    stacked.register_forward_pre_hook(batch.begin, with_kwargs=True)
    return stacked


class _Batch:
    """The batch that is on its way.

    Attributes:
        examples: of all models together.
    """

    examples = 0

    def begin(self, _module: nn.Module, _given: tuple, named: dict) -> None:
        self.examples = len(named["input_ids"])


def _stacked(modules: Sequence[nn.Module], batch: _Batch) -> nn.Module:
    first = modules[0]
    if isinstance(first, nn.Linear):
        return _Dense(modules)
    if isinstance(first, nn.LayerNorm):
        return _Norm(modules, first.eps)
    if isinstance(first, nn.Embedding):
        return _Table(modules, batch)
    raise LotteryError(f"Layers of type {type(first).__name__} cannot be trained together.")


class _Stacked(nn.Module):
    """Weights and biases of several layers, float[models, ...]."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        for name, _ in modules[0].named_parameters(recurse=False):
            values = torch.stack([module.get_parameter(name).detach() for module in modules])
            self.register_parameter(name, nn.Parameter(values))

    def apart(self, rows: torch.Tensor) -> torch.Tensor:
        """[models x examples, ...] as [models, examples, ...]."""
        return rows.unflatten(0, (len(self.get_parameter("weight")), -1))


class _Dense(_Stacked):
    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__(modules)
        self.out_features, self.in_features = self.get_parameter("weight").shape[1:]
        self.has_bias = "bias" in self._parameters

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        flat = self.apart(rows).flatten(1, -2)
        weight = self.get_parameter("weight").mT
        if self.has_bias:
            products = torch.baddbmm(self.get_parameter("bias").unsqueeze(1), flat, weight)
        else:
            products = torch.bmm(flat, weight)
        return products.view(*rows.shape[:-1], self.out_features)


class _Norm(_Stacked):
    def __init__(self, modules: Sequence[nn.Module], eps: float) -> None:
        super().__init__(modules)
        self.eps = eps

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        weight, bias = self.get_parameter("weight"), self.get_parameter("bias")
        plain = functional.layer_norm(rows, rows.shape[-1:], eps=self.eps)
        flat = self.apart(plain).flatten(1, -2)
        return torch.addcmul(bias.unsqueeze(1), flat, weight.unsqueeze(1)).view(rows.shape)


class _Table(_Stacked):
    """Embeddings. Padding has no gradient here either: nothing that is scored looks at it."""

    def __init__(self, modules: Sequence[nn.Module], batch: _Batch) -> None:
        super().__init__(modules)
        self.batch = batch

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if len(ids) != self.batch.examples:  # positions, the same in all examples
            ids = ids.expand(self.batch.examples, -1)
        weight = self.get_parameter("weight")
        models, words = weight.shape[:2]
        first = torch.arange(0, models * words, words, device=ids.device)
        rows = (self.apart(ids) + first[:, None, None]).flatten(0, 1)
        return functional.embedding(rows, weight.flatten(0, 1))
