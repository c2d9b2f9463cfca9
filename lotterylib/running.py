"""Running: all cells of a plan with progress and time left, then its pages.

A plan is a list of experiments, each with the names of the pages that are wanted of it. A task may
stand in it twice, with all seeds for some pages and with fewer for others.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from tqdm import tqdm

from lotterylib.cells import Cell, cells_of, compute, is_done, key_of, wave_of
from lotterylib.errors import LotteryError
from lotterylib.experiment import Experiment, open_experiment
from lotterylib.methods import CORE, EXTRAS, SEVERAL_SEEDS
from lotterylib.pages import (
    OVERVIEW,
    find_template,
    page_path,
    parameters_of,
    render,
    write_contents,
)
from lotterylib.pattern_counts import classifier
from lotterylib.published import publish
from lotterylib.results import load_results
from lotterylib.settings import Settings

Plan = Sequence[tuple[Experiment, Sequence[str]]]
Work = Sequence[tuple[Experiment, Cell]]


def check_pages(experiments: Sequence[Experiment], pages: Path) -> None:
    """Refuse to replace the pages of a run that was done otherwise.

    Raises:
        LotteryError: a task's pages are there, of another preset or amount.
    """
    there = load_results(pages)
    for experiment in experiments:
        amounts = len(experiment.data.train), experiment.recipe.epochs
        mine = (experiment.preset.name, experiment.settings.budget, *amounts)
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


def in_parts(experiment: Experiment, wanted: Sequence[str], extra_seeds: int) -> Plan:
    """The pages of every run with all seeds, and the extras with the first few of them.

    Args:
        experiment: with all seeds.
        wanted: its pages.
        extra_seeds: how many seeds the pages of `EXTRAS` get; 0 for all.
    """
    seeds, extras = experiment.settings.seeds, [name for name in wanted if name not in CORE]
    if not extras or not 0 < extra_seeds < len(seeds):
        return [(experiment, wanted)]
    settings = replace(experiment.settings, seeds=seeds[:extra_seeds])
    fewer = Experiment(settings, experiment.encoder, experiment.data)
    return [(experiment, [name for name in wanted if name in CORE]), (fewer, extras)]


def compute_all(plan: Plan, jobs: int = 0) -> None:
    """Compute what the store lacks, saying on standard error what was found and what is left.

    Args:
        plan: what is wanted.
        jobs: processes that compute cells at the same time; 0 for one per processor (at most four),
            or a single one where there is a GPU. A single one also shows the progress within a
            cell.
    """
    wanted = {  # what two parts of a run have in common once
        (experiment.store.root, key_of(experiment, cell).path): (experiment, cell)
        for experiment, pages in plan
        for cell in cells_of(experiment, pages)
    }
    cells = list(wanted.values())
    missing = [(experiment, cell) for experiment, cell in cells if not is_done(experiment, cell)]
    print(
        f"{len(cells)} cells, {len(cells) - len(missing)} of them in the store already.",
        file=sys.stderr,
    )
    if not missing:
        return
    if not jobs:
        jobs = 1 if torch.cuda.is_available() else _workers()
    for store in {
        e.store.root: e.store for e, cell in missing if cell.stage == "patterns"
    }.values():
        print("The classifier of attention maps comes first.", file=sys.stderr)
        classifier(store)  # otherwise every process would train it
    effort = sum(_effort(*each) for each in missing)
    bar_format = "{percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left  {desc}"
    with tqdm(total=effort, bar_format=bar_format, mininterval=1.0) as bar:
        (_compute_apart if jobs > 1 and len(missing) > 1 else _compute_here)(missing, bar, jobs)


def _compute_here(missing: Work, bar: tqdm, _jobs: int) -> None:
    for experiment, cell in missing:
        name = _name(experiment, cell)
        size, start = _effort(experiment, cell), bar.n

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


def _compute_apart(missing: Work, bar: tqdm, jobs: int) -> None:
    """Wave by wave, so that no two processes compute what both of them need."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        try:
            for wave in sorted({wave_of(cell) for _, cell in missing}):
                now = [(e, cell) for e, cell in missing if wave_of(cell) == wave]
                now.sort(key=lambda each: -_effort(*each))  # so that no long one comes last
                running = {
                    pool.submit(_compute_one, e.settings, cell, threads): (e, cell)
                    for e, cell in now
                }
                for job in as_completed(running):
                    experiment, cell = running.pop(job)
                    found, seconds = job.result()
                    name = _name(experiment, cell)
                    bar.update(_effort(experiment, cell))
                    bar.set_description_str(f"{len(running)} more before the next stage")
                    bar.write(f"{name}: {found} ({seconds:.0f} s)", file=sys.stderr)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _compute_one(settings: Settings, cell: Cell, threads: int) -> tuple[str, float]:
    torch.set_num_threads(threads)
    began = time.monotonic()
    found = compute(_opened(settings), cell)
    return found, time.monotonic() - began


@lru_cache(maxsize=4)
def _opened(settings: Settings) -> Experiment:
    return open_experiment(settings)


def _effort(experiment: Experiment, cell: Cell) -> float:
    return cell.effort * len(experiment.data.train)


def _name(experiment: Experiment, cell: Cell) -> str:
    return f"{experiment.task.title}, seed {cell.seed}: {cell.label}"


def render_all(plan: Plan, templates: Sequence[Path], pages: Path) -> None:
    """Render every wanted page of a plan, several at once, and publish the tables beside them.

    Raises:
        LotteryError: as `pages.render`, for the first page that failed.
    """
    with ProcessPoolExecutor(_workers(), multiprocessing.get_context("spawn")) as pool:
        rendered = {}
        for experiment, wanted in plan:
            for template in (each for each in templates if each.stem in wanted):
                page = page_path(pages, experiment.encoder.name, experiment.task.name, template)
                job = pool.submit(render, template, page, parameters_of(experiment.settings))
                rendered[job] = page
        for job in as_completed(rendered):
            job.result()
            print(f"Rendered {rendered[job]}", file=sys.stderr)
    folders: dict[Path, list[tuple[Experiment, Sequence[str]]]] = {}
    for experiment, wanted in plan:
        folder = pages / experiment.encoder.name / experiment.task.name
        folders.setdefault(folder, []).append((experiment, wanted))
    for folder, parts in folders.items():
        publish(parts, folder)


def _workers() -> int:
    """How many processes to run at once: each takes a processor and a gigabyte or two."""
    return max(1, min(4, os.cpu_count() or 1))


def render_overview(encoder: str, templates: Sequence[Path], pages: Path) -> None:
    """Render the page over all tasks of an encoder, and list the pages in the book's contents."""
    template = find_template(templates, OVERVIEW)
    page = page_path(pages, encoder, "overview", template)
    render(template, page, {"encoder": encoder, "pages": str(pages)})
    print(f"Rendered {page}", file=sys.stderr)
    contents = pages.parent / "_toc.yml"
    if contents.is_file():
        write_contents(contents, pages)
