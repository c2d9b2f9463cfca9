"""Pages: the notebook templates, run by papermill for one task and kept as pages of the book."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from lotterylib.data.custom import title_of_given
from lotterylib.data.files import HOME, write_whole
from lotterylib.errors import LotteryError, reason_of
from lotterylib.report.identity import (
    TEMPLATE,
    claim,
    folder_of_pages,
    holds_others,
    requests_of,
)
from lotterylib.report.published import publish
from lotterylib.runs.jobs import Plan, pieces_of
from lotterylib.runs.run import Failure, FollowUp, compute_pieces
from lotterylib.runs.settings import given_by
from lotterylib.tasks import TASKS

OVERVIEW, AUDIT = "08_overview.ipynb", "12_audit.ipynb"
"""The templates that are not about one task."""

TICKETS = "13_whole_lottery.ipynb"
"""The template of one task whose page `lottery tickets` makes."""

LOTTERY, AUTHORS = "lottery", "authors"
"""Folders among those of encoders: for pages of the whole lottery that were made from another
request than the encoder's other pages, and for pages about the authors' own subnetworks."""

_SCRATCH = ".page-"
"""How the folders begin in which pages are made, beside the pages."""

_SECONDS = 8.0
"""What a page is expected to take."""


def templates(folder: Path) -> list[Path]:
    """The notebook templates of a folder, in their order.

    Raises:
        LotteryError: there are none, or one is damaged.
    """
    found = sorted(path for path in folder.glob("*.ipynb") if TEMPLATE.fullmatch(path.name))
    if not found:
        raise LotteryError(
            f"{folder} holds no notebook templates: run from the repository, or name their folder "
            "with --notebooks."
        )
    for path in found:
        try:
            nbformat.read(path, as_version=4)
        except (OSError, ValueError, RecursionError, KeyError, AttributeError) as error:
            reason = f"{error}".splitlines()[0][:80] or type(error).__name__
            raise LotteryError(f"The template {path} is no readable notebook: {reason}.") from None
    return found


def find_template(templates: Sequence[Path], name: str) -> Path:
    """The template of that file name.

    Raises:
        LotteryError: it is not among them.
    """
    for template in templates:
        if template.name == name:
            return template
    raise LotteryError(f"The notebook templates lack {name}.")


def render(template: Path, page: Path, parameters: Mapping[str, Any]) -> None:
    """Run a template and keep it, with its outputs, as a page.

    The page appears only if the run succeeds, so a failure never replaces a good page; what a
    failed run had got to is kept beside it as `<name>.failed.ipynb`.

    Raises:
        LotteryError: a cell failed.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    failed = page.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=page.parent) as scratch:
        output = Path(scratch) / page.name
        given = str(template), str(output), dict(parameters)
        try:
            with _kernel_at_home():
                papermill.execute_notebook(*given, progress_bar=False, cwd=os.getcwd())
        except PapermillExecutionError as error:
            output.rename(failed)
            raise LotteryError(
                f"{template.name} failed in cell {error.exec_count}: {error.ename}: {error.evalue} "
                f"(as far as it got: {failed})"
            ) from None
        _settle(output, title_of_given(parameters["task"]) if "task" in parameters else "")
        output.replace(page)
    failed.unlink(missing_ok=True)


@contextmanager
def _kernel_at_home() -> Iterator[None]:
    """Have kernels count paths from here, and keep what one prints about itself off the terminal,
    unless it fails to run at all.
    """
    sys.stderr.flush()
    terminal, before = os.dup(2), dict(os.environ)
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # pages need no moving bars
    os.environ[HOME] = os.getcwd()  # from where the paths among the parameters are counted
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except PapermillExecutionError:
            raise  # the failing cell tells it all
        except Exception:
            chatter.seek(0)
            os.write(terminal, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            for name in ("PYTHONWARNINGS", HOME):
                del os.environ[name]
            os.environ.update(before)


def render_all(
    plan: Plan, templates: Sequence[Path], pages: Path, jobs: int = 0, replace: bool = False
) -> list[Failure]:
    """Render every wanted page of a plan, each as soon as the jobs that it shows are done; those
    that the store lacks are computed. Pages of another request stay until all of a task's are.

    Args:
        plan: what is wanted.
        templates: the notebooks.
        pages: the folder of the published pages.
        jobs: how many jobs and pages at once; 0 as in `compute_pieces`.
        replace: whether pages of another request may go.

    Returns:
        The jobs and pages that failed; not those pages that lack a job (`without_failures`).
    """
    found: dict[Path, FollowUp] = {}
    for experiment, wanted in plan:
        mine = requests_of([(experiment, wanted)], pages)
        begin = partial(claim, mine, replace=replace)
        parameters = given_by(experiment.settings)
        ((folder, request),) = mine.items()
        everything = pieces_of([(experiment, wanted)]) if holds_others(folder, request) else None
        for template in (each for each in templates if each.stem in wanted):
            page = folder / template.name
            needs = everything or pieces_of([(experiment, [template.stem])])
            given = template, page, parameters
            found[page] = FollowUp(str(page), needs.keys(), begin, _rendered, given, _SECONDS)
    try:
        failures = compute_pieces(pieces_of(plan), jobs, found)
    finally:  # what was begun by processes that had to end
        for folder in {page.parent for page in found}:
            for scratch in folder.glob(f"{_SCRATCH}*"):
                shutil.rmtree(scratch, ignore_errors=True)
    return [each for each in failures if each.itself or each.place not in found]


def _rendered(*given: Any) -> str:
    render(*given)
    return "rendered"


def publish_all(plan: Plan, pages: Path) -> list[Failure]:
    """Publish the tables of every task of a plan beside its pages; what goes wrong is returned."""
    failures = []
    for experiment, wanted in plan:
        folder = folder_of_pages(experiment, pages)
        try:
            publish(experiment, wanted, folder)
        except Exception as error:
            failures.append(Failure(folder, f"The tables in {folder}", reason_of(error)))
    return failures


def render_overview(encoder: str, templates: Sequence[Path], pages: Path) -> None:
    """Render the page over all tasks of an encoder, and list the pages in the book's contents."""
    page = pages / encoder / "overview" / OVERVIEW
    try:
        given = {"encoder": encoder, "pages": str(pages)}
        render(find_template(templates, OVERVIEW), page, given)
        print(f"Rendered {page}", file=sys.stderr)
    finally:
        write_contents(pages)


def try_overview(encoder: str, templates: Sequence[Path], pages: Path) -> list[Failure]:
    """`render_overview`; what goes wrong is returned."""
    try:
        render_overview(encoder, templates, pages)
    except Exception as error:
        page = pages / encoder / "overview" / OVERVIEW
        return [Failure(page, str(page), reason_of(error))]
    return []


def write_contents(pages: Path) -> None:
    """Have the contents of the book in which the folder of pages lies, if any, list its pages."""
    contents = pages.parent / "_toc.yml"
    if not contents.is_file():
        return
    order = {name: place for place, name in enumerate(["overview", *TASKS])}
    chapters = []

    def place(folder: Path) -> tuple[int, str, int]:
        part = {LOTTERY: 1, AUTHORS: 2}.get(folder.relative_to(pages).parts[0], 0)
        return part, folder.parent.name, order.get(folder.name, len(order))

    folders = [*pages.glob("*/*"), *pages.glob(f"{LOTTERY}/*/*")]
    for folder in sorted(folders, key=place):
        found = sorted(page for page in folder.glob("*.ipynb") if TEMPLATE.fullmatch(page.name))
        files = [page.relative_to(pages.parent).with_suffix("").as_posix() for page in found]
        if files:
            first, *others = ({"file": file} for file in files)
            chapters.append(first | ({"sections": others} if others else {}))
    book = yaml.safe_load(contents.read_text(encoding="utf-8"))
    (runs,) = (part for part in book["parts"] if part.get("caption") == "The runs")
    runs["chapters"] = chapters
    write_whole(contents, yaml.safe_dump(book, sort_keys=False))


def _settle(path: Path, title: str) -> None:
    """Name the task in the page's heading, take out what differs between two equal runs, and store
    pictures with 256 colours, in a third of the bytes.
    """
    notebook = nbformat.read(path, as_version=4)
    if title:
        heading, *rest = notebook.cells[0].source.split("\n", 1)
        topic = heading.removeprefix("# ")
        notebook.cells[0].source = "\n".join([f"# {title}: {topic[0].lower()}{topic[1:]}", *rest])
    volatile = ("start_time", "end_time", "duration", "input_path", "output_path")
    for name in (*volatile, "environment_variables"):
        notebook.metadata.get("papermill", {}).pop(name, None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        tags = cell.metadata.get("tags", [])
        # folded, as the defaults are
        if "injected-parameters" in tags and "hide-input" not in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = _fewer_colours(picture)
    nbformat.write(notebook, path)


def _fewer_colours(picture: str) -> str:
    """A PNG in base64, its colours reduced to a palette of 256."""
    colours = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    colours.quantize(256, dither=Image.Dither.NONE).save(made := io.BytesIO(), "PNG", optimize=True)
    return base64.b64encode(made.getvalue()).decode()
