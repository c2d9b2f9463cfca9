"""Running: all cells of a plan with progress and time left, then its pages.

A plan is a request (`request`) with encoder and data: experiments, each with the names of the pages
that are wanted of it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

from lotterylib.errors import LotteryError, reason_of
from lotterylib.finetuning import Progress
from lotterylib.runs.cost import amounts_of, work_of
from lotterylib.runs.experiment import Experiment, open_experiment
from lotterylib.runs.jobs import Cell, cells_of, compute, key_of, wave_of
from lotterylib.runs.pattern_counts import classifier
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import RunStore

_FLOP_A_SECOND = 150e9  # of a processor; only the ratio to the second that each cell costs matters

Plan = Sequence[tuple[Experiment, Sequence[str]]]
Work = Sequence[tuple[Experiment, Cell]]


@dataclass(frozen=True)
class Failure:
    """A cell that could not be computed, or a page that could not be rendered.

    Attributes:
        task: whose.
        name: task, seed and cell, or the page, for people.
        reason: what went wrong, in a line.
        itself: False if it failed only because it needs one that did.
    """

    task: str
    name: str
    reason: str
    itself: bool = True


def compute_all(plan: Plan, jobs: int = 0) -> list[Failure]:
    """Compute what the store lacks, saying on standard error what was found and what is left.

    A cell that fails stops none that does not need it.

    Args:
        plan: what is wanted.
        jobs: processes that compute cells at the same time; 0 for one per processor (at most four),
            or a single one where there is a GPU. A single one also shows the progress within a
            cell.

    Returns:
        What failed.
    """
    wanted = {  # what two parts of a run have in common once
        (experiment.store.root, key_of(experiment, cell).path): (experiment, cell)
        for experiment, pages in plan
        for cell in cells_of(experiment.settings, pages)
    }
    cells = list(wanted.values())
    missing = [each for each in cells if not each[0].store.is_whole(key_of(*each))]
    for experiment, _ in plan:
        experiment.store.tidy()
    print(
        f"{len(cells)} cells, {len(cells) - len(missing)} of them in the store already.",
        file=sys.stderr,
    )
    if not missing:
        return []
    effort = sum(_effort(*each) for each in missing)
    jobs = jobs or processes()
    bar_format = "{percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left  {desc}"
    began = time.time()
    with tqdm(total=effort, bar_format=bar_format, mininterval=1.0) as bar:
        if jobs > 1 and len(missing) > 1:
            return _compute_apart(missing, bar, jobs, began)
        return _compute_here(missing, bar, jobs, began)


def _compute_here(missing: Work, bar: tqdm, jobs: int, began: float) -> list[Failure]:
    failures: list[Failure] = []
    if jobs > 1:  # a single cell that is left; sums depend on the number of threads
        torch.set_num_threads(_threads(jobs))
    for experiment, cell in _unclaimed_first(missing):
        experiment.store.failed_since = began
        name = _name(experiment, cell)
        report = _reporter(bar, name, _effort(experiment, cell))
        since = time.monotonic()
        try:
            found = compute(experiment, cell, report)
        except Exception as error:
            failures.append(_failed(experiment, cell, error, bar))
        else:
            seconds = time.monotonic() - since
            bar.write(f"{name}: {found} ({seconds:.0f} s)", file=sys.stderr)
        report(1.0, "")
    return failures


def _reporter(bar: tqdm, name: str, size: float) -> Progress:
    """What moves a bar along by a piece of work of this size, from where it is now."""
    start = bar.n
    bar.set_description_str(name)

    def report(share: float, found: str) -> None:
        bar.set_description_str(f"{name} ({found})" if found else name, refresh=False)
        bar.update(min(start + share * size, bar.total) - bar.n)

    return report


def _unclaimed_first(work: Work) -> Iterator[tuple[Experiment, Cell]]:
    """These in their order, but what another run is making just now at the end, so that runs on one
    store share the work and do not follow each other.
    """
    claimed = []
    for experiment, cell in work:
        if experiment.store.is_claimed(key_of(experiment, cell)):
            claimed.append((experiment, cell))
        else:
            yield experiment, cell
    yield from claimed


def _compute_apart(missing: Work, bar: tqdm, jobs: int, began: float) -> list[Failure]:
    """Wave by wave, so that no process waits for what another computes."""
    failures: list[Failure] = []
    threads = _threads(jobs)  # of fewer jobs too: sums depend on it
    pool = pool_of(jobs)
    # Long before maps are classified, or all processes would wait for the one that trains it.
    for root in {e.store.root for e, cell in missing if cell.stage == "patterns"}:
        pool.submit(_train_classifier, root, threads)
    try:
        for wave in sorted({wave_of(cell) for _, cell in missing}):
            now = [each for each in missing if wave_of(each[1]) == wave]
            now.sort(key=lambda each: -_effort(*each))  # so that no long one comes last
            while now:
                now = _compute_wave(pool, now, bar, threads, began, failures)
                if now:  # the system killed a process, most likely for want of memory
                    if jobs == 1:
                        killed = now.pop(0)
                        error = LotteryError("The process was killed: was there too little memory?")
                        killed[0].store.record_failure(key_of(*killed), error)
                        failures.append(_failed(*killed, error, bar))
                    jobs = max(1, jobs // 2)
                    bar.write(f"A process was killed; going on with {jobs}.", file=sys.stderr)
                    pool.shutdown()
                    pool = pool_of(jobs)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return failures


def _compute_wave(
    pool: ProcessPoolExecutor,
    work: Work,
    bar: tqdm,
    threads: int,
    began: float,
    failures: list[Failure],
) -> list[tuple[Experiment, Cell]]:
    """Compute these side by side, and return what is left if a process was killed."""
    left = list(work)
    for wait in (False, True):  # what another run is making just now comes last
        try:
            running = {
                pool.submit(_compute_one, e.settings, cell, threads, began, wait): (e, cell)
                for e, cell in left
            }
        except BrokenProcessPool:
            return left
        for job in as_completed(running):
            experiment, cell = running[job]
            try:
                found = job.result()
            except BrokenProcessPool:
                continue
            except Exception as error:
                failures.append(_failed(experiment, cell, error, bar))
            else:
                if found is None:
                    left.append(left.pop(left.index((experiment, cell))))
                    continue
                bar.write(f"{_name(experiment, cell)}: {found}", file=sys.stderr)
            left.remove((experiment, cell))
            bar.update(min(_effort(experiment, cell), bar.total - bar.n))
            bar.set_description_str(f"{len(left)} more before the next stage")
    return left


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def pool_of(jobs: int) -> ProcessPoolExecutor:
    """So many processes, which end with this one however it ends."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed: nobody would ever stop it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _compute_one(
    settings: Settings, cell: Cell, threads: int, failed_since: float, wait: bool
) -> str | None:
    """Compute a cell and say what was found; None if another run is at it, unless to wait."""
    torch.set_num_threads(threads)
    since = time.monotonic()
    experiment = opened(settings)
    experiment.store.failed_since = failed_since
    if not wait and experiment.store.is_claimed(key_of(experiment, cell)):
        return None
    found = compute(experiment, cell)
    return f"{found} ({time.monotonic() - since:.0f} s)"


def _train_classifier(root: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    classifier(RunStore(root))


def _failed(experiment: Experiment, cell: Cell, error: Exception, bar: tqdm) -> Failure:
    # The store knows of a failure what failed itself, not what needs it.
    itself = bool(experiment.store.failure(key_of(experiment, cell)))
    failure = Failure(experiment.task.name, _name(experiment, cell), reason_of(error), itself)
    if itself:
        bar.write(f"{failure.name}: FAILED: {failure.reason}", file=sys.stderr)
    return failure


@lru_cache(maxsize=4)
def opened(settings: Settings) -> Experiment:
    """The experiment of these settings, opened once per process."""
    return open_experiment(settings)


def _effort(experiment: Experiment, cell: Cell) -> float:
    """Roughly the seconds: billions of operations, and a second for what every cell needs."""
    return 1 + work_of(cell, amounts_of(experiment)).flop / _FLOP_A_SECOND


def _name(experiment: Experiment, cell: Cell) -> str:
    return f"{experiment.task.title}, seed {cell.seed}: {cell.label}"


def without_failures(plan: Plan, failures: Sequence[Failure]) -> Plan:
    """The part of a plan whose tasks have none."""
    failed = {failure.task for failure in failures}
    return [each for each in plan if each[0].task.name not in failed]


def processes() -> int:
    """How many processes to run at once; each takes a processor, or the GPU, and 1 or 2 GB."""
    return 1 if torch.cuda.is_available() else max(1, min(4, os.cpu_count() or 1))
