"""The hunt for the winning ticket: all subnetworks of a small encoder, and the search's choice."""

from __future__ import annotations

import pandas as pd

from lotterylib.report.lottery import (
    describe_standing,
    half_of,
    layers_in,
    scores_of_size,
    standing,
)
from lotterylib.report.pictures import frame
from lotterylib.report.tables import NOTHING
from lotterylib.tasks import METRIC_NAMES


def hunt(table: pd.DataFrame, metric: str, threshold: float) -> str:
    """The picture of all tickets of one seed (`lottery.load_table`) as HTML, and a table by size.

    Args:
        table: of the tickets.
        metric: in which the scores are.
        threshold: the share of the full model's score that the run's search keeps.
    """
    known = table.dropna(subset="retrained")
    data = {
        "metric": METRIC_NAMES[metric],
        "threshold": threshold,
        "layers": layers_in(table),
        "pruned": table["pruned"].round(5).tolist(),
        "constant": "".join(map(str, table["constant"].astype(int))),
        "retrained": dict(zip(known["ticket"].tolist(), known["retrained"].round(5), strict=True)),
        "path": table[table["search"] >= 0].sort_values("search")["ticket"].tolist(),
    }
    header = ("Units", "Tickets", "Best, pruned", "Median", "The search's choice", "Better than it")
    caption = "Scores of all tickets as pruned, by the number of their units"
    return frame("hunt", data, caption, header, hunt_rows(table))


def hunt_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
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
                NOTHING if picked is None else f"{scores[picked]:.3f}",
                NOTHING if found is None else f"{found.higher:,}",
            )
        )
    return rows


def describe_choice(table: pd.DataFrame) -> str:
    """Where the ticket of half the units on the search's way stands, pruned and retrained."""
    half = half_of(table.loc[table["search"] >= 0, "ticket"], layers_in(table))
    return "\n".join(
        f"* **The search's choice, {column}:** {describe_standing(table, half, column)}"
        for column in ("pruned", "retrained")
    )
