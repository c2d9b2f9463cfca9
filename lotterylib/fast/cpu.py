"""Dense layers on a CPU through oneDNN, which uses all the instructions that a processor has.

PyTorch multiplies matrices with MKL, which leaves AVX-512 aside on processors that are not Intel's.
oneDNN does not, and PyTorch carries it too. Products differ in rounding only.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def use_onednn(model: nn.Module) -> None:
    """Let the dense layers of a model multiply through oneDNN where they can, in place.

    Parameters, names and hooks stay what they were. Layers on a GPU, of another type than float32
    or without any columns, and machines without oneDNN, multiply as before.
    """
    if not (torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")):
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _OneDnnLinear


def emulates_bfloat16() -> bool:
    """Whether this processor has no instructions for bfloat16, which is then slower than float32;
    False where PyTorch cannot tell.
    """
    ask = getattr(torch.cpu, "get_capabilities", dict)  # not in every release accepted
    known: Mapping[str, object] = ask()
    found = [has for name, has in known.items() if "bf16" in name]
    return bool(found) and not any(found)


class _OneDnnLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        plain = input.device.type == self.weight.device.type == "cpu" and (
            input.dtype == self.weight.dtype == torch.float32
        )
        if (
            not plain
            or not self.weight.numel()
            or not input.numel()
            or torch.is_autocast_enabled("cpu")
        ):
            return functional.linear(input, self.weight, self.bias)
        return _Product.apply(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        return _multiply(_flat(rows), weight, bias).view(*rows.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        flat, wanted = _flat(gradient), ctx.needs_input_grad
        for_rows = for_weight = for_bias = None
        if wanted[0]:
            for_rows = _multiply(flat, weight.t(), None).view(rows.shape)
        if wanted[1]:  # two transposed factors are slow unless they are laid out anew
            for_weight = _multiply(flat.t().contiguous(), _flat(rows).t().contiguous(), None)
        if wanted[2]:
            for_bias = flat.sum(0)
        return for_rows, for_weight, for_bias


def _flat(rows: torch.Tensor) -> torch.Tensor:
    return rows.reshape(-1, rows.shape[-1])


def _multiply(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Rows @ weight.T + bias, all with two dimensions."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where its C library is glibc.

    Left to itself, that gives large blocks back at once, so the activations of every batch lie in
    pages that the system has to clear first. What a process holds at its peak does not change.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
