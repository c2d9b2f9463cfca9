"""The whole lottery, told: where the search's ticket stands among all, and what losers lack.

Where not all tickets have been retrained yet, those that have are a random sample, apart from those
that someone has `chosen`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from lotterylib.errors import LotteryError
from lotterylib.report.tables import counted
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.lottery import (
    pruned_key,
    retrained_key,
    search_key,
    searched,
    ticket_table,
    tickets_in_order,
)
from lotterylib.tickets import units_of

LOST = 0.5
"""A retrained ticket loses that does not get beyond this share of the way from the majority class
to a linear layer on the frozen encoder: training it was worth less than not training it."""

PARTS = ("attention block", "MLP")


@dataclass(frozen=True)
class Marks:
    """What the tickets of one seed are held against.

    Attributes:
        full, frozen, majority: scores of the full model, of the linear layer on the frozen encoder,
            and of the majority class.
        half: the ticket of half the units on the search's way; None if it passes by none.
        good: the last ticket on its way that keeps the share `threshold` of the full score.
    """

    full: float
    frozen: float
    majority: float
    half: int | None
    good: int
    threshold: float

    @property
    def losing(self) -> float:
        """A retrained ticket loses that does not get above this score."""
        return self.majority + LOST * max(0.0, self.frozen - self.majority)


def marks_of(experiment: Experiment, seed: int) -> Marks:
    """The marks of a seed; what the store lacks of them is computed."""
    metric, path = experiment.task.metric, searched(experiment, seed)
    least = experiment.settings.threshold * path[0]["score"]
    good = list(itertools.takewhile(lambda state: state["score"] >= least, path)) or path[:1]
    return Marks(
        full=experiment.full_score(seed).metrics[metric],
        frozen=experiment.baseline("frozen").metrics[metric],
        majority=experiment.majority().metrics[metric],
        half=half_of([state["ticket"] for state in path], experiment.shape.layers),
        good=good[-1]["ticket"],
        threshold=experiment.settings.threshold,
    )


def half_of(way: Iterable[int], layers: int) -> int | None:
    """The ticket of half the units on a search's way; None if it passes by none."""
    return next((ticket for ticket in way if ticket.bit_count() == layers), None)


def table_of(experiment: Experiment) -> pd.DataFrame:
    """`runs.lottery.ticket_table`; the retrained scores of the first seed are `retrained`."""
    first = experiment.settings.seeds[0]
    return ticket_table(experiment).rename(columns={f"retrained_{first}": "retrained"})


def load_table(folder: Path) -> pd.DataFrame:
    """`table_of` the run whose `tickets.csv` was published in a folder.

    Raises:
        LotteryError: there is none.
    """
    path = folder / "tickets.csv"
    if not path.is_file():
        raise LotteryError(f"{folder} holds no tickets.csv: 'lottery tickets' publishes it.")
    table = pd.read_csv(path)
    first = next(name for name in table if str(name).startswith("retrained_"))
    return table.rename(columns={first: "retrained"})


def layers_in(table: pd.DataFrame) -> int:
    """How many layers the encoder has whose tickets these are: there are 4^layers."""
    return (len(table).bit_length() - 1) // 2


def scores_of_halves(table: pd.DataFrame, column: str) -> pd.Series:
    """The known scores in the column "pruned" or "retrained" of tickets of half the units."""
    return scores_of_size(table, layers_in(table), column)


def scores_of_size(table: pd.DataFrame, units: int, column: str) -> pd.Series:
    """The known scores in a column of the tickets of a number of units, by ticket."""
    return table[table["units"] == units].set_index("ticket")[column].dropna()


def highest(tickets: np.ndarray | pd.Index, layers: int, part: int = 0) -> np.ndarray:
    """The highest layer that keeps its attention block (`part` 0) or its MLP (1): int64[tickets],
    0 for none.
    """
    kept = units_of(np.asarray(tickets), layers)[:, part]
    return (kept * np.arange(1, layers + 1)).max(axis=1)


def chosen(table: pd.DataFrame) -> pd.Index:
    """The retrained tickets of half the units that the random order had not come to: someone chose
    them, so that they belong to no sample.
    """
    done = scores_of_halves(table, "retrained").index
    order = tickets_in_order(layers_in(table))
    return done.difference(list(itertools.takewhile(done.__contains__, order)))


def losers(table: pd.DataFrame, marks: Marks) -> pd.Series:
    """Which of the retrained tickets of half the units lose: booleans, indexed by ticket."""
    return scores_of_halves(table, "retrained") <= marks.losing


# Where the search's ticket stands


class Standing(NamedTuple):
    """How a ticket compares with the others of its size: how many score higher, the same, lower."""

    score: float
    others: int
    higher: int
    same: int
    lower: int
    best: float


def standing(table: pd.DataFrame, ticket: int | None, column: str) -> Standing | None:
    """Where a ticket stands among those of its size, by its score in a column; None if there is no
    such score, or no other.
    """
    if ticket is None:
        return None
    scores = scores_of_size(table, ticket.bit_count(), column).round(5)
    if ticket not in scores.index or len(scores) < 2:
        return None
    mine, others = float(scores.loc[ticket]), scores.drop(ticket)
    higher, same = int((others > mine).sum()), int((others == mine).sum())
    lower = len(others) - higher - same
    return Standing(mine, len(others), higher, same, lower, float(others.max()))


def path_table(path: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The search's way, a row for each state, by the number of units that are left."""
    names = _unit_names(len(path[0]["mlps"]))
    tickets = [state["ticket"] for state in path]
    gone = [one ^ other for one, other in itertools.pairwise(tickets)] + [0]
    columns = {
        "ticket": tickets,
        "score": [f"{state['score']:.3f}" for state in path],
        "next to go": [
            ", ".join(name for bit, name in enumerate(names) if lost >> bit & 1) for lost in gone
        ],
    }
    units = pd.Index([ticket.bit_count() for ticket in tickets], name="units")
    return pd.DataFrame(columns, units)


def _unit_names(layers: int) -> list[str]:
    """In the order of the bits."""
    return [f"{part} of layer {number}" for part in PARTS for number in range(1, layers + 1)]


# What losers lack


def losers_by_highest(table: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """How many retrained tickets lose, a row for each highest layer that keeps its attention block,
    0 for none: `tickets`, `losers` and the `share` of losers.
    """
    lost = losers(table, marks)
    layer = pd.Series(highest(lost.index, layers_in(table)), lost.index, name="layer")
    counts = lost.groupby(layer).agg(["size", "sum", "mean"])
    return counts.set_axis(["tickets", "losers", "share"], axis=1)


def rules(table: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """How well simple rules tell winners from losers: an attention block (or an MLP) at or above a
    layer, and so many of them at least.

    Returns:
        A row for each rule, those with the fewest exceptions first: the `part` (0 or 1) that it is
        about, how many lose with it and win without it, and both together as `exceptions`.
    """
    layers, lost = layers_in(table), losers(table, marks)
    counted = units_of(lost.index.to_numpy(), layers).sum(axis=2)
    rows = []
    for part, name in enumerate(PARTS):
        top = highest(lost.index, layers, part)
        meets = {f"an {name}": top >= 1}
        for number in range(2, layers + 1):
            where = "in the last layer" if number == layers else f"in layer {number} or above"
            meets[f"an {name} {where}"] = top >= number
            meets[f"at least {number} {name}s"] = counted[:, part] >= number
        for rule, met in meets.items():
            missed, spared = int((lost & met).sum()), int((~lost & ~met).sum())
            rows.append((rule, part, missed, spared, missed + spared))
    columns = ["rule", "part", "losers_with", "winners_without", "exceptions"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values("exceptions", kind="stable", ignore_index=True)


def constant_without(table: pd.DataFrame) -> pd.DataFrame:
    """The share of constant predictors among pruned tickets of any size, `without` and `with` a
    unit: a row for each unit, in the order of the bits.
    """
    layers, constant = layers_in(table), table["constant"].to_numpy(dtype=bool)
    kept = units_of(table["ticket"].to_numpy(), layers).reshape(len(table), -1).T
    shares = [(constant[~each].mean(), constant[each].mean()) for each in kept]
    found = pd.DataFrame(shares, columns=["without", "with"])
    found.insert(0, "unit", _unit_names(layers))
    return found


def units_of_extremes(table: pd.DataFrame, column: str, share: float = 0.1) -> np.ndarray:
    """Which part of the best and of the worst tickets of half the units keeps each unit.

    Args:
        table: of one seed.
        column: "pruned" or "retrained".
        share: of the tickets that are the best, and the worst; those that score like the last of
            them count too.

    Returns:
        float64[2, 2, layers]: shares of the best and of the worst, of attention blocks and MLPs.
    """
    scores = scores_of_halves(table, column)
    kept = units_of(scores.index.to_numpy(), layers_in(table))
    low, high = scores.quantile([share, 1 - share])
    return np.stack([kept[scores >= high].mean(axis=0), kept[scores <= low].mean(axis=0)])


# In sentences


def describe_standing(table: pd.DataFrame, ticket: int | None, column: str) -> str:
    """Where a ticket stands among those of its size that have a score in `column`."""
    if ticket is None:
        return "the search passes by no ticket of half the units."
    size = ticket.bit_count()
    known = scores_of_size(table, size, column)
    so_far = " with a score so far" if len(known) < (table["units"] == size).sum() else ""
    found = standing(table, ticket, column)
    if found is None:
        there = f" The {len(known)} tickets of its size{so_far} have "
        there += f"{known.min():.3f} to {known.max():.3f}."
        return f"it has not been {column} yet.{there if len(known) else ''}"
    percent = f"{(found.lower + found.same / 2) / found.others:.1%}"
    return (
        f"it scores {found.score:.3f}. It beats {found.lower} of the {found.others} other tickets "
        f"of its size{so_far}, ties with {found.same} and loses to {found.higher}: {percent} are "
        f"beaten, ties counted half. The best of the others scores {found.best:.3f}."
    )


def describe_pruned(table: pd.DataFrame, marks: Marks) -> str:
    """What the scores of all tickets as pruned say."""
    kept = table[table["pruned"] >= marks.threshold * marks.full]
    small = ""
    if len(kept):
        least, good = (counted(n, "unit") for n in (kept["units"].min(), marks.good.bit_count()))
        small = f" The smallest of them has {least}; the search stops at {good}."
    shares = constant_without(table).set_index("unit")
    unit = str((shares["without"] - shares["with"]).idxmax())
    without, with_ = (float(shares[name][unit]) for name in ("without", "with"))
    missed = (
        f"without the {unit}, {without:.1%} of all tickets give the same answer everywhere; with "
        f"it, {with_:.1%} do."
        if without > with_
        else "none makes tickets give the same answer everywhere more often when it is missing."
    )
    return (
        f"* **The search's ticket as pruned:** {describe_standing(table, marks.half, 'pruned')}\n"
        f"* **Small tickets:** {len(kept):,} of all {len(table):,} tickets keep "
        f"{marks.threshold:.0%} of the full model's {marks.full:.3f}.{small}\n"
        f"* **The unit that is missed most:** {missed}"
    )


def describe_retrained(table: pd.DataFrame, marks: Marks) -> str:
    """What the scores of the retrained tickets of half the units say."""
    scores, lost = scores_of_halves(table, "retrained"), losers(table, marks)
    if len(scores) < 2:
        return "Too few tickets have been retrained yet."
    sure = f"{lost.mean():.0%}"
    if len(lost) < (table["units"] == layers_in(table)).sum():
        drawn = lost.drop(chosen(table))
        if len(drawn):
            low, high = proportion_confint(drawn.sum(), len(drawn), method="wilson")
            sure += f"; of all, by a 95% interval, {low:.0%} to {high:.0%}"
    lines = [
        f"* **The search's ticket retrained:** {describe_standing(table, marks.half, 'retrained')}",
        f"* **Losers:** {lost.sum()} of {len(lost)} retrained tickets ({sure}) "
        f"end at or below {marks.losing:.3f}, {LOST:.0%} of the way from the majority class "
        f"({marks.majority:.3f}) to a linear layer on the frozen encoder ({marks.frozen:.3f}). "
        f"{(scores > marks.frozen).sum()} end above that layer.",
    ]
    if lost.any() and not lost.all():
        tried = rules(table, marks)
        best = tried.iloc[0]
        other = tried[tried["part"] != best["part"]].iloc[0]
        lines.append(
            f"* **What losers lack:** of {len(tried)} simple rules, the one with the fewest "
            f"exceptions is that a ticket wins if it has {best['rule']}. Its exceptions are "
            f"{counted(best['losers_with'], 'loser')} with it and "
            f"{counted(best['winners_without'], 'winner')} without. The best rule on "
            f"{PARTS[other['part']]}s ({other['rule']}) has "
            f"{counted(other['exceptions'], 'exception')}, and that all tickets win has "
            f"{lost.sum()}."
        )
    pruned = scores_of_halves(table, "pruned").reindex(scores.index).dropna()
    if pruned.nunique() > 1 and scores.nunique() > 1:
        r = stats.spearmanr(pruned, scores[pruned.index]).statistic
        lines.append(
            f"* **Pruned and retrained:** the two scores of {len(pruned)} tickets have a rank "
            f"correlation of {r:.2f}."
        )
    again = describe_other_seeds(table, marks.losing)
    return "\n".join([*lines, again] if again else lines)


def describe_other_seeds(table: pd.DataFrame, losing: float | None = None) -> str:
    """How far the scores of other seeds repeat those of the first: a line for each of them that has
    three tickets of half the units or more.

    Args:
        table: as from `table_of` or `load_table`.
        losing: a retrained ticket loses that does not get above this score; None not to count them.
    """
    mine, lines = scores_of_halves(table, "retrained"), []
    for column in (str(name) for name in table if str(name).startswith("retrained_")):
        scores = pd.DataFrame({"first": mine, "other": scores_of_halves(table, column)}).dropna()
        if len(scores) < 3 or (scores.nunique() == 1).any():
            continue
        seed, many = column.removeprefix("retrained_"), max(1, len(scores) // 10)
        best = [set(scores[each].nlargest(many, keep="all").index) for each in scores]
        by_chance = len(best[0]) * len(best[1]) / len(scores)
        r = stats.spearmanr(scores["first"], scores["other"]).statistic
        line = (
            f"* **Seed {seed}:** {len(scores)} tickets of half the units were retrained with it "
            f"too. The scores of the two seeds have a rank correlation of {r:.2f}. The best tenth "
            f"with the first seed ({len(best[0])}) and with this one ({len(best[1])}) have "
            f"{counted(len(best[0] & best[1]), 'ticket')} in common; chance would give "
            f"{by_chance:.1f}."
        )
        if losing is not None:
            lost = (scores <= losing).sum(axis=1)
            line += f" {(lost == 2).sum()} lose with both seeds, {(lost == 1).sum()} with one only."
        lines.append(line)
    return "\n".join(lines)


def time_taken(experiment: Experiment, table: pd.DataFrame) -> pd.DataFrame:
    """What there is of the first seed's stages, and the seconds that it took."""
    seed = experiment.settings.seeds[0]
    tickets = scores_of_halves(table, "retrained").index
    stages = {
        "all tickets as pruned": [pruned_key(experiment, seed)],
        "the search": [search_key(experiment, seed)],
        "retrained tickets": [retrained_key(experiment, seed, ticket) for ticket in tickets],
    }
    rows = []
    for stage, keys in stages.items():
        made = [experiment.store.provenance(key) for key in keys if experiment.store.has(key)]
        devices = ", ".join(dict.fromkeys(each["device"] for each in made))
        seconds = round(sum(each["seconds"] for each in made))
        rows.append({"what": stage, "pieces": len(made), "seconds": seconds, "device": devices})
    return pd.DataFrame(rows).set_index("what")


def describe_progress(table: pd.DataFrame) -> str:
    """How many of the tickets have been retrained."""
    half = int((table["units"] == layers_in(table)).sum())
    done = len(scores_of_halves(table, "retrained"))
    if done == half:
        return f"All {half} tickets of half the units have been retrained."
    apart = len(chosen(table))
    return (
        f"So far {done} of {half} tickets of half the units have been retrained, {done - apart} in "
        f"a random order and {apart} chosen; intervals count those in random order."
    )
