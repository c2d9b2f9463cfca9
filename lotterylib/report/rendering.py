"""Rendering: the pages of tasks, made from what a run has computed, several at once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from lotterylib.errors import LotteryError, reason_of
from lotterylib.report.pages import (
    OVERVIEW,
    find_template,
    page_path,
    render,
    write_contents,
)
from lotterylib.report.published import publish
from lotterylib.report.results import load_results
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Plan
from lotterylib.runs.pool import Workers
from lotterylib.runs.run import Failure, processes, without_failures
from lotterylib.runs.settings import given_by


def check_pages(experiments: Sequence[Experiment], pages: Path) -> None:
    """Refuse to replace the pages of a run that was done otherwise.

    Raises:
        LotteryError: a task's pages are there, of another preset or amount.
    """
    there = load_results(pages)
    for experiment in experiments:
        amounts = len(experiment.data.train), experiment.recipe.epochs
        mine = (experiment.settings.how, experiment.settings.budget, *amounts)
        ours = (there["encoder"] == experiment.encoder.name) & (
            there["task"] == experiment.task.name
        )
        for other in (
            there.loc[ours, ["preset", "budget", "train_rows", "epochs"]]
            .drop_duplicates()
            .itertuples(index=False)
        ):
            if tuple(other) != mine:
                raise LotteryError(
                    f"{pages} holds pages of {experiment.task.title} with preset {other[0]}, "
                    f"budget {other[1]}, {other[2]} training rows and {other[3]} epochs; name "
                    "another folder with --pages to keep both."
                )


def render_all(plan: Plan, templates: Sequence[Path], pages: Path, jobs: int = 0) -> list[Failure]:
    """Render every wanted page of a plan, several at once, and publish the tables beside them.

    Args:
        plan: what is wanted.
        templates: the notebooks.
        pages: the folder of the published pages.
        jobs: how many at once; 0 as in `compute_all`.

    Returns:
        The pages that failed; their tasks' tables are not written.
    """
    failures = []
    rendered: dict[Future, tuple[str, Path]] = {}
    try:
        with Workers(jobs or processes()) as workers:
            for experiment, wanted in plan:
                name, parameters = experiment.task.name, given_by(experiment.settings)
                for template in (each for each in templates if each.stem in wanted):
                    page = page_path(pages, experiment.encoder.name, name, template)
                    rendered[workers.submit(render, template, page, parameters)] = name, page
            for job in as_completed(rendered):
                task, page = rendered[job]
                try:
                    job.result()
                except (LotteryError, BrokenProcessPool) as error:
                    print(f"{page} FAILED: {error}", file=sys.stderr)
                    failures.append(Failure(task, str(page), reason_of(error)))
                else:
                    print(f"Rendered {page}", file=sys.stderr)
    finally:  # what was begun by processes that had to end
        for scratch in {
            place for _, page in rendered.values() for place in page.parent.glob("tmp*")
        }:
            shutil.rmtree(scratch, ignore_errors=True)
    folders: dict[Path, list[tuple[Experiment, Sequence[str]]]] = {}
    for experiment, wanted in without_failures(plan, failures):
        folder = pages / experiment.encoder.name / experiment.task.name
        folders.setdefault(folder, []).append((experiment, wanted))
    for folder, parts in folders.items():
        publish(parts, folder)
    return failures


def render_overview(encoder: str, templates: Sequence[Path], pages: Path) -> None:
    """Render the page over all tasks of an encoder, and list the pages in the book's contents."""
    template = find_template(templates, OVERVIEW)
    page = page_path(pages, encoder, "overview", template)
    render(template, page, {"encoder": encoder, "pages": str(pages)})
    print(f"Rendered {page}", file=sys.stderr)
    contents = pages.parent / "_toc.yml"
    if contents.is_file():
        write_contents(contents, pages)
