"""The whole lottery as stages of the run store: all tickets pruned, the search, each retrained.

Every retrained ticket is an artefact of its own, so that the work can stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lotterylib.finetuning import Progress, silent
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.store import Key, read_score, write_score
from lotterylib.scoring import Score, evaluate
from lotterylib.tickets import score_all, search_tickets, subnetwork_of, tickets_of_size

MOST_LAYERS = 6
"""Of an encoder whose tickets are all scored: each further layer makes four times as many."""

ORDER_SEED = 20200560
"""Draws the order in which tickets are retrained, so that those that are done are a random part."""


def pruned_key(experiment: Experiment, seed: int) -> Key:
    """Where the store keeps the scores of all tickets as pruned."""
    return experiment.key_after("tickets-pruned", seed, **experiment.choices("pruned"))


def pruned(experiment: Experiment, seed: int, report: Progress = silent) -> dict[str, list[Any]]:
    """The reported metric of every ticket as pruned (`score`) and whether it is `constant`."""

    def make() -> object:
        model, dev = experiment.finetuned(seed), experiment.splits[1]
        drops_bias = experiment.settings.empty_layer_bias == "dropped"
        scores = score_all(model, dev, experiment.task, report, drops_bias)
        found = [each.metrics[experiment.task.metric] for each in scores]
        return {"score": found, "constant": [each.constant for each in scores]}

    return experiment.fetch_json(pruned_key(experiment, seed), "tickets.json", make)


def search_key(experiment: Experiment, seed: int) -> Key:
    """Where the store keeps the states of the search over tickets."""
    return experiment.key_after("tickets-search", seed)


def searched(experiment: Experiment, seed: int, report: Progress = silent) -> list[dict[str, Any]]:
    """The states of the search over tickets, as plain values."""

    def make() -> object:
        model, dev = experiment.finetuned(seed), experiment.splits[1]
        return [
            {
                "ticket": state.ticket,
                "attention": state.attention.tolist(),
                "mlps": state.mlps.tolist(),
                "score": state.score,
            }
            for state in search_tickets(model, dev, experiment.task, report)
        ]

    return experiment.fetch_json(search_key(experiment, seed), "search.json", make)


def retrained_key(experiment: Experiment, seed: int, ticket: int) -> Key:
    """Where the store keeps the score of a ticket that was retrained."""
    choices = experiment.choices("retrained")
    return experiment.key_after("ticket-retrained", seed, ticket=ticket, **choices)


def retrained(experiment: Experiment, seed: int, ticket: int, report: Progress = silent) -> Score:
    """The dev score of a ticket, retrained as `Experiment.score` retrains (section 4.2)."""

    def make(folder: Path) -> None:
        subnetwork = subnetwork_of(ticket, experiment.shape)
        model, _ = experiment.left(seed, subnetwork, "retrained", report)
        write_score(folder, evaluate(model, experiment.splits[1], experiment.task))

    key = retrained_key(experiment, seed, ticket)
    return read_score(experiment.store.fetch(key, make, experiment.computed_on))


def tickets_in_order(layers: int) -> list[int]:
    """The tickets of half size in the order in which they are retrained, random but fixed."""
    tickets = tickets_of_size(layers, layers)
    return np.random.default_rng(ORDER_SEED).permutation(tickets).tolist()


def ticket_table(experiment: Experiment, seeds: Sequence[int] = ()) -> pd.DataFrame:
    """All tickets of the first seed (by default, of the experiment's), with what the store knows.

    Returns:
        A row per ticket: `ticket`, `units`, `pruned`, `constant`, `search` (the step of the search
        that stopped there, from 0, or -1), and per seed `retrained_<seed>`, nan where the store
        lacks it.
    """
    seeds = seeds or experiment.settings.seeds
    first = seeds[0]
    found = pruned(experiment, first)
    table = pd.DataFrame({"ticket": range(len(found["score"]))})
    table["units"] = [ticket.bit_count() for ticket in table["ticket"]]
    table["pruned"], table["constant"] = found["score"], found["constant"]
    steps = {state["ticket"]: step for step, state in enumerate(searched(experiment, first))}
    table["search"] = [steps.get(ticket, -1) for ticket in table["ticket"]]
    metric = experiment.task.metric
    for seed in seeds:
        table[f"retrained_{seed}"] = [
            retrained(experiment, seed, ticket).metrics[metric]
            if experiment.store.has(retrained_key(experiment, seed, ticket))
            else np.nan
            for ticket in table["ticket"]
        ]
    return table
