"""What a run publishes in `<pages>/<encoder>/<task>` beside its pages: small tables, from which
chapters and overviews are made without weights, data or a run store.

    request.json         what made all the others (see `identity`)
    results.csv          scores (see `results`)
    predictions.parquet  of every scored model on every dev example
    subnetworks.json     the good structured subnetworks, per method and seed
    searches.json        every state that the structured searches tried
    importance.csv       how far ways of measuring importance agree
    patterns.csv         maps of each pattern, per condition, seed and head
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lotterylib.data.files import at_home, read_json, write_whole
from lotterylib.encoder import Shape
from lotterylib.errors import LotteryError, unknown
from lotterylib.patterns import PATTERNS
from lotterylib.report.evidence import Predictions, load_predictions, save_predictions
from lotterylib.report.identity import read_request, requests
from lotterylib.report.tables import importance_of
from lotterylib.runs.methods import ALL_METHODS, GRIDS
from lotterylib.runs.settings import refuse_misspelt
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.tasks import in_order, title_of

if TYPE_CHECKING:
    from lotterylib.runs.experiment import Experiment
    from lotterylib.runs.searches import Trace
    from lotterylib.structured import StructuredStep

Found = Mapping[str, Mapping[int, StructuredSubnetwork]]
"""Good structured subnetworks by method and seed."""


PREDICTIONS, SEARCHES = "predictions.parquet", "searches.json"


def predictions_of(folder: Path) -> Predictions | None:
    """The predictions that a task's run has published; None if it has none."""
    path = folder / PREDICTIONS
    return load_predictions(path) if path.is_file() else None


def describe_source(folder: Path) -> str:
    """Which run published what lies in a folder of a task, in a few words."""
    found = read_request(folder)["request"]
    own = "the device's own precision (float32 on a CPU)"
    return (
        f"{found['encoder']} on {title_of(found['task'])}, {found['train_rows']:,} training rows, "
        f"{found['dev_rows']:,} dev rows, products in "
        f"{own if found['precision'] == 'auto' else found['precision']}"
    )


def publish(experiment: Experiment, pages: Sequence[str], folder: Path) -> None:
    """Write the tables of a task's run, into a folder that was claimed for it (`identity.claim`).

    Args:
        experiment: the run; what is not in its store yet is computed.
        pages: those that are made (without `.ipynb`); they decide what is collected.
        folder: of the task's pages.
    """
    from lotterylib.report.comparisons import accumulation_table
    from lotterylib.report.results import collect, collect_predictions, save_results

    save_results(collect(experiment, *pages, every_draw=True), folder / "results.csv")
    save_predictions(collect_predictions(experiment, *pages), folder / PREDICTIONS)
    tables = {
        "02_structured_pruning": ("importance.csv", accumulation_table),
        "07_attention_patterns": ("patterns.csv", patterns_of),
    }
    for page, (name, table) in tables.items():
        if page in pages:
            write_whole(folder / name, table(experiment).to_csv(index=False, lineterminator="\n"))
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    traces: dict[int, Trace] = {}
    scored = (m for page in GRIDS if page in pages for m, _, _ in GRIDS[page])
    methods = [name for name in dict.fromkeys(scored) if ALL_METHODS[name].is_structured]
    for method, seed in itertools.product(methods, experiment.settings.seeds):
        good = experiment.subnetwork(seed, method, "good")
        found.setdefault(method, {})[str(seed)] = _written(good.heads, good.mlps)  # type: ignore[union-attr]
        if method == "structured":
            traces[seed] = experiment.trace(seed, method)
    text = json.dumps({"shape": vars(experiment.shape), "good": found}, indent=1)
    write_whole(folder / "subnetworks.json", text + "\n")
    seeds = [f'"{s}": [\n' + ",\n".join(map(_line, trace)) + "\n]" for s, trace in traces.items()]
    write_whole(folder / SEARCHES, "{" + ",\n".join(seeds) + "}\n")


def _line(state: Mapping[str, Any]) -> str:
    """A state that a structured search tried, in a line; importance to three digits."""
    row = {"phase": state["phase"], "kept": state["kept"], "score": _short(state["score"], 6)}
    row |= _written(state["heads"], state["mlps"])
    heads, mlps = state["head_importance"], state["mlp_importance"]
    row["head_importance"] = [[_short(each, 3) for each in layer] for layer in heads]
    row["mlp_importance"] = [_short(each, 3) for each in mlps]
    return json.dumps(row, separators=(",", ":"))


def _short(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def _written(heads: Iterable[Iterable[int]], mlps: Iterable[int]) -> dict[str, list[str]]:
    """A subnetwork as digits, a line for each layer's heads and one for all MLPs."""
    return {
        name: ["".join(str(int(each)) for each in row) for row in rows]
        for name, rows in (("heads", heads), ("mlps", [mlps]))
    }


def _read(parts: Mapping[str, list[str]]) -> StructuredSubnetwork:
    heads, mlps = (np.array(list(map(list, parts[name]))) == "1" for name in ("heads", "mlps"))
    return StructuredSubnetwork(heads, mlps[0])


def load_searches(folder: Path) -> dict[int, list[StructuredStep]]:
    """The structured searches that a task's run has published, by seed.

    Raises:
        LotteryError: it has published none.
    """
    from lotterylib.structured import StructuredStep

    def step(state: dict[str, Any]) -> StructuredStep:
        own = {name: state[name] for name in ("phase", "score", "kept")}
        return StructuredStep(subnetwork=_read(state), importance=importance_of(state), **own)

    path = folder / SEARCHES
    if not path.is_file():
        raise LotteryError(f"{folder} holds no {SEARCHES}: 'lottery run' publishes it.")
    return {int(seed): list(map(step, states)) for seed, states in read_json(path).items()}


def patterns_of(experiment: Experiment) -> pd.DataFrame:
    """Maps of each pattern: a row per condition, seed, layer and head, a column per pattern."""
    from lotterylib.runs.pattern_counts import CONDITIONS, count_patterns

    tables = []
    for condition, seed in itertools.product(CONDITIONS, experiment.settings.seeds):
        counts = count_patterns(experiment, seed, condition)
        table = pd.DataFrame(counts.reshape(-1, len(PATTERNS)), columns=list(PATTERNS))
        layers, heads = np.indices(counts.shape[:2]).reshape(2, -1)
        named = {"condition": condition, "seed": seed, "layer": layers, "head": heads}
        tables.append(pd.concat([pd.DataFrame(named), table], axis=1))
    return pd.concat(tables, ignore_index=True)


def load_subnetworks(pages: Path, encoder: str) -> tuple[Shape, Mapping[str, Found]]:
    """The sizes of an encoder, and the good structured subnetworks of its runs by task, in the
    order of the task table.

    Raises:
        LotteryError: there are none, or they must not be counted together (`identity.requests`).
    """
    published = _tables(pages, encoder, "subnetworks.json", "subnetworks")
    contents = {name: read_json(path) for name, path in published}
    found = {
        name: {
            method: {int(seed): _read(parts) for seed, parts in seeds.items()}
            for method, seeds in content["good"].items()
        }
        for name, content in contents.items()
    }
    return Shape(**next(iter(contents.values()))["shape"]), found


def load_patterns(pages: Path, encoder: str) -> pd.DataFrame:
    """The pattern counts of an encoder's runs: `patterns_of` of each, with a column `task`.

    Raises:
        LotteryError: no run of the encoder has published any, or they must not be counted together.
    """
    found = _tables(pages, encoder, "patterns.csv", "attention patterns")
    tables = [pd.read_csv(path).assign(task=name) for name, path in found]
    return pd.concat(tables, ignore_index=True)


def _tables(pages: Path, encoder: str, file: str, what: str) -> list[tuple[str, Path]]:
    """The tasks that have published a table, in their order, each with it."""
    every = [(name, pages / encoder / name / file) for name in in_order(requests(pages, encoder))]
    found = [(name, path) for name, path in every if path.is_file()]  # not while pages are made
    if not found:
        raise LotteryError(
            f"{pages} holds no {what} of encoder {encoder!r}: 'lottery run' publishes them."
        )
    return found


def check_overview(namespace: Mapping[str, Any]) -> Path:
    """The folder of pages that the overview's parameters name.

    Args:
        namespace: the notebook's `globals()`, with `encoder` and `pages`.

    Raises:
        LotteryError: a misspelt parameter, no such folder, or no runs of that encoder in it.
    """
    refuse_misspelt(namespace, ["encoder", "pages"])
    encoder, pages = str(namespace["encoder"]), at_home(str(namespace["pages"]))
    if not pages.is_dir():
        raise LotteryError(f"The folder of pages {pages} does not exist.")
    there = sorted({path.parent.parent.name for path in pages.glob("*/*/results.csv")})
    if encoder not in there:
        raise unknown(f"encoder among the pages in {pages}:", encoder, there)
    return pages
