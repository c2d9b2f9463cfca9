"""What the commands of `lottery` do; each returns its exit status.

torch takes seconds to import, so it is imported only once a request has been checked.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lotterylib.data.files import home, write_whole
from lotterylib.data.pretrained import ENCODERS, find_encoder, folder_of
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.methods import CORE, EXTRAS
from lotterylib.runs.presets import BUDGETS, PRESETS
from lotterylib.runs.request import (
    given_from_outside,
    impossible,
    load_task_data,
    pages_folder,
    pages_wanted,
)
from lotterylib.runs.settings import given_by, names, parse_settings, reference
from lotterylib.tasks import BUNDLED, TASKS

if TYPE_CHECKING:
    import pandas as pd

    from lotterylib.runs.plan import Standing
    from lotterylib.runs.run import Failure
    from lotterylib.runs.settings import Settings


STORE_FOLDERS = (".claims", ".partial")
"""The folders in a run store that every run writes to."""


def run(options: argparse.Namespace) -> int:
    """Compute what tasks need, then render their pages."""
    everything = _settings(options)
    store, pages, notebooks = everything[0].store, Path(options.pages), Path(options.notebooks)
    templates = [] if options.no_pages else _templates(notebooks)
    _check_places(options, everything[0])
    plan = _open(options, everything)
    import pandas as pd

    from lotterylib.report import identity
    from lotterylib.report.pages import publish_all, render_all, try_overview
    from lotterylib.report.results import collect
    from lotterylib.runs import run as running
    from lotterylib.runs.jobs import pieces_of

    encoder = plan[0][0].encoder
    for experiment, _ in plan:
        print(f"{experiment.task.title}: {experiment.data.origin}", file=sys.stderr)
    print(f"Encoder {encoder.name}: {encoder.origin}", file=sys.stderr)
    if home() != Path.cwd():
        there = "" if options.no_pages else f", pages go to {pages}"
        print(f"Work is kept in {store}{there}.", file=sys.stderr)
    if not options.no_pages:
        identity.refuse_others(identity.requests_of(plan, pages), replace=options.replace)
    if options.no_pages:
        failures = running.compute_pieces(pieces_of(plan), options.jobs)
    else:
        print(f"Each page goes to {pages} as soon as its jobs are done.", file=sys.stderr)
        failures = render_all(plan, templates, pages, options.jobs, options.replace)
    plan, lost = running.without_failures(plan, failures)
    if options.no_pages and plan:
        tables = [collect(experiment, *wanted) for experiment, wanted in plan]
        _show(pd.concat(tables).drop_duplicates())
    elif plan:
        failures += publish_all(plan, pages)
        failures += try_overview(encoder.name, templates, pages)
        results(options)
    return _tell(failures, [*options.not_made, *lost])


def overview(options: argparse.Namespace) -> int:
    """Render the page over all tasks again, from what their runs have published."""
    from lotterylib.report.identity import encoder_identity, requests
    from lotterylib.report.pages import render_overview

    encoder, pages = folder_of(options.encoder), Path(options.pages)
    if not any((pages / encoder).glob("*/results.csv")):
        told = f"{pages} holds no runs of encoder {encoder!r}: 'lottery run' makes them."
        raise LotteryError(told)
    directory = os.path.isdir(options.encoder) and options.encoder not in ENCODERS
    mine = encoder_identity(find_encoder(options.encoder)) if directory else None
    requests(pages, encoder, also=mine)
    render_overview(encoder, _templates(Path(options.notebooks)), pages)
    return 0


def _open(options: argparse.Namespace, everything: Sequence[Settings]) -> list:
    """What is asked for as experiments, each with its pages; encoder and data are found first."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options.not_made = []
    encoder = find_encoder(everything[0].encoder)
    data = [load_task_data(settings) for settings in everything]
    from lotterylib.data.loading import checked
    from lotterylib.runs.experiment import Experiment

    encoder = checked(encoder, everything[0].max_length)
    plan = []
    for settings, examples in zip(everything, data, strict=True):
        wanted = _wanted(options, settings, encoder.name, len(examples.dev))
        plan.append((Experiment(settings, encoder, examples), wanted))
    return plan


def _tell(failures: Sequence[Failure], not_made: Sequence[str] = ()) -> int:
    """Say what failed and which pages there are not; the exit status is 1 if there is anything."""
    own = [failure for failure in failures if failure.itself]
    if failures:
        others = len(failures) - len(own)
        needing = f"; {others} jobs that need them were left out" if others else ""
        print(f"lottery: {len(own)} failed{needing}.", file=sys.stderr)
    for failure in own:
        print(f"  {failure.name}: {failure.reason}", file=sys.stderr)
    for line in not_made:
        print(f"  {line}" if failures else f"lottery: {line}.", file=sys.stderr)
    if failures:
        print("What was finished is kept; give the same command again to go on.", file=sys.stderr)
    return 1 if failures or not_made else 0


def _settings(options: argparse.Namespace) -> list[Settings]:
    """What is asked for, by task; the options for pages are settled too, where there are any."""
    if not 0 <= options.jobs <= 1024:
        raise LotteryError(f"The option --jobs is {options.jobs}: it goes from 0 to 1024.")
    texts = {name: getattr(options, name) for name in names() if name != "task"}
    given = options.given = given_from_outside(options.config, options.assignments, texts)
    if {"task", "tasks"} <= given.keys():
        raise LotteryError("Give task or tasks, not both.")
    tasks = given.pop("tasks", given.pop("task", None)) or []
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if not isinstance(tasks, list) or not all(isinstance(name, str) for name in tasks):
        raise LotteryError(f"The parameter tasks is {tasks!r}: give names or task files.")
    found: dict[str, Settings] = {}
    for name in dict.fromkeys(options.tasks or tasks or BUNDLED):
        settings = parse_settings(name, **given)
        other = found.setdefault(settings.task.name, settings)
        if other.task.file != settings.task.file:
            raise LotteryError(
                f"{other.task.file} and {settings.task.file} both name their task "
                f"{other.task.name!r}: a name stands for one task."
            )
    everything = list(found.values())
    if "pages" in options:
        options.pages = options.pages or pages_folder(everything[0])
    if "extras" in options:
        asked = _list(options.extras)
        _check_known("page", asked, [*EXTRAS, "all"])
        options.extras = list(EXTRAS) if "all" in asked else asked
    return everything


def _wanted(
    options: argparse.Namespace, settings: Settings, encoder: str, dev_rows: int
) -> list[str]:
    """The pages that are wanted of a task and can be made; of the others it is said why not."""
    there = None if options.no_pages else Path(options.pages) / encoder / settings.task.name
    wanted, lost = pages_wanted(options.extras, there), impossible(settings, dev_rows)
    for page in [page for page in wanted if page in lost]:
        line = f"{settings.task.title}: no page {page}, since {lost[page]}"
        print(f"{line}.", file=sys.stderr)
        if page not in CORE:
            options.not_made.append(line)
    return [page for page in wanted if page not in lost]


def _list(text: str) -> list[str]:
    """What an option lists, separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_known(kind: str, asked: Sequence[str], accepted: Sequence[str]) -> None:
    for name in asked:
        if name not in accepted:
            raise unknown(kind, name, accepted)


def plan(options: argparse.Namespace) -> int:
    """Tell which jobs a run has still to do, and how long that will take."""
    _stand(options, measured=True)
    return 0


def _stand(options: argparse.Namespace, measured: bool) -> list[Standing]:
    """Tell where the jobs stand, and the time left as measured or judged by those that are done."""
    everything = _settings(options)
    plan = _open(options, everything)
    from lotterylib.runs.jobs import pieces_of
    from lotterylib.runs.plan import describe, measure, seconds_left, standing_of
    from lotterylib.runs.run import processes, use_threads

    jobs = options.jobs or processes()
    use_threads(everything[0], jobs)
    found = {place: standing_of(piece) for place, piece in pieces_of(plan).items()}
    pace = measure(plan[0][0]) if measured else None
    print(describe(found, seconds_left(found, pace), jobs))
    return list(found.values())


def tickets(options: argparse.Namespace) -> int:
    """Score all subnetworks of whole blocks as pruned, retrain those of half size."""
    everything = _settings(options)
    if len(everything) > 1:
        raise LotteryError("The whole lottery is drawn for one task: name one.")
    only = _list(options.only)
    if not all(part.isdecimal() and len(part) < 10 for part in only):
        raise LotteryError(f"The option --only is {options.only!r}: give tickets, such as 63,455.")
    if options.first < 0:
        raise LotteryError(f"The option --first is {options.first}: it must not be negative.")
    from lotterylib.report.pages import TICKETS, find_template, render

    templates = [] if options.no_pages else _templates(Path(options.notebooks))
    template = find_template(templates, TICKETS) if templates else None
    _check_places(options, everything[0])
    from lotterylib.report import identity
    from lotterylib.runs import lottery
    from lotterylib.runs.experiment import open_experiment
    from lotterylib.runs.jobs import as_pieces, ticket_jobs
    from lotterylib.runs.run import compute_pieces

    experiment = open_experiment(everything[0])
    layers = experiment.shape.layers
    if layers > lottery.MOST_LAYERS:
        raise LotteryError(
            f"An encoder of {layers} layers has {4**layers:,} tickets: the whole lottery is drawn "
            f"with {lottery.MOST_LAYERS} layers at most."
        )
    wanted = [int(part) for part in only] or lottery.tickets_in_order(layers)
    if max(wanted) >= 4**layers:
        raise LotteryError(
            f"There is no ticket {max(wanted)}: those of {layers} layers end at {4**layers - 1}."
        )
    wanted = wanted[: options.first] if options.first else wanted
    pieces = as_pieces(experiment, ticket_jobs(experiment.settings, wanted))
    if template is None:
        return _tell(compute_pieces(pieces, options.jobs))
    mine = identity.requests_of([(experiment, [template.stem])], Path(options.pages))
    identity.refuse_others(mine, replace=options.replace)
    (folder,) = mine
    place, page = folder / "tickets.csv", folder / template.name
    scored = [piece for piece in pieces.values() if piece.job.stage != "ticket"]
    try:
        failures = compute_pieces(pieces, options.jobs)
    finally:  # what is known is written whenever it stops
        if all(experiment.store.has(piece.key) for piece in scored):
            table = lottery.ticket_table(experiment)
            identity.claim(mine, replace=options.replace)
            write_whole(place, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
            print(f"What is known of all tickets is in {place}.", file=sys.stderr)
    if not failures:
        render(template, page, given_by(experiment.settings))
        print(f"Rendered {page}", file=sys.stderr)
    return _tell(failures)


def rates(options: argparse.Namespace) -> int:
    """Try learning rates on a slice of the training rows."""
    everything = _settings(options)
    for name in ("learning_rate", "dev_split"):
        if name in options.given:
            raise LotteryError(f"'lottery rates' sets {name} itself: do not give it.")
    try:
        values = [float(part) for part in _list(options.rates)]
    except ValueError:
        values = [0.0]
    if not all(0 < value < 1 for value in values):
        such_as = "give numbers between 0 and 1, such as 5e-5,1e-4"
        raise LotteryError(f"The option --rates is {options.rates!r}: {such_as}.")
    if os.path.isdir(options.csv):
        raise LotteryError(f"The option --csv is {options.csv!r}: it must be a file, not a folder.")
    _check_writable("run store", everything[0].store, *STORE_FOLDERS)
    _check_writable("folder of the table", Path(options.csv).parent)
    from lotterylib.runs.rates import RATES, best_rates, keep, sweep

    table = sweep(everything, values or RATES, options.jobs)
    means = table.pivot_table(
        index=["task", "metric", "epochs"], columns="learning_rate", values="score", sort=False
    )
    print(means.round(3).to_string())
    print(best_rates(table).rename("best").to_string())
    keep(table, Path(options.csv))
    return 0


def differences(options: argparse.Namespace) -> int:
    """Make each choice between the paper and the authors' code the other way, one at a time."""
    everything = _settings(options)
    if everything[0].preset != "paper":
        raise LotteryError(
            f"'lottery differences' sets the preset itself: give paper, not {everything[0].preset}."
        )
    variants = Path(options.pages).parent / "variants"
    _check_writable("run store", everything[0].store, *STORE_FOLDERS)
    _check_writable("folder of the tables", variants)
    from lotterylib.report.differences import choices, measure_effects
    from lotterylib.runs.experiment import open_experiment

    only = _list(options.only)
    _check_known("choice between paper and code", only, [*choices()])
    experiments = [open_experiment(settings) for settings in everything]
    failures = measure_effects(experiments, variants, only, options.jobs, options.replace)
    print(f"The tables are in {variants}; the audit reads them.", file=sys.stderr)
    return _tell(failures)


def status(options: argparse.Namespace) -> int:
    """Show how far a run has come: 0 if all is done, 1 if something failed, 3 otherwise."""
    found = _stand(options, measured=False)
    for each in found:
        if each.state == "failed":
            print(f"{each.piece.name} failed: {each.reason}")
    states = {each.state for each in found}
    return 1 if "failed" in states else 0 if states == {"done"} else 3


def import_masks(options: argparse.Namespace) -> int:
    """Read the authors' own subnetworks, and audit them."""
    folder = Path(options.folder)
    if not os.path.isdir(folder):  # Path's own raises on some
        raise LotteryError(f"The folder {folder} does not exist.")
    from lotterylib.report.audit import searches
    from lotterylib.report.audit_tables import save_audit
    from lotterylib.report.imported import FAMILIES, load_imported, read_masks
    from lotterylib.report.imported import import_masks as read_into
    from lotterylib.runs.store import RunStore

    templates = [] if options.no_pages else _templates(Path(options.notebooks))
    store, pages = Path(options.store), Path(options.pages)
    read_masks(folder)  # what is wrong with them is said before anything is written
    if not options.no_pages:
        _check_writable("folder of pages", pages)
    _check_writable("run store", store, *STORE_FOLDERS)
    found = read_into(folder, RunStore(store))
    for family, count in Counter(mask.family for mask in found).items():
        tasks = len({mask.task for mask in found if mask.family == family})
        print(f"{FAMILIES[family].title}: {count} subnetworks, of {tasks} tasks.")
    if options.no_pages:
        return 0
    audited = load_imported(store)
    if not searches(audited):
        print("The audit needs masks that a search found, so no page is made.")
        return 0
    from lotterylib.report.differences import folders_in
    from lotterylib.report.identity import claim, masks_identity
    from lotterylib.report.pages import AUDIT, AUTHORS, find_template, render, write_contents

    template = find_template(templates, AUDIT)
    page = pages / AUTHORS / "audit" / AUDIT
    variants = pages.parent / "variants"
    read = {"variants": [folder.name for folder in folders_in(variants)]}
    mine = {"request": masks_identity(audited) | read, "seeds": {template.stem: []}}
    claim({page.parent: mine}, replace=options.replace)
    places = {"run_store": options.store, "pages": options.pages, "variants": str(variants)}
    render(template, page, places)
    save_audit(audited, page.parent)
    write_contents(pages)
    print(f"The audit is in {page}.")
    return 0


def _templates(folder: Path) -> list[Path]:
    from lotterylib.report.pages import AUDIT, OVERVIEW, find_template, templates

    found = templates(folder)
    for name in (OVERVIEW, AUDIT):
        find_template(found, name)
    return found


def _check_places(options: argparse.Namespace, settings: Settings) -> None:
    encoder = folder_of(settings.encoder)
    _check_writable("run store", settings.store, *STORE_FOLDERS, encoder)
    if not options.no_pages:
        _check_writable("folder of pages", Path(options.pages), encoder)


def _check_writable(what: str, folder: Path, *inside: str) -> None:
    """Refuse a folder that cannot be made or written to, or in which a run could not make these."""
    for place in (folder, *(folder / name for name in inside)):
        there = next(p for p in (place, *place.absolute().parents) if os.path.exists(p))
        if not os.path.isdir(there):  # Path's own raises on some
            raise LotteryError(f"The {what} {folder} cannot be made: {there} is not a directory.")
        if not os.access(there, os.W_OK):
            raise LotteryError(f"The {what} {folder} cannot be written to.")
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise LotteryError(f"The {what} {folder} cannot be written to: {reason}.") from None
    finally:
        for place in made:
            with suppress(OSError, ValueError):
                place.rmdir()


def show_choices(_options: argparse.Namespace) -> int:
    """List what can be asked for."""
    print("tasks (those without a source come from GLUE: the hub, or --data-dir)")
    for task in TASKS.values():
        source = "generated" if task.is_bundled else ""
        kind = " / ".join(task.labels) or "a number from 0 to 5"
        print(f"  {task.name:14} {task.metric:9} {kind}  {source}".rstrip())
    print("  or the path of a task file (.yml) that names data of your own")
    print("encoders (or the path of a model directory)")
    for encoder in ENCODERS.values():
        print(f"  {encoder.name:24} {encoder.kind:8} {encoder.location}".rstrip())
    print("presets: how")
    for preset, row in PRESETS.items():
        told = {"paper": "as the published text says", "official": "as the authors' code did"}
        changed = ", ".join(f"{name}={value}" for name, value in row.items())
        print(f"  {preset:28} {told.get(preset, changed)}")
    print("further pages of a task (--with)")
    for name, page in EXTRAS.items():
        print(f"  {name:14} {page}")
    print("budgets: how much")
    for budget, amount in BUDGETS.items():
        rows = [f"{amount[f'{split}_rows'] or 'all'} {split} rows" for split in ("train", "dev")]
        rest = f"{amount['epochs']} epochs, {len(amount['seeds'])} seeds"
        print(f"  {budget:10} {' and '.join(rows)}, {rest}")
    print("parameters: an option each, a line of --config, --set NAME=VALUE, or of a notebook")
    for row in reference():
        print(f"  {row['name']:24} {row['default']:10} {row['about']}")
    return 0


def results(options: argparse.Namespace) -> int:
    """Show what was found, as a table."""
    from lotterylib.report.results import load_results

    results = load_results(Path(options.pages))
    if results.empty:
        print(f"No results under {options.pages} yet; 'lottery run' makes them.")
    else:
        _show(results)
    return 0


def _show(results: pd.DataFrame) -> None:
    from lotterylib.report.results import format_verdicts, verdicts

    print(format_verdicts(verdicts(results)))
