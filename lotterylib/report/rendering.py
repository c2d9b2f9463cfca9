"""Rendering: the pages of tasks, made from what a run has computed, several at once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from pathlib import Path

from lotterylib.errors import reason_of
from lotterylib.report import identity
from lotterylib.report.pages import (
    OVERVIEW,
    SCRATCH,
    find_template,
    page_path,
    render,
    write_contents,
)
from lotterylib.report.published import publish
from lotterylib.runs.jobs import Plan
from lotterylib.runs.pool import Alone, Workers, why_alone
from lotterylib.runs.run import Failure, processes
from lotterylib.runs.settings import given_by


def render_all(
    plan: Plan, templates: Sequence[Path], pages: Path, jobs: int = 0, replace: bool = False
) -> list[Failure]:
    """Render every wanted page of a plan, several at once, and publish the tables beside them.

    Args:
        plan: what is wanted.
        templates: the notebooks.
        pages: the folder of the published pages.
        jobs: how many at once; 0 as in `compute_all`.
        replace: whether pages of another request may go.

    Returns:
        The pages and tables that failed.

    Raises:
        LotteryError: as `identity.refuse_others`.
    """
    identity.claim(identity.requests_of(plan, pages), replace=replace)
    failures = []
    hint = ": open it in Jupyter or VS Code while the others are made"
    rendered: dict[Future, Path] = {}
    try:
        with Alone() if why_alone() else Workers(jobs or processes()) as workers:
            for experiment, wanted in plan:
                name, parameters = experiment.task.name, given_by(experiment.settings)
                for template in (each for each in templates if each.stem in wanted):
                    page = page_path(pages, experiment.encoder.name, name, template)
                    rendered[workers.submit(render, template, page, parameters)] = page
            for job in as_completed(rendered):
                page = rendered[job]
                try:
                    job.result()
                except Exception as error:  # whatever goes wrong is this page's failure alone
                    print(f"{page} FAILED: {reason_of(error)}", file=sys.stderr)
                    failures.append(Failure(page, str(page), reason_of(error)))
                else:
                    print(f"Rendered {page}{hint}", file=sys.stderr)
                    hint = ""
    finally:  # what was begun by processes that had to end
        for folder in {page.parent for page in rendered.values()}:
            for scratch in folder.glob(f"{SCRATCH}*"):
                shutil.rmtree(scratch, ignore_errors=True)
    for folder, parts in identity.by_folder(plan, pages).items():
        try:
            publish(parts, folder)
        except Exception as error:
            failures.append(Failure(folder, f"The tables in {folder}", reason_of(error)))
    return failures


def render_overview(encoder: str, templates: Sequence[Path], pages: Path) -> None:
    """Render the page over all tasks of an encoder, and list the pages in the book's contents."""
    template = find_template(templates, OVERVIEW)
    page = page_path(pages, encoder, "overview", template)
    try:
        render(template, page, {"encoder": encoder, "pages": str(pages)})
        print(f"Rendered {page}", file=sys.stderr)
    finally:
        contents = pages.parent / "_toc.yml"
        if contents.is_file():
            write_contents(contents, pages)


def try_overview(encoder: str, templates: Sequence[Path], pages: Path) -> list[Failure]:
    """`render_overview`; what goes wrong is returned."""
    try:
        render_overview(encoder, templates, pages)
    except Exception as error:
        page = pages / encoder / "overview" / OVERVIEW
        return [Failure(page, str(page), reason_of(error))]
    return []
