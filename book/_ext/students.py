"""Notebooks for students, made from the chapters: the same cells, with blanks for the solutions.

As an extension of Sphinx it writes `students/<chapter>.ipynb` beside the pages of the built book.
By hand: `python book/_ext/students.py book/students`.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from pybtex.database import parse_file
from sphinx.config import Config
from sphinx.directives.code import LiteralIncludeReader

CHAPTERS = Path(__file__).parents[1] / "chapters"


def chapters() -> list[Path]:
    """The chapters with exercises, that is, with cells tagged "solution"."""
    return [path for path in sorted(CHAPTERS.glob("*.md")) if ", solution]" in path.read_text()]


class Exercise(NamedTuple):
    """An exercise, as the head of its admonition has it; what it `shows` is for teachers."""

    number: str
    title: str
    kind: str
    level: str
    minutes: int
    shows: str
    chapter: str


EXERCISE = re.compile(
    r"\{admonition\} Exercise (\d\.\d) · (.+?) · (predict|change|write|predict and change)"
    r" · (easy|medium|hard) · (\d+) minutes\n:class: exercise\n% shows: (.+)\n"
)


def exercises() -> list[Exercise]:
    """All exercises of the chapters, by number."""
    return sorted(
        Exercise(*told, int(minutes), shows, path.stem)
        for path in chapters()
        for *told, minutes, shows in EXERCISE.findall(path.read_text(encoding="utf-8"))
    )


def student_notebook(chapter: Path) -> nbformat.NotebookNode:
    """A chapter as a notebook in which the learner fills in what the solutions hold."""
    notebook = read_myst_markdown_notebook(chapter.read_text(encoding="utf-8"))
    cells = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            source = blanks(cell.source) if "solution" in tags else with_scripts(cell.source)
            if "acting(" in source:
                cells.append(nbformat.v4.new_code_cell(ACTING, metadata=HIDDEN))
            hidden = HIDDEN if "check" in tags else {}
            cells.append(nbformat.v4.new_code_cell(source, metadata=hidden))  # checks hold hints
        else:
            # A heading begins a cell, so that all cells above it can be run.
            parts = re.split(r"^(?=## )", cell.source, flags=re.MULTILINE)
            texts = [plain_markdown(part, chapter.parent) for part in parts]
            cells += [nbformat.v4.new_markdown_cell(text.rstrip()) for text in texts if text.strip()]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    notebook.cells = cells
    start = (
        "*Run this notebook in `book/students` of the repository, or another folder in `book`, with "
        "`lotterylib` installed. A warning that IProgress is not found is harmless.*"
    )
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(start, id="start"))
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return notebook


def blanks(solution: str) -> str:
    """A solution without what it solves: names without values, functions without bodies."""
    left = []
    for statement in ast.parse(solution).body:
        if isinstance(statement, ast.FunctionDef):
            todo = ast.parse("raise NotImplementedError('Write this function.')").body
            statement.body = [*statement.body[: bool(ast.get_docstring(statement))], *todo]
        elif isinstance(statement, ast.Assign):
            (target,) = statement.targets
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            blank = [ast.Constant(...) for _ in names]
            statement.value = ast.Tuple(blank) if len(names) > 1 else blank[0]
        elif not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        left.append(ast.unparse(statement))
    return "# Your turn: replace what is missing, then run the next cell.\n" + "\n".join(left)


HIDDEN = {"jupyter": {"source_hidden": True}}
"""Metadata of a cell whose code is folded."""

ACTING = '''
from pathlib import Path


def acting(name):
    """The scripts and styles that the book's page has, so that the picture acts here too."""
    names = "acting.js", f"{name}.js", "acting.css", "pictures.css"
    files = [Path("../_static", name).read_text(encoding="utf-8") for name in names]
    scripts, styles = "".join(files[:2]), "".join(files[2:])
    return f"<style>{styles}</style><script>{{{scripts}acting.draw();}}</script>"
'''.strip()
"""What a cell with a picture needs where the book's page is not around it."""


def with_scripts(source: str) -> str:
    """The code of a cell; if it draws a picture, with the scripts that make it act."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id == "HTML":
            text = ast.get_source_segment(source, picture := call.args[0])
            return source.replace(text, f'{text} + acting("{picture.func.id}")')
    return source


def plain_markdown(text: str, folder: Path) -> str:
    """MyST's directives and roles as the Markdown that every notebook shows."""

    def source(match: re.Match) -> str:
        path, options = folder / match[1], re.findall(r"^:([\w-]+): (.+)$", match[2], re.MULTILINE)
        reader = LiteralIncludeReader(str(path), {**dict(options), "dedent": None}, Config())
        return f"From `{path.resolve().name}`:\n\n```python\n{reader.read()[0].rstrip()}\n```"

    text = re.sub(r"```\{literalinclude\} (\S+)\n(.*?)```", source, text, flags=re.DOTALL)
    text = re.sub(
        r"```\{figure\} (\S+)\n.*?:alt: ([^\n]+)\n\n(.*?)```",
        r"![\2](\1)\n\n\3",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(
        r":::\{admonition\} ([^\n]+)\n(?::class: [^\n]+\n)?(.*?):::",
        r"**\1**\n\n\2",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r"^% .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\s*\*\*Notebook:\*\* <a [^>]*>.*?</a>\.", "", text)
    text = re.sub(r"\{cite:([pt])\}`(\w+)`", lambda found: cited(found[2], found[1] == "p"), text)
    text = re.sub(r"\{(?:doc|download)\}`([^`<]+?) <[^`]*>`", r"*\1*", text)
    text = re.sub(r"\{doc\}`([^`]+)`", lambda found: f"*{page_title(folder / found[1])}*", text)
    return re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)


def cited(key: str, in_brackets: bool) -> str:
    """A source as the book's pages name it, such as "Prasanna et al. (2020)"."""
    source = parse_file(str(CHAPTERS.parent / "references.bib")).entries[key]
    first, *others = (" ".join(person.last_names) for person in source.persons["author"])
    more = f" and {others[0]}" if len(others) == 1 else " et al." if others else ""
    year = source.fields["year"]
    return f"({first}{more}, {year})" if in_brackets else f"{first}{more} ({year})"


def page_title(page: Path) -> str:
    """The title of a page, which may be Markdown or a notebook."""
    if (text := page.with_suffix(".md")).is_file():
        return re.search(r"^# (.+)$", text.read_text(encoding="utf-8"), re.MULTILINE)[1]
    notebook = json.loads(page.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return "".join(notebook["cells"][0]["source"]).splitlines()[0].removeprefix("# ")


def write(folder: Path) -> None:
    """Write the notebooks of all chapters."""
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in chapters():
        nbformat.write(student_notebook(chapter), folder / f"{chapter.stem}.ipynb")


def setup(app) -> dict:
    """Register with Sphinx."""

    def finished(app, error):
        if error is None:
            write(Path(app.outdir) / "students")

    app.connect("build-finished", finished)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
