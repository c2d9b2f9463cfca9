"""The whole lottery: all tickets of an encoder scored as pruned, those of half size retrained.

Three stages for each seed of fine-tuning: `tickets-pruned` (all scores in one artefact),
`tickets-search` (the path of the structured search over the same units), and `ticket-retrained`,
an artefact for each ticket, so that the work can be stopped at any of them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from lotterylib.data.files import read_json, write_json
from lotterylib.errors import reason_of
from lotterylib.finetuning import Progress, silent, train
from lotterylib.gates import remove
from lotterylib.runs.experiment import Experiment, open_experiment
from lotterylib.runs.run import pool_of, processes
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import Key
from lotterylib.scoring import Score, read_score
from lotterylib.tickets import (
    TicketStep,
    block_importance,
    picked_half,
    score_all,
    search_over_tickets,
    subnetwork_of,
    tickets_of,
)

_ORDER_SEED = 924
"""Of the order in which tickets are retrained."""


def order_of(layers: int) -> list[int]:
    """The tickets of half the units in a random order that is always the same, so that the first
    few are a fair sample of all.

    Raises:
        LotteryError: the encoder has too many layers.
    """
    return np.random.default_rng(_ORDER_SEED).permutation(tickets_of(layers, layers)).tolist()


# The stages


def pruned_key(experiment: Experiment, seed: int) -> Key:
    """Where the store keeps the scores of all tickets as pruned."""
    config = {"finetuned": experiment.finetuned_key(seed).digest}
    return _key(experiment, seed, "tickets-pruned", config | _bias(experiment))


def search_key(experiment: Experiment, seed: int) -> Key:
    """Where the store keeps the path of the search."""
    config = {"finetuned": experiment.finetuned_key(seed).digest, "metric": experiment.stop_metric}
    return _key(experiment, seed, "tickets-search", config)


def retrained_key(experiment: Experiment, seed: int, ticket: int) -> Key:
    """Where the store keeps the score of a retrained ticket."""
    config = {**experiment.finetuned_key(seed).config, "ticket": ticket, **_bias(experiment)}
    if experiment.preset.embeddings == "kept":
        config["embeddings"] = "kept"
    return _key(experiment, seed, "ticket-retrained", config)


def _key(experiment: Experiment, seed: int, stage: str, config: dict[str, Any]) -> Key:
    return Key(experiment.encoder.name, experiment.task.name, stage, config, seed)


def _bias(experiment: Experiment) -> dict[str, str]:
    return {"empty_layer_bias": "dropped"} if _drops_bias(experiment) else {}


def _drops_bias(experiment: Experiment) -> bool:
    return experiment.preset.empty_layer_bias == "dropped"


def pruned(
    experiment: Experiment, seed: int, report: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """The dev scores of all tickets with the fine-tuned weights.

    Returns:
        By ticket, float64[tickets] in the reported metric, and bool[tickets], whether it gives the
        same answer everywhere.
    """

    def make(folder: Path) -> None:
        model, dev, task = experiment.finetuned(seed), experiment.splits[1], experiment.task
        found = score_all(model, dev, task, _drops_bias(experiment), report)
        arrays = {
            "score": np.array([score.metrics[task.metric] for score in found]),
            "constant": np.array([score.constant for score in found]),
        }
        save_file(arrays, folder / "scores.safetensors")

    key = pruned_key(experiment, seed)
    folder = experiment.store.fetch(key, make, experiment.computed_on)
    arrays = load_file(folder / "scores.safetensors")
    return arrays["score"], arrays["constant"]


def search_path(experiment: Experiment, seed: int) -> list[TicketStep]:
    """What the structured search prunes when attention blocks and MLPs are its units."""

    def make(folder: Path) -> None:
        model, dev, task = experiment.finetuned(seed), experiment.splits[1], experiment.task

        def measure(ticket: int) -> tuple[np.ndarray, float]:
            importance, score = block_importance(model, dev, task, ticket)
            return importance, score.metrics[experiment.stop_metric]

        path = search_over_tickets(measure, experiment.shape.layers)
        steps = [asdict(step) | {"importance": step.importance.tolist()} for step in path]
        write_json(folder / "path.json", steps)

    folder = experiment.store.fetch(search_key(experiment, seed), make, experiment.computed_on)
    return [
        TicketStep(step["ticket"], np.array(step["importance"]), step["score"])
        for step in read_json(folder / "path.json")
    ]


def retrained(experiment: Experiment, seed: int, ticket: int, report: Progress = silent) -> Score:
    """The dev score of a ticket, trained from the pre-trained weights as `Experiment.score` does
    it.
    """

    def make(folder: Path) -> None:
        model, recipe, part = experiment.start(seed, "retrained")
        shape = experiment.shape
        kept = subnetwork_of(ticket, shape.layers, shape.heads)
        remove(model, kept, _drops_bias(experiment))
        split, task = experiment.splits[0], experiment.task
        losses = train(model, split, task, recipe, seed, progress=report, part=part)
        experiment.keep(folder, model, losses, "retrained")

    key = retrained_key(experiment, seed, ticket)
    return read_score(experiment.store.fetch(key, make, experiment.computed_on))


# All of it


def compute_lottery(experiment: Experiment, tickets: Sequence[int], jobs: int = 0) -> list[str]:
    """Compute what the store lacks, with progress and the time left.

    Args:
        experiment: of one task.
        tickets: which to retrain, in this order; those that the searches pick come beforehand.
        jobs: processes at once, with a thread each; 0 for one a processor, at most four.

    Returns:
        What failed, in a line each.
    """
    experiment.store.tidy()
    seeds = experiment.settings.seeds
    before = ("finetuned", "searched", "pruned", "picked")
    work = [(stage, seed, -1) for stage in before for seed in seeds]
    work += [
        ("retrained", seed, ticket)
        for seed in seeds
        for ticket in tickets
        if not experiment.store.has(retrained_key(experiment, seed, ticket))
    ]
    failures = []
    pool = pool_of(jobs or processes())
    try:
        waiting = {pool.submit(_compute, experiment.settings, *each): each for each in work}
        for job in tqdm(as_completed(waiting), total=len(work), smoothing=0.02, unit="piece"):
            stage, seed, ticket = waiting[job]
            error = job.exception()
            if isinstance(error, BrokenProcessPool):
                failures.append("A process was killed: was there too little memory?")
                break
            if error is not None:
                name = f"ticket {ticket}" if stage == "retrained" else stage
                failures.append(f"{name}, seed {seed}: {reason_of(error)}")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()  # the store keeps what is whole
    return failures


def _compute(settings: Settings, stage: str, seed: int, ticket: int) -> None:
    torch.set_num_threads(1)
    experiment = _opened(settings)
    if stage == "finetuned":
        experiment.full_score(seed)
        experiment.baseline("frozen")
    elif stage == "searched":
        search_path(experiment, seed)
    elif stage == "pruned":
        pruned(experiment, seed)
    else:
        if stage == "picked":
            ticket = picked_half(search_path(experiment, seed))
        retrained(experiment, seed, ticket)


@lru_cache(maxsize=1)
def _opened(settings: Settings) -> Experiment:
    return open_experiment(settings)


def table_of(experiment: Experiment) -> pd.DataFrame:
    """What has been computed so far; nothing is computed here.

    Returns:
        A row for each seed and ticket, in ascending order: `seed`, `ticket`, `units` (how many
        survive), `pruned` and `retrained` (scores in the reported metric, nan where there is none
        yet), `pruned_constant` and `retrained_constant` (whether every answer is the same).
    """
    layers = experiment.shape.layers
    tables = []
    for seed in experiment.settings.seeds:
        tickets = tickets_of(layers)
        table = pd.DataFrame({"seed": seed, "ticket": tickets})
        table["units"] = [ticket.bit_count() for ticket in tickets]
        if experiment.store.has(pruned_key(experiment, seed)):
            table["pruned"], table["pruned_constant"] = pruned(experiment, seed)
        else:
            table["pruned"], table["pruned_constant"] = np.nan, None
        scores = _retrained_so_far(experiment, seed, tickets_of(layers, layers))
        metric = experiment.task.metric
        table["retrained"] = table["ticket"].map({t: s.metrics[metric] for t, s in scores.items()})
        table["retrained_constant"] = table["ticket"].map(
            {ticket: score.constant for ticket, score in scores.items()}
        )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _retrained_so_far(
    experiment: Experiment, seed: int, tickets: Collection[int]
) -> dict[int, Score]:
    keys = {ticket: retrained_key(experiment, seed, ticket) for ticket in tickets}
    there = experiment.store.is_whole
    root = experiment.store.root
    return {t: read_score(root / key.path) for t, key in keys.items() if there(key)}
