"""What a run is asked to do, checked as a whole before anything is loaded.

Notebooks and the command line hand their parameters to `parse_settings`; every mistake is a
sentence. Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lotterylib.data.pretrained import ENCODERS
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.presets import Preset, find_budget, find_preset
from lotterylib.tasks import Task, find_task

BATCH_ORDERS = ("buckets", "random")
PRECISIONS = ("auto", "float32", "bfloat16")
DEV_SPLITS = ("dev", "train")
DRAWN = ("structured", "magnitude")
BUDGET_SEEDS = "budget"
_TOO_LARGE = 2**63
_MOST_DRAWS = 1000


@dataclass(frozen=True)
class Settings:
    """A run's settings, resolved: nothing is left to a default.

    Attributes:
        task, encoder, preset: what is run, and how.
        budget: the name of the budget that the numbers below started from.
        seeds: of fine-tuning; at least one, no two alike.
        train_rows, dev_rows: rows to use, 0 for all.
        epochs: passes over the training rows.
        learning_rate: 0.0 for the encoder's own.
        batch_order: "buckets" or "random".
        precision: what products are computed in, see `gpu.set_precision`.
        dev_split: "dev" for the task's own dev rows, "train" for a slice of the training rows that
            is then not trained on, so that choices can be made without a look at dev.
        draws: by method, how many random and how many bad subnetworks of a size are drawn per seed.
        halves: how many random halves of dev the searches on half of dev are tried on.
        data_dir: a GLUE directory, or empty.
        store: the folder of the run store.
    """

    task: Task
    encoder: str
    preset: Preset
    budget: str
    seeds: tuple[int, ...]
    train_rows: int
    dev_rows: int
    epochs: int
    learning_rate: float
    batch_order: str
    precision: str
    dev_split: str
    draws: tuple[tuple[str, int], ...]
    halves: int
    data_dir: str
    store: Path

    def draws_of(self, method: str, kind: str) -> int:
        """How many subnetworks of a kind are drawn for a method; those that are not drawn count as
        one, and so do the authors' bad ones of single weights.
        """
        fixed = method == "magnitude" and kind == "bad" and self.preset.bad_magnitude == "lowest"
        return 1 if kind not in ("random", "bad") or fixed else dict(self.draws).get(method, 1)


def parse_settings(
    task: str,
    encoder: str = "minilm",
    preset: str = "paper",
    budget: str = "laptop",
    seeds: str | Iterable[int] = BUDGET_SEEDS,
    train_rows: int = 0,
    dev_rows: int = 0,
    epochs: int = 0,
    learning_rate: float = 0.0,
    batch_order: str = "buckets",
    precision: str = "auto",
    dev_split: str = "dev",
    draws: str | int = 1,
    halves: int = 1,
    data_dir: str = "",
    store: str = "runs",
) -> Settings:
    """Check parameters and resolve them against preset and budget.

    Args:
        seeds: "budget" for the budget's, or whole numbers, as a list or separated by commas.
        train_rows, dev_rows, epochs, learning_rate: 0 for the budget's and the encoder's.
        draws: a number for both methods, or such as "structured=5,magnitude=2".
        others: as in `Settings`.

    Raises:
        LotteryError: the first thing that is wrong, with what would be accepted.
    """
    given = {
        "task": (task, str),
        "encoder": (encoder, str),
        "preset": (preset, str),
        "budget": (budget, str),
        "batch_order": (batch_order, str),
        "precision": (precision, str),
        "dev_split": (dev_split, str),
        "halves": (halves, int),
        "data_dir": (data_dir, str),
        "store": (store, str),
        "train_rows": (train_rows, int),
        "dev_rows": (dev_rows, int),
        "epochs": (epochs, int),
        "learning_rate": (learning_rate, float),
    }
    for name, (value, kind) in given.items():
        _check_type(name, value, kind)
    amount = find_budget(budget)
    if encoder not in ENCODERS and not os.path.isdir(encoder):  # Path's own raises on some
        raise unknown("encoder", encoder, [*ENCODERS, "or the path of a model directory"])
    if batch_order not in BATCH_ORDERS:
        raise unknown("batch_order", batch_order, BATCH_ORDERS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if dev_split not in DEV_SPLITS:
        raise unknown("dev_split", dev_split, DEV_SPLITS)
    if not 1 <= halves <= _MOST_DRAWS:
        raise LotteryError(f"The parameter halves is {halves}: it must be from 1 to {_MOST_DRAWS}.")
    if data_dir and not os.path.isdir(data_dir):
        raise LotteryError(f"The data directory {data_dir} does not exist.")
    if not store:
        raise LotteryError("The parameter store is empty: name the folder for the run store.")
    if not _is_path(store):
        raise LotteryError(f"The parameter store is {store!r}, which cannot be a folder's path.")
    for name in ("train_rows", "dev_rows", "epochs", "learning_rate"):
        if not 0 <= given[name][0] < math.inf:  # type: ignore[operator]
            raise LotteryError(
                f"The parameter {name} is {given[name][0]}: it must not be negative or infinite."
            )
    return Settings(
        task=find_task(task),
        encoder=encoder,
        preset=find_preset(preset),
        budget=budget,
        seeds=_parse_seeds(seeds, amount.seeds),
        train_rows=train_rows or amount.train_rows,
        dev_rows=dev_rows or amount.dev_rows,
        epochs=epochs or amount.epochs,
        learning_rate=float(learning_rate),
        batch_order=batch_order,
        precision=precision,
        dev_split=dev_split,
        draws=_parse_draws(draws),
        halves=halves,
        data_dir=data_dir,
        store=Path(store),
    )


def check_names(given: Iterable[str], accepted: Iterable[str]) -> None:
    """Refuse a parameter that a notebook does not have, which papermill would only warn about.

    Raises:
        LotteryError: naming the nearest accepted one.
    """
    names = list(accepted)
    for name in given:
        if name not in names:
            raise unknown("parameter", name, names)


def check_parameters(namespace: dict[str, Any], least_seeds: int = 1) -> Settings:
    """Settings from a notebook's variables; the first thing every notebook does.

    papermill injects a misspelt parameter as one more variable and goes on with the default, so a
    variable whose name is nearly a parameter's is refused too.

    Args:
        namespace: the notebook's `globals()`.
        least_seeds: how many seeds the notebook needs.

    Raises:
        LotteryError: as `parse_settings`, for a variable that looks like a misspelt parameter, or
            for too few seeds.
    """
    names = [name for name in parse_settings.__annotations__ if name != "return"]
    if "task" not in namespace:
        raise LotteryError("The parameter task is missing.")
    refuse_misspelt(namespace, names)
    settings = parse_settings(**{name: namespace[name] for name in names if name in namespace})
    if len(settings.seeds) < least_seeds:
        raise LotteryError(
            f"This page compares seeds and needs at least {least_seeds} of them, not "
            f"{len(settings.seeds)}."
        )
    return settings


def refuse_misspelt(namespace: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a variable of a notebook whose name is nearly that of a parameter.

    Raises:
        LotteryError: naming the parameter.
    """
    for variable in namespace:
        near = get_close_matches(variable, names, n=1, cutoff=0.75)
        if near and variable not in names and not variable.startswith("_"):
            raise LotteryError(f"Unknown parameter {variable!r}. Did you mean {near[0]!r}?")


def describe(settings: Settings) -> dict[str, str]:
    """The settings as short texts, for a page."""
    texts = {field.name: str(getattr(settings, field.name)) for field in fields(settings)}
    texts["task"], texts["preset"] = settings.task.title, settings.preset.name
    texts["seeds"] = ", ".join(map(str, settings.seeds))
    texts["draws"] = ", ".join(f"{method} {count}" for method, count in settings.draws)
    texts["learning_rate"] = (
        f"{settings.learning_rate:g}" if settings.learning_rate else "encoder's"
    )
    for name in ("train_rows", "dev_rows"):
        texts[name] = "all" if texts[name] == "0" else texts[name]
    del texts["store"], texts["data_dir"]
    return texts


def _parse_seeds(seeds: object, default: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(seeds, str):
        if seeds == BUDGET_SEEDS:
            return default
        seeds = seeds.split(",")
    elif isinstance(seeds, int) and not isinstance(seeds, bool):
        seeds = [seeds]
    if not isinstance(seeds, Iterable) or isinstance(seeds, dict):
        raise LotteryError(
            f"The parameter seeds is {seeds!r}: give whole numbers, such as 1337,42."
        )
    numbers = tuple(_parse_seed(part) for part in seeds if not _is_blank(part))
    if not numbers:
        raise LotteryError("The list of seeds is empty: give at least one whole number.")
    if len(set(numbers)) < len(numbers):
        raise LotteryError(f"The seeds {', '.join(map(str, numbers))} repeat one.")
    return numbers


def _parse_draws(draws: object) -> tuple[tuple[str, int], ...]:
    wrong = LotteryError(
        f"The parameter draws is {draws!r}: give a whole number from 1 to {_MOST_DRAWS}, or one by "
        "method, such as structured=5,magnitude=2."
    )
    if isinstance(draws, bool) or not isinstance(draws, int | str):
        raise wrong
    parts = [part.partition("=") for part in str(draws).split(",")]
    if len(parts) == 1 and not parts[0][1]:
        parts = [(method, "=", parts[0][0]) for method in DRAWN]
    found = {}
    for method, _, text in parts:
        if method.strip() not in DRAWN:
            raise unknown("method in draws", method.strip(), DRAWN)
        number = text.strip()
        if not (number.isdecimal() and len(number) < 5 and 1 <= int(number) <= _MOST_DRAWS):
            raise wrong
        found[method.strip()] = int(number)
    return tuple(sorted(found.items()))


def _is_blank(part: object) -> bool:
    return isinstance(part, str) and not part.strip()


def _parse_seed(part: object) -> int:
    text = "" if isinstance(part, int) and abs(part) >= _TOO_LARGE else str(part).strip()
    if text and (isinstance(part, bool | float) or not text.isdecimal()):
        raise LotteryError(f"The seed {part!r} is not a whole number from 0 up.")
    if not 0 < len(text) <= 20:  # Python refuses to print or read thousands of digits
        raise LotteryError(f"A seed is too long: seeds end at {2**32 - 1}.")
    number = int(text)
    if number >= 2**32:
        raise LotteryError(f"The seed {number} is too large: seeds end at {2**32 - 1}.")
    return number


def _is_path(text: str) -> bool:
    try:
        os.fsencode(text)
    except ValueError:
        return False
    return "\0" not in text


def _check_type(name: str, value: object, kind: type) -> None:
    right = isinstance(value, (int, float) if kind is float else kind) and not (
        isinstance(value, bool)
    )
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:  # Python itself refuses to print some
        raise LotteryError(f"The parameter {name} is too large a number.")
    if not right:
        wanted = {str: "a text", int: "a whole number", float: "a number"}[kind]
        raise LotteryError(
            f"The parameter {name} is {value!r}, of type {type(value).__name__}: "
            f"it must be {wanted}."
        )
