"""Two pictures that readers act on: all tickets of a small encoder, and the search as a film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lotterylib.report.identity import read_request
from lotterylib.report.interactive import html_table, picture
from lotterylib.report.lottery import layers_in, scores_of_size, standing
from lotterylib.tasks import METRIC_NAMES, title_of

if TYPE_CHECKING:
    from lotterylib.importance import Importance
    from lotterylib.structured import StructuredStep

STEP_NAMES = {
    "full": "full model",
    "together": "together",
    "heads": "heads alone",
    "mlps": "MLPs alone",
}
"""What a page calls the phases of `structured.StructuredStep`."""


def describe_source(folder: Path) -> str:
    """Which run published what lies in a folder of a task, in a few words."""
    found = read_request(folder)["request"]
    own = "the device's own precision (float32 on a CPU)"
    return (
        f"{found['encoder']} on {title_of(found['task'])}, {found['train_rows']:,} training rows, "
        f"{found['dev_rows']:,} dev rows, products in "
        f"{own if found['precision'] == 'auto' else found['precision']}"
    )


# The whole lottery


def lottery_data(table: pd.DataFrame, metric: str, threshold: float) -> dict[str, Any]:
    """What the picture of all tickets draws.

    Args:
        table: of one seed, as `lottery.load_table` gives it.
        metric: in which the scores are.
        threshold: the share of the full model's score that the run's search keeps.

    Returns:
        `pruned`, the score of every ticket in their order, and `constant`, a digit for each;
        `retrained`, the known scores by ticket; `path`, the tickets that the search passes by.
    """
    known = table.dropna(subset="retrained")
    return {
        "metric": METRIC_NAMES[metric],
        "threshold": threshold,
        "layers": layers_in(table),
        "pruned": table["pruned"].round(5).tolist(),
        "constant": "".join(map(str, table["constant"].astype(int))),
        "retrained": dict(zip(known["ticket"].tolist(), known["retrained"].round(5), strict=True)),
        "path": table[table["search"] >= 0].sort_values("search")["ticket"].tolist(),
    }


def hunt(table: pd.DataFrame, metric: str, threshold: float) -> str:
    """The picture of all tickets as HTML, with what each size has as its table.

    Args:
        table, metric, threshold: as for `lottery_data`.
    """
    header = ("Units", "Tickets", "Best, pruned", "Median", "The search's choice", "Better than it")
    caption = "Scores of all tickets as pruned, by the number of their units"
    shown = html_table(caption, header, lottery_rows(table))
    return picture("lottery", lottery_data(table, metric, threshold), shown)


def lottery_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """By size: how many tickets, best and median score, the search's choice, how many beat it."""
    path = {ticket.bit_count(): ticket for ticket in table.loc[table["search"] >= 0, "ticket"]}
    rows: list[tuple[str, ...]] = []
    for units in range(2 * layers_in(table), -1, -1):
        scores = scores_of_size(table, units, "pruned")
        picked = path.get(units)
        found = standing(table, picked, "pruned")
        rows.append(
            (
                str(units),
                f"{len(scores):,}",
                f"{scores.max():.3f}",
                f"{scores.median():.3f}",
                "" if picked is None else f"{scores[picked]:.3f}",
                "" if found is None else f"{found.higher:,}",
            )
        )
    return rows


def describe_hunt(table: pd.DataFrame) -> str:
    """Where the search's choice of half the units stands, pruned and retrained, in sentences."""
    layers = layers_in(table)
    path = table.loc[table["search"] >= 0, "ticket"]
    picked = next((ticket for ticket in path if ticket.bit_count() == layers), None)
    if picked is None:
        return "The search passes by no ticket of half the units."
    lines = []
    for phase in ("pruned", "retrained"):
        scores, found = scores_of_size(table, layers, phase), standing(table, picked, phase)
        all_of_them = int((table["units"] == layers).sum())
        among = f"of all {all_of_them} tickets of {layers} units"
        if len(scores) < all_of_them:
            among = f"of the {len(scores)} of {all_of_them} that are retrained so far"
        if found is None:
            told = "the search's choice has not been retrained yet"
            if len(scores):
                told += (
                    f". The scores {among} lie between {scores.min():.3f} and {scores.max():.3f}"
                )
        else:
            told = (
                f"{among}, {found.higher} score higher than the search's choice "
                f"({found.score:.3f}), {found.same} the same, {found.lower} lower. The best "
                f"has {max(found.best, found.score):.3f}"
            )
        lines.append(f"* **{phase.capitalize()}:** {told}.")
    return "\n".join(lines)


# The search as a film


def film(searches: Mapping[int, Sequence[StructuredStep]], metric: str, threshold: float) -> str:
    """The film of structured searches as HTML, with the states of the first one as its table.

    Args:
        searches, metric, threshold: as for `film_data`.
    """
    seed, steps = next(iter(searches.items()))
    header = ("State", "Phase", "Score", "Of full", "Verdict", "Heads and MLPs left", "Closed")
    caption = f"The states of seed {seed}; closed heads as layer.head"
    shown = html_table(caption, header, film_rows(steps))
    return picture("film", film_data(searches, metric, threshold), shown)


def film_data(
    searches: Mapping[int, Sequence[StructuredStep]], metric: str, threshold: float
) -> dict[str, Any]:
    """What the film of structured searches shows.

    Args:
        searches: every state that was tried, by seed, as `published.load_searches` gives them.
        metric: in which the scores are.
        threshold: the share of the full model's score that is kept.

    Returns:
        For each seed its states. `from` is the state that a step started from; `raw` and
        `importance` are importance in the last state that was kept, which decides the next step
        (unless `stale_importance` was set), as measured and normalised: heads layer by layer, then
        MLPs.
    """
    return {
        "metric": METRIC_NAMES[metric],
        "threshold": threshold,
        "searches": [{"seed": seed, "states": _states(s)} for seed, s in searches.items()],
    }


def _states(steps: Sequence[StructuredStep]) -> list[dict[str, Any]]:
    states, last = [], 0
    for number, step in enumerate(steps):
        start, last = last, number if step.kept else last
        raw = steps[last].importance
        states.append(
            {
                "phase": STEP_NAMES[step.phase],
                "kept": step.kept,
                "score": round(step.score, 5),
                "from": start,
                "heads": ["".join(map(str, row.astype(int))) for row in step.subnetwork.heads],
                "mlps": "".join(map(str, step.subnetwork.mlps.astype(int))),
                "raw": [float(f"{each:.3g}") for each in _flat(raw)],
                "importance": [round(float(each), 3) for each in _flat(raw.normalised())],
            }
        )
    return states


def _flat(scores: Importance) -> np.ndarray:
    return np.concatenate([scores.heads.ravel(), scores.mlps])


def film_rows(steps: Sequence[StructuredStep]) -> list[tuple[str, ...]]:
    """The states of one search, what went at each step named."""
    rows: list[tuple[str, ...]] = []
    last = steps[0]
    for number, step in enumerate(steps):
        gone = [
            f"{layer + 1}.{head + 1}"
            for layer, head in np.argwhere(last.subnetwork.heads & ~step.subnetwork.heads)
        ]
        mlps = np.flatnonzero(last.subnetwork.mlps & ~step.subnetwork.mlps) + 1
        rows.append(
            (
                str(number),
                STEP_NAMES[step.phase],
                f"{step.score:.3f}",
                f"{step.score / steps[0].score:.0%}",
                "kept" if step.kept else "undone",
                f"{step.subnetwork.heads.sum()} and {step.subnetwork.mlps.sum()}",
                ", ".join([*gone, *(f"MLP {layer}" for layer in mlps)]) or "nothing",
            )
        )
        last = step if step.kept else last
    return rows
