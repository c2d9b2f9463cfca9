"""In which order jobs are computed, how long that takes, and the line that tells of it."""

from __future__ import annotations

import heapq
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from tqdm import tqdm

from lotterylib.finetuning import Progress

_OWN = 0.03  # the share of a run after which its own pace counts as much as the one measured before

Needs = Mapping[Path, Collection[Path]]
"""Of every job, those that it needs; what is not itself a job here is done already."""

Seconds = Mapping[Path, float]
"""What every job is expected to take."""

Running = Mapping[Path, tuple[float, float]]
"""Of the jobs that are being computed, for how many seconds, and the share of each that is done, 0
if that is not known."""


class Schedule:
    """Jobs of which some need others: none comes before what it needs, and of those that can come
    now the one goes first from which the longest way leads to the end.

    Args:
        needs, seconds: of every job.
        urgent: those that go first as soon as they can come, as somebody waits to see what follows.
    """

    def __init__(self, needs: Needs, seconds: Seconds, urgent: Collection[Path] = ()) -> None:
        graph = {job: [each for each in needs[job] if each in needs] for job in needs}
        self._needed_by: dict[Path, list[Path]] = defaultdict(list)
        for job, lacks in graph.items():
            for each in lacks:
                self._needed_by[each].append(job)
        self.ways: dict[Path, float] = {}  # its seconds with those of all that has to wait for it
        for job in reversed([*TopologicalSorter(graph).static_order()]):
            after = (self.ways[each] for each in self._needed_by[job])
            self.ways[job] = seconds[job] + max(after, default=0.0)
        self.ways |= dict.fromkeys(urgent, math.inf)
        self._order = {job: number for number, job in enumerate(needs)}
        self._ready: list[tuple[float, int, Path]] = []
        self._waiting = TopologicalSorter(graph)
        self._waiting.prepare()
        self._add_ready()

    def _add_ready(self) -> None:
        for job in self._waiting.get_ready():
            self.add(job)

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, job: Path) -> None:
        """Let a job that lacks nothing be computed, again if it was taken before."""
        heapq.heappush(self._ready, (-self.ways[job], self._order[job], job))

    def take(self) -> Path:
        """The job that comes next; it is not given out again."""
        return heapq.heappop(self._ready)[2]

    def done(self, job: Path) -> None:
        """Note that a job is done: others may lack nothing now."""
        self._waiting.done(job)
        self._add_ready()

    def needing(self, job: Path) -> list[Path]:
        """The jobs that need this one, or need one that does; each once, nearest first."""
        found = [job]
        for each in found:  # which grows on the way
            found += [other for other in self._needed_by[each] if other not in found]
        return found[1:]


def makespan(needs: Needs, seconds: Seconds, processes: int) -> float:
    """Seconds until all jobs are done, so many at once: as long as the longest way, or as their sum
    shared out evenly. The order of `Schedule` comes close to that.
    """
    longest = max(Schedule(needs, seconds).ways.values(), default=0.0)
    return max(longest, sum(seconds[job] for job in needs) / processes)


class TimeLeft:
    """The seconds that a run has left, from what its jobs are expected to take, corrected by what
    those that are done took, since this may be another machine or another load.

    Args:
        needs, seconds: of every job; no job takes no time.
        processes: how many jobs are computed at once.
    """

    def __init__(self, needs: Needs, seconds: Seconds, processes: int) -> None:
        self._needs, self._seconds, self._processes = dict(needs), seconds, processes
        self._took = self._expected = _OWN * sum(seconds.values())

    def done(self, job: Path, took: float | None) -> None:
        """Note that a job is done, and its seconds; None if it was not computed here."""
        del self._needs[job]
        if took is not None:
            self._took += took
            self._expected += self._seconds[job]

    def left(self, running: Running) -> float:
        """The seconds left now."""
        pace = self._took / self._expected
        seconds = {job: pace * self._seconds[job] for job in self._needs}
        for job, (since, share) in running.items():
            # What takes longer than expected is expected to take a little longer still.
            whole = max(seconds[job], 1.1 * since)
            own = (1 - share) * ((1 - share) * whole + since)
            seconds[job] = own if share else whole - since
        return makespan(self._needs, seconds, self._processes)


class Board:
    """What standard error says of a run: a line for every job that is done, and, on a terminal, a
    bar with the time left, with what is being computed and with what was found last. Elsewhere this
    stands on a line of its own now and then. A context manager.
    """

    def __init__(self, left: TimeLeft, names: Mapping[Path, str]) -> None:
        self._left, self._names = left, names
        self._running: dict[Path, tuple[float, float]] = {}  # when it began, what share is done
        self._found = ""
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Board:
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

    def start(self, job: Path) -> Progress:
        """Show that a job is being computed; what is returned moves the bar within it."""
        with self._lock:
            self._running[job] = time.monotonic(), 0.0

        def report(share: float, found: str) -> None:
            with self._lock:
                self._running[job] = self._running[job][0], share
                self._found = found

        return report

    def drop(self, job: Path) -> None:
        """Show that a job is not being computed any more, though it is not done."""
        with self._lock:
            del self._running[job]

    def end(self, job: Path, said: str, took: float | None) -> None:
        """Show that a job is done, or cannot be, and what was found, as a line that stays."""
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
            gone = now - self._began
            left = self._left.left(
                {job: (now - began, share) for job, (began, share) in self._running.items()}
            )
            spans = [tqdm.format_interval(round(span)) for span in (gone, left)]
            text = f"{spans[0]} gone, {spans[1]} left"
            if self._running:
                first, *more = [self._names[job] for job in self._running]
                text += f"; now {first}" + (f" and {len(more)} more" if more else "")
            if self._found:
                text += f"; last found {self._found}"
        done = gone / (gone + left) if left else 1.0
        if self._terminal:
            self._bar.n = done
            self._bar.set_description_str(text)
        else:
            print(f"{done:.0%}: {text}", file=sys.stderr, flush=True)
