"""Whose pages these are: the request behind a folder of pages, kept in it and compared.

`<pages>/<encoder>/<task>/request.json` is written before the first page, and read before anything
there is replaced or counted. The rows of `results.csv` name their request, so that one which was
copied there is noticed. The other tables and the pages are the request's own because `claim`
deletes all that another left before it writes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lotterylib.data.files import read_json, write_whole
from lotterylib.errors import LotteryError
from lotterylib.runs.settings import Settings, group_of

if TYPE_CHECKING:
    from lotterylib.data.pretrained import Encoder
    from lotterylib.report.imported import Found
    from lotterylib.runs.experiment import Experiment
    from lotterylib.runs.jobs import Plan

REQUEST = "request.json"
TABLES = (
    *("results.csv", "predictions.parquet", "subnetworks.json", "searches.json"),
    *("importance.csv", "patterns.csv", "tickets.csv", "audit.csv", "overlaps.csv", "sizes.csv"),
)
"""What is published beside the pages of a task, and beside the audit."""

TEMPLATE = re.compile(r"\d\d_[a-z_]+\.ipynb")
PASSING = ("task", "seeds", "data_dir", "store", "device", "threads")
"""Settings that are not compared as they are: a task by its name, seeds by page, data by their
fingerprint. The others say where things lie and what computes, which the store does not tell apart
either."""

_HOW = ("search", "subnetworks", "attention")
SHARED = (
    *("weights", "tokenizer", "config", "version"),
    *(name for name, field in Settings.model_fields.items() if group_of(field) in _HOW),
)
"""What all tasks in an encoder's folder have in common, since the overview counts them together."""

Identity = dict[str, Any]
Request = dict[str, dict[str, Any]]
"""What `request.json` holds: under `request` an identity, under `seeds` those of each page."""


def identity_of(experiment: Experiment) -> Identity:
    """All that decides a run's results but the seeds, as plain values."""
    from lotterylib.runs.experiment import RESULTS_VERSION

    settings, task, data = experiment.settings, experiment.task, experiment.data
    plain = {name: getattr(settings, name) for name in Settings.model_fields if name not in PASSING}
    return plain | {
        "task": task.name,
        "task_metric": task.metric,
        "classes": ", ".join(task.labels),
        "draws": ",".join(f"{method}={count}" for method, count in settings.draws),
        "learning_rate": experiment.recipe.learning_rate,
        "train_rows": len(data.train),
        "dev_rows": len(data.dev),
        "data": data.fingerprint,
        "encoder": experiment.encoder.name,
        **encoder_identity(experiment.encoder),
        "version": RESULTS_VERSION,
    }


def encoder_identity(encoder: Encoder) -> Identity:
    """Checksums of an encoder's weights, tokenizer and configuration; empty for the random one."""
    config = ""
    if encoder.directory is not None:
        found = read_json(encoder.directory / "config.json")
        config = digest({n: found[n] for n in found if n[0] != "_" and "version" not in n})
    weights, tokenizer = encoder.sha256[:16], encoder.tokenizer_sha256[:16]
    return {"weights": weights, "tokenizer": tokenizer, "config": config}


def masks_identity(audited: Found) -> Identity:
    """All that decides the audit of imported subnetworks (`imported.load_imported`)."""
    rows = [
        (family, task, seed, kept.heads.tolist(), kept.mlps.tolist())
        for family, tasks in audited.items()
        for task, seeds in tasks.items()
        for seed, kept in seeds.items()
    ]
    return {"masks": digest({"rows": rows})}


def digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a request."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def folder_of_pages(experiment: Experiment, pages: Path) -> Path:
    """Where the pages of an experiment's task go, `<pages>/<encoder>/<task>`."""
    return pages / experiment.encoder.name / experiment.task.name


def requests_of(plan: Plan, pages: Path) -> dict[Path, Request]:
    """The folder of every task of a plan, with what its `request.json` is to hold."""
    return {
        folder_of_pages(made, pages): {
            "request": identity_of(made),
            "seeds": {page: list(made.settings.seeds) for page in wanted},
        }
        for made, wanted in plan
    }


def refuse_others(mine: Mapping[Path, Request], *, replace: bool = False) -> None:
    """Refuse to take folders where another request's pages lie, unless these may be replaced.

    Raises:
        LotteryError: naming what differs, there or in what all of an encoder's folders share.
    """
    for folder, wanted in mine.items():
        if not replace and (told := _otherwise(folder, wanted)):
            raise LotteryError(
                f"{folder} holds pages of another request ({told}): give --replace to replace "
                "them, or name another folder with --pages."
            )
        for other in _neighbours(folder.parent):
            if other not in mine:
                _refuse_apart(read_request(other)["request"], wanted["request"], other)


def holds_others(folder: Path, wanted: Request) -> bool:
    """Whether pages of another request lie where this one's are to go."""
    return bool(_otherwise(folder, wanted))


def claim(mine: Mapping[Path, Request], *, replace: bool = False) -> None:
    """Take folders for a request, before their pages are made; another's go first, if they may.

    Raises:
        LotteryError: as `refuse_others`.
    """
    refuse_others(mine, replace=replace)
    for folder, wanted in mine.items():
        seeds = {}
        if _otherwise(folder, wanted):
            failed = folder.glob("[0-9][0-9]_[a-z]*.failed.ipynb")
            overview = folder.parent.glob("overview/08_overview.ipynb")  # it counts what goes
            for path in [*_published(folder), *failed, *overview]:
                path.unlink()
        elif (folder / REQUEST).is_file():
            seeds = read_request(folder)["seeds"]
        whole = {"request": wanted["request"], "seeds": seeds | wanted["seeds"]}
        write_whole(folder / REQUEST, json.dumps(whole, indent=1, sort_keys=True) + "\n")


def read_request(folder: Path) -> Request:
    """What made the pages and tables of a folder.

    Raises:
        LotteryError: that is not on record.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = read_json(folder / REQUEST)
        if isinstance(found["request"], dict) and isinstance(found["seeds"], dict):
            return found
    raise LotteryError(
        f"{folder} has no {REQUEST} that says what made its pages: make them anew with "
        "'lottery run --replace'."
    )


def requests(pages: Path, encoder: str, also: Identity | None = None) -> dict[str, Identity]:
    """The request behind each task in an encoder's folder of pages, by the names of the tasks; all
    of them must have what is in `also`, such as `encoder_identity`.

    Raises:
        LotteryError: one is not on record, or they are of two encoders or done in two ways, so that
            they must not be counted together.
    """
    found = {path: read_request(path)["request"] for path in _neighbours(pages / encoder)}
    for folder, request in found.items():
        _refuse_apart(request, next(iter(found.values())) | (also or {}), folder)
    return {folder.name: request for folder, request in found.items()}


def _otherwise(folder: Path, wanted: Request) -> str:
    """What is there that another request made, or how that differs; empty if nothing."""
    published = _published(folder)
    try:
        there = read_request(folder)
    except LotteryError:
        lost = published or (folder / REQUEST).exists()
        return f"what made them is not on record in {REQUEST}" if lost else ""
    names = [*there["request"], *wanted["request"]]
    told = _differences(there["request"], wanted["request"], names)
    for page in there["seeds"].keys() & wanted["seeds"].keys():
        told += _differences(*({"seeds": each["seeds"][page]} for each in (there, wanted)))
    pages = [path.stem for path in published if path.suffix == ".ipynb"]
    told += [f"{page} is not on record" for page in pages if page not in there["seeds"]]
    return "; ".join(dict.fromkeys(told))


def _refuse_apart(there: Identity, here: Identity, folder: Path) -> None:
    if told := _differences(there, here, SHARED):
        raise LotteryError(
            f"{folder} holds pages that must not be counted together with these "
            f"({'; '.join(told)}): name another folder with --pages."
        )


def _differences(there: Identity, here: Identity, names: Iterable[str] = ("seeds",)) -> list[str]:
    """What differs, in words. A parameter that did not exist yet had its default."""
    told = []
    for name in names:
        field = Settings.model_fields.get(name)
        values = [side.get(name, field.default if field else None) for side in (there, here)]
        if values[0] != values[1]:
            told.append(f"{name} {_show(values[0])} there, {_show(values[1])} here")
    return told


def _show(value: object) -> str:
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value)) or "none"


def _neighbours(folder: Path) -> list[Path]:
    """The folders of the tasks that an encoder's folder holds."""
    names = REQUEST, "results.csv"
    return sorted({path.parent for name in names for path in folder.glob(f"*/{name}")})


def _published(folder: Path) -> list[Path]:
    """The pages and tables in a folder."""
    found = folder.glob("*.*")
    return sorted(path for path in found if path.name in TABLES or TEMPLATE.fullmatch(path.name))
