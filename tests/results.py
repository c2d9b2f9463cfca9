"""Results tables and tables of tickets whose every score is made up."""

import pandas as pd

from lotterylib.report.results import COLUMNS

SEEDS = (1, 2, 3)


def results_of(cells, seeds=SEEDS, density=(0.3, 0.4, 0.5), metric="accuracy", **others):
    """A table from values, one per seed, by method, subnetwork and phase.

    Sizes are by seed, or one for all. Beside each score stands one that is not reported.
    """
    sizes = density if isinstance(density, tuple) else (density,) * len(seeds)
    fixed = {"encoder": "minilm", "task": "sst2", "preset": "paper", "budget": "full", "draw": 0}
    fixed |= {"constant": False, "examples": 400, "train_rows": 1000, "epochs": 3} | others
    rows = []
    for (method, kind, phase), values in cells.items():
        named = {"method": method, "subnetwork": kind, "phase": phase}
        for seed, size, value in zip(seeds, sizes, values, strict=False):
            row = fixed | named | {"seed": seed, "density": size}
            rows.append(row | {"metric": metric, "value": value, "reported": True})
            rows.append(row | {"metric": "other", "value": -9.0, "reported": False})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def tickets_of(pruned, retrained, constant=(), way=()):
    """All tickets: scores as pruned, those retrained by ticket, and the way of the search."""
    table = pd.DataFrame({"ticket": range(len(pruned)), "pruned": pruned})
    table.insert(1, "units", [ticket.bit_count() for ticket in range(len(pruned))])
    table["constant"] = table["ticket"].isin(constant)
    steps = {ticket: step for step, ticket in enumerate(way)}
    table["search"] = table["ticket"].map(steps).fillna(-1).astype(int)
    table["retrained"] = table["ticket"].map(retrained)
    return table
