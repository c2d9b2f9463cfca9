"""What is computed otherwise on a GPU: products in half precision, and steps that wait for nothing.

That is so where the time goes, in training, scoring, importance and ablation.

Weights, gates, losses and the optimizer's state are float32 everywhere (PyTorch's autocast). Cards
that have no bfloat16 take float16, whose small gradients vanish unless they are scaled. On a CPU
nothing of this changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "lottery_unchecked_masks"
_LOOK_AFTER = 50


def on_gpu(device: torch.device) -> bool:
    """Whether a device computes on while the processor does something else."""
    return device.type == "cuda"


def name_of(device: torch.device) -> str:
    """The GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if on_gpu(device) else "CPU"


def computed_on(device: torch.device, scaled: bool = True) -> str:
    """The device's name, with the type of its products where that is not float32.

    Args:
        device: of the model.
        scaled: as in `autocast`.
    """
    half = _half_of(device, scaled)
    return name_of(device) if half is None else f"{name_of(device)}, {half}".replace("torch.", "")


def looks_after(device: torch.device) -> int:
    """After how many steps the losses are fetched; each time, a GPU has to be waited for."""
    return _LOOK_AFTER if on_gpu(device) else 1


def half_of(device: torch.device) -> torch.dtype | None:
    """The half-precision type that a pass on this device multiplies in; None for float32."""
    if device.type != "cuda":
        return None
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def autocast(device: torch.device, scaled: bool = True) -> AbstractContextManager:
    """Within it, passes on this device multiply in its half-precision type.

    Args:
        device: of the model.
        scaled: whether the gradients, if any are taken, come from a `gradient_scaler`; where none
            does and float16 would be the type, everything stays float32.
    """
    half = _half_of(device, scaled)
    return nullcontext() if half is None else torch.autocast(device.type, half)


def _half_of(device: torch.device, scaled: bool) -> torch.dtype | None:
    half = half_of(device)
    return None if half is torch.float16 and not scaled else half


def gradient_scaler(device: torch.device) -> torch.amp.GradScaler:
    """What keeps float16's gradients from vanishing; it does nothing for other types.

    It leaves out a step whose gradients overflow. Trainings here are short, so it starts with a
    smaller scale than PyTorch's, which would leave out the first few.
    """
    return torch.amp.GradScaler(
        device.type, init_scale=2.0**10, enabled=half_of(device) is torch.float16
    )


def without_waiting(model: PreTrainedModel) -> AbstractContextManager:
    """Within it, a model on a GPU does not look whether a batch has any padding.

    Looking would spare the mask now and then, but the processor would have to wait for all that the
    GPU has been told to do, at every batch.
    """
    return _unchecked_masks(model) if on_gpu(model.device) else nullcontext()


@contextmanager
def _unchecked_masks(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    if before != "sdpa":
        yield
        return
    AttentionInterface.register(_NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(_NAME, _mask)
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _mask(*given: object, **named: object) -> torch.Tensor | None:
    return sdpa_mask(*given, **(named | {"allow_is_bidirectional_skip": False}))  # type: ignore[arg-type]
