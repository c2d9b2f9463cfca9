"""The command line: what it refuses, how fast it could, and what it leaves behind."""

import os
import subprocess
import sys

import pytest

from lotterylib import cli
from lotterylib.cli import main

TINY = ["--encoder", "tiny", "--budget", "smoke", "--no-pages"]


def refuse(capsys, *arguments):
    assert main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("lottery: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "colla"], "Unknown task 'colla'. Did you mean 'cola'?"),
        (["run", "--encoder", "minilmm"], "Did you mean 'minilm'?"),
        (["run", "--preset", "papr"], "Did you mean 'paper'?"),
        (["run", "--budget", "laptops"], "Did you mean 'laptop'?"),
        (["run", "--batch-order", "bucket"], "Did you mean 'buckets'?"),
        (["run", "--sed", "1"], "Did you mean '--seeds'?"),
        (["run", "--seeds", ","], "The list of seeds is empty"),
        (["run", "--seeds", "1,x"], "'x' is not a whole number"),
        (["run", "--epochs", "two"], "invalid int value: 'two'"),
        (["run", "--train-rows", "-3"], "train_rows is -3: it must not be negative"),
        (["run", "cola", "--data-dir", "nowhere"], "The data directory nowhere does not exist."),
        (["run", "--notebooks", "nowhere"], "holds no notebook templates"),
        (["rum"], "invalid choice: 'rum'"),
        ([], "required: COMMAND"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refuse(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_bad_data_directory_is_refused_before_anything_is_computed(capsys, tmp_path):
    (tmp_path / "data").mkdir()
    store = tmp_path / "runs"
    said = refuse(
        capsys, "run", "rte", *TINY, "--data-dir", str(tmp_path / "data"), "--store", str(store)
    )
    assert "no data for RTE" in said
    assert not list(store.iterdir())


def test_a_directory_that_is_no_model_is_refused(capsys, tmp_path):
    said = refuse(
        capsys, "run", "--no-pages", "--encoder", str(tmp_path), "--store", str(tmp_path / "runs")
    )
    assert "is not a model directory" in said


def test_mistakes_are_found_without_importing_torch(tmp_path):
    code = (
        "import sys; from lotterylib.cli import main; status = main(['run', 'colla']);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, "Did you mean 'cola'" in done.stderr) == (2, True), done.stderr


def test_no_network_and_no_package_is_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lotterylib.cli", "run", "--no-pages", "--encoder", "roberta-base"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )
    assert done.returncode == 2
    assert "neither in the local cache nor can the Hugging Face hub be reached" in done.stderr


def test_a_run_says_what_it_found_and_a_second_one_computes_nothing(capsys, tmp_path, monkeypatch):
    arguments = ["run", "acceptability", *TINY, "--seeds", "7", "--store", str(tmp_path)]
    assert main(arguments) == 0
    written = capsys.readouterr()
    said = written.err
    assert "good retrained" in written.out
    assert "16 cells, 0 of them in the store already." in said
    for found in ("frozen: matthews", "search structured: keeps", "retrained magnitude bad: matth"):
        assert found in said
    from lotterylib import experiment

    monkeypatch.setattr(experiment, "train", None)
    monkeypatch.setattr(experiment, "measure", None)
    assert main(arguments) == 0
    assert "16 cells, 16 of them in the store already." in capsys.readouterr().err


def test_pages_of_a_run_done_otherwise_are_not_replaced(capsys, tmp_path):
    table = tmp_path / "pages" / "tiny" / "acceptability" / "results.csv"
    table.parent.mkdir(parents=True)
    table.write_text("encoder,task,preset,budget\ntiny,acceptability,official,smoke\n")
    arguments = ["run", "acceptability", *TINY[:-1], "--store", str(tmp_path / "runs")]
    assert main([*arguments, "--pages", str(tmp_path / "pages")]) == 2
    said = capsys.readouterr().err
    assert "holds pages of Acceptability (generated) with preset official and budget smoke" in said
    assert not list((tmp_path / "runs").iterdir())


def test_a_stopped_run_says_how_to_go_on(capsys, monkeypatch):
    def stop(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_list", stop)
    assert main(["list"]) == 130
    assert "give the same command again" in capsys.readouterr().err


def test_list_shows_every_name_that_is_accepted(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("cola", "similarity", "minilm", "bert-base-uncased", "official", "laptop"):
        assert name in said
