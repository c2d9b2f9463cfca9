"""A tiny request, run in a folder of its own, and what it left there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lotterylib import cli
from lotterylib.runs import grid

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


def lay_out(folder):
    """A book without runs, and the templates."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    (folder / "book").mkdir()
    (folder / "book" / "_toc.yml").write_text(CONTENTS)


def execute(command, folder, **environment):
    """Run a command with one thread a process, as its own user would."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""} | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    done.said = done.stdout + done.stderr
    return done


def lottery(folder, *arguments, store):
    """`lottery run` of the tiny request."""
    options = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in (REQUEST | {"store": store}).items()
    ]
    return execute(
        [sys.executable, "-m", "lotterylib.cli", "run", TASK, *options, *arguments], folder
    )


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def start(folder, classifier):
    """A store with nothing but the classifier of maps, which takes long to train."""
    lay_out(folder)
    shutil.copytree(classifier, folder / STORE)


def command(profile, *further, but=()):
    """The command of `lottery run --profile`, with options of Snakemake's own and of `lottery`."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in REQUEST.items()]
    options = cli.build_parser().parse_args(["run", TASK, *given, f"--store={STORE}", *but])
    made = grid.command(options, Path("notebooks", "profiles", profile))
    return [*made[:3], *further, *made[3:]]


def done(folder):
    """The stages that a grid has finished, as seed and notebook."""
    found = (folder / STORE / ".grid").rglob("*.done")
    return {(path.parent.name.removeprefix("seed-"), path.stem) for path in found}
