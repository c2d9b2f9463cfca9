"""Data on which a metric means nothing: a dev set of one class, scores that are all the same."""

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lotterylib.report.results import load_results
from tests.faults.disturbed import FORKED, REQUEST, run
from tests.shared import execute

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


@pytest.fixture(scope="module")
def ran(trained_classifier, tmp_path_factory):
    """CoLA, whose Matthews correlation is undefined on one class, with all of its pages."""
    folder = tmp_path_factory.mktemp("degenerate")
    write(folder / "glue" / "cola", ["sentence"], [0, 1], 1)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(trained_classifier, folder / "runs")
    command = [sys.executable, "-m", "lotterylib.cli", "run", "cola", "--data-dir=glue"]
    command += ["--encoder=tiny", "--budget=smoke", "--seeds=3,1", "--train-rows=16"]
    done = execute([*command, "--dev-rows=12", "--pages=book/results"], folder)
    assert done.returncode == 0, done.said
    return folder, done.said


def test_one_class_in_dev_scores_zero_and_every_page_says_so(ran):
    folder, said = ran
    results = load_results(folder / "book" / "results")
    reported = results[results["reported"]]
    assert set(reported["metric"]) == {"matthews"}
    assert (reported["value"] == 0).all()
    assert "all dev labels are the same" in said
    assert "Traceback" not in said
    pages = sorted((folder / "book" / "results" / "tiny" / "cola").glob("*.ipynb"))
    assert len(pages) == 7
    for page in pages:
        cells = nbformat.read(page, as_version=4).cells
        outputs = str([cell.outputs for cell in cells if cell.cell_type == "code"])
        assert "all dev labels are the same" in outputs, page.name
        assert "does not beat the majority class" in outputs, page.name
        assert not re.search(r"\bnan%|Warning", outputs), page.name


@FORKED
def test_without_a_spread_there_are_no_correlations_and_the_run_goes_on(tmp_path):
    write(tmp_path / "stsb", ["sentence1", "sentence2"], [0.5, 2.5, 4.0], 3.0)
    write(tmp_path / "mrpc", ["sentence1", "sentence2"], [0, 1], 0)
    command = ["run", "stsb", "mrpc", *REQUEST[2:], "--data-dir", tmp_path, "--with", "all"]
    status, said = run(*command, "--store", tmp_path / "runs", said=tmp_path / "said")
    assert status == 0, said
    assert said.count("all dev labels are the same") == 2
    assert "Traceback" not in said
    assert not re.search(r"\bnan\b", said)
