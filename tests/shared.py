"""What takes long to make is made once for all processes of pytest; what stands beside pages;
what other processes are at."""

import json
import time

import psutil
from filelock import FileLock

from lotterylib.report.identity import REQUEST, digest


def on_record(folder, seeds=None, **request):
    """Write into a folder of pages what made them, and return what stands for it in its tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REQUEST).write_text(json.dumps({"request": request, "seeds": seeds or {}}))
    return digest(request)


def made_once(tmp_path_factory, worker_id, name, make):
    """A folder that the first of pytest's processes to need it makes, for all of them."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / name
    whole = folder.with_name(f"{name}.whole")
    with FileLock(f"{folder}.lock"):
        if not whole.exists():
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


def until(condition, seconds=60):
    """Whether something comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def alive(pid):
    """Whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
