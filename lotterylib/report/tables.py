"""Tables for the pages: what is run, what a search tried, sizes, and how long it all took."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lotterylib.encoder import Shape
from lotterylib.subnetworks import StructuredSubnetwork, Subnetwork

if TYPE_CHECKING:  # pages that only need a table should not wait for torch
    from lotterylib.importance import Importance
    from lotterylib.runs.experiment import Experiment

NOTHING = "\N{EN DASH}"
"""What every table shows where there is no value."""


def counted(number: int, what: str) -> str:
    """A number of things, such as "1 seed" or "3 seeds"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; each row has a cell per heading."""
    lines = [f"| {' | '.join(map(str, line))} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table as readers want it: numbers as text, and a dash where there is none.

    Columns of whole numbers lose their ".0"; other floats get three decimals, or one where a column
    reaches 10; what is positive and would round to zero is given as a bound, such as "<0.001".
    """
    shown = table.astype(object)
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        if pd.api.types.is_float_dtype(column):
            known = column.dropna()
            whole, large = (known % 1 == 0).all(), (known.abs() >= 10).any()
            digits = 0 if whole else 1 if large else 3
            shown.isetitem(place, [_spelt(value, digits) for value in column])
        else:
            shown.isetitem(place, [NOTHING if pd.isna(value) else value for value in column])
    return shown


def _spelt(value: float, digits: int) -> str:
    if math.isnan(value):
        return NOTHING
    text = f"{round(value, digits) + 0:.{digits}f}"
    return f"<{10**-digits:g}" if value > 0 and not float(text) else text


def describe_run(experiment: Experiment) -> pd.DataFrame:
    """What was run on what, and how, an item a row."""
    settings, encoder, recipe = experiment.settings, experiment.encoder, experiment.recipe
    named = f"{encoder.name}, from {encoder.origin}"
    described = {
        "encoder": named if encoder.directory else encoder.origin,
        "task": experiment.task.title,
        "data": experiment.data.origin,
        "preset": settings.preset,
        "budget": f"{settings.budget}, {recipe.epochs} epochs",
        "seeds": ", ".join(map(str, settings.seeds)),
        "learning rate": f"{recipe.learning_rate:g}",
        "batches": f"{recipe.batch_size} examples, in {settings.batch_order} order",
    }
    return pd.DataFrame({"this run": described})


def time_taken(experiment: Experiment, *labels: str) -> pd.DataFrame:
    """Seconds, device and versions of the jobs whose labels begin with these words, a row per label
    and seed.
    """
    from lotterylib.runs.jobs import ALL, jobs_of, key_of

    rows, jobs = [], jobs_of(experiment.settings, ALL)
    for label, seed in itertools.product(labels, experiment.settings.seeds):
        own = [j for j in jobs if f"{j.label} ".startswith(f"{label} ") and j.seed == seed]
        keys = [key for job in own if experiment.store.has(key := key_of(experiment, job))]
        made = [experiment.store.provenance(key) for key in keys]
        if made:
            row = {"what": label, "seed": seed, "seconds": round(sum(e["seconds"] for e in made))}
            told = {
                "device": "{device}, {threads} threads",
                "versions": "torch {torch}, transformers {transformers}",
            }
            for name, form in told.items():
                row[name] = "; ".join(dict.fromkeys(form.format(**each) for each in made))
            rows.append(row)
    return pd.DataFrame(rows)


def search_states(trace: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The states of a search for `figures.search_curves`: `left`, `score` and `held`."""
    left = [state.get("density", state.get("surviving")) for state in trace]
    score, held = ([state[name] for state in trace] for name in ("score", "kept"))
    return pd.DataFrame({"left": left, "score": score, "held": held})


def importance_of(state: Mapping[str, Any]) -> Importance:
    """Importance as a stored state of a structured search has it."""
    from lotterylib.importance import Importance

    return Importance(np.array(state["head_importance"]), np.array(state["mlp_importance"]))


def importance_states(trace: Sequence[dict[str, Any]]) -> list[Importance]:
    """The raw importance measured in every state of a structured search."""
    return [importance_of(state) for state in trace]


def score_table(results: pd.DataFrame) -> pd.DataFrame:
    """The reported metric of everything that was scored, a row each and a column per seed.
    Baselines, which have no seed, stand in the first column.
    """
    reported = results[results["reported"]]
    baseline = (reported["method"] == "none") & (reported["subnetwork"] != "full")
    seeds = list(reported.loc[~baseline, "seed"].unique())
    table = reported.assign(seed=reported["seed"].mask(baseline, seeds[0])).pivot_table(
        index=["method", "subnetwork", "phase"], columns="seed", values="value", sort=False
    )
    return table[seeds].map(lambda value: NOTHING if math.isnan(value) else f"{value:.3f}")


def trace_table(trace: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The states that a search tried, one a row, sizes as shares of 1."""
    rows = []
    for number, state in enumerate(trace):
        row: dict[str, object] = {"step": number}
        if "heads" in state:
            row["phase"] = state["phase"]
            row["heads"] = sum(map(sum, state["heads"]))
            row["MLPs"] = sum(state["mlps"])
            row["encoder left"] = round(state["density"], 3)
        else:
            row["weights left"] = round(state["surviving"], 3)
        rows.append(row | {"score": round(state["score"], 3), "held": state["kept"]})
    return pd.DataFrame(rows).set_index("step")


def sizes_of(subnetwork: Subnetwork, shape: Shape) -> dict[str, object]:
    """How many heads and MLPs there are (structured only), the share of the encoder's dense
    parameters, and the share as the paper's Figure 2 prints it.
    """
    counts: dict[str, object] = {}
    if isinstance(subnetwork, StructuredSubnetwork):
        counts = {"heads": int(subnetwork.heads.sum()), "MLPs": int(subnetwork.mlps.sum())}
    return counts | {
        "of the encoder": f"{subnetwork.density(shape):.1%}",
        "as printed": f"{subnetwork.printed_share(shape):.1%}",
    }


def size_table(
    experiment: Experiment, method: str, kinds: Sequence[str] = ("good",)
) -> pd.DataFrame:
    """`sizes_of` a method's subnetworks, a row per seed and kind; of several kinds also the part
    that the good one has too.
    """
    rows, shape = {}, experiment.shape
    for seed, kind in itertools.product(experiment.settings.seeds, kinds):
        subnetwork = experiment.subnetwork(seed, method, kind)
        rows[seed, kind] = sizes_of(subnetwork, shape)
        if len(kinds) > 1:
            good = experiment.subnetwork(seed, method, "good")
            shared = subnetwork.shared_share(good, shape)  # type: ignore[arg-type]
            rows[seed, kind]["shared with good"] = (
                NOTHING if math.isnan(shared) else f"{shared:.1%}"
            )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["seed", "subnetwork"])
