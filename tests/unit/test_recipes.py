"""The recipes of CONTRIBUTING's "Adding things", as the book tells them, followed literally."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from lotterylib.data.grammar import generate
from tests.models import family
from tests.shared import execute

ROOT = Path(__file__).parents[2]
CHAPTERS = ROOT / "book" / "chapters"
RECIPES = re.findall(
    r"\{code-block\} diff\n:caption: \"The (\w+) [^\n]*\n(.*?)```.*?```python\n(.*?)```",
    (CHAPTERS / "extend.md").read_text(),
    re.DOTALL,
)


def pairs(folder):
    """Pairs of sentences in the columns of BoolQ."""
    folder.joinpath("SuperGLUE", "boolq").mkdir(parents=True)
    for split in ("train", "validation"):
        table = pd.DataFrame(generate("entailment", split, 60))
        table.columns = ["question", "passage", "label"]
        table.to_parquet(folder / "SuperGLUE" / "boolq" / f"{split}.parquet")
    return ""


def hub(folder):
    """A small model of the same family in place of the one on the hub."""
    there = str(family(folder / "hub", "bert"))
    return (
        f"import lotterylib.data.pretrained as p\np._hub_snapshot = lambda *_: p.Path({there!r})\n"
    )


def test_the_patches_of_the_book_fit_the_library_and_do_what_they_say(tmp_path):
    shutil.copytree(ROOT / "lotterylib", tmp_path / "lotterylib")
    needs = {"method": "", "task": pairs(tmp_path), "encoder": hub(tmp_path)}
    assert [name for name, *_ in RECIPES] == list(needs)
    for _, patch, _ in RECIPES:
        subprocess.run(["git", "apply", "-p0"], input=patch, cwd=tmp_path, text=True, check=True)
    script = "\n".join(needs[name] + code for name, _, code in RECIPES)
    done = execute([sys.executable, "-c", script], tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.said
    assert done.said.count("accuracy") == 3  # each recipe ends with a score
