"""What runs of three tasks published, with answers that are known."""

import itertools
import json

import pandas as pd
import pytest

import lotterylib.runs.store
from lotterylib.patterns import PATTERNS
from lotterylib.report.results import COLUMNS, save_results
from tests.shared import on_record

SHAPE = {"layers": 2, "heads": 2, "hidden": 8, "intermediate": 16, "total": 5000}

# heads of both layers in a row, then MLPs; by task and seed
KEPT = {
    "entailment": {42: ("1100", "11"), 1: ("1100", "01")},
    "cola": {1: ("1100", "10"), 2: ("1010", "10"), 42: ("1110", "01")},
    "rte": {42: ("0011", "00")},
}


def good(task):
    return {
        str(seed): {"heads": [heads[:2], heads[2:]], "mlps": [mlps]}
        for seed, (heads, mlps) in KEPT[task].items()
    }


def counts(task, seed):
    """Of ten maps, head h of task t shows t + h heterogeneous ones; the rest are vertical."""
    place = list(KEPT).index(task)
    rows = []
    for condition, head in itertools.product(("fine-tuned, raw", "fine-tuned, normed"), range(4)):
        other = (
            place + head + (1 if seed == 42 else 0)
            if condition == "fine-tuned, raw"
            else 3 * (head == 3)
        )
        rows.append(
            {"condition": condition, "seed": seed, "layer": head // 2, "head": head % 2}
            | dict.fromkeys(PATTERNS, 0)
            | {"vertical": 10 - other, "heterogeneous": other}
        )
    return rows


def scores(task, seeds):
    """In "cola" everything holds by a wide margin; in the others good and bad are alike."""
    holds = task == "cola"
    rows = [
        ("none", 0, "majority", "none", 0.5),
        ("none", 0, "frozen", "linear layer", 0.6),
        *(("none", seed, "full", "fine-tuned", 0.9) for seed in seeds),
    ]
    for (place, seed), kind, phase in itertools.product(
        enumerate(seeds), ("good", "random", "bad"), ("pruned", "retrained")
    ):
        for method in ("structured", "magnitude"):
            value = 0.9 if kind == "good" or not holds else 0.8
            rows.append((method, seed, kind, phase, value - 0.001 * (kind == "bad") * place))
    named = ("method", "seed", "subnetwork", "phase", "value")
    fixed = {
        "encoder": "minilm",
        "task": task,
        "preset": "paper",
        "budget": "laptop",
        "draw": 0,
        "metric": "accuracy",
        "reported": True,
        "density": 0.4,
        "constant": False,
        "examples": 400,
        "train_rows": 1000,
        "epochs": 3,
    }
    rows = [fixed | dict(zip(named, row, strict=True)) for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def no_commit():
    """What the commit is does not matter, and asking for it takes a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lotterylib.runs.store, "_commit", lambda: "0123456789ab")
        yield


@pytest.fixture
def pages(tmp_path):
    """What three runs published; their folders are made in the order of no table."""
    for task in KEPT:
        folder = tmp_path / "minilm" / task
        table = scores(task, list(KEPT[task])).assign(request=on_record(folder, task=task))
        save_results(table, folder / "results.csv")
        text = json.dumps({"shape": SHAPE, "good": {"structured": good(task)}})
        (folder / "subnetworks.json").write_text(text)
        rows = [row for seed in KEPT[task] for row in counts(task, seed)]
        pd.DataFrame(rows).to_csv(folder / "patterns.csv", index=False)
    return tmp_path
