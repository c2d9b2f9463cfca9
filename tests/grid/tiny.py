"""A tiny request, run in a folder of its own, and what it left there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.stores import whole

ROOT = Path(__file__).parents[2]
REQUEST = {
    "encoder": "tiny",
    "budget": "smoke",
    "train_rows": "16",
    "dev_rows": "16",
    "seeds": "3,4",
    "pages": "book/results",  # a trial's would go elsewhere
}
TASK = "acceptability"
PAGES = REQUEST["pages"]
STORE = "a store of some"
CONTENTS = "root: intro\nparts:\n- caption: The runs\n  chapters: []\n"


def start(folder, store, without=lambda artefact: False, pages=()):
    """A store that lacks some artefacts, a book without runs, and the templates of few pages."""
    kept = ("01_finetune", "08_overview", "12_audit", *pages)  # a run wants the first three
    spared = [path.name for path in ROOT.glob("notebooks/*.ipynb") if path.stem not in kept]
    shutil.copytree(
        ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(*spared)
    )
    (folder / "book").mkdir()
    (folder / "book" / "_toc.yml").write_text(CONTENTS)
    shutil.copytree(store, folder / STORE)
    for artefact in filter(without, whole(store)):
        shutil.rmtree(folder / STORE / artefact)


def environment(**further):
    """One thread a process, and the library of this checkout."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | further


def execute(command, folder, **further):
    """Run a command as its own user would."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**further),
        capture_output=True,
        text=True,
        timeout=1800,
    )
    done.said = done.stdout + done.stderr
    return done


def command(*arguments, store=STORE):
    """`lottery run` of the tiny request."""
    values = REQUEST | {"store": store}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    return [sys.executable, "-m", "lotterylib.cli", "run", TASK, *options, *arguments]


def lottery(folder, *arguments, store=STORE, **further):
    """Run the tiny request to its end."""
    return execute(command(*arguments, store=store), folder, **further)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
