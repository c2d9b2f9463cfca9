"""How a ratio is measured: ours and the peer in turns, so that both see the same machine."""

from __future__ import annotations

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
    peer_name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    rounds: int = 3,
    work: float = 1.0,
    at_least: float = 0.0,
    note: str = "",
) -> Row:
    """Time both in turns.

    Args:
        what: the work, for people.
        peer_name: the peer, for people.
        ours: what is timed.
        peer: against what.
        rounds: how often each is timed; one more of ours goes first to warm up.
        work: how many times the peer's amount of work `ours` does.
        at_least: the ratio that we set out to reach.
        note: for people.
    """
    ours()
    times = [(seconds(ours) / work, seconds(peer)) for _ in range(rounds)]
    ratios = [theirs / mine for mine, theirs in times]
    mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return Row(
        what,
        peer_name,
        mine,
        theirs,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        at_least,
        note,
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
