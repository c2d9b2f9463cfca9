"""In which order jobs are computed, how long that takes, and the line that tells of it."""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Generic, TypeVar

from tqdm import tqdm

from lotterylib.finetuning import Progress

Name = TypeVar("Name", bound=Hashable)

_OWN = 0.03  # the share of a run after which its own pace counts as much as the one measured before
_STEADY = 0.05  # what is shown follows what is found within this share of the time left


class Schedule(Generic[Name]):
    """Jobs of which some need others: none comes before what it needs, and of those that can come
    now the one goes first from which the longest way leads to the end.

    Args:
        needs: of every job, those that it needs; what is not itself a job here is done already.
        seconds: what every job is expected to take.
        urgent: those that go first as soon as they can come, since no other needs them and somebody
            waits to see them.
    """

    def __init__(
        self,
        needs: Mapping[Name, Collection[Name]],
        seconds: Mapping[Name, float],
        urgent: Collection[Name] = (),
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
        self._way |= dict.fromkeys(urgent, math.inf)
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


class TimeLeft(Generic[Name]):
    """The seconds that a run has left, from what its jobs are expected to take and what those that
    are done took.

    What is expected may be wrong as a whole (another machine, another load) and for one kind of
    job. Both are corrected, the second the more the more jobs of a kind are done.

    Args:
        needs: as in `Schedule`.
        seconds: what every job is expected to take, greater than 0.
        kinds: of every job, which others are likely to be wrong by the same factor.
        processes: how many jobs are computed at once.
    """

    def __init__(
        self,
        needs: Mapping[Name, Collection[Name]],
        seconds: Mapping[Name, float],
        kinds: Mapping[Name, str],
        processes: int,
    ) -> None:
        self._needs, self._seconds, self._kinds = dict(needs), dict(seconds), kinds
        self._processes = processes
        self._whole, self._done = sum(seconds.values()), 0.0
        self._kind: dict[str, tuple[float, float]] = {}  # what its jobs took, and were expected to
        self._pace = 1.0
        self._shown = makespan(needs, seconds, processes)
        self._at = 0.0

    def done(self, job: Name, took: float | None) -> None:
        """Note that a job is done, and its seconds; None if it was not computed here."""
        del self._needs[job]
        self._done += self._seconds[job]
        if took is not None:
            sums = self._kind.get(self._kinds[job], (0.0, 0.0))
            self._kind[self._kinds[job]] = sums[0] + took, sums[1] + self._seconds[job]
            self._pace = self._usual()

    def share(self, running: Mapping[Name, tuple[float, float]]) -> float:
        """The share of the work that is done, 0 to 1; running jobs as in `left`."""
        done, whole = self._done, self._done + sum(self._seconds[job] for job in self._needs)
        for job, (since, share) in running.items():
            done += self._seconds[job] * (share or since / (since + self.expected(job)))
        return done / whole

    def expected(self, job: Name) -> float:
        """What a job is expected to take, as far as is known now."""
        seconds, (took, told) = self._seconds[job], self._kind.get(self._kinds[job], (0.0, 0.0))
        return seconds * (took + self._pace * seconds) / (told + seconds)

    def _usual(self) -> float:
        """The usual ratio of what jobs took to what was expected: the median over kinds, weighted
        by their seconds, so that one kind that is far off does not count for the others.
        """
        ratios = [(took / told, told) for took, told in self._kind.values()]
        ratios = sorted([*ratios, (1.0, _OWN * self._whole)])
        half = sum(weight for _, weight in ratios) / 2
        for ratio, weight in ratios:
            half -= weight
            if half <= 0:
                return ratio
        return 1.0

    def left(self, running: Mapping[Name, tuple[float, float]], at: float) -> float:
        """The seconds left now.

        Args:
            running: of the jobs that are being computed, for how many seconds, and the share of
                each that is done, 0 if that is not known.
            at: the seconds since the run began.
        """
        seconds = {job: self.expected(job) for job in self._needs}
        for job, (since, share) in running.items():
            # What takes longer than expected is expected to take a little longer still.
            whole = max(seconds[job], 1.1 * since)
            own = (1 - share) * ((1 - share) * whole + since)
            seconds[job] = own if share else whole - since
        found = makespan(self._needs, seconds, self._processes, running.keys())
        passed, self._at = at - self._at, at
        weight = 1 - math.exp(-passed / (_STEADY * found)) if found else 1.0
        self._shown = max(self._shown - passed, 0.0)
        self._shown += weight * (found - self._shown)
        return self._shown


class Board(Generic[Name]):
    """What standard error says of a run: a line for every job that is done, and, on a terminal, a
    bar with the time left, with what is being computed and with what was found last. Elsewhere this
    stands on a line of its own now and then. A context manager.

    Args:
        left: the time left.
        names: of every job, a few words.
    """

    def __init__(self, left: TimeLeft[Name], names: Mapping[Name, str]) -> None:
        self._left, self._names = left, names
        self._running: dict[Name, tuple[float, float]] = {}  # when it began, what share is done
        self._found = ""
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Board[Name]:
        self._began = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {desc}",
            dynamic_ncols=True,
            file=sys.stderr,
            disable=not self._terminal,
        )
        self._ticks.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticks.join()
        self._show()
        self._bar.close()

    def start(self, job: Name) -> Progress:
        """Show that a job is being computed; what is returned moves the bar within it."""
        with self._lock:
            self._running[job] = time.monotonic(), 0.0

        def report(share: float, found: str) -> None:
            with self._lock:
                self._running[job] = self._running[job][0], share
                self._found = found

        return report

    def drop(self, job: Name) -> None:
        """Show that a job is not being computed any more, though it is not done."""
        with self._lock:
            del self._running[job]

    def end(self, job: Name, said: str, took: float | None) -> None:
        """Show that a job is done, or cannot be.

        Args:
            job: which.
            said: what was found, as a line that stays; none if empty.
            took: as in `TimeLeft.done`.
        """
        with self._lock:
            self._running.pop(job, None)
            self._left.done(job, took)
            self._found = said or self._found
        if said:
            seconds = "" if took is None else f" ({took:.0f} s)"
            tqdm.write(f"{self._names[job]}: {said}{seconds}", file=sys.stderr)

    def _tick(self) -> None:
        while not self._over.wait(1 if self._terminal else 30):
            self._show()

    def _show(self) -> None:
        with self._lock:
            now = time.monotonic()
            running = {job: (now - began, share) for job, (began, share) in self._running.items()}
            done = self._left.share(running)
            left = self._left.left(running, now - self._began)
            spans = [tqdm.format_interval(round(span)) for span in (now - self._began, left)]
            text = f"{spans[0]} gone, {spans[1]} left"
            if running:
                first, *more = [self._names[job] for job in running]
                text += f"; now {first}" + (f" and {len(more)} more" if more else "")
            if self._found:
                text += f"; last found {self._found}"
        if self._terminal:
            self._bar.n = done
            self._bar.set_description_str(text)
        else:
            print(f"{done:.0%}: {text}", file=sys.stderr, flush=True)
