"""The grid run for real: what it leaves equals what a plain run leaves."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.methods import CORE
from lotterylib.runs.settings import parse_settings
from tests.grid.tiny import (
    PAGES,
    REQUEST,
    STORE,
    TASK,
    command,
    environment,
    files,
    lottery,
    start,
)
from tests.shared import until
from tests.stores import artefacts, leftovers, whole

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
    ),
]


def test_a_finished_grid_starts_no_job_and_makes_the_pages_of_a_plain_run(plain, tmp_path):
    """Also where another run's pages lie: they are not taken for this one's."""
    start(tmp_path, plain)
    plainly = lottery(tmp_path, "--jobs=1")
    assert plainly.returncode == 0, plainly.said
    assert "Nothing is left to compute." in plainly.said
    book = files(tmp_path / "book")
    page = f"{PAGES}/tiny/{TASK}/01_finetune"
    assert page.removeprefix("book/") in book["_toc.yml"].decode()
    assert "results/tiny/overview/08_overview" in book["_toc.yml"].decode()
    (tmp_path / f"{page}.ipynb").write_text("{}")
    again = lottery(tmp_path, "--profile=local", "--jobs=1")
    assert again.returncode == 0, again.said
    assert "0 jobs for Snakemake." in again.said
    assert files(tmp_path / "book") == book


def test_one_failure_stops_only_what_needs_it_and_is_told(plain, tmp_path):
    start(
        tmp_path,
        plain,
        without=lambda artefact: "magnitude" in artefact and artefact.endswith("seed-4"),
        pages=("02_structured_pruning", "03_magnitude_pruning"),
    )
    values = REQUEST | {name: int(REQUEST[name]) for name in ("train_rows", "dev_rows")}
    del values["pages"]
    made = open_experiment(parse_settings(TASK, **values, store=str(tmp_path / STORE)))
    blocked = tmp_path / STORE / made.search_key(4, "structured").path
    shutil.rmtree(blocked)
    blocked.write_text("a file where a folder should be")
    ran = lottery(tmp_path, "--profile=local", "--jobs=2")
    assert ran.returncode == 1, ran.said
    assert re.search("seed 4: search structured: .*cannot be kept in the run store", ran.stderr)
    there = {page.stem for page in (tmp_path / PAGES / "tiny" / TASK).glob("*.ipynb")}
    assert there == {"01_finetune", "03_magnitude_pruning"}
    for page in {*CORE} - there:
        assert f": no page {page}, since it needs what failed (" in ran.stderr
    assert (tmp_path / PAGES / "tiny" / TASK / "results.csv").is_file()
    found = artefacts(tmp_path / STORE)
    lacking = artefacts(plain).keys() - found.keys()
    assert all("/search-structured" in each or "magnitude" in each for each in lacking)
    assert any("search-magnitude" in each and "seed-4" in each for each in found)
    blocked.unlink()
    again = lottery(tmp_path, "--jobs=1", "--no-pages")
    assert again.returncode == 0, again.said
    assert artefacts(tmp_path / STORE) == artefacts(plain)


def processes_of(folder):
    """The processes whose working directory is a folder."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/cwd") == str(folder):
                found.append(int(name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_stopped_grid_ends_snakemake_and_its_jobs_and_goes_on_to_what_a_plain_run_leaves(
    plain, tmp_path
):
    """By Ctrl-C, which a terminal sends to all: Snakemake must not answer to it first."""
    start(
        tmp_path,
        plain,
        without=lambda artefact: artefact.endswith("seed-4") or "super" in artefact,
    )
    store = tmp_path / STORE
    before = len(whole(store))
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            command("--profile=local", "--jobs=2", "--no-pages"),
            cwd=tmp_path,
            env=environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        assert until(lambda: len(whole(store)) > before + 3 and leftovers(store), 300)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    there = whole(store)
    assert processes_of(tmp_path) == []
    told = (tmp_path / "said").read_text()
    assert told.endswith("give the same command again to go on.\n")
    assert "Traceback" not in told
    assert whole(store) == there
    again = lottery(tmp_path, "--profile=local", "--jobs=2", "--no-pages")
    assert again.returncode == 0, again.said
    assert artefacts(store) == artefacts(plain)
    assert os.listdir(store / ".grid") == []


def test_jobs_on_slurm_leave_what_a_plain_run_leaves(plain, cluster, tmp_path):
    start(tmp_path, plain, without=lambda artefact: "magnitude" in artefact)
    profile = tmp_path / "notebooks" / "profiles" / "slurm" / "config.yaml"
    often = ("seconds-between-status-checks", "max-status-checks-per-second")
    often += ("slurm-init-seconds-before-status-checks",)
    profile.write_text(profile.read_text() + "".join(f"{name}: 2\n" for name in often))
    ran = lottery(tmp_path, "--profile=slurm", "--no-pages", **cluster)
    assert ran.returncode == 0, ran.said
    assert "4 jobs for Snakemake." in ran.said  # of each seed the search, then what builds on it
    assert len(re.findall(r"has been submitted with SLURM jobid \d+", ran.said)) == 4
    assert artefacts(tmp_path / STORE) == artefacts(plain)
