"""The command `lottery`: run tasks, list what can be asked for, show what was found."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lotterylib import __version__
from lotterylib.encoders import ENCODERS, find_encoder
from lotterylib.errors import LotteryError, unknown
from lotterylib.methods import EXTRAS
from lotterylib.presets import BUDGETS, PRESETS, find_budget
from lotterylib.settings import BATCH_ORDERS, BUDGET_SEEDS, parse_settings
from lotterylib.tasks import BUNDLED, TASKS

if TYPE_CHECKING:
    import pandas as pd


_EXAMPLES = """\
examples:
  lottery run                                the bundled tasks, MiniLM: minutes on a laptop
  lottery run rte mrpc --data-dir GLUE       two tasks of GLUE from a local directory
  lottery run cola --encoder bert-base-uncased --budget full --batch-order random
                                             as in the paper (wants a GPU)
  lottery run sst2 --budget full --train-rows 3000 --seeds 1337,42,86
  lottery run rte --data-dir GLUE --with all  with the appendices, side studies and extensions
  lottery import-masks bert-experiments      the authors' own subnetworks, audited
  lottery results                            what has been found so far, as a table

Whatever is finished is kept in the run store: stop a run whenever you like, and give the same
command again to go on.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LotteryError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = _Parser(
        prog="lottery",
        description="Reproduce 'When BERT Plays the Lottery, All Tickets Are Winning'.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lotterylib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="fine-tune, prune, retrain, and render the pages of one or more tasks",
        description="Run the experiment on tasks, then render their pages of the book.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("tasks", nargs="*", metavar="TASK", help=f"default: {' '.join(BUNDLED)}")
    run.add_argument(
        "--encoder", default="minilm", help="a name from 'lottery list' or a directory"
    )
    run.add_argument(
        "--preset", default="paper", help=f"how: {', '.join(PRESETS)} (default: paper)"
    )
    run.add_argument(
        "--budget", default="laptop", help=f"how much: {', '.join(BUDGETS)} (default: laptop)"
    )
    run.add_argument(
        "--seeds", default=BUDGET_SEEDS, help="such as 1337,42 (default: the budget's)"
    )
    run.add_argument("--train-rows", type=int, default=0, help="instead of the budget's")
    run.add_argument("--dev-rows", type=int, default=0, help="instead of the budget's")
    run.add_argument("--epochs", type=int, default=0, help="instead of the budget's")
    run.add_argument("--learning-rate", type=float, default=0.0, help="instead of the encoder's")
    run.add_argument(
        "--batch-order", default="buckets", help=f"{' or '.join(BATCH_ORDERS)} (default: buckets)"
    )
    run.add_argument("--data-dir", default="", help="a GLUE directory (default: the hub)")
    run.add_argument("--store", default="runs", help="the run store (default: runs)")
    run.add_argument(
        "--pages", default="book/results", help="where pages go (default: book/results)"
    )
    run.add_argument("--notebooks", default="notebooks", help="where the templates are")
    run.add_argument(
        "--with",
        dest="extras",
        default="",
        help=f"further pages, separated by commas: {', '.join(EXTRAS)}, or all",
    )
    run.add_argument(
        "--jobs", type=int, default=0, help="processes at once (default: one a processor, up to 4)"
    )
    run.add_argument("--no-pages", action="store_true", help="compute only, render nothing")
    run.set_defaults(handler=_run)
    imported = commands.add_parser(
        "import-masks",
        help="read the authors' own subnetworks and audit them",
        description="Read the masks of a copy of sai-prasanna/bert-experiments into the run store, "
        "then render the page that analyses them.",
    )
    imported.add_argument("folder", metavar="DIR", help="the copy, or its folder masks")
    imported.add_argument("--store", default="runs", help="the run store (default: runs)")
    imported.add_argument("--pages", default="book/results", help="where the page goes")
    imported.add_argument("--notebooks", default="notebooks", help="where the templates are")
    imported.add_argument("--no-pages", action="store_true", help="import only, render nothing")
    imported.set_defaults(handler=_import)
    shown = commands.add_parser("list", help="list tasks, encoders, presets and budgets")
    shown.set_defaults(handler=_list)
    results = commands.add_parser("results", help="show what was found, as a table")
    results.add_argument("--pages", default="book/results", help="where the pages are")
    results.set_defaults(handler=_results)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 for a request that cannot be met."""
    try:
        parser = build_parser()
        options, extra = parser.parse_known_args(arguments)
        if extra:
            names = vars(options).keys() - {"command", "handler", "tasks", "folder"}
            known = sorted(
                f"--{name.replace('extras', 'with').replace('_', '-')}" for name in names
            )
            raise unknown("option", extra[0], known)
        return options.handler(options)
    except LotteryError as error:
        print(f"lottery: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nlottery: stopped. What was finished is kept; give the same command again to go on.",
            file=sys.stderr,
        )
        return 130


def _run(options: argparse.Namespace) -> int:
    names = dict.fromkeys(options.tasks or BUNDLED)
    everything = [
        parse_settings(
            task=name,
            encoder=options.encoder,
            preset=options.preset,
            budget=options.budget,
            seeds=options.seeds,
            train_rows=options.train_rows,
            dev_rows=options.dev_rows,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            batch_order=options.batch_order,
            data_dir=options.data_dir,
            store=options.store,
        )
        for name in names
    ]
    extras = _extras(options.extras)
    if options.jobs < 0:
        raise LotteryError(f"The option --jobs is {options.jobs}: it must not be negative.")
    pages = Path(options.pages)
    templates = [] if options.no_pages else _templates(Path(options.notebooks))
    _check_writable(everything[0].store)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    encoder = find_encoder(options.encoder)
    from lotterylib.data import load_task_data

    data = [load_task_data(settings) for settings in everything]
    # torch takes seconds to import: by now every mistake in the request has been reported.
    import pandas as pd

    from lotterylib import running
    from lotterylib.experiment import Experiment
    from lotterylib.results import collect

    experiments = [
        Experiment(settings, encoder, examples)
        for settings, examples in zip(everything, data, strict=True)
    ]
    for experiment in experiments:
        print(f"{experiment.task.title}: {experiment.data.origin}", file=sys.stderr)
    print(f"Encoder {encoder.name}: {encoder.origin}", file=sys.stderr)
    if not options.no_pages:
        running.check_pages(experiments, pages)
    there = Path() if options.no_pages else pages
    few = find_budget(options.budget).extra_seeds if options.seeds == BUDGET_SEEDS else 0
    plan = [
        part
        for experiment in experiments
        for part in running.in_parts(
            experiment, running.pages_wanted(experiment, extras, there), few
        )
    ]
    running.compute_all(plan, options.jobs)
    if options.no_pages:
        tables = [collect(experiment, *wanted) for experiment, wanted in plan]
        return _show(pd.concat(tables).drop_duplicates())
    running.render_all(plan, templates, pages)
    running.render_overview(encoder.name, templates, pages)
    return _results(options)


def _extras(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name != "all" and name not in EXTRAS:
            raise unknown("page", name, [*EXTRAS, "all"])
    return list(EXTRAS) if "all" in names else names


def _import(options: argparse.Namespace) -> int:
    from lotterylib.audit import check_auditable
    from lotterylib.imported import import_masks, read_masks
    from lotterylib.store import RunStore

    folder = Path(options.folder)
    if not folder.is_dir():
        raise LotteryError(f"The folder {folder} does not exist.")
    templates = [] if options.no_pages else _templates(Path(options.notebooks))
    masks = read_masks(folder)
    if not options.no_pages:
        check_auditable(mask.subnetwork for mask in masks)
    _check_writable(Path(options.store))
    found = import_masks(folder, RunStore(Path(options.store)))
    counts = Counter(mask.method for mask in found)
    for method, count in counts.items():
        tasks = len({mask.task for mask in found if mask.method == method})
        print(f"{count} subnetworks found by searching for {method}, of {tasks} tasks.")
    if options.no_pages:
        return 0
    if "structured" not in counts:
        print("The audit needs the masks found jointly (heads_mlps), so no page is made.")
        return 0
    from lotterylib.pages import AUDIT, AUTHORS, find_template, page_path, render, write_contents

    pages = Path(options.pages)
    template = find_template(templates, AUDIT)
    page = page_path(pages, AUTHORS, "audit", template)
    render(template, page, {"run_store": options.store})
    if (contents := pages.parent / "_toc.yml").is_file():
        write_contents(contents, pages)
    print(f"The audit is in {page}.")
    return 0


def _templates(folder: Path) -> list[Path]:
    from lotterylib.pages import AUDIT, OVERVIEW, find_template, templates

    found = templates(folder)
    for name in (OVERVIEW, AUDIT):
        find_template(found, name)
    return found


def _check_writable(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LotteryError(f"The run store {store} cannot be made: {error.strerror}.") from None
    if not os.access(store, os.W_OK):
        raise LotteryError(f"The run store {store} cannot be written to.")


def _list(_options: argparse.Namespace) -> int:
    print("tasks (those without a source come from GLUE: the hub, or --data-dir)")
    for task in TASKS.values():
        source = "generated" if task.is_bundled else ""
        kind = " / ".join(task.labels) or "a number from 0 to 5"
        print(f"  {task.name:14} {task.metric:9} {kind}  {source}".rstrip())
    print("encoders (or the path of a model directory)")
    for encoder in ENCODERS.values():
        print(f"  {encoder.name:24} {encoder.kind:8} {encoder.location}".rstrip())
    print("presets: how")
    print("  paper      as the published text says")
    print("  official   as the authors' code and stored artefacts did")
    print("further pages of a task (--with)")
    for name, page in EXTRAS.items():
        print(f"  {name:14} {page}")
    print("budgets: how much")
    for budget in BUDGETS.values():
        rows = " and ".join(
            f"{rows or 'all'} {name} rows"
            for rows, name in ((budget.train_rows, "training"), (budget.dev_rows, "dev"))
        )
        few = f" ({budget.extra_seeds} for further pages)" if budget.extra_seeds else ""
        print(f"  {budget.name:10} {rows}, {budget.epochs} epochs, {len(budget.seeds)} seeds{few}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from lotterylib.results import load_results

    results = load_results(Path(options.pages))
    if results.empty:
        print(f"No results under {options.pages} yet; 'lottery run' makes them.")
        return 0
    return _show(results)


def _show(results: pd.DataFrame) -> int:
    from lotterylib.results import format_verdicts, verdicts

    print(format_verdicts(verdicts(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
