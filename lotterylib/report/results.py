"""Results: one tidy table, from which every figure and every number in prose is computed.

A row is one metric of one model, with the whole request behind it (`identity`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lotterylib.data.files import write_whole
from lotterylib.errors import LotteryError
from lotterylib.report.evidence import FROZEN, FULL, MAJORITY, Model, Predictions
from lotterylib.report.identity import PASSING, digest, identity_of, requests
from lotterylib.report.tables import NOTHING
from lotterylib.runs.methods import GRIDS, KINDS, METHODS, PHASES, Scored
from lotterylib.runs.settings import Settings
from lotterylib.tasks import in_order, title_of

if TYPE_CHECKING:  # pages that only read results should not wait for torch
    from lotterylib.runs.experiment import Experiment
    from lotterylib.runs.store import Key
    from lotterylib.scoring import Score

_OF_A_SCORE = (
    *("encoder", "task", "preset", "budget", "seed", "method", "subnetwork", "phase", "draw"),
    *("metric", "value", "reported", "density", "printed_share", "overlap_with_good", "constant"),
    *("examples", "train_rows", "epochs", "seconds", "threads", "device"),
)
COLUMNS = (
    *_OF_A_SCORE,
    *("request", "weights", "tokenizer", "config", "data", "version", "classes"),
    *(name for name in Settings.model_fields if name not in (*_OF_A_SCORE, *PASSING)),
)
"""The columns of the results table. `density` and `overlap_with_good`, the part of the subnetwork
that the good one has too (by parameters), are shares from 0 to 1; `draw` numbers the random and bad
subnetworks of a seed, and the random halves of dev that its good ones are found on; `reported`
marks the metric that the paper reports; `seconds` is of the stage that made the score. `request`
stands for the whole request but the seeds (`identity.digest`), which has the last columns; rows of
different requests are never counted together."""

_TEXTS = ("request", "weights", "tokenizer", "config", "data")

_PHASES = {"frozen": "linear layer", "bag": "linear layer", "bilstm": "trained", "guess": "none"}
"""Of each of `baselines.BASELINES`."""


def collect_full(experiment: Experiment, baselines: Sequence[str] = ("frozen",)) -> pd.DataFrame:
    """The part of the results table that fine-tuning gives: the baselines (seed 0) and the full
    model of every seed. What is not in the store yet is computed.
    """
    rows = [*_rows(experiment, experiment.majority(), None, 0, MAJORITY)]
    for name in baselines:
        key, model = experiment.baseline_key(name), ("none", name, _PHASES[name])
        rows += _rows(experiment, experiment.baseline(name), key, 0, model)
    for seed in experiment.settings.seeds:
        score, key = experiment.full_score(seed), experiment.finetuned_key(seed)
        rows += _rows(experiment, score, key, seed, FULL)
    return _table(experiment, rows)


def collect(experiment: Experiment, *pages: str, every_draw: bool = False) -> pd.DataFrame:
    """The results table (`COLUMNS`) behind some pages: the baselines, and per seed the full model
    and every subnetwork that the pages score. What is not in the store yet is computed.

    Args:
        experiment: one task.
        pages: names of templates, without `.ipynb`; by default the one of the paper's Figure 2.
        every_draw: also those after the first, which no mean and no verdict counts.
    """
    pages = pages or ("04_subnetworks",)
    baselines = ["frozen"]
    if "09_how_bad_is_bad" in pages:
        baselines += ["bag", "bilstm"] + ["guess"] * experiment.task.is_regression
    scored = collect_scored(experiment, _scored_on(pages), every_draw)
    return pd.concat([collect_full(experiment, baselines), scored], ignore_index=True)


def collect_scored(
    experiment: Experiment, scored: Iterable[Scored], every_draw: bool = False
) -> pd.DataFrame:
    """The part of the results table that these subnetworks give, per seed."""
    rows: list[dict[str, object]] = []
    for model, seed in itertools.product(scored, experiment.settings.seeds):
        for draw in range(experiment.settings.draws_of(*model) if every_draw else 1):
            score = experiment.score(seed, *model, number=draw)
            key = experiment.score_key(seed, *model, draw)
            rows += _rows(experiment, score, key, seed, model, draw)
    return _table(experiment, rows)


def collect_predictions(experiment: Experiment, *pages: str) -> Predictions:
    """The predictions behind the scores of `collect`; what is not in the store yet is computed."""
    labels, seeds = np.array(experiment.data.dev["label"]), experiment.settings.seeds
    scores: dict[Model, dict[int, Score]] = {
        MAJORITY: {0: experiment.majority()},
        FROZEN: {0: experiment.baseline("frozen")},
        FULL: {seed: experiment.full_score(seed) for seed in seeds},
    }
    for scored in _scored_on(pages):
        scores[scored] = {seed: experiment.score(seed, *scored) for seed in seeds}
    models = {
        model: {seed: np.array(score.predictions) for seed, score in runs.items()}
        for model, runs in scores.items()
    }
    return Predictions(experiment.task.metric, labels, models)


def _scored_on(pages: Iterable[str]) -> dict[Scored, None]:
    """What pages score, each once, in the order of `GRIDS`."""
    return dict.fromkeys(model for page in GRIDS if page in pages for model in GRIDS[page])


def _table(experiment: Experiment, rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    request = identity_of(experiment)
    whole = request | {"request": digest(request), "preset": experiment.settings.how}
    return pd.DataFrame([{**whole, **row} for row in rows], columns=list(COLUMNS))


def _rows(
    experiment: Experiment, score: Score, key: Key | None, seed: int, model: Model, draw: int = 0
) -> Iterable[dict[str, object]]:
    method, kind, phase = model
    row: dict[str, object] = {"seed": seed, "method": method, "subnetwork": kind, "phase": phase}
    row |= {"draw": draw, "density": 1.0, "constant": score.constant, "examples": score.examples}
    if method != "none":
        subnetwork = experiment.subnetwork(seed, method, kind, number=draw)
        half = 0 if kind in ("random", "bad") else draw
        good = experiment.subnetwork(seed, method, "good", number=half)
        row["density"] = subnetwork.density(experiment.shape)
        row["printed_share"] = subnetwork.printed_share(experiment.shape)
        row["overlap_with_good"] = subnetwork.shared_share(good, experiment.shape)  # type: ignore[arg-type]
    if key is not None:
        made = experiment.store.provenance(key)
        row |= {name: made[name] for name in ("seconds", "threads", "device")}
    for metric, value in score.metrics.items():
        reported = metric == experiment.task.metric
        yield row | {"metric": metric, "value": value, "reported": reported}


def save_results(results: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV, numbers to six digits so that equal results are equal files."""
    write_whole(path, results.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def read_table(path: Path) -> pd.DataFrame:
    """A table that `save_results` has written."""
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXTS, str))


def load_results(*roots: Path, every_draw: bool = False) -> pd.DataFrame:
    """All results tables under `<root>/<encoder>/<task>/results.csv`, of each root, as one.

    Raises:
        LotteryError: what made a table is not on record, or tables of one encoder's folder must not
            be counted together (`identity.requests`).
    """
    tables = []
    found = [sorted({path.parents[1] for path in root.glob("*/*/results.csv")}) for root in roots]
    for folder in itertools.chain(*found):
        for task, request in requests(folder.parent, folder.name).items():
            path = folder / task / "results.csv"
            if not path.is_file():  # its pages are being made
                continue
            table = read_table(path)
            if set(table.get("request", ["none"])) != {digest(request)}:
                raise LotteryError(
                    f"{path} was made by another request than {path.with_name('request.json')} "
                    "says: make the pages anew with 'lottery run --replace'."
                )
            tables.append(table if every_draw else table[table["draw"] == 0])
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(tables, ignore_index=True)


def verdicts(results: pd.DataFrame) -> pd.DataFrame:
    """The scores that decide the paper's claims, means over seeds: of the full model and of good,
    random and bad subnetworks, pruned and retrained. A line per run and method, by task.
    """
    run = ["encoder", "task", "preset", "budget", "request"]
    by = [*run, "method", "subnetwork", "phase", "metric"]
    groups = results[results["reported"]].groupby(by, sort=False, dropna=False)
    summary = groups.agg(
        mean=("value", "mean"), seeds=("seed", "nunique"), density=("density", "mean")
    ).reset_index()
    place = {name: number for number, name in enumerate(in_order(summary["task"]))}
    summary = summary.sort_values("task", key=lambda names: names.map(place), kind="stable")
    runs, lines = summary.groupby(run, sort=False, dropna=False), []
    for (_, whole), method in itertools.product(runs, METHODS):
        full = whole[whole["subnetwork"] == "full"].iloc[0]
        cells = whole[whole["method"] == method].set_index(["subnetwork", "phase"])
        line = full[["encoder", "task", "preset", "budget", "metric"]].to_dict()
        line |= {"task": title_of(full["task"]), "method": method, "seeds": int(full["seeds"])}
        line |= {"kept": cells["density"].get(("good", "pruned"), np.nan), "full": full["mean"]}
        for phase, kind in itertools.product(PHASES, KINDS):
            line[f"{kind} {phase}"] = cells["mean"].get((kind, phase), np.nan)
        lines.append(line)
    return pd.DataFrame(lines)


def format_verdicts(lines: pd.DataFrame) -> str:
    """The verdicts as a small table for a terminal."""
    shown = lines.copy()
    for name in lines.columns[lines.columns.get_loc("kept") :]:
        form = "{:.0%}" if name == "kept" else "{:.3f}"
        shown[name] = [NOTHING if np.isnan(value) else form.format(value) for value in lines[name]]
    return shown.to_string(index=False)
