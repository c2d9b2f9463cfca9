"""The grid: a request as jobs for a workflow engine, on this machine, on Slurm or on Kubernetes.

`notebooks/Snakefile` has the rules; here is what they ask about a request, and the command that
starts the engine. A job fills the run store with a notebook of one seed; the pages are made from
the full store by `lottery run` itself, so they are the same either way. Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lotterylib import cli, commands
from lotterylib.data.custom import is_task_file
from lotterylib.data.pretrained import folder_of
from lotterylib.errors import LotteryError, unknown
from lotterylib.report.pages import OVERVIEW
from lotterylib.runs.methods import SEVERAL_SEEDS
from lotterylib.runs.request import Request
from lotterylib.runs.settings import Settings, given_by, names

SETTINGS = ("tasks", "pages", "with", "notebooks", *(n for n in names() if n != "task"))
"""What `snakemake --config` takes: the options of `lottery run` under their own names."""

TABLES = ("results.csv", "subnetworks.json", "patterns.csv")
"""What every task publishes beside its pages (`published`)."""

_PATHS = ("encoder", "data_dir", "store", "pages", "notebooks")
_READ_BY_SHELLS = re.compile(r"[^\w ./,:=+@~-]")

_AFTER = {
    "01_finetune": (),
    "02_structured_pruning": ("01_finetune",),
    "03_magnitude_pruning": ("01_finetune",),
    "04_subnetworks": ("02_structured_pruning", "03_magnitude_pruning"),
}
_AFTER_OTHERWISE = ("04_subnetworks",)


@dataclass(frozen=True)
class Stage:
    """A notebook run for one seed of a task, or for all of them if it compares seeds.

    Attributes:
        task, notebook: names, the latter without `.ipynb`.
        seeds: such as "42", or "1337+42"; fit for a file's name.
    """

    task: str
    seeds: str
    notebook: str

    @property
    def before(self) -> list[Stage]:
        """The stages whose artefacts this one builds on."""
        return [
            Stage(self.task, seed, notebook)
            for seed in self.seeds.split("+")
            for notebook in _AFTER.get(self.notebook, _AFTER_OTHERWISE)
        ]


@dataclass(frozen=True)
class Grid:
    """A request as the Snakefile sees it.

    Attributes:
        options: of `lottery run`.
        encoder: the name of the encoder's folder of pages.
        request: the tasks' settings with their pages.
    """

    options: argparse.Namespace
    encoder: str
    request: Request

    @cached_property
    def tasks(self) -> list[str]:
        """The tasks, in the order in which they were asked for."""
        return list(dict.fromkeys(settings.task.name for settings, _ in self.request))

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage of every task."""
        return [
            Stage(settings.task.name, seeds, page)
            for settings, pages in self.request
            for page in pages
            for seeds in _seeds_of(settings, page)
        ]

    @property
    def markers(self) -> Path:
        """The folder for what tells that a stage is done; another one for other settings.

        It is hidden in the run store, so that whoever deletes the store deletes it as well.
        """
        shared = dict(given_by(self.request[0][0]))
        for name in ("task", "seeds", "store"):
            del shared[name]
        digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.request[0][0].store, ".grid", f"{self.encoder}-{digest}")

    @property
    def published(self) -> list[str]:
        """The files that every task's folder of pages gets; a task may have further pages there."""
        wanted = [
            {page for each, pages in self.request if each.task.name == task for page in pages}
            for task in self.tasks
        ]
        everywhere = set.intersection(*wanted)
        return [*TABLES, *sorted(f"{page}.ipynb" for page in everywhere)]

    @property
    def overview(self) -> Path:
        """The page over all tasks."""
        return Path(self.options.pages, self.encoder, "overview", OVERVIEW)

    def notebook_arguments(self, task: str, seeds: str) -> list[str]:
        """A stage's parameters for papermill: texts raw, so that none is taken for a number. Empty
        ones are left out, since they are the templates' own and Snakemake does not quote them.
        """
        settings = next(each for each, _ in self.request if each.task.name == task)
        parameters = given_by(settings) | {"seeds": seeds.replace("+", ",")}
        return [
            part
            for name, value in parameters.items()
            if value != ""
            for part in ("-r" if isinstance(value, str) else "-p", name, str(value))
        ]

    def argument(self, task: str) -> str:
        """How `lottery run` is given a task: by name, or by its file."""
        found = next(each.task for each, _ in self.request if each.task.name == task)
        return found.file or found.name

    def run_arguments(self) -> list[str]:
        """The request, without its tasks, as arguments of `lottery run`."""
        return [f"{_flag(name)}={value}" for name, value in _given(self.options).items()]


def read_grid(config: Mapping[str, object], notebooks: str = "notebooks") -> Grid:
    """The grid that `snakemake --config` asks for.

    Args:
        config: settings in `SETTINGS`; what is missing or empty is as in `lottery run`.
        notebooks: the folder of the templates if the settings do not name one.

    Raises:
        LotteryError: an unknown setting, or whatever `lottery run` would refuse; see `check_paths`.
    """
    for name in config:
        if name not in SETTINGS:
            raise unknown("setting", name, SETTINGS)
    texts = {"notebooks": notebooks} | {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in config.items()
        if value is not None and name != "tasks"
    }
    tasks: list[str] = []
    given = config.get("tasks") or []
    for each in [given] if isinstance(given, str) else map(str, given):  # type: ignore[call-overload]
        whole = is_task_file(each) and not isinstance(given, str)  # its path may have a space
        tasks += [each] if whole else each.replace(",", " ").split()
    arguments = [f"{_flag(name)}={value}" for name, value in texts.items()]
    options = cli.build_parser().parse_args(["run", *arguments, "--", *tasks])
    check_paths(options)
    options.notebooks = os.path.relpath(options.notebooks)  # one name, however it was given
    encoder = folder_of(commands.given_by_options(options).get("encoder", "minilm"))
    return Grid(options, encoder, commands.requested(options, encoder))


def check_paths(options: argparse.Namespace) -> None:
    """Refuse what a shell could read as its own: Snakemake puts paths between quotes into the
    scripts of its jobs, whatever they hold.

    Raises:
        LotteryError: a path has such a character.
    """
    paths = [(_flag(name), str(getattr(options, name) or "")) for name in _PATHS]
    for name, given in [*paths, *(("A task", task) for task in options.tasks)]:
        if found := _READ_BY_SHELLS.search(given):
            raise LotteryError(
                f"{name} is {given!r}: with jobs, paths hold letters, digits, spaces and "
                f"any of ._/,:=+@~- only, not {found[0]!r}."
            )


def check_profile(options: argparse.Namespace) -> Path:
    """The folder of the profile that `lottery run --profile` names.

    Raises:
        LotteryError: Snakemake is not installed, there is no such profile or no Snakefile, or a
            path as in `check_paths`.
    """
    check_paths(options)
    if options.no_overview:
        raise LotteryError("The options --profile and --no-overview do not go together.")
    if importlib.util.find_spec("snakemake") is None:
        raise LotteryError(
            "The option --profile needs Snakemake: pip install 'lotterylib[grid]' brings it."
        )
    notebooks = Path(options.notebooks)
    if not (notebooks / "Snakefile").is_file():
        raise LotteryError(
            f"{notebooks} holds no Snakefile: run from the repository, or name the folder with "
            "--notebooks."
        )
    named = {path.parent.name: path.parent for path in notebooks.glob("profiles/*/config.yaml")}
    folder = named.get(options.profile, Path(options.profile))
    if not (folder / "config.yaml").is_file():
        raise unknown("profile", options.profile, [*sorted(named), "or the path of a profile"])
    return folder


def command(options: argparse.Namespace, profile: Path) -> list[str]:
    """The command that runs a request's grid.

    Args:
        options: of `lottery run`.
        profile: a folder with Snakemake's settings for a place to run.
    """
    amount = [f"--cores={options.jobs}", f"--jobs={options.jobs}"] if options.jobs else []
    # In a list, quoted, a text stays as it is; Snakemake would make a number of 007.
    given = {"tasks": options.tasks} if options.tasks else {}
    given |= {name: [value] for name, value in _given(options).items()}
    config = [f"{name}={json.dumps(values)}" for name, values in given.items()]
    return [
        *(sys.executable, "-m", "snakemake", "stages" if options.no_pages else "all"),
        *("--snakefile", str(Path(options.notebooks) / "Snakefile")),
        *("--profile", str(profile), *amount, "--config", *config),
    ]


def run(options: argparse.Namespace, profile: Path) -> int:
    """Run a request's grid; 0 if every job succeeded, else 1."""
    stopped = False
    with subprocess.Popen(command(options, profile)) as engine:
        while True:
            try:
                status = engine.wait()
                break
            except KeyboardInterrupt:  # the engine has it too, and is cancelling its jobs
                stopped = True
    if stopped:
        raise KeyboardInterrupt
    if status == 0:
        return 0
    logs = Path(commands.given_by_options(options).get("store", "runs"), ".grid")
    print(
        f"lottery: not every job was done. How far the notebooks got is under {logs}; what was "
        "finished is kept; give the same command again to go on.",
        file=sys.stderr,
    )
    return 1


def _seeds_of(settings: Settings, page: str) -> Sequence[str]:
    seeds = [str(seed) for seed in settings.seeds]
    return ["+".join(seeds)] if page in SEVERAL_SEEDS else seeds


def _given(options: argparse.Namespace) -> dict[str, str]:
    """The settings that a command line gave, without tasks, as texts."""
    given = commands.given_by_options(options)
    own = {"pages": options.pages, "with": options.extras, "notebooks": options.notebooks}
    values = {name: value for name, value in own.items() if value} | given
    return {name: str(value) for name, value in values.items() if name not in ("task", "tasks")}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
