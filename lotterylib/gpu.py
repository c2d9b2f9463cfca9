"""What is computed otherwise on a GPU: products in half precision, and steps that wait for nothing.

That is so where the time goes, in training, scoring, importance and ablation.

Weights, gates, losses and the optimizer's state are float32 everywhere (PyTorch's autocast). Cards
that have no bfloat16 take float16, whose small gradients vanish unless they are scaled. On a CPU
nothing of this changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

Step = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""What is done with a batch, and what is found out about it."""

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
    half = half_of(device)
    half = None if half is torch.float16 and not scaled else half
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
    half = half_of(device)
    if half is None or (half is torch.float16 and not scaled):
        return nullcontext()
    return torch.autocast(device.type, half)


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


@contextmanager
def replayed(step: Step, device: torch.device) -> Iterator[Step]:
    """On a GPU, a step as CUDA graphs: recorded once for each shape of a batch, then replayed.

    A replay is a single order to the GPU, while a step is some thousand. On a CPU it is the step.

    Args:
        step: it must change what it changes in place, and may neither wait for the GPU nor depend
            on anything but tensors, which stay where they are, and the batch.
        device: of all of these.
    """
    if not on_gpu(device):
        yield step
        return
    # Neither the recorded steps nor those before may be in the stream that all others are in.
    stream, outer = _stream_of(device), torch.cuda.current_stream(device)
    stream.wait_stream(outer)
    try:
        with torch.cuda.stream(stream):
            yield Replayed(step, partial(record, pool=torch.cuda.graph_pool_handle()))
    finally:
        outer.wait_stream(stream)


@lru_cache  # libraries keep memory of their own for every stream
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class Replayed:
    """A step that is recorded when a shape of batches comes for the second time.

    The first time it is simply done, which also gives libraries and the optimizer the occasion to
    set up what they need. It is simply done, too, where there is no memory for recording it.

    Args:
        step: as in `replayed`.
        record: makes a function that does again what a function does, and gives its result, which
            may be overwritten by whatever is replayed next.
    """

    def __init__(
        self,
        step: Step,
        record: Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]],
    ) -> None:
        self.step, self.record = step, record
        self.seen: set[tuple] = set()
        self.too_large: set[tuple] = set()
        self.recorded: dict[tuple, _Recorded] = {}

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The step's result for a batch; a tensor of its own."""
        shapes = tuple((name, value.shape) for name, value in batch.items())
        if shapes not in self.recorded:
            if shapes not in self.seen or shapes in self.too_large:
                self.seen.add(shapes)
                return self.step(batch)
            own = {name: value.clone() for name, value in batch.items()}
            try:
                self.recorded[shapes] = _Recorded(own, self.record(lambda: self.step(own)))
            except torch.OutOfMemoryError:  # it takes more than the step itself
                self.too_large.add(shapes)
                return self.step(batch)
        recorded = self.recorded[shapes]
        for name, value in batch.items():
            recorded.batch[name].copy_(value)
        return recorded.replay().clone()


@dataclass(frozen=True)
class _Recorded:
    batch: dict[str, torch.Tensor]
    replay: Callable[[], torch.Tensor]


def record(function: Callable[[], torch.Tensor], pool: object) -> Callable[[], torch.Tensor]:
    """A function on a GPU as a CUDA graph in the current stream; recording does nothing yet.

    Graphs of one pool have their memory in common, so only one of them may run at a time.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):  # type: ignore[arg-type]
        found = function()

    def replay() -> torch.Tensor:
        graph.replay()
        return found

    return replay
