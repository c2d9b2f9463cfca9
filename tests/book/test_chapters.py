"""The chapters that teach: exercises that can be solved, and fail until they are."""

import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from myst_nb.core.read import read_myst_markdown_notebook
from PIL import Image

from lotterylib.importance import Importance
from lotterylib.report.pictures.film import film
from lotterylib.report.published import load_searches
from lotterylib.structured import search_structured
from lotterylib.subnetworks import StructuredSubnetwork
from tests.shared import watched

BOOK = Path(__file__).parents[2] / "book"


def extension(name):
    """One of the book's extensions of Sphinx, which are not on the path."""
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


students, slides = extension("students"), extension("slides")
CHAPTERS = students.chapters()


def each_chapter(test):
    return pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)(test)


@pytest.mark.parametrize(
    "chapter",
    [  # that chapter fine-tunes a real encoder and searches it three times
        pytest.param(path, id=path.stem, marks=[pytest.mark.long] * (path.stem == "python"))
        for path in CHAPTERS
    ],
)
def test_solutions_pass_and_say_so_and_blanks_fail(chapter, monkeypatch, capsys):
    monkeypatch.chdir(chapter.parent)
    cells = read_myst_markdown_notebook(chapter.read_text()).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    names, was_solved = {}, False
    for cell, check in zip(code, [*code[1:], None], strict=True):
        is_solution = "solution" in cell.metadata.get("tags", [])
        if is_solution:
            exec(students.blanks(cell.source), names)
            with pytest.raises((AssertionError, NotImplementedError)) as failed:
                exec(check.source, names)
            assert str(failed.value), "a check tells the learner what to look at"
        capsys.readouterr()
        exec(cell.source, names)
        if was_solved:
            assert capsys.readouterr().out, "a check that passes says why"
        was_solved = is_solution


@each_chapter
def test_a_student_notebook_has_the_exercises_without_solutions_and_plain_markdown(chapter):
    notebook = students.student_notebook(chapter)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert any(cell.source.startswith("## Exercises") for cell in notebook.cells)
    pictures = re.findall(r"^HTML\((\w+)\(.+\) \+ acting\(\"(\w+)\"\)\)$", text, re.MULTILINE)
    assert len(pictures) == len(re.findall(r"^HTML\(", chapter.read_text(), re.MULTILINE))
    assert all(picture == script for picture, script in pictures)
    assert text.count("def acting(") == len(pictures)
    assert text.count("# Your turn") == len(
        re.findall(r"admonition\} Exercise", chapter.read_text())
    )
    assert not re.search(
        r"^% |`\{|\{(doc|cite|download|figure|literalinclude|admonition)|:::|<a ",
        text,
        re.MULTILINE,
    )


def test_a_picture_acts_in_a_notebook_without_the_books_page(chromium, tmp_path, monkeypatch):
    monkeypatch.chdir(CHAPTERS[0].parent)  # a folder in the book, as that of the notebooks is
    exec(students.ACTING, space := {})
    pages, place, problems = BOOK / "results" / "minilm" / "mrpc", tmp_path / "output.html", []
    picture = film(load_searches(pages), "accuracy", 0.9)
    place.write_text(f'<meta charset="utf-8">{2 * (picture + space["acting"]("film"))}')
    page = watched(chromium, problems)
    page.goto(place.as_uri())
    first, second = (page.locator(".acting").nth(number) for number in range(2))
    before = second.inner_text()
    first.get_by_role("button", name="Forward").press("Enter")
    assert "State 1 of" in first.inner_text()
    assert second.inner_text() == before
    line = first.locator("svg path").first
    assert line.evaluate("each => getComputedStyle(each).stroke") not in ("none", "rgb(0, 0, 0)")
    assert not problems


def test_student_notebooks_name_sources_and_pages_as_the_book_does():
    text = "See {cite:t}`prasanna2020`, {cite:p}`frankle2019`, {doc}`search`, {doc}`such <gates>`."
    assert students.plain_markdown(text, BOOK / "chapters") == (
        "See Prasanna et al. (2020), (Frankle and Carbin, 2019), "
        "*The search for a good subnetwork*, *such*."
    )


@each_chapter
def test_a_chapter_says_what_it_gives_and_takes_and_an_exercise_how_hard_it_is(chapter):
    text = chapter.read_text()
    for word in ("**You learn**", "**You need**", "**Time:**", f"students/{chapter.stem}.ipynb"):
        assert word in text
    told = [each for each in students.exercises() if each.chapter == chapter.stem]
    assert len(told) == text.count("{admonition} Exercise") > 0
    assert "{literalinclude} ../../lotterylib/" in text


@pytest.mark.parametrize("name", slides.DIAGRAMS)
def test_a_diagram_can_be_read_on_a_phone_and_on_slides(name):
    svg = (BOOK / "_static" / f"{name}.svg").read_text()
    width = float(re.search(r'viewBox="0 0 (\d+)', svg)[1])
    sizes = [float(size) for size in re.findall(r'font-size="(\d+)"', svg)]
    assert min(sizes) * 342 / width >= 9  # CSS pixels of the text column of a screen 390 wide
    used = [path.stem for path in CHAPTERS if f"_static/{name}.svg" in path.read_text()]
    assert len(used) == 1
    # and that for slides was drawn from it
    with Image.open(BOOK / "_static" / f"{name}.png") as image:
        assert image.text["Drawn from"] == slides.digest(BOOK / "_static" / f"{name}.svg"), (
            "Draw it anew: python book/_ext/slides.py"
        )
        assert "CC BY 4.0" in image.text["Source"]


def test_every_figure_for_slides_is_drawn_and_has_a_caption():
    assert [name for name, _ in slides.plots()] == list(slides.PLOTS)


def test_the_search_printed_on_the_handout_is_the_librarys():
    text = (BOOK / "chapters" / "handout.md").read_text(encoding="utf-8")
    worth = np.array(re.findall(r"\| Layer \d \| (\d) \| (\d) \| (\d) \|", text), dtype=float)
    heads, mlps = worth[:, :2], worth[:, 2]

    def measure(kept):
        lost = heads[~kept.heads].sum() + mlps[~kept.mlps].sum()
        return Importance(heads, mlps), 100 - lost

    full = StructuredSubnetwork(np.ones((2, 2), dtype=bool), np.ones(2, dtype=bool))
    steps = search_structured(measure, full)[1:]
    printed = re.findall(r"(\d+) (✓|✗)", text)
    assert printed == [(f"{step.score:.0f}", "✓" if step.kept else "✗") for step in steps]
