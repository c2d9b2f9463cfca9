"""What the paper reports, as tables: scores, sizes, stability, overlaps, attention patterns.

Most numbers were recomputed from what the authors released, some copied from their stored notebooks
or from the paper; each row says which in its column `source`. Where the printed text and the
released results differ, `misprints` says so.

Names are this project's. Beside "structured" and "magnitude" there are the methods "heads" and
"mlps" (only these were searched), "union" (both of these masks at once), "super" (what survives
under all five seeds) and "none"; "inverted" subnetworks are what the good one prunes.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lotterylib.errors import unknown
from lotterylib.report.imported import BERT_BASE
from lotterylib.report.tables import NOTHING, markdown_table
from lotterylib.tasks import TASKS, title_of

PATTERN_CORRELATION = {"raw": 0.015, "normed": 0.025}
"""Pearson correlation, over maps, of a head's being a super-survivor with a map's being
heterogeneous, of plain and norm-weighted maps (printed in section 5.2, by way of reading notes; the
authors' released notebook, `head_classification.ipynb`, has 0.0023 for norm-weighted ones)."""


def scores() -> pd.DataFrame:
    """Dev scores of BERT-base over the authors' five seeds (figure 2 and the appendices; some
    settings are in the released results only).

    Returns:
        A row per task, method, subnetwork and phase, with the `metric` that the paper reports,
        `mean`, `sd` (ddof 1), and `constant`: whether mean and `sd` are, to four digits, those of
        five predictors that give a single class each. (Bad super-survivors of MNLI as pruned would
        fit, but are not marked: their score on its other dev split varies.) The "majority" of STS-B
        is a random guess, see `baselines.random_guess_score`.
    """
    return _read("scores")


def sizes() -> pd.DataFrame:
    """How large the subnetworks are (titles of figure 2, section 4.1, appendices B and E).

    Returns:
        A row per task, method, subnetwork and seed: `heads` (of 144) and `mlps` (of 12), or, for
        the method "magnitude", `steps` of 5% each and the share `surviving` of the weights that
        are ranked. The other columns are the same for all five seeds of a task: mean and standard
        deviation (ddof 1) of the share of the encoder's dense parameters (`encoder_`) and of the
        share that the paper prints (`printed_`; see `Subnetwork.printed_share`; of "magnitude" to
        two digits, as in the titles). Shares are from 0 to 1. The "random" sizes are of the stored
        masks; whether the reported scores are of these is not recorded.
    """
    return _read("sizes").astype(dict.fromkeys(("heads", "mlps", "steps"), "Int64"))


def stability() -> pd.DataFrame:
    """How alike the good structured subnetworks of five seeds are (section 5.1).

    Returns:
        A row per task and part ("heads" or "mlps"): `kappa`, `cochran_q` with `cochran_p`,
        `jaccard`, and for heads `similar_pairs` and `overlap`, all as in `agreement.Agreement`;
        for heads also the overlap of masks of these sizes by chance (`overlap_chance`);
        `permutation_p` of the overlap, for heads an upper bound. Empty where nothing survives
        or nothing was computed.
    """
    return _read("stability")


def task_overlap(part: str = "heads") -> pd.DataFrame:
    """How many elements two tasks' good subnetworks share (section 5.3, figure 5, appendix G).

    Args:
        part: "heads", "mlps", or "super heads", those that survive under all seeds.

    Returns:
        A row per ordered pair (`task`, `other`), a task with itself included: `mean` and `sd`
        (ddof 1) over seeds of the number that both keep, and the number that independent masks of
        these sizes would share (`chance`).

    Raises:
        LotteryError: another part.
    """
    table = _read("task_overlap")
    if part not in (parts := table["part"].unique().tolist()):
        raise unknown("part", part, parts)
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


def describe_duplicated_bar() -> str:
    """What the bar that figure 2a prints twice hides, in numbers."""
    table = scores().query("method == 'structured' and phase == 'retrained'")
    means = table.pivot(index="task", columns="subnetwork", values="mean")
    gap, average = means["good"] - means["random"], means.mean()
    largest = str(gap.abs().idxmax())
    good, random = means.loc[largest, ["good", "random"]]
    return (
        "Figure 2a draws the score of good subnetworks, retrained, a second time as that of random "
        f"ones. The released score of the random ones is lower on {(gap > 0).sum()} of {len(gap)} "
        f"tasks and higher on {(gap < 0).sum()}; they differ most on {TASKS[largest].title} "
        f"({random:.4f} instead of {good:.4f}). "
        f"Over all tasks, retrained subnetworks score {average['good']:.3f} where good, "
        f"{average['random']:.3f} where random and {average['bad']:.3f} where bad."
    )


def table2() -> pd.DataFrame:
    """Table 2 as printed, misprints included (section 4.3).

    Returns:
        A row per `model` and `task` (the last is "average"), with the printed `value`. The first
        four models are those of Wang et al. (2018).
    """
    return _read("table2")


def misprints() -> pd.DataFrame:
    """Where the printed paper and what was released with it differ, as far as we can tell.

    Returns:
        A row per place: `where`, what is `printed`, what it `should_be`, and `why`. `kind` is
        "misprint" (the printed value is a slip), "definition" (it is right but counts something
        else than one expects), "procedure" (the released results were made in another way than
        the text says, see `differences`) or "open" (we could not reproduce it).
    """
    table = _read("misprints")
    table["why"] = table["why"].str.replace("{fits}", describe_step_fits(), regex=False)
    return table


def differences() -> pd.DataFrame:
    """Where the paper's text and the authors' code differ, or the text leaves a choice open.

    Returns:
        A row per difference, `number` 1 to 25: the `topic`, what the `paper` says, what the `code`
        or the released files have, the `evidence`, what is done `here` by default, the
        settings that switch it (`option`, empty where there is none), and which method and kind of
        subnetwork it `affects`. `report.differences` adds what each changes.
    """
    return _read("differences").fillna({"option": "", "affects": ""})


def inventory() -> pd.DataFrame:
    """Every table, figure and appendix of the paper, and where it is made again.

    Returns:
        A row per item: its `name` in the paper, what it `shows`, the `pages` that make it again
        (templates without `.ipynb`, or chapters), and whether the authors' `masks` give it too.
    """
    return _read("inventory").assign(pages=lambda table: table["pages"].str.split())


def find_pages(pages: Path, template: str) -> list[Path]:
    """The published pages of a template, relative to the folder of pages."""
    return sorted(path.relative_to(pages) for path in pages.glob(f"*/*/{template}.ipynb"))


def inventory_table(pages: str) -> str:
    """The inventory as a Markdown table with links.

    Args:
        pages: the folder of published pages, relative to the chapter that shows the table.
    """
    rows = []
    for item in inventory().itertuples():
        links = []
        for page in [*item.pages, *["12_audit"] * item.masks]:  # type: ignore[misc, operator]
            if page.startswith("chapters/"):
                name = page.removeprefix("chapters/")
                links.append(f"[{name}]({name}.md)")
            for path in find_pages(Path(pages), page):
                named = {"overview": "all tasks", "audit": "from released masks"}
                name = named.get(path.parent.name) or title_of(path.parent.name)
                links.append(f"[{name}]({pages}/{path})")
        rows.append((f"**{item.name}**", item.shows, " · ".join(links) or NOTHING))
    return markdown_table(("In the paper", "What it shows", "Where it is made again"), rows)


STEP_CAP = 30
"""Up to how many steps of magnitude pruning `step_fits` tries; the longest search took 29."""


def step_fits(kept: float) -> pd.DataFrame:
    """Whether steps that keep this share of the remaining weights explain the released sizes.

    A task's five seeds end after k steps each, so their survival is five powers of `kept`. The
    released notebook has its mean (to four decimals here), the titles of figure 2b the standard
    deviation of the size, to two.

    Returns:
        One row per task: `mean`, how many multisets of five k from 0 to `STEP_CAP` give the mean,
        and `both`, how many of them give the standard deviation too.
    """
    steps = np.array(list(itertools.combinations_with_replacement(range(STEP_CAP + 1), 5)))
    survival = kept**steps
    mean, sd = survival.mean(1), survival.std(1, ddof=1)
    unranked = BERT_BASE.layers * BERT_BASE.hidden  # the biases of the MLPs' second layers
    of_all = (BERT_BASE.encoder_parameters - unranked) / BERT_BASE.total
    printed = sizes().query("method == 'magnitude'").groupby("task")["printed_sd"].first()
    rows = {}
    for task, released in _read("magnitude_survival").set_index("task")["mean"].items():
        same_mean = abs(mean - released) <= 0.5e-4
        same_sd = abs(sd * of_all - printed[str(task)]) <= 0.5e-2
        rows[task] = {"mean": same_mean.sum(), "both": (same_mean & same_sd).sum()}
    return pd.DataFrame.from_dict(rows, orient="index")


@lru_cache
def describe_step_fits() -> str:
    """What the released sizes tell of the step of magnitude pruning, in three sentences."""
    slow, fast = step_fits(0.95), step_fits(0.9)

    def whole(fits: pd.Series) -> str:
        titles = [TASKS[str(task)].title for task in fits.index[fits > 0]]
        return f"only {titles[0]}" if len(titles) == 1 else f"{len(titles)} of {len(fits)}"

    return (
        f"The released mean survival is a mean of five powers of 0.95 on {whole(slow['mean'])} "
        f"tasks, to four decimals. Five powers of 0.9 give it too, in {fast['mean'].min()} to "
        f"{fast['mean'].max()} ways a task (k up to {STEP_CAP}). With the standard deviations of "
        f"figure 2b as well, 0.95 fits {whole(slow['both'])} and 0.9 {whole(fast['both'])}."
    )


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name("paper_numbers") / f"{name}.csv")
