"""Notebooks opened from anywhere: one store, in the repository or in a folder that is named."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lotterylib.data.files import HOME, at_home, home
from lotterylib.errors import LotteryError
from lotterylib.runs.settings import check_parameters, parse_settings

ROOT = Path(__file__).parents[2]
FEW = {"encoder": "tiny", "budget": "smoke", "seeds": "3", "train_rows": 16, "dev_rows": 16}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder "a b" with a template whose first cell somebody has changed, and the library."""
    monkeypatch.delenv(HOME, raising=False)
    root = tmp_path / "a b"
    (root / "notebooks").mkdir(parents=True)
    (root / "lotterylib").symlink_to(ROOT / "lotterylib")
    notebook = nbformat.read(ROOT / "notebooks" / "01_finetune.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in FEW.items())
    nbformat.write(notebook, root / "notebooks" / "01_finetune.ipynb")
    return root


@pytest.mark.long
def test_there_is_one_store_wherever_a_notebook_is_run_from(repository, tmp_path):
    pytest.importorskip("nbconvert")
    notebook, elsewhere = repository / "notebooks" / "01_finetune.ipynb", tmp_path / "elsewhere"
    elsewhere.mkdir()
    papermill = ["papermill", str(notebook), str(tmp_path / "out.ipynb")]
    nbconvert = ["nbconvert", "--execute", "--to", "notebook", str(notebook)]
    nbconvert += ["--output-dir", str(tmp_path)]
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])

    def run(tool, folder, **environment):
        done = subprocess.run(
            [sys.executable, "-m", *tool],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path} | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("manifest.json")}
        return {file: when for file, when in kept.items() if "finetune-" in str(file)}

    first = run(papermill, repository)
    assert [file.relative_to(repository).parts[:2] for file in first] == [("runs", "tiny")]
    assert run(nbconvert, repository / "notebooks") == first
    assert run(papermill, elsewhere) == first
    assert run(nbconvert, elsewhere, **{HOME: str(repository)}) == first
    assert len(list(tmp_path.rglob("runs"))) == 1
    also = run([*papermill, "-p", "store", str(elsewhere / "mine")], repository)
    assert {file.relative_to(tmp_path).parts[1] for file in also.keys() - first} == {"mine"}


def test_paths_are_counted_from_home(repository, tmp_path, monkeypatch):
    parameters = {"task": "acceptability"}
    monkeypatch.chdir(repository)
    assert (home(), at_home("runs")) == (repository, Path("runs"))
    monkeypatch.chdir(repository / "notebooks")
    assert parse_settings("acceptability").store == Path("../runs")
    assert parse_settings("acceptability", store="runs").store == Path("runs")  # as it is given
    assert check_parameters(parameters | {"store": "runs"}).store == Path("../runs")
    (repository / "GLUE").mkdir()
    settings = check_parameters({"task": "rte", "data_dir": "GLUE"})
    assert Path(settings.data_dir).resolve() == repository / "GLUE"
    monkeypatch.chdir(tmp_path)
    assert home() == ROOT  # that of the library
    monkeypatch.setenv(HOME, str(repository))
    assert check_parameters(parameters | {"store": "runs"}).store == repository / "runs"
    assert at_home(str(tmp_path)) == tmp_path
    monkeypatch.setenv(HOME, "nowhere")
    with pytest.raises(LotteryError, match="LOTTERY_HOME is 'nowhere', which is no folder"):
        home()
