"""What a run is asked to do: every parameter declared once, checked before anything is loaded.

The command line's options, the notebooks' parameters, `--set`, configuration files and the book's
reference all come from the fields of `Settings`. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo

from lotterylib.data.custom import is_task_file, resolve
from lotterylib.data.files import at_home, check_directory
from lotterylib.data.pretrained import ENCODERS, check_name
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.methods import ALL_METHODS, METHODS, PHASES
from lotterylib.runs.presets import BUDGETS, PRESETS
from lotterylib.tasks import TASKS, Task

BUDGET_SEEDS = "budget"
MOST_DRAWS = 1000
GROUPS = {
    "what": "what is run",
    "amount": "how much",
    "training": "training (section 3.1)",
    "search": "the searches (sections 3.2 and 3.3)",
    "subnetworks": "subnetworks and retraining (section 4.2)",
    "attention": "attention (section 5.2)",
    "machine": "the machine",
}
"""The parts of the experiment that parameters belong to, in words."""


def _parse_seeds(seeds: object) -> tuple[int, ...]:
    if isinstance(seeds, str):
        seeds = [part for part in seeds.split(",") if part.strip()]
    elif isinstance(seeds, int) and not isinstance(seeds, bool):
        seeds = [seeds]
    if not isinstance(seeds, Iterable) or isinstance(seeds, dict):
        told = f"The parameter seeds is {seeds!r}: give whole numbers, such as 1337,42."
        raise LotteryError(told)
    numbers = tuple(map(_parse_seed, seeds))
    if not numbers:
        raise LotteryError("The list of seeds is empty: give at least one whole number.")
    if len(set(numbers)) < len(numbers):
        raise LotteryError(f"The seeds {', '.join(map(str, numbers))} repeat one.")
    return numbers


def _parse_seed(part: object) -> int:
    text = str(part).strip()
    if not text.isdecimal():
        raise LotteryError(f"The seed {part!r} is not a whole number from 0 up.")
    if len(text) > 10 or int(text) >= 2**32:
        raise LotteryError(f"The seed {text} is too large: seeds end at {2**32 - 1}.")
    return int(text)


def _parse_draws(draws: object) -> tuple[tuple[str, int], ...]:
    wrong = LotteryError(
        f"The parameter draws is {draws!r}: give a whole number from 1 to {MOST_DRAWS}, or one by "
        "method, such as structured=5,magnitude=2."
    )
    if isinstance(draws, bool) or not isinstance(draws, int | str):
        raise wrong
    text, found = str(draws), {}
    if "=" not in text:
        text = ",".join(f"{method}={text}" for method in METHODS)
    for part in text.split(","):
        method, _, number = (each.strip() for each in part.partition("="))
        if method not in METHODS:
            raise unknown("method in draws", method, METHODS)
        if not (number.isdecimal() and len(number) < 5 and 1 <= int(number) <= MOST_DRAWS):
            raise wrong
        found[method] = int(number)
    return tuple(sorted(found.items()))


def _of(group: str, default: Any, about: str, **bounds: float) -> Any:
    """A field: its group, its default, what it is."""
    extra = {"group": group}
    return Field(default, description=about, json_schema_extra=extra, **bounds)  # type: ignore[call-overload]


class Settings(BaseModel):
    """A run's settings, resolved: nothing is left to a default. `reference` lists them."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    # What is run
    task: InstanceOf[Task] = _of("what", ..., "a name from 'lottery list', or a task file")
    encoder: str = _of("what", "minilm", "a name from 'lottery list', or a model directory")
    preset: str = _of("what", "paper", "how: paper (as printed), official (as the authors' code)")
    budget: str = _of("what", "laptop", "how much: smoke, laptop or full")
    data_dir: str = _of("what", "", "a GLUE directory; empty for the Hugging Face hub")
    store: InstanceOf[Path] = _of("what", Path("runs"), "the folder where finished work is kept")

    # How much
    seeds: Annotated[tuple[int, ...], BeforeValidator(_parse_seeds)] = _of(
        "amount", BUDGET_SEEDS, "of fine-tuning, such as 1337,42; budget for the budget's own"
    )
    train_rows: int = _of("amount", 0, "training rows; 0 for the budget's", ge=0)
    dev_rows: int = _of("amount", 0, "dev rows; 0 for the budget's", ge=0)
    sampling_seed: int = _of("amount", 0, "which rows are drawn where not all are used", ge=0)
    draws: Annotated[tuple[tuple[str, int], ...], BeforeValidator(_parse_draws)] = _of(
        "amount", "1", "random and bad subnetworks per seed, of both methods or by method"
    )
    halves: int = _of(
        "amount", 1, "random halves of dev for the searches on one", ge=1, le=MOST_DRAWS
    )
    rounds: int = _of("amount", 3, "prunings of the method that trains in between", ge=2, le=100)

    # Training (section 3.1)
    epochs: int = _of("training", 0, "passes over the training rows; 0 for the budget's", ge=0)
    learning_rate: float = _of("training", 0.0, "the highest; 0 for the encoder's own", ge=0)
    batch_size: int = _of("training", 32, "examples per step", ge=1)
    batch_order: Literal["buckets", "random"] = _of(
        "training", "buckets", "buckets (similar lengths together) or random (as in the paper)"
    )
    warmup: float = _of("training", 0.0, "share of the steps in which the rate rises", ge=0, lt=1)
    weight_decay: float = _of("training", 0.0, "of AdamW", ge=0)
    clip: float = _of("training", 1.0, "the largest norm of a step's gradient", gt=0)
    max_length: int = _of("training", 128, "tokens per example at most", ge=8)

    # The searches (sections 3.2 and 3.3)
    threshold: float = _of(
        "search", 0.9, "share of the full score that a good subnetwork keeps", gt=0, le=1
    )
    heads_step: float = _of("search", 0.1, "share of all heads pruned at a step", gt=0, le=1)
    heads_alone_step: float = _of("search", 0.05, "likewise once heads go alone", gt=0, le=1)
    importance: Literal["example", "batch", "cumulative"] = _of(
        "search",
        "example",
        "absolute gradients are averaged of: example, batch or cumulative batches",
    )
    stale_importance: bool = _of(
        "search", False, "a new phase starts from importance in the failed state"
    )
    min_heads_per_layer: int = _of(
        "search", 0, "heads that a search for heads alone leaves in every layer", ge=0
    )
    magnitude_step: float = _of("search", 0.1, "share of weights pruned at a step", gt=0, le=1)
    magnitude_of: Literal["remaining", "initial"] = _of(
        "search", "remaining", "whether that is of the remaining or of the initial weights"
    )
    magnitude_max_steps: int = _of("search", 60, "after which the search stops", ge=1)
    stop_metric: Literal["reported", "official"] = _of(
        "search", "reported", "the metric that stops a search: reported or official (STS-B)"
    )
    dev_split: Literal["dev", "train"] = _of(
        "search", "dev", "rows that are scored: dev, or train for a slice held out of training"
    )

    # Subnetworks and retraining (section 4.2)
    random_structured: Literal["exact", "bernoulli"] = _of(
        "subnetworks", "exact", "size of random ones: exact, or bernoulli (on average)"
    )
    bad_magnitude: Literal["sampled", "lowest"] = _of(
        "subnetworks", "sampled", "bad weights sampled from the pruned, or the lowest of all"
    )
    empty_layer_bias: Literal["kept", "dropped"] = _of(
        "subnetworks", "kept", "the bias of W_O in a layer without heads: kept or dropped"
    )
    embeddings: Literal["reset", "kept"] = _of(
        "subnetworks", "reset", "at retraining: reset (pre-trained) or kept (fine-tuned)"
    )
    rewind_share: float = _of(
        "subnetworks", 0.1, "share of fine-tuning after which rewinding takes weights", gt=0, lt=1
    )

    # Attention (section 5.2)
    attention_slices: Literal["columns", "rows"] = _of(
        "attention", "columns", "of W_O that count as a head's: columns or rows"
    )
    attention_token_types: bool = _of(
        "attention", True, "attention is measured with the token types of pairs"
    )
    attention_in_subnetwork: bool = _of(
        "attention", False, "super-survivors measured in the model pruned to them"
    )

    # The machine
    precision: Literal["auto", "float32", "bfloat16"] = _of(
        "machine", "auto", "of products: auto (half on a GPU only), float32 or bfloat16"
    )
    device: str = _of("machine", "auto", "auto (a GPU if there is one), cpu, cuda or cuda:1")
    threads: int = _of("machine", 0, "per process; 0 to share the processors", ge=0, le=1024)

    def but(self, **changes: Any) -> Settings:
        """The same settings with some changed; the values are taken as they are."""
        return self.model_copy(update=changes)

    @property
    def how(self) -> str:
        """The preset, and what was set otherwise than it says, in a few words."""
        changed = [
            f"{name}={value}"
            for name, value in self
            if group_of(type(self).model_fields[name]) in ("search", "subnetworks", "attention")
            and value != self.usual[name]
        ]
        return ", ".join([self.preset, *changed])

    @property
    def usual(self) -> dict[str, Any]:
        """What parameters are unless they are given, by the preset and the defaults."""
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return defaults | PRESETS[self.preset]

    def draws_of(self, method: str, kind: str, phase: str) -> int:
        """How many subnetworks of a kind a phase scores per seed: random and bad ones by `draws`,
        but one of the authors' bad weights, which are no draw; good ones found on a random half of
        dev by `halves`; else one.
        """
        if kind == "good" and ALL_METHODS[method].searched_on == "half":
            return self.halves
        fixed = method == "magnitude" and kind == "bad" and self.bad_magnitude == "lowest"
        if kind not in ("random", "bad") or phase not in PHASES or fixed:
            return 1
        return dict(self.draws).get(method, 1)


def group_of(field: FieldInfo) -> str:
    """To which part of the experiment a field belongs."""
    return str(field.json_schema_extra["group"])  # type: ignore[index, call-overload]


def names() -> list[str]:
    """The names of all parameters."""
    return list(Settings.model_fields)


def parse_settings(task: str, **given: Any) -> Settings:
    """Check parameters and resolve them against preset, budget and defaults.

    Args:
        task: a name in `tasks.TASKS`, or the path of a task file (`data.custom`).
        given: fields of `Settings`; None is the default. Seeds are whole numbers, as a list or
            separated by commas, or "budget"; 0 for rows and epochs is the budget's.

    Raises:
        LotteryError: the first thing that is wrong, with what would be accepted.
    """
    check_names(given)
    values: dict[str, Any] = {name: Settings.model_fields[name].default for name in _TEXTS}
    values |= {"task": task, "store": str(at_home("runs"))}
    values |= {name: value for name, value in given.items() if value is not None}
    for name in _TEXTS:
        value = values[name]
        if not isinstance(value, str):
            raise _wrong_type(name, value, "a text")
        if value.startswith("~/"):  # a shell leaves it after "="
            values[name] = os.path.expanduser(value)
    for name, table in (("preset", PRESETS), ("budget", BUDGETS)):
        if values[name] not in table:
            raise unknown(name, values[name], table)
    for name, amount in BUDGETS[values["budget"]].items():
        neutral = BUDGET_SEEDS if name == "seeds" else 0
        asked = values.get(name, neutral)
        if type(asked) is type(neutral) and asked == neutral:
            values[name] = amount
    check_name(values["encoder"])
    if not values["store"]:
        raise LotteryError("The parameter store is empty: name the folder for the run store.")
    if "\0" in values["store"]:
        told = f"The parameter store is {values['store']!r}, which cannot be a folder's path."
        raise LotteryError(told)
    values["store"] = Path(values["store"])
    values["task"] = TASKS["cola"]  # for now: a task's own data are read last
    try:
        settings = Settings(**(PRESETS[values["preset"]] | values))
    except ValidationError as error:
        raise _sentence(error.errors()[0]) from None
    found = resolve(task)
    check_directory(settings.data_dir, found)
    return settings.but(task=found)


_TEXTS = ("task", "encoder", "preset", "budget", "data_dir", "store")


def check_names(given: Iterable[str]) -> None:
    """Refuse a name that is no parameter's, with a `LotteryError` that names the nearest."""
    for name in given:
        if name not in Settings.model_fields:
            raise unknown("parameter", name, names())


_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _wrong_type(name: str, value: object, wanted: str) -> LotteryError:
    return LotteryError(
        f"The parameter {name} is {value!r}, of type {type(value).__name__}: it must be {wanted}."
    )


def _sentence(error: Any) -> LotteryError:
    """What pydantic found, as one sentence."""
    if error["type"] == "value_error":
        return error["ctx"]["error"]
    name, value = str(error["loc"][0]), error["input"]
    field = Settings.model_fields[name]
    kind = field.annotation
    if get_origin(kind) is Literal:
        if isinstance(value, str):
            return unknown(name, value, get_args(kind))
        return _wrong_type(name, value, f"a text: {', '.join(get_args(kind))}")
    if error["type"].startswith(("greater_than", "less_than", "finite_number")):
        return LotteryError(f"The parameter {name} is {value}: it must {_range(field)}.")
    return _wrong_type(name, value, _WORDS.get(kind, "a text"))  # type: ignore[arg-type]


def _range(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = {n: getattr(each, n) for each in field.metadata for n in words if hasattr(each, n)}
    if bounds == {"ge": 0}:
        return "not be negative or infinite"
    return "be " + " and ".join(f"{words[name]} {value:g}" for name, value in bounds.items())


def read_text(name: str, text: str) -> Any:
    """The value of a parameter that was given as text; a `LotteryError` if it is none."""
    check_names([name])
    kind: Any = Settings.model_fields[name].annotation
    if kind not in (int, float, bool):
        return text
    try:
        return TypeAdapter(kind).validate_strings(text)
    except ValidationError:
        told = f"The parameter {name} is {text!r}: it must be {_WORDS[kind]}."
        raise LotteryError(told) from None


def given_by(settings: Settings) -> dict[str, Any]:
    """The settings as the plain parameters that lead to them: those that tell a run from others
    always, the rest where they are not what preset and defaults say.
    """
    texts = {
        "task": settings.task.file or settings.task.name,
        "seeds": ",".join(map(str, settings.seeds)),
        "store": str(settings.store),
        "draws": ",".join(f"{method}={count}" for method, count in settings.draws),
    }
    usual = settings.usual | {"draws": "magnitude=1,structured=1"}
    always = (*_TEXTS, "seeds", "train_rows", "dev_rows", "epochs")
    values = (dict(settings) | texts).items()
    return {name: value for name, value in values if name in always or value != usual[name]}


_ASSIGNED = re.compile(r"^(\w+)\s*(?::[^=]+)?=", re.M)


def check_parameters(namespace: Mapping[str, Any], least_seeds: int = 1) -> Settings:
    """Settings from a notebook's `globals()`; the first thing every notebook does.

    papermill injects a misspelt parameter as one more variable and goes on with the default, so
    whatever it injected must be a parameter, and a variable whose name is nearly one is refused.

    Raises:
        LotteryError: as `parse_settings`; for a misspelt parameter; for too few seeds.
    """
    for cell in namespace.get("In", []):
        if cell.startswith("# Parameters"):  # as papermill begins what it injects
            check_names(_ASSIGNED.findall(cell))
    refuse_misspelt(namespace, names())
    given = {name: namespace[name] for name in names() if name in namespace}
    settings = parse_settings(**{name: _placed(name, value) for name, value in given.items()})
    if len(settings.seeds) < least_seeds:
        raise LotteryError(
            f"This page compares seeds and needs at least {least_seeds} of them, not "
            f"{len(settings.seeds)}."
        )
    return settings


def _placed(name: str, value: Any) -> Any:
    """A notebook's parameter, its path from the working directory of whatever runs the notebook:
    the store lies at home, and so does what is not found here.
    """
    if not isinstance(value, str) or not value:
        return value
    path = {"task": is_task_file(value), "encoder": value not in ENCODERS, "data_dir": True}
    lacking = path.get(name, False) and not os.path.exists(value)
    if name == "store" or (lacking and os.path.exists(at_home(value))):
        return str(at_home(value))
    return value


def refuse_misspelt(namespace: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a variable of a notebook whose name is nearly that of a parameter."""
    for variable in namespace:
        near = get_close_matches(variable, names, n=1, cutoff=0.75)
        if near and variable not in names and not variable.startswith("_"):
            raise LotteryError(f"Unknown parameter {variable!r}. Did you mean {near[0]!r}?")


def reference() -> list[dict[str, str]]:
    """Every parameter for people: `name`, `group`, `type`, `default`, `accepted`, `about`."""
    rows = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        accepted = ", ".join(get_args(kind)) if get_origin(kind) is Literal else ""
        words = "text" if accepted else _WORDS.get(kind, "text").removeprefix("a ")  # type: ignore[arg-type]
        default = "" if field.is_required() else str(field.default)
        row = {"name": name, "group": group_of(field), "type": words, "default": default}
        rows.append(row | {"accepted": accepted, "about": str(field.description)})
    return rows
