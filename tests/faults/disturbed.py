"""`lottery` in processes of its own, which a test can kill, starve or shut out.

A process is forked from one that has imported everything, so that a run takes seconds; its workers
are forked likewise. Texts are few and the classifier of attention maps has next to nothing to
learn. All else is what a user runs.
"""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.stores import artefacts, stage_of, whole

FORKED = pytest.mark.skipif(
    not sys.platform.startswith("linux") or torch.cuda.is_available(),
    reason="needs processes that can be forked, on Linux without a GPU",
)
REQUEST = ("run", "acceptability", "--encoder", "tiny", "--budget", "smoke", "--seeds", "3,1")
REQUEST += ("--train-rows", "16", "--dev-rows", "16", "--no-pages")
_context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
_context.set_forkserver_preload(["lotterylib.runs.run", "lotterylib.runs.experiment"])


class Run:
    """A `lottery` command in a process group of its own.

    Attributes:
        pid: of the process, and of its group.
    """

    def __init__(self, *arguments, prepare=None, said=None):
        self._said = said
        begun = _context.Event()
        task = (list(map(str, arguments)), prepare, said, begun)
        self._process = _context.Process(target=_work, args=task)
        self._process.start()
        assert begun.wait(60)
        self.pid = self._process.pid

    def wait(self, seconds=None):
        """The exit status, negative for a signal; None if the process has not ended by then."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self):
        """Kill the process and all of its workers."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.join()

    def workers(self):
        """The processes that it has started."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            commands = {int(n): Path(f"/proc/{n}/cmdline").read_text() for n in children}
        except FileNotFoundError:
            return []
        return [number for number, command in commands.items() if "resource_tracker" not in command]

    @property
    def said(self):
        return self._said.read_text() if self._said else ""


def run(*arguments, said, **named):
    """Run a command to its end: the exit status and what it said."""
    process = Run(*arguments, said=said, **named)
    status = process.wait(300)
    return status, process.said


def copy_without(undisturbed, store, *stages):
    """A copy of the undisturbed store in which all stages that begin so are to be computed."""
    shutil.copytree(undisturbed[0], store)
    for artefact in whole(store):
        if stage_of(artefact).startswith(stages):
            shutil.rmtree(store / artefact)
    return store


def finish(store, said):
    """Give the same command again, to its end."""
    status, told = run(*REQUEST, "--jobs", 2, "--store", store, said=said)
    assert status == 0, told
    return told


def assert_same(store, other):
    """That two stores hold the same artefacts, byte for byte."""
    mine, others = artefacts(store), artefacts(other)
    assert mine.keys() == others.keys()
    assert [name for name in mine if mine[name] != others[name]] == []


def _make_small():
    """Few short texts, a classifier with next to nothing to learn, forked workers."""
    from lotterylib.data import glue as data
    from lotterylib.runs import pattern_counts, pool, store

    pool.multiprocessing = SimpleNamespace(
        get_context=lambda _: multiprocessing.get_context("fork"),
        parent_process=multiprocessing.parent_process,
        active_children=multiprocessing.active_children,
    )
    data.BUNDLED_ROWS = {"train": 60, "validation": 60}
    pattern_counts.GENERATED_MAPS = 100
    pattern_counts.EPOCHS = 1
    store._commit = lambda: "0123456789ab"


def _work(arguments, prepare, said, begun):
    os.setsid()
    torch.set_num_threads(1)
    _make_small()
    from lotterylib.cli import main

    out = os.open(said or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if prepare is not None:
        prepare()
    begun.set()
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
