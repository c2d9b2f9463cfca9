"""What is computed otherwise on a GPU: products in half precision, and steps that wait for nothing.

That is so where the time goes, in training, scoring, importance and ablation.

Weights, gates, losses and the optimizer's state are float32 everywhere (PyTorch's autocast). Cards
that have no bfloat16 compute in float32. On a CPU nothing of this changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lotterylib.errors import LotteryError

_NAME = "lottery_unchecked_masks"
FETCH_INTERVAL = 50
"""After how many steps on a GPU the losses are fetched, for which it has to be waited for."""

Precision = Literal["auto", "float32", "bfloat16"]
"""What products are computed in. "auto" is bfloat16 on a GPU that has it, else float32; the other
two hold everywhere."""


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        LotteryError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise LotteryError(
            f"There is no device {name!r} here: accepted are auto, cpu"
            + (f" and cuda:0 to cuda:{count - 1}." if (count := torch.cuda.device_count()) else ".")
        ) from None
    return device


def on_gpu(device: torch.device) -> bool:
    """Whether a device computes on while the processor does something else."""
    return device.type == "cuda"


def name_of(device: torch.device) -> str:
    """The GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if on_gpu(device) else "CPU"


def computed_on(device: torch.device, precision: Precision) -> str:
    """The device's name, with the type of its products where that is not float32."""
    half = half_on(device, precision)
    return name_of(device) if half is None else f"{name_of(device)}, {half}".replace("torch.", "")


def set_precision(model: PreTrainedModel, precision: Precision) -> PreTrainedModel:
    """Let a model multiply in a type from now on, in place; its weights stay float32."""
    model.precision = precision  # type: ignore[assignment]
    return model


def half_of(model: PreTrainedModel) -> torch.dtype | None:
    """The half-precision type that a model's passes multiply in; None for float32."""
    return half_on(model.device, getattr(model, "precision", "auto"))


def half_on(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """The half-precision type of a device under a precision; None for float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else None
    if device.type != "cuda":
        return None
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else None


def autocast(model: PreTrainedModel) -> AbstractContextManager:
    """Within it, the model's passes multiply in its half-precision type."""
    half = half_of(model)
    return nullcontext() if half is None else torch.autocast(model.device.type, half)


@contextmanager
def without_sync(model: PreTrainedModel) -> Iterator[None]:
    """Within it, a model on a GPU does not look whether a batch has any padding.

    Looking would spare the mask now and then, but the processor would have to wait for all that the
    GPU has been told to do, at every batch.
    """
    before = model.config._attn_implementation
    if on_gpu(model.device) and before == "sdpa":
        AttentionInterface.register(_NAME, sdpa_attention_forward)
        AttentionMaskInterface.register(_NAME, _mask)
        model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _mask(*given: object, **named: object) -> torch.Tensor | None:
    return sdpa_mask(*given, **(named | {"allow_is_bidirectional_skip": False}))  # type: ignore[arg-type]
