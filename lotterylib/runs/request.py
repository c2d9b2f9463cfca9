"""Requests: what the command line asks for, as parameters and the pages that are wanted of a task.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotterylib.data.files import at_home, read_yaml
from lotterylib.data.pretrained import ENCODERS
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.methods import CORE, EXTRAS, SEVERAL_SEEDS
from lotterylib.runs.presets import BUDGETS
from lotterylib.runs.settings import Settings, names, read_text

if TYPE_CHECKING:
    from lotterylib.data.glue import TaskData

BOOK, TRIALS = "book/results", "trial"
"""The folders of pages: of the book, and of runs whose scores mean nothing."""


def pages_folder(settings: Settings) -> str:
    """Where the pages of a run go unless it is told: what only tries things out stays out of the
    book (the budget `smoke` or as few rows, a random encoder).
    """
    smoke, encoder = BUDGETS["smoke"], ENCODERS.get(settings.encoder)
    few = any(0 < getattr(settings, rows) <= smoke[rows] for rows in ("train_rows", "dev_rows"))
    random = encoder is not None and encoder.kind == "random"
    return str(at_home(TRIALS if settings.budget == "smoke" or few or random else BOOK))


def pages_wanted(extras: Sequence[str], there: Path | None) -> list[str]:
    """The pages to make: those of every run, those of `methods.EXTRAS` that are asked for, and
    those that are there already in the folder of the task's pages, if there is to be one.
    """
    asked = {EXTRAS[name] for name in extras}
    if there is not None:
        asked |= {page for page in EXTRAS.values() if (there / f"{page}.ipynb").is_file()}
    return [*CORE, *(page for page in EXTRAS.values() if page in asked)]


def impossible(settings: Settings, dev_rows: int) -> dict[str, str]:
    """The pages of a task that cannot be made, as far as is known beforehand, with the reason."""
    alone = len(settings.seeds) < 2
    found = dict.fromkeys(SEVERAL_SEEDS, "it compares seeds, and there is one") if alone else {}
    if dev_rows < 2:
        found[EXTRAS["variants"]] = "it searches on half of dev, which has one row"
    return found


def load_task_data(settings: Settings) -> TaskData:
    """The examples that a run's settings name; errors as `data.glue.load_data`."""
    from lotterylib.data.glue import held_out, load_data  # takes a second or two

    rows = settings.train_rows, settings.dev_rows
    data = load_data(settings.task, settings.data_dir, *rows, settings.sampling_seed)
    return held_out(data) if settings.dev_split == "train" else data


def read_file(path: Path) -> dict[str, Any]:
    """The parameters in a YAML file, with `task` or `tasks` for what to run.

    Raises:
        LotteryError: a file that cannot be read, a name that is no parameter, or a value that is
            none of its type; with file and line.
    """
    found, lines = read_yaml(path, "threshold: 0.95")
    accepted = ["tasks", *names()]
    values = {}
    for name, value in found.items():
        try:
            if name not in accepted:
                raise unknown("parameter", str(name), accepted)
            is_text = isinstance(value, str) and name != "tasks"
            values[name] = read_text(name, value) if is_text else value
        except LotteryError as error:
            raise LotteryError(f"{path}, line {lines.get(name, 1)}: {error}") from None
    return values


def given_from_outside(
    config: str, assignments: Iterable[str], options: Mapping[str, str | None]
) -> dict[str, Any]:
    """The parameters of a file, if there is one, of assignments such as "threshold=0.95", and of
    options, None where they were not given; the later are the stronger.

    Raises:
        LotteryError: as `read_file`; an assignment without a name or a value.
    """
    found = read_file(Path(config)) if config else {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            such_as = "give a name and a value, such as threshold=0.95"
            raise LotteryError(f"The option --set is {assignment!r}: {such_as}.")
        found[name.strip()] = read_text(name.strip(), text.strip())
    given = {name: text for name, text in options.items() if text is not None}
    return found | {name: read_text(name, text) for name, text in given.items()}
