"""Pictures that readers act on: what a page hands to the scripts under `book/_static`, as HTML.

A picture is an element with its data as JSON and a table inside. The script draws the picture in
the table's place; without it the table stays. Scores, intervals and maps are computed here; a
browser only counts, ranks and divides them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.report import paper
from lotterylib.report.evidence import FROZEN, FULL, MAJORITY, Model
from lotterylib.report.findings import estimate_on, scores
from lotterylib.report.holds import METHOD_NAMES
from lotterylib.report.published import Found, predictions_of
from lotterylib.runs.methods import KINDS, METHODS, PHASES
from lotterylib.tasks import METRIC_NAMES, in_order, title_of


def picture(name: str, data: Mapping[str, object], table: str) -> str:
    """A picture as HTML.

    Args:
        name: of the script, such as "words".
        data: what it draws, as values that JSON knows.
        table: HTML that stands there without the script.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    text = text.replace("<", r"\u003c")  # nothing in it can end the element
    inlined = f'<script type="application/json">{text}</script>'
    told = "<p>With JavaScript this is a picture in which you choose what is shown.</p>"
    return f'<div class="acting" data-picture="{escape(name)}">{inlined}{told}{table}</div>'


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as HTML, the first cell of each row its heading."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def words(
    sentences: Sequence[Sequence[str]],
    raw: Sequence[np.ndarray],
    weighted: Sequence[np.ndarray],
    good: Mapping[str, Found],
) -> str:
    """Where each token of some sentences attends, in every head, and which seeds keep the head.

    The picture opens with the head and the token of the first sentence on which the two kinds of
    map differ most.

    Args:
        sentences: their tokens.
        raw, weighted: per sentence its maps, float[layers, heads, n, n], plain and norm-weighted
            (`attention.attention_maps`); rows of both are shown as shares of their sum.
        good: `published.load_subnetworks`, of which the structured ones are shown.
    """
    shares = [
        [each / each.sum(-1, keepdims=True) for each in maps]
        for maps in zip(raw, weighted, strict=True)
    ]
    apart = np.abs(shares[0][0] - shares[0][1]).sum(-1)
    layer, head = np.unravel_index(apart.mean(-1).argmax(), apart.shape[:2])
    token = int(apart[layer, head].argmax())
    data = {
        "start": [int(layer), int(head), token],
        "sentences": [
            {"tokens": list(tokens), "raw": _hundredths(first), "weighted": _hundredths(second)}
            for tokens, (first, second) in zip(sentences, shares, strict=True)
        ],
        "tasks": [
            {
                "title": title_of(task),
                "seeds": list(found["structured"]),
                "kept": [each.heads.astype(int).tolist() for each in found["structured"].values()],
            }
            for task, found in good.items()
        ],
    }
    opening = (maps[layer, head, token] for maps in shares[0])
    rows = [
        (word, f"{plain:.2f}", f"{normed:.2f}")
        for word, plain, normed in zip(sentences[0], *opening, strict=True)
    ]
    caption = f"Layer {layer + 1}, head {head + 1}: where “{sentences[0][token]}” attends"
    return picture("words", data, html_table(caption, ("Token", "Raw", "Norm-weighted"), rows))


def _hundredths(maps: np.ndarray) -> list[list[list[int]]]:
    """Shares as whole hundredths: int[layers][heads][n * n], row by row."""
    return np.rint(100 * maps).astype(int).reshape(*maps.shape[:2], -1).tolist()


def comparison(results: pd.DataFrame, pages: Path) -> str:
    """Good, random and bad subnetworks of every task, method and phase, beside the paper's.

    Args:
        results: of one encoder, the metric that is reported.
        pages: the folder of the encoder's pages, which may hold predictions.
    """
    tasks = [_task(str(task), results[results["task"] == task], pages) for task in _tasks(results)]
    rows = [
        (task["title"], setting["title"], *(row["mean"] for row in setting["rows"][:4]))
        for task in tasks
        for setting in task["settings"]
    ]
    header = ("Task", "Subnetworks of", "Full model", *map(str.capitalize, KINDS))
    table = html_table("Mean scores over seeds", header, rows)
    return picture("comparison", {"tasks": tasks}, table)


def _tasks(results: pd.DataFrame) -> list[str]:
    """Those with a full model and both methods, in the order of the table."""
    methods = results.groupby("task")["method"].unique()
    return [task for task in in_order(results["task"]) if {"none", *METHODS} <= {*methods[task]}]


def _task(task: str, results: pd.DataFrame, pages: Path) -> dict:
    """One task: its lines, and a row per model for each method and phase."""
    found = predictions_of(pages / task)
    known = paper.scores().query("task == @task").set_index(["method", "subnetwork", "phase"])
    means, sds = known["mean"].to_dict(), known["sd"].to_dict()
    full, majority, frozen = (
        float(scores(results, *model).mean()) for model in (FULL, MAJORITY, FROZEN)
    )
    threshold = float(results["threshold"].iloc[0])

    def row(name: str, model: Model) -> dict:
        runs = scores(results, *model)
        bounds = estimate_on(results, found, [(1.0, model)])
        shared = _of(results, model)["overlap_with_good"].mean()
        told = {
            "name": name,
            "mean": f"{bounds.value:.3f}",
            "interval": "" if np.isnan(bounds.low) else f"{bounds.low:.3f} to {bounds.high:.3f}",
            "runs": ", ".join(f"{value:.3f}" for value in runs),
            "way": _way(bounds.value, majority, full),
            "shared": "" if name == "Good" else _share(shared),
            "paper": "",
        }
        drawn: dict[str, object] = {
            "points": [round(float(value), 4) for value in runs],
            "value": round(bounds.value, 4),
            "bounds": [None if np.isnan(b) else round(b, 4) for b in (bounds.low, bounds.high)],
            "theirs": None,
        }
        if model in means:
            way = _way(means[model], means[MAJORITY], means[FULL])
            told["paper"] = f"{means[model]:.3f} ± {sds[model]:.3f}" + (f" ({way})" if way else "")
            drawn["theirs"] = [round(means[model], 4), round(sds[model], 4)]
        return told | drawn

    settings = []
    for method, phase in itertools.product(METHODS, PHASES):
        kinds = [row(kind.capitalize(), (method, kind, phase)) for kind in KINDS]
        size = _of(results, (method, "good", "pruned"))["density"].mean()
        settings.append(
            {
                "method": METHOD_NAMES[method],
                "phase": phase,
                "title": f"{METHOD_NAMES[method]}, {phase}",
                "size": f"{size:.0%}",
                "rows": [row("Full model", FULL), *kinds],
            }
        )
    lines = (
        ("full", "full model", full),
        ("kept", f"{threshold:.0%} of it", threshold * full),
        ("frozen", "linear layer on the frozen encoder", frozen),
        ("majority", "majority class", majority),
    )
    metric = str(results["metric"].iloc[0])
    return {
        "title": title_of(task),
        "metric": METRIC_NAMES[metric],
        "seeds": ", ".join(map(str, _of(results, FULL)["seed"])),
        "over": estimate_on(results, found, [(1.0, FULL)]).over,
        "lines": [
            {"kind": kind, "name": name, "at": round(at, 4), "told": f"{at:.3f}"}
            for kind, name, at in lines
        ],
        "settings": settings,
    }


def _of(results: pd.DataFrame, model: Model) -> pd.DataFrame:
    method, kind, phase = model
    own = (results["method"] == method) & (results["subnetwork"] == kind)
    return results[own & (results["phase"] == phase)]


def _share(value: float) -> str:
    return "" if np.isnan(value) else f"{round(value, 2) + 0:.0%}"


def _way(score: float, majority: float, full: float) -> str:
    """The share of the way from the majority class to a full model that learnt."""
    return _share((score - majority) / (full - majority)) if full > majority else ""
