"""Running: all jobs of a plan, several at once, and what is made of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lotterylib.errors import LotteryError, reason_of
from lotterylib.finetuning import Progress, silent
from lotterylib.runs.experiment import Experiment, open_experiment
from lotterylib.runs.jobs import Job, Piece, Plan, compute, key_of, lacking, pieces_of
from lotterylib.runs.plan import Pace, Standing, describe, measure, seconds_left
from lotterylib.runs.pool import Alone, Workers, why_alone
from lotterylib.runs.schedule import Board, Schedule, TimeLeft
from lotterylib.runs.settings import Settings
from lotterylib.runs.stopping import raise_if_stopped


@dataclass(frozen=True)
class Failure:
    """A job that could not be computed, or a page that could not be rendered."""

    place: Path
    name: str
    reason: str
    itself: bool = True
    """False if it failed only because it needs one that did."""


@dataclass(frozen=True)
class FollowUp:
    """What is made of finished jobs as soon as all that it needs is there: a page.

    Attributes:
        needs: the places in the store of the jobs that it shows.
        begin: called in this process just before; what it raises is the failure.
        make: called in one of the processes with `given`, all of it picklable; gives what is said.
        seconds: what it is expected to take.
    """

    name: str
    needs: Collection[Path]
    begin: Callable[[], object]
    make: Callable[..., str]
    given: tuple[Any, ...]
    seconds: float


def compute_pieces(
    pieces: Mapping[Path, Piece], jobs: int = 0, then: Mapping[Path, FollowUp] | None = None
) -> list[Failure]:
    """Compute what the store lacks, and return what failed; standard error tells how it goes.

    A job that fails stops none that does not need it.

    Args:
        pieces: what is wanted, by its place in the store.
        jobs: processes that compute jobs at the same time; 0 for one per processor (at most four),
            or a single one where there is a GPU.
        then: what follows them, by its own place.
    """
    first = next(iter(pieces.values())).experiment
    first.store.tidy()
    missing = lacking(pieces)
    jobs, reason = jobs or processes(), why_alone()
    if jobs > 1 and reason:
        print(f"One process instead of {jobs}: {reason}.", file=sys.stderr)
        jobs = 1
    use_threads(first.settings, jobs)
    found = {
        place: Standing(piece, "missing" if place in missing else "done")
        for place, piece in pieces.items()
    }
    seconds = seconds_left(found, measure(first) if missing else Pace())
    print(describe(found, seconds, jobs), file=sys.stderr)
    if not missing and not then:
        return []
    run = _Run(missing, then or {}, seconds, jobs)
    # A kernel that runs here would keep the board from being seen, and signals from being answered.
    alone = bool(reason) or (not then and (jobs == 1 or len(missing) == 1))
    try:
        run.compute(alone)
    finally:  # what was begun by a process that was killed
        first.store.tidy()
    return run.failures


class _Run:
    """The jobs that the store lacks and what follows them, so many at once, and their failures."""

    def __init__(
        self,
        pieces: Mapping[Path, Piece],
        then: Mapping[Path, FollowUp],
        seconds: Mapping[Path, float],
        jobs: int,
    ) -> None:
        both: dict[Path, Piece | FollowUp] = {**pieces, **then}
        needs = {place: each.needs for place, each in both.items()}
        seconds = {**seconds, **{place: each.seconds for place, each in then.items()}}
        self.names = {place: each.name for place, each in both.items()}
        self.pieces, self.then, self.jobs = pieces, then, jobs
        self.failures: list[Failure] = []
        # Only pages need the baselines, and the first pages wait for nothing else that is late.
        baselines = [p for p, piece in pieces.items() if then and piece.job.stage == "baseline"]
        self.schedule = Schedule(needs, seconds, urgent=[*baselines, *then])
        self.board = Board(TimeLeft(needs, seconds, jobs), self.names)
        self._running: dict[Future, Path] = {}

    def compute(self, alone: bool) -> None:
        """Do each as soon as what it needs is done and a process is free; alone, in this one."""
        with self.board, Alone() if alone else Workers(self.jobs) as workers:
            while self.schedule or self._running:
                raise_if_stopped()
                self._fill(workers)
                if not self._running:  # other runs are at all that could be computed
                    time.sleep(0.2)
                ended, _ = wait(self._running, 0.5, FIRST_COMPLETED)
                if any(isinstance(future.exception(), BrokenProcessPool) for future in ended):
                    self._go_on(workers)
                    continue
                for future in ended:
                    self._settle(self._running.pop(future), future)

    def _fill(self, workers: Alone | Workers) -> None:
        """Give every process something to do, as far as there is anything."""
        while len(self._running) < self.jobs and (place := self._next()) is not None:
            try:
                if place in self.then:
                    self.then[place].begin()
                future = self._submit(workers, place)
            except BrokenProcessPool:  # while it had nothing to do, or just now
                self._give_back(place)
                if not self._running:
                    self._go_on(workers)
                return
            except (LotteryError, OSError) as error:  # the place of a page cannot be taken
                self._fail(place, error)
            else:
                self._running[future] = place

    def _submit(self, workers: Alone | Workers, place: Path) -> Future:
        show = self.board.start(place)
        if place in self.then:
            return workers.submit(_timed, self.then[place].make, *self.then[place].given)
        experiment, job = self.pieces[place].experiment, self.pieces[place].job
        if isinstance(workers, Alone):
            return workers.submit(_compute, experiment, job, show)
        return workers.submit(_compute_apart, experiment.settings, job, self.jobs)

    def _next(self) -> Path | None:
        """The next job that no other run is making just now; None if there is none."""
        claimed: list[Path] = []
        found = None
        while self.schedule and found is None:
            place = self.schedule.take()
            piece = self.pieces.get(place)
            if piece is not None and piece.experiment.store.is_claimed(piece.key):
                claimed.append(place)
            else:
                found = place
        for place in claimed:
            self.schedule.add(place)
        return found

    def _give_back(self, place: Path) -> None:
        self.board.drop(place)
        self.schedule.add(place)

    def _settle(self, place: Path, future: Future) -> None:
        if error := future.exception():
            self._fail(place, error)
        else:
            self.schedule.done(place)
            self.board.end(place, *future.result())

    def _go_on(self, workers: Alone | Workers) -> None:
        """After a process was killed, and the others with it."""
        assert isinstance(workers, Workers)
        killed = workers.replace()
        for future, place in self._running.items():
            if future in killed:
                error = LotteryError("The process was killed: was there too little memory?")
                if piece := self.pieces.get(place):
                    piece.experiment.store.record_failure(piece.key, error)
                self._fail(place, error)
            elif isinstance(future.exception(), BrokenProcessPool):
                self._give_back(place)
            else:
                self._settle(place, future)
        self._running.clear()

    def _fail(self, place: Path, error: BaseException) -> None:
        """Give up a job, and those that need it."""
        reason = reason_of(error)
        self.failures.append(Failure(place, self.names[place], reason))
        self.board.end(place, f"FAILED: {reason}", None)
        if piece := self.pieces.get(place):
            why = f"It needs {piece.job.label}, seed {piece.job.seed}, which failed: {reason}"
        lost = {failure.place for failure in self.failures}
        for each in self.schedule.needing(place):
            if each not in lost:
                self.failures.append(Failure(each, self.names[each], why, itself=False))
                self.board.end(each, "", None)


def _timed(make: Callable[..., str], *given: object) -> tuple[str, float]:
    """What a follow-up says, and its seconds."""
    since = time.monotonic()
    return make(*given), time.monotonic() - since


def _compute(experiment: Experiment, job: Job, show: Progress = silent) -> tuple[str, float | None]:
    """Compute a job: what was found, and its seconds; None if another run had done it."""

    def report(share: float, found: str) -> None:
        raise_if_stopped()
        show(share, found)

    there = experiment.store.has(key_of(experiment, job))
    found, seconds = _timed(compute, experiment, job, report)
    return found, None if there else seconds


def _compute_apart(settings: Settings, job: Job, jobs: int) -> tuple[str, float | None]:
    """In a process of its own, one of so many."""
    use_threads(settings, jobs)
    return _compute(_opened(settings), job)


_opened = lru_cache(maxsize=4)(open_experiment)


def without_failures(
    plan: Plan, failures: Sequence[Failure]
) -> tuple[list[tuple[Experiment, Sequence[str]]], list[str]]:
    """The pages of a plan that need no job that failed, and a line for each other: why not."""
    failed = {failure.place: failure for failure in failures}
    rest: list[tuple[Experiment, Sequence[str]]] = []
    told = []
    for experiment, pages in plan:
        kept = []
        for page in pages:
            lost = [failed[place] for place in pieces_of([(experiment, [page])]) if place in failed]
            if not lost:
                kept.append(page)
                continue
            first = max(lost, key=lambda failure: failure.itself)
            told.append(
                f"{experiment.task.title}: no page {page}, since it needs what failed "
                f"({first.name}: {first.reason or 'left out'})"
            )
        if kept:
            rest.append((experiment, kept))
    return rest, told


def processes() -> int:
    """How many processes to run at once; each takes a processor, or the GPU, and 1 or 2 GB."""
    return 1 if torch.cuda.is_available() else min(4, _processors())


def use_threads(settings: Settings, processes: int) -> None:
    """Let PyTorch take the threads that each of so many processes has; sums depend on it."""
    if settings.threads or processes > 1:
        torch.set_num_threads(settings.threads or max(1, _processors() // processes))


def _processors() -> int:
    """How many processors this process may use: a cluster may lend it a part of the machine's."""
    allowed = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(allowed(0)) if allowed else os.cpu_count() or 1
