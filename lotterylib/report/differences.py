"""What the differences between the paper's text and the authors' code change, where it was run.

`paper.differences` lists them. The preset `paper+<option>` makes one choice the other way; beside a
run with the preset `paper`, on the same task, seeds and data, it tells what the choice changes. An
encoder's pages are all of one preset, so each preset has a folder of its own. `lottery differences`
makes the tables for all of them, with no more work than the effects need.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lotterylib.report import paper
from lotterylib.report.identity import Request, claim, refuse_others, requests_of
from lotterylib.report.imported import SOURCE
from lotterylib.report.results import COLUMNS, collect_scored, read_table, save_results
from lotterylib.report.tables import counted
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.jobs import Job, Piece, as_pieces
from lotterylib.runs.methods import PHASES, Scored
from lotterylib.runs.presets import OFFICIAL, PRESETS, READINGS
from lotterylib.runs.run import Failure, compute_pieces
from lotterylib.tasks import in_order, title_of

_MAY_DIFFER = (
    *("preset", "request", *OFFICIAL, *READINGS),
    *("value", "density", "printed_share", "overlap_with_good", "constant"),
    *("seconds", "threads", "device"),
)
_SAME = [name for name in COLUMNS if name not in _MAY_DIFFER]
"""The columns in which two rows must be alike for their difference to be that of a choice."""

_SCORE = ["seed", "method", "subnetwork", "phase", "draw", "metric"]
"""The columns that name a score within a request."""

NOT_RUN = "not run yet"
NO_SCORES = "changes attention patterns, no size and no score"
NO_OPTION = "nothing to switch"


def folders_in(variants: Path) -> list[Path]:
    """The folders below a folder, by name; none where there is no such folder."""
    return sorted(path for path in variants.glob("*") if path.is_dir())


def choices() -> dict[str, tuple[str, str]]:
    """The choices that can be made the other way, each with the method and the kind of the
    subnetwork that it is about.
    """
    found = {}
    for row in paper.differences().itertuples():
        for option in str(row.option).split():
            if row.affects and f"paper+{option}" in PRESETS:
                method, kind = str(row.affects).split()
                found[option] = method, kind
    return found


def switched(
    experiment: Experiment, only: Sequence[str] = ()
) -> dict[str, tuple[Experiment, list[Scored]]]:
    """The choices (those named, or all) made the other way, one at a time, by option: the
    experiment with the preset `paper+<option>`, and the scores of the subnetwork that it is about.

    A choice that changes none of them on this task is left out, such as the metric that stops a
    search on STS-B only.
    """
    found: dict[str, tuple[Experiment, list[Scored]]] = {}
    seed = experiment.settings.seeds[0]
    for option, about in choices().items():
        if only and option not in only:
            continue
        preset = f"paper+{option}"
        settings = experiment.settings.but(preset=preset, **PRESETS[preset])
        other = Experiment(settings, experiment.encoder, experiment.data)
        scored = [(*about, phase) for phase in PHASES]
        keys, usual = ([made.score_key(seed, *s) for s in scored] for made in (other, experiment))
        if [key.path for key in keys] != [key.path for key in usual]:
            found[option] = other, scored
    return found


def measure_effects(
    experiments: Sequence[Experiment],
    variants: Path,
    only: Sequence[str] = (),
    jobs: int = 0,
    replace: bool = False,
) -> list[Failure]:
    """Score what every choice is about, made the other way and as in the preset `paper`: both here,
    since fine-tuning on another processor gives another model.

    Args:
        experiments: a task each, with the preset `paper`.
        variants: tables go to `<variants>/<option or "paper">/<encoder>/<task>/results.csv`.
        only: names of choices; all if empty.
        jobs: how many jobs at once; 0 as in `compute_pieces`.
        replace: whether tables of another request may go.

    Returns:
        The jobs that failed; the tables lack what needs them.

    Raises:
        LotteryError: as `identity.refuse_others`.
    """
    pieces: dict[Path, Piece] = {}
    tables: list[tuple[Experiment, list[Scored], dict[Path, Request]]] = []
    for experiment in experiments:
        found = switched(experiment, only)
        scored = list(dict.fromkeys(each for _, several in found.values() for each in several))
        for option, (made, wanted) in {"paper": (experiment, scored), **found}.items():
            mine = requests_of([(made, ["differences"])], variants / option)
            refuse_others(mine, replace=replace)
            pieces |= as_pieces(made, _jobs(made, wanted))
            tables.append((made, wanted, mine))
    failures = compute_pieces(pieces, jobs)
    lost = {failure.place for failure in failures}
    for made, wanted, mine in tables:
        there = [each for each in wanted if not lost & as_pieces(made, _jobs(made, [each])).keys()]
        if there:
            claim(mine, replace=replace)
            (folder,) = mine
            rows, place = collect_scored(made, there), folder / "results.csv"
            if place.is_file():  # of other choices, from an earlier call
                rows = pd.concat([read_table(place), rows])
            save_results(rows.drop_duplicates(_SCORE, keep="last"), place)
    return failures


def _jobs(experiment: Experiment, scored: Sequence[Scored]) -> list[Job]:
    jobs = []
    for (method, kind, phase), seed in itertools.product(scored, experiment.settings.seeds):
        jobs += [Job("finetune", seed), Job("search", seed, method), Job(phase, seed, method, kind)]
    return jobs


def differences_table(results: pd.DataFrame) -> pd.DataFrame:
    """`paper.differences`, each with its `effect` in results of any presets and tasks: by how much
    size (points of the encoder) and scores of the subnetwork that it is about differ from the
    preset `paper` on average, and over how many tasks and seeds; or why there is none.
    """
    table, effects = paper.differences(), []
    for options, affects in zip(table["option"].str.split(), table["affects"], strict=True):
        told = {option: _effect(results, option, affects) for option in options}
        if len(told) > 1:
            told = {option: f"{option}: {effect}" for option, effect in told.items()}
        effects.append("; ".join(told.values()) or NO_OPTION)
    return table.assign(effect=effects)


def _effect(results: pd.DataFrame, option: str, affects: str) -> str:
    if not affects:
        return NO_SCORES
    pairs = matched(results, option, *affects.split())
    if pairs.empty:
        return NOT_RUN
    pairs = pairs.assign(size=100 * (pairs["density"] - pairs["density_paper"]))
    sizes = pairs.groupby(["encoder", "task", "seed"])["size"].mean()
    told = [f"size {_spread(sizes, 1)} points of the encoder"]
    for phase in PHASES:
        rows = pairs[pairs["phase"] == phase]
        if len(rows):
            told.append(f"score {phase} {_spread(rows['value'] - rows['value_paper'], 3)}")
    tasks = ", ".join(title_of(task) for task in in_order(pairs["task"]))
    several = "; in brackets the least and the most" if len(pairs) > len(told) - 1 else ""
    seeds = counted(pairs["seed"].nunique(), "seed")
    return f"{', '.join(told)} (the code's way less the text's; {tasks}, {seeds}{several})"


def _spread(values: pd.Series, digits: int) -> str:
    """The mean, and the least and the most where there are several."""
    mean, least, most = (
        f"{round(each, digits) + 0:+.{digits}f}"
        for each in (values.mean(), values.min(), values.max())
    )
    return mean if len(values) == 1 else f"{mean} [{least}, {most}]"


def matched(results: pd.DataFrame, option: str, method: str, kind: str) -> pd.DataFrame:
    """The rows of a subnetwork's reported scores with the preset `paper+<option>`, each with
    `value_paper` and `density_paper` of the first one with `paper`, all other settings alike.
    """
    own = results["reported"].astype(bool) & results["phase"].isin(PHASES)
    rows = results[own & (results["method"] == method) & (results["subnetwork"] == kind)]
    by_paper = rows[rows["preset"] == "paper"][[*_SAME, "value", "density"]].drop_duplicates(_SAME)
    otherwise = rows[rows["preset"] == f"paper+{option}"]
    return otherwise.merge(by_paper, on=_SAME, suffixes=("", "_paper"))


def describe_differences(table: pd.DataFrame) -> str:
    """The rows of `differences_table` as a list for a page."""
    lines = []
    for row in table.itertuples():
        switch = ", ".join(
            f"`paper+{option}`" if f"paper+{option}" in PRESETS else f"`{option}` of the preset"
            for option in str(row.option).split()
        )
        lines.append(
            f"{row.number}. **{_capital(str(row.topic))}.** Paper: {row.paper}. Code: {row.code}. "
            f"Here: {row.here}."
            + (f" Switch: {switch}. Effect: {row.effect}." if switch else "")
            + f" *Evidence: {str(row.evidence).replace(f'{SOURCE}@f02280f, ', '')}.*"
        )
    return "\n".join(lines)


def describe_misprints() -> str:
    """`paper.misprints` as a list for a page, less the procedures, which are differences."""
    table = paper.misprints().query("kind != 'procedure'")
    return "\n".join(
        f"* **{_capital(str(row.where))}.** Printed: {row.printed}. Instead: {row.should_be}. "
        f"{row.why}"
        for row in table.itertuples()
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
