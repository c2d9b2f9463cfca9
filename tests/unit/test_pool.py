"""Processes end with the one that started them, at a signal too, and a killed one is replaced."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest

from lotterylib.runs.pool import Alone, Workers, why_alone
from lotterylib.runs.stopping import Stopped, raise_if_stopped, stoppable
from tests.shared import alive, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
from pathlib import Path
from lotterylib.runs.pool import Workers
from lotterylib.runs.stopping import Stopped, stoppable

folder = Path(sys.argv[1])

def work(number):
    try:
        (folder / f"begun-{number}-{os.getpid()}").touch()
        for _ in range(600):
            time.sleep(0.1)
    finally:
        (folder / f"tidied-{number}").touch()

if __name__ == "__main__":
    try:
        with stoppable(), Workers(2) as workers:
            jobs = [workers.submit(work, number) for number in range(5)]
            (folder / "submitted").touch()
            jobs[0].result()
    except Stopped as stopped:
        print("stopped", flush=True)
        sys.exit(stopped.status)
"""


@pytest.mark.parametrize("moment", ["submitted", "begun"])
@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGINT, signal.SIGINT, signal.SIGTERM], 130),
    ],
    ids=["Ctrl-C", "SIGTERM", "again and again"],
)
def test_a_signal_ends_all_processes_without_a_traceback(signals, status, moment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wanted = {"submitted": 1, "begun": 2}[moment]
    assert until(lambda: len(list(tmp_path.glob(f"{moment}*"))) == wanted)
    for number in signals:
        with suppress(ProcessLookupError):  # it may have ended already
            os.killpg(process.pid, number)  # as a terminal does
        time.sleep(0.02)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (status, "stopped\n")
    begun = [path.name.split("-")[1:] for path in tmp_path.glob("begun-*")]
    assert not any(alive(int(pid)) for _, pid in begun)
    if moment == "begun" and signal.SIGTERM not in signals:  # which they got themselves
        assert {path.name for path in tmp_path.glob("tidied-*")} == {
            f"tidied-{n}" for n, _ in begun
        }
        assert len(begun) == 2


def test_only_the_job_whose_process_was_killed_is_named(tmp_path):
    with Workers(2) as workers:
        done = workers.submit(abs, -3)
        assert done.result() == 3
        killed = workers.submit(signal.raise_signal, signal.SIGKILL)
        other = workers.submit(time.sleep, 60)
        wait([killed, other])
        assert isinstance(other.exception(), BrokenProcessPool)
        assert workers.replace() == [killed]
        assert workers.submit(abs, -4).result() == 4


def test_of_a_process_that_had_nothing_to_do_no_job_is_named():
    with Workers(1) as workers:
        pid = workers.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not alive(pid))
        with pytest.raises(BrokenProcessPool):
            workers.submit(abs, -3).result()
        assert workers.replace() == []
        assert workers.submit(abs, -4).result() == 4


def test_an_error_ends_the_processes():
    found = []

    def fail():
        with Workers(2) as workers:
            found.append(workers.submit(os.getpid).result())
            workers.submit(time.sleep, 60)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert until(lambda: not alive(found[0]))


def sleep_under_another_session():
    """What a kernel of a notebook is: no signal to the process that started it reaches it."""
    started = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    return started.pid, tempfile.mkstemp()[1]


def test_what_the_processes_started_ends_with_them_and_leaves_no_files():
    with Workers(1) as workers:
        pid, file = workers.submit(sleep_under_another_session).result()
        assert alive(pid)
        assert os.path.exists(file)
    assert until(lambda: not alive(pid))
    assert not os.path.exists(file)


def test_a_signal_that_a_library_takes_for_an_error_still_ends_the_run():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Stopped) as caught, stoppable():  # noqa: PT012
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # once is enough
            with pytest.raises(Stopped):
                raise_if_stopped()
            raise ValueError("could not determine the shape")
        assert caught.value.status == 143
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_without_a_signal_nothing_is_left_of_it():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wrong"), stoppable():
        raise ValueError("wrong")
    with stoppable():
        raise_if_stopped()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_without_shared_memory_work_is_done_alone(monkeypatch):
    assert not why_alone()

    def refuse(self):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(SpawnContext, "Lock", refuse)
    assert why_alone() == "this machine has no shared memory (Function not implemented)"
    with Alone() as alone:
        done, failed = alone.submit(divmod, 7, 2), alone.submit(divmod, 7, 0)
    assert done.result() == (3, 1)
    assert isinstance(failed.exception(), ZeroDivisionError)
