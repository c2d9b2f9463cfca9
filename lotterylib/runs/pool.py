"""Processes side by side, which end with the one that started them, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import psutil

from lotterylib.runs.stopping import ENDING, raise_if_stopped

_GRACE = 1.0  # seconds that a process has to tidy up before it is killed


class Alone(AbstractContextManager):
    """In place of `Workers` where there can be none: does each job when it is given."""

    def submit(self, job: Callable[..., Any], *given: object) -> Future:
        """Do a job; the result, or what it raised, is in the future."""
        future: Future = Future()
        try:
            future.set_result(job(*given))
        except Exception as error:
            raise_if_stopped()
            future.set_exception(error)
        return future

    def __exit__(self, *_: object) -> None:
        pass


def why_alone() -> str:
    """Why no processes can work side by side on this machine; empty if they can."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:  # no /dev/shm, or none that can be written to
        return f"this machine has no shared memory ({error.strerror})"
    return ""


class Workers(AbstractContextManager):
    """So many processes, each at one job at a time; they end when this is left, come what may."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._futures: list[Future] = []
        self._begun = tempfile.TemporaryDirectory()
        self._open()

    def _open(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._others = set(multiprocessing.active_children())
        self._processes: set[BaseProcess] = set()
        given = (self._begun.name,)
        self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=given)

    def submit(self, job: Callable[..., Any], *given: object) -> Future:
        """Have a job done in one of the processes; function and arguments must be picklable."""
        with _no_signals():  # a process that is just starting would answer them with a traceback
            number = len(self._futures)
            future = self._pool.submit(_do, self._begun.name, number, job, *given)
            self._processes |= set(multiprocessing.active_children()) - self._others
        self._futures.append(future)
        return future

    def replace(self) -> list[Future]:
        """Go on with fresh processes after a `BrokenProcessPool`.

        Returns:
            The jobs whose process was killed, unless by SIGTERM, as processes end by that too. All
            others that were not done must be submitted again.
        """
        killed = self._stop()  # Python 3.11 would wait for ever for one that was just starting
        self._pool.shutdown()
        notes = [Path(self._begun.name, str(process.pid)) for process in killed]
        jobs = [self._futures[int(note.read_text())] for note in notes if note.is_file()]
        self._open()
        return [job for job in jobs if isinstance(job.exception(), BrokenProcessPool)]

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _where: TracebackType | None
    ) -> None:
        self._stop()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._begun.cleanup()

    def _stop(self) -> list[BaseProcess]:
        """End the processes, after a time by force, and whatever they started; those that somebody
        else had killed are returned.
        """
        started = [each for process in self._processes for each in _started_by(process)]
        for process in self._processes:
            process.terminate()
        until = time.monotonic() + _GRACE
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
        killed = [p for p in self._processes if p.exitcode not in (None, 0, -signal.SIGTERM)]
        for process in (*self._processes, *started):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return killed


def _started_by(process: BaseProcess) -> list[psutil.Process]:
    """Such as the kernels of notebooks, which no signal to the process reaches."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


@contextmanager
def _no_signals() -> Iterator[None]:
    """Within it the signals that end a run have to wait, also in processes that are started."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(scratch: str) -> None:
    """What a process does first."""
    tempfile.tempdir = scratch  # which is deleted even if the process is killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it deals with that
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class _Terminated(BaseException):
    """The process is to end; what it has begun is tidied up on the way out."""


def _do(begun: str, number: int, job: Callable[..., Any], *given: object) -> Any:
    """In a process: note which job it is at, and do it."""
    Path(begun, str(os.getpid())).write_text(str(number))
    ending = False

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal ending
        ending = True
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return job(*given)
    finally:
        if ending:  # whatever became of the exception on its way
            os._exit(0)
        signal.signal(signal.SIGTERM, before)
