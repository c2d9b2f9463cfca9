"""The command line: what it refuses, how fast it could, and what it leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from lotterylib import commands
from lotterylib.cli import main
from lotterylib.errors import LotteryError
from lotterylib.report import pages
from lotterylib.report.identity import read_request
from lotterylib.runs.methods import CORE, EXTRAS, SEVERAL_SEEDS
from tests.shared import execute

ROOT = Path(__file__).parents[2]
TINY = ["--encoder", "tiny", "--budget", "smoke", "--jobs", "1", "--no-pages"]


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
        (["run", "--sed", "1"], "Did you mean '--seeds'?"),
        (["run", "--epochs", "two"], "The parameter epochs is 'two': it must be a whole number."),
        (["run", "--notebooks", "nowhere"], "holds no notebook templates"),
        (["run", "--with", "how-bad"], "Unknown page 'how-bad'. Did you mean 'how-bad-is-bad'?"),
        (["run", "--with", "10_variants"], "Accepted: how-bad-is-bad, variants, extensions, all."),
        (["run", "--with"], "expected one argument"),
        (["results", "foo"], "Unknown argument 'foo'. Accepted: --pages."),
        (["tickets", "rte", "--first", "-3"], "The option --first is -3: it must not be negative."),
        (["tickets", "rte", "--only", "3,x"], "The option --only is '3,x': give tickets"),
        (["rates", "--learning-rate", "1e-4"], "'lottery rates' sets learning_rate itself"),
        (["rates", "--set", "dev_split=train"], "'lottery rates' sets dev_split itself"),
        (["rates", "--csv", "."], "The option --csv is '.': it must be a file, not a folder."),
        (["run", "--jobs", "100000"], "The option --jobs is 100000: it goes from 0 to 1024."),
        (["run", "--no-pages", "--store", "s" * 300], "cannot be written to: File name too long."),
        (["run", "--notebooks", "n" * 300], "File name too long"),
        (["import-masks"], "required: DIR"),
        (["import-masks", "nowhere"], "The folder nowhere does not exist."),
        (["import-masks", ".", "--data-dir", "x"], "Accepted: --no-pages, --notebooks, --pages,"),
        (["rum"], "invalid choice: 'rum'"),
        ([], "required: COMMAND"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in refuse(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", ["[[cola]]", "{cola: 1}", "[1]", "[cola]\ntask: rte"])
def test_tasks_in_a_file_are_names(capsys, tmp_path, written):
    (tmp_path / "run.yml").write_text(f"tasks: {written}\n")
    said = refuse(capsys, "run", "--config", str(tmp_path / "run.yml"))
    assert "give names or task files" in said or "Give task or tasks, not both" in said


@pytest.mark.parametrize("name", ["runs/.claims", "runs/tiny", "pages/tiny"])
def test_a_file_where_a_run_needs_a_folder_is_found_before_anything_is_computed(
    name, capsys, tmp_path
):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).touch()
    places = ["--store", str(tmp_path / "runs"), "--pages", str(tmp_path / "pages")]
    said = refuse(capsys, "run", "acceptability", *TINY[:-1], *places)
    assert f"cannot be made: {tmp_path / name} is not a directory." in said
    assert len(list(tmp_path.rglob("*"))) == 2


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("--data-dir", "no data for RTE"), ("--encoder", "is not a model directory")],
)
def test_an_empty_directory_is_refused_before_anything_is_computed(
    option, sentence, capsys, tmp_path
):
    (tmp_path / "data").mkdir()
    arguments = ["run", "rte", *TINY, "--store", str(tmp_path / "runs")]
    assert sentence in refuse(capsys, *arguments, option, str(tmp_path / "data"))
    assert len(list(tmp_path.iterdir())) == 1


def test_mistakes_are_found_without_importing_torch(tmp_path):
    sentences = {
        ("colla",): "Did you mean 'cola'",
        ("mood.yml",): "Did you mean 'text'?",
        ("acceptability", "--seeds", "x"): "The seed 'x' is not a whole number",
        ("acceptability", "--encoder", "./nope"): "There is no such directory",
    }
    (tmp_path / "mood.csv").write_text("text,mood\nwell,good\nill,bad\n")
    task = {"name": "mood", "train": "mood.csv", "dev": 0.5, "text": "txt", "label": "mood"}
    (tmp_path / "mood.yml").write_text(json.dumps(task))
    code = (
        f"import sys; from lotterylib.cli import main; asked = {[*sentences]};"
        "status = {main(['run', *each]) for each in asked};"
        "assert not {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules);"
        "assert status == {2}"
    )
    done = execute([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.said
    assert all(sentence in done.stderr for sentence in sentences.values())


@pytest.mark.usefixtures("small_runs")
def test_a_run_says_what_it_found_and_a_second_one_computes_nothing(capsys, tmp_path, monkeypatch):
    arguments = ["run", "acceptability", *TINY, "--seeds", "7", "--store", str(tmp_path)]
    arguments += ["--train-rows", "16", "--dev-rows", "16"]
    assert main(arguments) == 0
    written = capsys.readouterr()
    said = written.err
    assert "good retrained" in written.out
    assert "no page 05_stability, since it compares seeds, and there is one.\n" in said
    assert "0 of 24 jobs are done. The rest will take about 0" in said
    for found in (
        "baseline frozen: matthews",
        "search structured: keeps",
        "retrained magnitude bad: matth",
        "importance cumulative: measured",
        "patterns pre-trained, normed: 192 maps classified",
    ):
        assert found in said
    from lotterylib.runs import experiment, searches

    for module, name in ((experiment, "train"), (experiment, "measure"), (searches, "evaluate")):
        monkeypatch.setattr(module, name, None)
    assert main(arguments) == 0
    assert "24 of 24 jobs are done. Nothing is left to compute." in capsys.readouterr().err


@pytest.fixture
def planned(monkeypatch, tmp_path, capsys):
    """Which pages a command would make, without making them."""
    templates = tmp_path / "notebooks"
    templates.mkdir()
    for name in (*CORE, *EXTRAS.values(), "08_overview", "12_audit"):
        nbformat.write(nbformat.v4.new_notebook(), templates / f"{name}.ipynb")

    def plan(*arguments):
        plans = []

        def stop(plan, *_):
            plans.extend((e.task.name, e.settings.seeds, list(pages)) for e, pages in plan)
            raise LotteryError("Enough.")

        monkeypatch.setattr(pages, "render_all", stop)
        places = ["--store", tmp_path / "runs", "--pages", tmp_path / "pages"]
        places += ["--notebooks", templates]
        assert main(["run", *arguments, *TINY[:-1], *map(str, places)]) == 2
        return plans, capsys.readouterr().err

    return plan


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ("extensions, how-bad-is-bad", ["how-bad-is-bad", "extensions"]),
        ("variants,all", list(EXTRAS)),
        (",", []),
    ],
)
def test_pages_that_are_asked_for_come_in_their_order(planned, asked, more):
    plans, _ = planned("acceptability", "similarity", "--with", asked)
    assert [pages for _, _, pages in plans] == [[*CORE, *(EXTRAS[name] for name in more)]] * 2
    assert [task for task, _, _ in plans] == ["acceptability", "similarity"]


def test_pages_that_are_there_are_kept_up_to_date(planned, tmp_path):
    folder = tmp_path / "pages" / "tiny" / "similarity"
    folder.mkdir(parents=True)
    (folder / "10_variants.ipynb").touch()
    plans, _ = planned("acceptability", "similarity", "--replace")
    assert [pages[len(CORE) :] for _, _, pages in plans] == [[], ["10_variants"]]


@pytest.mark.parametrize("name", ["08_overview.ipynb", "12_audit.ipynb"])
def test_a_template_that_is_lacking_is_missed_at_once(planned, tmp_path, name):
    (tmp_path / "notebooks" / name).unlink()
    assert planned("acceptability") == ([], f"lottery: The notebook templates lack {name}.\n")
    assert not (tmp_path / "runs").exists()


def test_one_seed_has_no_pages_on_agreement_and_says_so(planned):
    ((_, _, pages),), said = planned("acceptability", "--seeds", "7", "--with", "variants")
    wanted = [name for name in CORE if name not in SEVERAL_SEEDS]
    assert pages == [*wanted, "10_variants"]
    assert said.count("since it compares seeds, and there is one.\n") == 2


@pytest.mark.usefixtures("small_runs")
def test_what_cannot_be_made_is_said_before_and_after_and_by_the_status(capsys, tmp_path):
    arguments = ["run", "acceptability", *TINY, "--seeds", "7", "--store", str(tmp_path)]
    arguments += ["--train-rows", "8", "--dev-rows", "1", "--with", "variants"]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    line = "no page 10_variants, since it searches on half of dev, which has one row"
    assert said.index(line) < said.index("jobs are done") < said.rindex(line)
    assert "half-dev" not in said


def test_a_stopped_run_says_how_to_go_on(capsys, monkeypatch):
    def stop(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "show_choices", stop)
    assert main(["list"]) == 130
    assert "give the same command again" in capsys.readouterr().err


def test_list_shows_every_name_that_is_accepted(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("cola", "similarity", "minilm", "bert-base-uncased", "official", "laptop"):
        assert name in said


def masks(folder, family="heads_mlps", value=1.0, **arrays):
    """Masks as the authors' repository has them: one search, one task, two seeds."""
    arrays = arrays or {"head_mask": np.full((12, 12), value), "mlp_mask": np.ones(12)}
    for seed in (42, 86):
        place = folder / "masks" / family / "RTE" / f"seed_{seed}"
        place.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
    return folder


def test_imported_masks_are_counted_and_kept(capsys, tmp_path):
    store = tmp_path / "runs"
    folder = masks(tmp_path / "copy")
    for _ in range(2):  # the second time changes nothing
        assert main(["import-masks", str(folder), "--no-pages", "--store", str(store)]) == 0
        said = capsys.readouterr()
        assert said.out == "heads and MLPs together: 2 subnetworks, of 1 tasks.\n"
        assert len(list(store.rglob("good.safetensors"))) == 2
    assert not (tmp_path / "book").exists()


@pytest.mark.parametrize(
    ("family", "arrays"),
    [("heads", {"head_mask": np.ones((12, 12))}), ("mlps", {"mlp_mask": np.ones(12)})],
)
def test_a_folder_of_a_single_search_gets_its_page(capsys, monkeypatch, tmp_path, family, arrays):
    masks(tmp_path, family, **arrays)
    rendered = []
    monkeypatch.setattr(pages, "render", lambda *arguments: rendered.append(arguments))
    (tmp_path / "variants" / "importance").mkdir(parents=True)
    store, results, variants = (str(tmp_path / name) for name in ("runs", "results", "variants"))
    options = ["--store", store, "--pages", results]
    assert main(["import-masks", str(tmp_path), *options]) == 0
    ((template, page, parameters),) = rendered
    assert template.name == page.name == "12_audit.ipynb"
    assert parameters == {"run_store": store, "pages": results, "variants": variants}
    assert read_request(page.parent)["request"]["variants"] == ["importance"]
    assert f"The audit is in {page}." in capsys.readouterr().out
    (row,) = pd.read_csv(page.parent / "audit.csv").to_dict("records")
    assert (row["family"], row["task"], row["seeds"]) == (family, "rte", 2)


def test_masks_that_no_search_found_make_no_page(capsys, tmp_path):
    masks(tmp_path, "heads_mlps_random")
    options = ["--store", str(tmp_path / "runs"), "--pages", str(tmp_path / "results")]
    assert main(["import-masks", str(tmp_path), *options]) == 0
    assert "needs masks that a search found, so no page is made" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "There are no masks in"),
        (0.5, "holds the value 0.5; a mask holds zeros and ones only"),
    ],
)
def test_what_are_no_masks_is_refused_and_nothing_is_written(capsys, tmp_path, value, sentence):
    folder, store = tmp_path / "copy", tmp_path / "runs"
    folder.mkdir()
    if value:
        masks(folder, value=value)
    arguments = ["import-masks", str(folder), "--store", str(store), "--no-pages"]
    assert sentence in refuse(capsys, *arguments)
    assert not store.exists()


def test_without_a_template_no_masks_are_imported(capsys, tmp_path):
    folder, store = masks(tmp_path / "copy"), tmp_path / "runs"
    arguments = ["import-masks", str(folder), "--store", str(store), "--notebooks", str(tmp_path)]
    assert "holds no notebook templates" in refuse(capsys, *arguments)
    assert not store.exists()


def test_whoever_stops_reading_ends_the_command_quietly():
    code = "import sys; from lotterylib.cli import main; sys.exit(main(['list']))"
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=written,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(written)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_stop_is_dealt_with_before_anything_that_takes_long_is_imported(tmp_path):
    code = "import sys, lotterylib.cli; print({'numpy', 'pydantic', 'torch'} & sys.modules.keys())"
    done = execute([sys.executable, "-c", code], tmp_path)
    assert done.said == "set()\n"
