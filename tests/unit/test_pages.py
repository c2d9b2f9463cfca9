"""Pages: a run is kept whole or not at all, named by its task, and the same when made again."""

from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from lotterylib.errors import LotteryError
from lotterylib.report import pages
from tests.small import small_experiment


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Render a small template for CoLA; papermill's run takes no time, and may end in an error."""
    template, page = tmp_path / "02_pruning.ipynb", tmp_path / "tiny" / "cola" / "02_pruning.ipynb"
    injected = new_code_cell("task = 'cola'", metadata={"tags": ["injected-parameters"]})
    cells = [new_markdown_cell("# What was found\n\nMore."), injected]
    nbformat.write(new_notebook(cells=cells), template)

    def run(error=None):
        def execute(source, output, parameters, **_):
            notebook = nbformat.read(source, as_version=4)
            notebook.metadata["papermill"] = {"start_time": str(object()), "parameters": parameters}
            nbformat.write(notebook, output)
            if error:
                raise error

        monkeypatch.setattr(papermill, "execute_notebook", execute)
        pages.render(template, page, {"task": "cola"})
        return page

    return run


def test_a_page_names_its_task_and_is_the_same_when_made_again(render):
    first = render().read_bytes()
    made = nbformat.read(render(), as_version=4)
    assert made.cells[0].source == "# CoLA: what was found\n\nMore."
    assert made.cells[1].metadata["tags"] == ["injected-parameters", "hide-input"]
    assert made.metadata["papermill"] == {"parameters": {"task": "cola"}}
    assert render().read_bytes() == first


def test_a_failed_run_leaves_the_page_and_how_far_it_got_until_one_succeeds(render):
    page = render()
    good, failed = page.read_bytes(), page.with_suffix(".failed.ipynb")
    told = {"ename": "ValueError", "evalue": "It is so.", "traceback": []}
    with pytest.raises(LotteryError, match=r"02_pruning.ipynb failed in cell 3: ValueError: It is"):
        render(PapermillExecutionError(cell_index=1, exec_count=3, source="1", **told))
    assert page.read_bytes() == good
    assert sorted(page.parent.iterdir()) == [failed, page]
    assert sorted(render().parent.iterdir()) == [page]


def test_every_page_that_is_wanted_is_made_and_a_failure_is_its_own(tmp_path, monkeypatch):
    made = []

    def render(template, page, parameters):
        made.append(page.relative_to(tmp_path / "pages").as_posix())
        if template.stem == "01_finetune":
            raise LotteryError("It fails.")

    monkeypatch.setattr(pages, "render", render)
    monkeypatch.setattr("lotterylib.runs.run.why_alone", lambda: "the test looks on")
    wanted = ["01_finetune", "02_structured_pruning"]
    templates = [Path(f"{name}.ipynb") for name in (*wanted, "03_magnitude_pruning")]
    plan = [(small_experiment(tmp_path / "runs"), wanted)]
    failures = pages.render_all(plan, templates, tmp_path / "pages", jobs=1)
    assert made == [f"tiny/acceptability/{name}.ipynb" for name in wanted]
    place = tmp_path / "pages" / made[0]
    assert [(each.place, each.reason) for each in failures] == [(place, "It fails.")]
