"""Replaying: a step that a GPU has recorded is one order to it, not one for every operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial

import torch

from lotterylib.gpu import on_gpu

Step = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""What is done with a batch, and what is found out about it."""


@contextmanager
def replayed(step: Step, device: torch.device) -> Iterator[Step]:
    """On a GPU, a step as CUDA graphs: recorded once for each shape of a batch, then replayed.

    On a CPU it is the step itself.

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
                warnings.warn(
                    "There is no memory to record the steps of some batches: they are done one "
                    "operation after another.",
                    stacklevel=2,
                )
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
