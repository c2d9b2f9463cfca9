"""How the experiment is done (`PRESETS`) and how much of it (`BUDGETS`): chosen apart.

The presets differ exactly where the published text and the authors' code differ.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from lotterylib.errors import unknown

PAPER_SEEDS = (1337, 42, 86, 71, 166)
"""The five seeds of the paper, in the order of the authors' scripts."""


@dataclass(frozen=True)
class Preset:
    """The choices that the paper's text and the authors' code make differently, and some shared.

    Attributes:
        threshold: the share of the full model's score that a good subnetwork keeps (section 3).
        heads_step: the share of all heads pruned at a step.
        importance: what is averaged. "example" is the paper's formula, the mean over examples of
            the absolute gradient; "batch" takes the absolute value of each batch's mean gradient;
            "cumulative" does so without ever clearing the gradient (`find_head_mlp_masks.py`).
        stale_importance: whether a new phase of the search starts from the importance measured in
            the network that just failed, instead of in the last one that passed.
        heads_alone_step: likewise once heads go alone (the text gives no number; the authors' code
            halves the step).
        magnitude_step: the share of weights pruned at a step.
        magnitude_of: whether that is a share of the weights that remain or of those there were at
            first (section 3.2 can be read both ways).
        magnitude_max_steps: after how many steps the magnitude search stops in any case.
        random_structured: random subnetworks of exactly the size of the good one, or each head and
            MLP drawn by itself so that the size holds on average.
        bad_magnitude: bad subnetworks sampled from the pruned weights and topped up from the good
            ones, or the lowest-ranked weights of all.
        stop_metric: the reported metric, or the one of the authors' searches (STS-B: the mean of
            Pearson and Spearman).
        min_heads_per_layer: how many heads the search for heads alone leaves in every layer.
        empty_layer_bias: whether a layer that has lost all its heads keeps the bias of its W_O,
            which belongs to none of them, or loses it too, as in the authors' code.
        embeddings: whether retraining starts from the pre-trained embeddings ("reset") or from
            those that fine-tuning left ("kept"): the paper resets all "except embeddings", the
            authors' code everything.
        rewind_share: the share of fine-tuning after which the weights are taken that "rewound" goes
            back to (not in the paper).
        attention_slices: which part of W_O belongs to a head in norm-weighted attention: its
            columns, or rows of the same matrix, as the authors' `model_bert.py` takes them.
        attention_token_types: whether attention is measured with the token types that tell the two
            texts of a pair apart.
        attention_in_subnetwork: whether the patterns of super-survivors are measured in the model
            pruned down to them, instead of in the full one.
    """

    name: str
    threshold: float = 0.9
    heads_step: float = 0.1
    importance: Literal["example", "batch", "cumulative"] = "example"
    stale_importance: bool = False
    heads_alone_step: float = 0.05
    magnitude_step: float = 0.1
    magnitude_of: Literal["remaining", "initial"] = "remaining"
    magnitude_max_steps: int = 60
    random_structured: Literal["exact", "bernoulli"] = "exact"
    bad_magnitude: Literal["sampled", "lowest"] = "sampled"
    stop_metric: Literal["reported", "official"] = "reported"
    min_heads_per_layer: int = 0
    empty_layer_bias: Literal["kept", "dropped"] = "kept"
    embeddings: Literal["reset", "kept"] = "reset"
    rewind_share: float = 0.1
    attention_slices: Literal["columns", "rows"] = "columns"
    attention_token_types: bool = True
    attention_in_subnetwork: bool = False


PAPER = Preset("paper")

OFFICIAL = Preset(
    "official",
    importance="cumulative",
    stale_importance=True,
    magnitude_step=0.05,
    random_structured="bernoulli",
    bad_magnitude="lowest",
    stop_metric="official",
    min_heads_per_layer=1,
    empty_layer_bias="dropped",
    attention_slices="rows",
    attention_token_types=False,
    attention_in_subnetwork=True,
)


def _one_at_a_time() -> dict[str, Preset]:
    """The paper's preset with one choice made otherwise: as in the authors' code, or, where both do
    the same, as the text could be read.
    """
    other: dict[str, Any] = {"magnitude_of": "initial", "embeddings": "kept"}
    for field in fields(Preset):
        if field.name != "name" and getattr(PAPER, field.name) != getattr(OFFICIAL, field.name):
            other[field.name] = getattr(OFFICIAL, field.name)
    presets = [replace(PAPER, name=f"paper+{name}", **{name: other[name]}) for name in other]
    return {preset.name: preset for preset in presets}


PRESETS: dict[str, Preset] = {"paper": PAPER, "official": OFFICIAL, **_one_at_a_time()}


@dataclass(frozen=True)
class Budget:
    """How much is computed.

    Attributes:
        train_rows, dev_rows: rows of the splits; 0 for all there are.
        epochs: passes over the training rows.
        seeds: of fine-tuning.
        extra_seeds: how many of these the pages beyond those of every run get; 0 for all.
    """

    name: str
    train_rows: int
    dev_rows: int
    epochs: int
    seeds: tuple[int, ...]
    extra_seeds: int = 0


BUDGETS: dict[str, Budget] = {
    budget.name: budget
    for budget in (
        Budget("smoke", train_rows=48, dev_rows=32, epochs=1, seeds=PAPER_SEEDS[:2]),
        Budget("laptop", 1000, 400, epochs=3, seeds=PAPER_SEEDS[:2], extra_seeds=1),
        Budget("full", train_rows=0, dev_rows=0, epochs=3, seeds=PAPER_SEEDS),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        LotteryError: no such preset; the message names the nearest.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def find_budget(name: str) -> Budget:
    """The budget of that name.

    Raises:
        LotteryError: no such budget; the message names the nearest.
    """
    if name not in BUDGETS:
        raise unknown("budget", name, BUDGETS)
    return BUDGETS[name]
