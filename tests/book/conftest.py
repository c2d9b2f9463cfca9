"""The built site, a browser, and the address at which it finds the site."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.shared import made_once

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """The folder of the site: what LOTTERY_SITE names, else built here, warnings as errors."""
    if built := os.environ.get("LOTTERY_SITE"):
        return Path(built)

    def make(folder):
        for name in ("book", "notebooks", "lotterylib"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "_config.yml", folder)
        command = Path(sys.executable).with_name("jupyter-book")
        build = [command, "build", "book", "--all", "-W", "-n", "--keep-going"]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        done = subprocess.run(build, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    return made_once(tmp_path_factory, worker_id, "site", make) / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site):
    """All pages but index.html, which only leads on to the first."""
    found = set(site.rglob("*.html"))
    return sorted(found - {site / "index.html"})


@pytest.fixture(scope="session")
def chromium():
    """A browser; in CI (LOTTERY_NEED_BROWSER is set) it is a failure that there is none."""
    if CHROMIUM is None:
        missing = "Chromium is not installed: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("LOTTERY_NEED_BROWSER") else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has no sandbox
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(site):
    """The site's address on a server of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
