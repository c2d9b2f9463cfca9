"""What takes long to make is made once for all processes of pytest; what stands beside pages;
what other processes are at; what a browser says of a page."""

import json
import os
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from filelock import FileLock

from lotterylib.report.identity import REQUEST, digest

ROOT = Path(__file__).parents[1]

# Resolves when a page has taken in a new width and drawn itself.
SETTLED = """width => new Promise(done => {
  const look = left => left === 0 ? done() : requestAnimationFrame(() => look(left - 1));
  const wait = () => innerWidth === width ? look(4) : setTimeout(wait, 20);
  wait();
})"""


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


def execute(command, folder, **further):
    """Run a command as its own user would: one thread, the library of this checkout."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | further,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    done.said = done.stdout + done.stderr
    return done


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


def watched(browser, problems, **settings):
    """A page whose console errors, failures and requests to other hosts are written down."""
    page = browser.new_context(**{"reduced_motion": "reduce"} | settings).new_page()

    def hear(message):
        if message.type == "error":
            problems.append(f"{message.text} {message.location['url']}")

    page.on("console", hear)
    page.on("pageerror", lambda error: problems.append(str(error)))

    def note(request):
        url = urlsplit(request.url)
        if url.scheme in ("http", "https") and url.hostname != "127.0.0.1":
            problems.append(f"asks {request.url}")

    page.on("request", note)
    return page
