"""Data on which a metric means nothing: a dev set of one class, scores that are all the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lotterylib.results import load_results

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


def write(folder, columns, labels, dev_label):
    """A task's splits in which every dev example has the same label."""
    folder.mkdir(parents=True)
    for name, rows in (("train", 40), ("validation", 20)):
        texts = [" ".join(WORDS[(i * k) % 8] for k in range(1, 5)) for i in range(1, rows + 1)]
        given = [labels[i % len(labels)] for i in range(rows)]
        table = pd.DataFrame(dict.fromkeys(columns, texts))
        table["label"] = given if name == "train" else [dev_label] * rows
        table.to_parquet(folder / f"{name}.parquet")


def run(folder, *arguments):
    command = ["run", "--encoder=tiny", "--budget=smoke", "--train-rows=16", "--dev-rows=12"]
    done = subprocess.run(
        [sys.executable, "-m", "lotterylib.cli", *command, "--seeds=3,1", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    done.said = done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """CoLA, whose Matthews correlation is undefined on one class, with all of its pages."""
    folder = tmp_path_factory.mktemp("degenerate")
    write(folder / "glue" / "cola", ["sentence"], [0, 1], 1)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    done = run(folder, "cola", "--data-dir=glue")
    assert done.returncode == 0, done.said
    return folder, done.said


def test_one_class_in_dev_scores_zero_and_every_page_says_so(ran):
    folder, said = ran
    results = load_results(folder / "book" / "results")
    reported = results[results["reported"]]
    assert set(reported["metric"]) == {"matthews"}
    assert (reported["value"] == 0).all()
    pages = sorted((folder / "book" / "results" / "tiny" / "cola").glob("*.ipynb"))
    assert len(pages) == 7
    shown = {page.stem: str(nbformat.read(page, as_version=4)) for page in pages}
    for name in ("01_finetune", "02_structured_pruning", "03_magnitude_pruning", "04_subnetworks"):
        assert re.search("no better than|means little|meaningless|only one class", shown[name]), (
            name
        )
    assert "Traceback" not in said


def test_without_a_spread_there_are_no_correlations_and_the_run_goes_on(tmp_path):
    write(tmp_path / "glue" / "stsb", ["sentence1", "sentence2"], [0.5, 2.5, 4.0], 3.0)
    write(tmp_path / "glue" / "mrpc", ["sentence1", "sentence2"], [0, 1], 0)
    done = run(tmp_path, "stsb", "mrpc", "--data-dir=glue", "--no-pages", "--with=all")
    assert done.returncode == 0, done.said
    assert "Traceback" not in done.said
    assert "nan" not in done.said.lower()
