"""How a ratio is measured: ours and the peer in turns, so that both see the same machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: the work.
        peer: against whom or what.
        ours_s, peer_s: median seconds for the same amount of work.
        ratio: the median over rounds of peer / ours; above 1 ours is faster.
        low, high: the smallest and the largest ratio of a round.
        at_least: the ratio that we set out to reach, or 0.
        note: what else was measured, such as memory.
    """

    what: str
    peer: str
    ours_s: float
    peer_s: float
    ratio: float
    low: float
    high: float
    at_least: float = 0.0
    note: str = ""


def compare(
    what: str,
    peer: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int = 3,
    work: float = 1.0,
    **more: object,
) -> Row:
    """Time ours, which does `work` times the peer's amount of work, and theirs in turns; one more
    of ours goes first to warm up. `more` are fields of `Row`.
    """
    ours()
    times = [(seconds(ours) / work, seconds(theirs)) for _ in range(rounds)]
    ratios = [other / own for own, other in times]
    mine, others = (statistics.median(column) for column in zip(*times, strict=True))
    middle = statistics.median(ratios)
    return Row(what, peer, mine, others, middle, min(ratios), max(ratios), **more)  # type: ignore[arg-type]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
