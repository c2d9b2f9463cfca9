"""The structured search as a film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lotterylib.report.pictures import frame
from lotterylib.tasks import METRIC_NAMES

if TYPE_CHECKING:
    from lotterylib.importance import Importance
    from lotterylib.structured import StructuredStep

_PHASES = {
    "full": "full model",
    "together": "together",
    "heads": "heads alone",
    "mlps": "MLPs alone",
}


def film(searches: Mapping[int, Sequence[StructuredStep]], metric: str, threshold: float) -> str:
    """The film of structured searches as HTML, with the states of the first one as its table.

    Args:
        searches: every state that was tried, by seed, as `published.load_searches` gives them.
        metric: in which the scores are.
        threshold: the share of the full model's score that is kept.
    """
    seed, steps = next(iter(searches.items()))
    data = {
        "metric": METRIC_NAMES[metric],
        "threshold": threshold,
        "searches": [{"seed": seed, "states": states(each)} for seed, each in searches.items()],
    }
    header = ("State", "Phase", "Score", "Of full", "Verdict", "Heads and MLPs left", "Closed")
    caption = f"The states of seed {seed}; closed heads as layer.head"
    return frame("film", data, caption, header, film_rows(steps))


def states(steps: Sequence[StructuredStep]) -> list[dict[str, Any]]:
    """What the film shows of each state of a search.

    `from` is the state that a step started from; `raw` and `importance` are importance in the last
    state that was kept, which decides the next step (unless `stale_importance` was set), as
    measured and normalised: heads layer by layer, then MLPs.
    """
    shown, last = [], 0
    for number, step in enumerate(steps):
        start, last = last, number if step.kept else last
        raw = steps[last].importance
        shown.append(
            {
                "phase": _PHASES[step.phase],
                "kept": step.kept,
                "score": round(step.score, 5),
                "from": start,
                "heads": ["".join(map(str, row.astype(int))) for row in step.subnetwork.heads],
                "mlps": "".join(map(str, step.subnetwork.mlps.astype(int))),
                "raw": [float(f"{each:.3g}") for each in _flat(raw)],
                "importance": [round(float(each), 3) for each in _flat(raw.normalised())],
            }
        )
    return shown


def _flat(scores: Importance) -> np.ndarray:
    return np.concatenate([scores.heads.ravel(), scores.mlps])


def film_rows(steps: Sequence[StructuredStep]) -> list[tuple[str, ...]]:
    """The states of one search, what went at each step named."""
    rows: list[tuple[str, ...]] = []
    last = steps[0]
    for number, step in enumerate(steps):
        heads = np.argwhere(last.subnetwork.heads & ~step.subnetwork.heads) + 1
        mlps = np.flatnonzero(last.subnetwork.mlps & ~step.subnetwork.mlps) + 1
        gone = [f"{layer}.{head}" for layer, head in heads] + [f"MLP {layer}" for layer in mlps]
        rows.append(
            (
                str(number),
                _PHASES[step.phase],
                f"{step.score:.3f}",
                f"{step.score / steps[0].score:.0%}",
                "kept" if step.kept else "undone",
                f"{step.subnetwork.heads.sum()} and {step.subnetwork.mlps.sum()}",
                ", ".join(gone) or "nothing",
            )
        )
        last = step if step.kept else last
    return rows
