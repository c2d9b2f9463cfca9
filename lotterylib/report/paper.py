"""What the paper reports, as tables: scores, sizes, stability, overlaps, attention patterns.

The authors released their code, their structured masks and the results of every evaluation. That
generosity is what makes these tables possible, and with them a comparison that is fairer than
reading heights off a figure. Most numbers were recomputed from what they released, some copied from
their stored notebooks or from the paper; each row says which in its column `source`. Where the
printed text and the released results differ, `misprints` says so.

Tasks, methods, subnetworks and phases have this project's names. Beside "structured" and
"magnitude" there are the methods "heads" and "mlps" (only these were searched), "union" (both of
these masks at once), "super" (what survives under all five seeds) and "none"; beside good, random
and bad subnetworks there are "inverted" ones (what the good one prunes).
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from lotterylib.errors import LotteryError, unknown
from lotterylib.tasks import TASKS, find_task

OVERLAP_PARTS = ("heads", "mlps", "super heads")
"""What `task_overlap` counts: surviving heads or MLPs, or heads that survive under all seeds."""

_KEYS = ("method", "subnetwork", "phase")


def scores() -> pd.DataFrame:
    """Dev scores of BERT-base over the authors' five seeds (figure 2 and the appendices; some
    settings are in the released results only).

    Returns:
        A row per task, method, subnetwork and phase (nine tasks, 32 settings), with `metric` (the
        one that the paper reports), `mean`, `sd` (ddof 1), and `constant`: whether mean and `sd`
        are, to four digits, those of five predictors that give a single class each. Scores of
        single seeds were not released, so where only some of them are constant it is False.
        The "majority" of STS-B is a random guess, see `baselines.random_guess_score`.
    """
    return _read("scores")


def score(task: str, method: str, subnetwork: str, phase: str) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) over seeds of one setting of `scores`.

    Args:
        task: one of the nine, in any spelling that `find_task` takes.
        method: "structured", "magnitude", "super", "heads", "mlps", "union" or "none".
        subnetwork: "good", "random", "bad" or "inverted"; of "none", "full" or "majority".
        phase: "pruned" or "retrained"; "fine-tuned" of "full", and "none" of "majority".

    Raises:
        LotteryError: a name that there is not, or names that do not go together.
    """
    table = scores()
    name = find_task(task).name
    if name not in set(table["task"]):
        reported = [TASKS[known].title for known in table["task"].unique()]
        raise LotteryError(
            f"The paper has no scores on {TASKS[name].title}. It has: {', '.join(reported)}."
        )
    wanted = (method, subnetwork, phase)
    for key, value in zip(_KEYS, wanted, strict=True):
        if value not in set(table[key]):
            raise unknown(key, value, table[key].unique())
    settings = table[table["task"] == name].set_index(list(_KEYS))
    if wanted not in settings.index:
        there = ", ".join(" ".join(known[1:]) for known in settings.index if known[0] == method)
        raise LotteryError(
            f"The paper has no scores of {subnetwork} subnetworks, {phase}, by the method "
            f"{method!r}. By it there are: {there}."
        )
    row = settings.loc[[wanted]].iloc[0]
    return float(row["mean"]), float(row["sd"])


def sizes() -> pd.DataFrame:
    """How large the subnetworks are (titles of figure 2, section 4.1, appendices B and E).

    Returns:
        A row per task, method, subnetwork and seed: `heads` (of 144) and `mlps` (of 12), or, for
        the method "magnitude", `steps` of 5% each and the share `surviving` of the weights that
        are ranked. The other columns are of the task and the same for its five seeds: mean and
        standard deviation (ddof 1) of the share of the encoder's dense parameters (`encoder_mean`,
        `encoder_sd`) and of the share that the paper prints (`printed_mean`, `printed_sd`; see
        `Subnetwork.printed_share`; of "magnitude" to two digits, as in the titles). Shares are
        from 0 to 1. The "random" sizes are those of the masks that were stored; whether the
        reported scores are of these very masks is not recorded.
    """
    whole = {name: "Int64" for name in ("heads", "mlps", "steps")}
    return _read("sizes").astype(whole)


def stability() -> pd.DataFrame:
    """How alike the good structured subnetworks of five seeds are (section 5.1).

    Returns:
        A row per task and part ("heads" or "mlps"): Fleiss' `kappa`; `cochran_q` with its
        `cochran_p`, which test whether equally many survive under each seed, not whether the same
        do; the mean `jaccard` index of two seeds; for heads, how many of the ten pairs of seeds
        Cochran's Q takes for similar at 0.05 (`similar_pairs`) and the mean number that two seeds
        share (`overlap`) beside what masks of these sizes share by chance (`overlap_chance`);
        `permutation_p` of the overlap, for heads an upper bound. Empty where nothing survives
        or nothing was computed.
    """
    return _read("stability")


def task_overlap(part: str = "heads") -> pd.DataFrame:
    """How many elements two tasks' good subnetworks share (section 5.3, figure 5, appendix G).

    Args:
        part: one of `OVERLAP_PARTS`.

    Returns:
        A row per ordered pair (`task`, `other`), a task with itself included: `mean` and `sd`
        (ddof 1) over seeds of the number that both keep, and the number that independent masks of
        these sizes would share (`chance`).

    Raises:
        LotteryError: another part.
    """
    if part not in OVERLAP_PARTS:
        raise unknown("part", part, OVERLAP_PARTS)
    table = _read("task_overlap")
    return table[table["part"] == part].drop(columns="part").reset_index(drop=True)


def attention_patterns() -> pd.DataFrame:
    """Which patterns the authors' classifier finds in attention maps (section 5.2, figure 4).

    Returns:
        A row per task (WNLI is left out), `weights` ("fine-tuned" or "pre-trained"), `heads`
        ("super": survivors of all seeds, or "all"), `kind` ("raw" attention or "normed" by value
        vectors) and `pattern`, with its `share` of the maps from 0 to 1.
    """
    return _read("attention_patterns")


def classifier_f1() -> dict[str, float]:
    """The weighted F1 of the paper's classifier of attention maps, "raw" and "normed" (5.2)."""
    table = _read("classifier_f1")
    return dict(zip(table["kind"], table["weighted_f1"], strict=True))


def table2() -> pd.DataFrame:
    """Table 2 as printed, misprints included (section 4.3).

    Returns:
        A row per `model` and `task`, with the printed `value`; the last column of the table is the
        task "average". The first four models are those of Wang et al. (2018).
    """
    return _read("table2")


def misprints() -> pd.DataFrame:
    """Where the printed paper and what was released with it differ, as far as we can tell.

    Returns:
        A row per place: `where`, what is `printed`, what it `should_be`, and `why`. `kind` is
        "misprint" (the printed value is a slip), "definition" (it is right but counts something
        else than one expects), "procedure" (the released results were made in another way than
        the text says) or "open" (we could not reproduce it). `runs.settings` has switches for
        several of the procedures.
    """
    return _read("misprints")


def _read(name: str) -> pd.DataFrame:
    with (files("lotterylib.report") / "paper_numbers" / f"{name}.csv").open(
        encoding="utf-8"
    ) as file:
        return pd.read_csv(file)
