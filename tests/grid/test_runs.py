"""The grid run for real: what it leaves equals what a plain run leaves."""

import importlib.util
import os
import re
import shutil

import nbformat
import pytest

from lotterylib.runs.experiment import open_experiment
from lotterylib.runs.settings import parse_settings
from tests.grid.tiny import (
    PAGES,
    STORE,
    TASK,
    command,
    done,
    execute,
    files,
    lay_out,
    lottery,
    start,
)
from tests.stores import artefacts

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        importlib.util.find_spec("snakemake") is None, reason="Snakemake is not installed"
    ),
]


def check_equals_a_plain_run(folder, plain):
    """Artefacts as in another store; pages as a plain run makes them from the same store."""
    assert artefacts(folder / STORE) == artefacts(plain / "runs")
    book = files(folder / "book")
    assert f"results/tiny/{TASK}/06_super_survivors.ipynb" in book
    assert "results/tiny/overview/08_overview" in book["_toc.yml"].decode()
    for made in ("book", "notebooks"):
        shutil.move(folder / made, folder / f"{made} of the grid")
    lay_out(folder)
    plainly = lottery(folder, store=STORE)
    assert plainly.returncode == 0, plainly.said
    cells, there = re.search(r"(\d+) cells, (\d+) of them in the store", plainly.said).groups()
    assert cells == there
    assert files(folder / "book") == book


@pytest.fixture(scope="module")
def grown(trained_classifier, tmp_path_factory):
    """A folder in which the tiny request was run as a grid on this machine."""
    folder = tmp_path_factory.mktemp("grid")
    start(folder, trained_classifier)
    ran = lottery(folder, "--profile=local", "--jobs=2", store=STORE)
    assert ran.returncode == 0, ran.said
    # What the stages left to the job that makes the pages: nothing.
    cells, there = re.search(r"(\d+) cells, (\d+) of them in the store", ran.said).groups()
    assert cells == there
    return folder


def test_a_grid_on_this_machine_leaves_what_a_plain_run_leaves(grown, plain):
    check_equals_a_plain_run(grown, plain)


def test_a_finished_grid_has_nothing_to_do(grown):
    again = execute(command("local", "--dry-run"), grown)
    assert "Nothing to be done" in again.said


def test_in_a_fresh_clone_only_the_pages_are_made_again(grown):
    shutil.rmtree(grown / ".snakemake")
    for template in (grown / "notebooks").glob("*.ipynb"):
        os.utime(template)
    again = execute(command("local", "--dry-run"), grown)
    assert re.search(r"^pages +1$", again.said, re.M), again.said
    assert not re.search(r"^stage +\d", again.said, re.M), again.said


def test_a_page_that_was_deleted_is_made_again(grown):
    page = grown / PAGES / "tiny" / TASK / "03_magnitude_pruning.ipynb"
    page.unlink()
    again = execute(command("local", "--dry-run"), grown)
    assert re.search(r"^pages +1$", again.said, re.M), again.said
    assert not re.search(r"^stage +\d", again.said, re.M), again.said


def test_one_failure_stops_only_what_needs_it_and_keeps_its_notebook(plain, tmp_path):
    lay_out(tmp_path)
    shutil.copytree(plain / "runs", tmp_path / STORE)
    settings = parse_settings(
        TASK,
        encoder="tiny",
        budget="smoke",
        train_rows=16,
        dev_rows=16,
        seeds="3,4",
        store=str(tmp_path / STORE),
    )
    experiment = open_experiment(settings)
    blocked = tmp_path / STORE / experiment.search_key(4, "structured").path
    shutil.rmtree(blocked)
    blocked.write_text("a file where a folder should be")
    pages = tmp_path / PAGES / "tiny" / TASK
    pages.mkdir(parents=True)
    (pages / "01_finetune.ipynb").write_text("{}")
    ran = lottery(tmp_path, "--profile=local", "--jobs=2", store=STORE)
    assert ran.returncode == 1, ran.said
    assert re.search("lottery: not every job was done.*give the same command again", ran.stderr)
    alone = {"01_finetune", "03_magnitude_pruning"}
    rest = {"02_structured_pruning", "04_subnetworks", "07_attention_patterns"}
    assert done(tmp_path) == {("4", page) for page in alone} | {("3", p) for p in alone | rest}
    (failed,) = (tmp_path / STORE / ".grid").rglob("seed-4/02_structured_pruning.ipynb")
    told = str([cell.get("outputs") for cell in nbformat.read(failed, as_version=4).cells])
    assert "cannot be kept in the run store" in told
    assert (pages / "01_finetune.ipynb").read_text() == "{}"
    blocked.unlink()
    left = execute(command("local", "--dry-run"), tmp_path)
    assert re.search(r"^stage +5$", left.said, re.M), left.said
    again = lottery(tmp_path, "--profile=local", "--jobs=2", "--no-pages", store=STORE)
    assert again.returncode == 0, again.said
    assert artefacts(tmp_path / STORE) == artefacts(plain / "runs")
