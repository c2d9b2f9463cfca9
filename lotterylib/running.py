"""Running: all cells of a plan with progress and time left, then its pages.

A plan is a list of experiments, each with the names of the pages that are wanted of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lotterylib.cells import cells_of, compute, is_done
from lotterylib.errors import LotteryError
from lotterylib.experiment import Experiment
from lotterylib.methods import CORE, EXTRAS, SEVERAL_SEEDS
from lotterylib.pages import (
    OVERVIEW,
    find_template,
    page_path,
    parameters_of,
    render,
    write_contents,
)
from lotterylib.published import publish
from lotterylib.results import load_results

Plan = Sequence[tuple[Experiment, Sequence[str]]]


def check_pages(experiments: Sequence[Experiment], pages: Path) -> None:
    """Refuse to replace the pages of a run that was done otherwise.

    Raises:
        LotteryError: a task's pages are there, of another preset or budget.
    """
    there = load_results(pages)
    for experiment in experiments:
        mine = experiment.preset.name, experiment.settings.budget
        ours = (there["encoder"] == experiment.encoder.name) & (
            there["task"] == experiment.task.name
        )
        for other in (
            there.loc[ours, ["preset", "budget"]].drop_duplicates().itertuples(index=False)
        ):
            if tuple(other) != mine:
                raise LotteryError(
                    f"{pages} holds pages of {experiment.task.title} with preset {other[0]} and "
                    f"budget {other[1]}; name another folder with --pages to keep both."
                )


def pages_wanted(experiment: Experiment, extras: Sequence[str], pages: Path) -> list[str]:
    """The pages to make: those of every run, those asked for, and those that are there already."""
    place = pages / experiment.encoder.name / experiment.task.name
    wanted = [
        *CORE,
        *(
            page
            for name, page in EXTRAS.items()
            if name in extras or (place / f"{page}.ipynb").is_file()
        ),
    ]
    if len(experiment.settings.seeds) < 2:
        print(
            f"{experiment.task.title}: with one seed there is no agreement over seeds, so no pages "
            "on stability and super-survivors.",
            file=sys.stderr,
        )
        wanted = [name for name in wanted if name not in SEVERAL_SEEDS]
    return wanted


def compute_all(plan: Plan) -> None:
    """Compute what the store lacks, saying on standard error what was found and what is left."""
    cells = [
        (experiment, cell) for experiment, pages in plan for cell in cells_of(experiment, pages)
    ]
    missing = [(experiment, cell) for experiment, cell in cells if not is_done(experiment, cell)]
    print(
        f"{len(cells)} cells, {len(cells) - len(missing)} of them in the store already.",
        file=sys.stderr,
    )
    if not missing:
        return
    effort = sum(cell.effort * len(e.data.train) for e, cell in missing)
    bar_format = "{percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left  {desc}"
    with tqdm(total=effort, bar_format=bar_format, mininterval=1.0) as bar:
        for experiment, cell in missing:
            name = f"{experiment.task.title}, seed {cell.seed}: {cell.label}"
            size, start = cell.effort * len(experiment.data.train), bar.n

            def report(
                share: float, found: str, name: str = name, size: float = size, start: float = start
            ) -> None:
                bar.set_description_str(f"{name} ({found})", refresh=False)
                bar.update(start + share * size - bar.n)

            bar.set_description_str(name)
            began = time.monotonic()
            found = compute(experiment, cell, report)
            bar.update(start + size - bar.n)
            bar.write(f"{name}: {found} ({time.monotonic() - began:.0f} s)", file=sys.stderr)


def render_all(plan: Plan, templates: Sequence[Path], pages: Path) -> None:
    """Render every wanted page of a plan, and publish the tables beside them."""
    for experiment, wanted in plan:
        place = (pages, experiment.encoder.name, experiment.task.name)
        for template in (each for each in templates if each.stem in wanted):
            page = page_path(*place, template)
            print(f"Rendering {page}", file=sys.stderr)
            render(template, page, parameters_of(experiment.settings))
        publish(experiment, Path(*place), wanted)


def render_overview(encoder: str, templates: Sequence[Path], pages: Path) -> None:
    """Render the page over all tasks of an encoder, and list the pages in the book's contents."""
    template = find_template(templates, OVERVIEW)
    page = page_path(pages, encoder, "overview", template)
    print(f"Rendering {page}", file=sys.stderr)
    render(template, page, {"encoder": encoder, "pages": str(pages)})
    contents = pages.parent / "_toc.yml"
    if contents.is_file():
        write_contents(contents, pages)
