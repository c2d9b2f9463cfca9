"""In which order jobs are computed, and how long that takes on so many processes."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Schedule(Generic[Name]):
    """Jobs of which some need others: none comes before what it needs, and of those that can come
    now the one goes first from which the longest way leads to the end.

    Args:
        needs: of every job, those that it needs; what is not itself a job here is done already.
        seconds: what every job is expected to take.
    """

    def __init__(
        self, needs: Mapping[Name, Collection[Name]], seconds: Mapping[Name, float]
    ) -> None:
        graph = {job: [each for each in needs[job] if each in needs] for job in needs}
        self._needed_by: dict[Name, list[Name]] = defaultdict(list)
        for job, lacks in graph.items():
            for each in lacks:
                self._needed_by[each].append(job)
        self._way: dict[Name, float] = {}  # its seconds with those of all that has to wait for it
        for job in reversed([*TopologicalSorter(graph).static_order()]):
            after = (self._way[each] for each in self._needed_by[job])
            self._way[job] = seconds[job] + max(after, default=0.0)
        self._order = {job: number for number, job in enumerate(needs)}
        self._ready: list[tuple[float, int, Name]] = []
        self._waiting = TopologicalSorter(graph)
        self._waiting.prepare()
        self._add_ready()

    def _add_ready(self) -> None:
        for job in self._waiting.get_ready():
            self.add(job)

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, job: Name) -> None:
        """Let a job that lacks nothing be computed, again if it was taken before."""
        heapq.heappush(self._ready, (-self._way[job], self._order[job], job))

    def take(self) -> Name:
        """The job that comes next; it is not given out again."""
        return heapq.heappop(self._ready)[2]

    def done(self, job: Name) -> None:
        """Note that a job is done: others may lack nothing now."""
        self._waiting.done(job)
        self._add_ready()

    def needing(self, job: Name) -> Iterator[Name]:
        """The jobs that need this one, or need one that does; each once, nearest first."""
        found = dict.fromkeys(self._needed_by[job])
        waiting = list(found)
        for each in waiting:
            fresh = [other for other in self._needed_by[each] if other not in found]
            found |= dict.fromkeys(fresh)
            waiting += fresh
        yield from found


def makespan(
    needs: Mapping[Name, Collection[Name]],
    seconds: Mapping[Name, float],
    processes: int,
    running: Collection[Name] = (),
) -> float:
    """Seconds until all jobs are done.

    Args:
        needs, seconds: as in `Schedule`; of running jobs, the seconds that they have left.
        processes: how many jobs are computed at once.
        running: the jobs that are being computed now.
    """
    schedule = Schedule(needs, seconds)
    busy = [(seconds[job], number, job) for number, job in enumerate(running)]
    heapq.heapify(busy)
    now, count = 0.0, len(busy)
    while busy or schedule:
        while schedule and len(busy) < processes:
            job = schedule.take()
            if job not in running:
                heapq.heappush(busy, (now + seconds[job], count, job))
                count += 1
        if busy:
            now, _, job = heapq.heappop(busy)
            schedule.done(job)
    return now
