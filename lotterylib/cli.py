"""The command `lottery`: run tasks, list what can be asked for, show what was found.

What takes long to import is imported where it is needed, when Ctrl-C is dealt with already.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NoReturn

from lotterylib import __version__
from lotterylib.errors import LotteryError, unknown
from lotterylib.runs.stopping import Stopped, stoppable

_EXAMPLES = """\
examples:
  lottery run                                the bundled tasks, MiniLM: minutes on a laptop
  lottery run rte mrpc --data-dir GLUE       two tasks of GLUE from a local directory
  lottery run mood.yml                       a task of your own, as its file describes it
  lottery run cola --encoder bert-base-uncased --budget full --batch-order random
                                             as in the paper (wants a GPU)
  lottery run sst2 --budget full --train-rows 3000 --seeds 1337,42,86
  lottery run rte --data-dir GLUE --with all  with the appendices, side studies and extensions
  lottery plan cola rte --encoder bert-base-uncased --budget full
                                             how long that will take on this machine
  lottery status rte mrpc --data-dir GLUE    how far that has come
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
    from lotterylib import commands
    from lotterylib.data.files import at_home
    from lotterylib.runs.methods import EXTRAS
    from lotterylib.runs.request import BOOK, TRIALS

    examples: dict[str, Any] = {
        "epilog": _EXAMPLES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    parser = _Parser(
        prog="lottery",
        description="Reproduce 'When BERT Plays the Lottery, All Tickets Are Winning'.",
        **examples,
    )
    parser.add_argument("--version", action="version", version=f"lotterylib {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def option(*name: str, **told: Any) -> _Parser:
        """An option that several commands share."""
        made = _Parser(add_help=False)
        made.add_argument(*name, **told)
        return made

    def add(name: str, handler: Any, *parents: _Parser, **told: Any) -> _Parser:
        made = subparsers.add_parser(name, parents=parents, **told)
        made.set_defaults(parser=made, handler=handler)
        return made

    request = _Parser(add_help=False)
    _add_settings(request)
    request.add_argument(
        "--jobs", type=int, default=0, help="processes at once (default: one a processor, up to 4)"
    )
    told = f"further pages, separated by commas: {', '.join(EXTRAS)}, or all"
    further = option("--with", dest="extras", default="", help=told)
    told = "where the templates are (default: notebooks)"
    notebooks = option("--notebooks", default=str(at_home("notebooks")), help=told)
    told = "replace pages that were made with other settings, seeds, weights or data"
    replace = option("--replace", action="store_true", help=told)
    told = f"where pages go (default: {BOOK}, or {TRIALS} for a run that only tries things out)"
    placed = option("--pages", default="", help=told)
    told = f"where the pages are (default: {BOOK})"
    pages = option("--pages", default=str(at_home(BOOK)), help=told)
    none = option("--no-pages", action="store_true", help="compute only, render nothing")

    add(
        *("run", commands.run, request, placed, none, further, notebooks, replace),
        help="fine-tune, prune, retrain, and render the pages of one or more tasks",
        description="Run the experiment on tasks, then render their pages of the book.",
        **examples,
    )
    add(
        *("plan", commands.plan, request, placed, none, further),
        help="tell how long a run will take on this machine, without starting it",
        description="Time a few batches of the tasks' texts and tell which jobs are left and how "
        "long they will take. Takes the same requests as 'lottery run'.",
    )
    tickets = add(
        *("tickets", commands.tickets, request, placed, none, notebooks, replace),
        help="the whole lottery: score all subnetworks of whole blocks, retrain those of half size",
        description="Score every subnetwork of whole attention blocks and MLPs as pruned, and "
        "retrain those of half size, in a random but fixed order. Takes the same settings as "
        "'lottery run', for one task. Stop it whenever you like.",
    )
    tickets.add_argument("--first", type=int, default=0, help="retrain only so many (default: all)")
    tickets.add_argument("--only", default="", help="retrain only these, such as 63,455")
    rates = add(
        *("rates", commands.rates, request),
        help="try learning rates, scored on a slice of the training rows",
        description="Fine-tune under several learning rates and score each on a slice of the "
        "training rows that is not trained on. Takes the same settings as 'lottery run', but no "
        "learning rate and no dev split.",
    )
    rates.add_argument("--rates", default="", help="such as 5e-5,1e-4 (default: four of them)")
    rates.add_argument(
        "--csv",
        default=str(at_home("book/learning_rates.csv")),
        help="where the table is kept, with older rows",
    )
    differences = add(
        *("differences", commands.differences, request, pages, replace),
        help="what each difference between the paper and the authors' code changes",
        description="Make each choice in which the paper's text and the authors' code differ the "
        "other way, one at a time, and score the subnetwork that it is about. The audit reads the "
        "tables. Takes the same settings as 'lottery run', with the preset paper.",
    )
    differences.add_argument(
        "--only", default="", help="these, such as importance,stop_metric (default: all)"
    )
    add(
        *("status", commands.status, request, placed, none, further),
        help="show how far a run has come: done, running, failed, missing",
        description="Show how far a run has come, from the store's own record. Takes the same "
        "requests as 'lottery run'. The exit status is 0 if all is done, 1 if something failed, "
        "3 if something is still missing.",
    )
    imported = add(
        *("import-masks", commands.import_masks, pages, none, notebooks, replace),
        help="read the authors' own subnetworks and audit them",
        description="Read the masks of a copy of sai-prasanna/bert-experiments into the run store, "
        "then render the page that analyses them.",
    )
    imported.add_argument("folder", metavar="DIR", help="the copy, or its folder masks")
    imported.add_argument(
        "--store", default=str(at_home("runs")), help="the run store (default: runs)"
    )
    overview = add(
        *("overview", commands.overview, pages, notebooks),
        help="render the page over all tasks again, from what runs have published",
    )
    overview.add_argument("--encoder", default="minilm", help="whose runs (default: minilm)")
    add("list", commands.show_choices, help="list tasks, encoders, presets and budgets")
    add("results", commands.results, pages, help="show what was found, as a table")
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """What is to be run: every field of `Settings` is an option."""
    from lotterylib.runs.settings import GROUPS, reference
    from lotterylib.tasks import BUNDLED

    parser.add_argument(
        "tasks",
        nargs="*",
        metavar="TASK",
        help=f"a name from 'lottery list', or a task file (default: {' '.join(BUNDLED)})",
    )
    parser.add_argument("--config", default="", metavar="FILE", help="a YAML file of parameters")
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter by its name, such as threshold=0.95; may be given several times",
    )
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for row in reference():
        if row["name"] == "task":
            continue
        accepted = f": {row['accepted']}" if row["accepted"] not in row["about"] else ""
        default = f" (default: {row['default']})" if row["default"] else ""
        groups[row["group"]].add_argument(
            f"--{row['name'].replace('_', '-')}",
            metavar=row["type"].upper().replace(" ", "-"),
            help=f"{row['about']}{accepted}{default}".replace("%", "%%"),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 2 for a request that cannot be met."""
    if os.path.expanduser("~") == "~":  # nobody's, as containers have it; libraries ask for one
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        status = _run_or_say_why_not(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read what is said has gone, such as head
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        return 141


def _run_or_say_why_not(arguments: Sequence[str] | None) -> int:
    try:
        with stoppable():
            return _run(arguments)
    except LotteryError as error:
        print(f"lottery: {error}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:  # of the disk, of permissions, of names
        what = f" ({error.filename})" if error.filename else ""
        print(f"lottery: {error.strerror or error}{what}.", file=sys.stderr)
    except KeyboardInterrupt as stopped:
        print(
            "\nlottery: stopped. What was finished is kept; give the same command again to go on.",
            file=sys.stderr,
        )
        gc.freeze()  # else Python looks through all that is about to be freed, for seconds
        return stopped.status if isinstance(stopped, Stopped) else 130
    return 2


def _run(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    options, extra = parser.parse_known_args(arguments)
    if extra:
        options_of = options.parser._option_string_actions.keys() - {"-h", "--help"}
        kind = "option" if extra[0].startswith("-") else "argument"
        raise unknown(kind, extra[0], sorted(options_of))
    return options.handler(options)


if __name__ == "__main__":
    sys.exit(main())
