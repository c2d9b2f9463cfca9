"""Cells: the pieces of work that the pages of a task need, for the progress bar and the store.

The pages themselves ask the experiment for what they show; computing the cells beforehand gives the
same artefacts with progress and time left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from lotterylib.finetuning import Progress, silent
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import ALL_METHODS, CORE, EXTRAS, GRIDS
from lotterylib.runs.pattern_counts import CONDITIONS, count_patterns, counts_key
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import Key

ALL = (*CORE, *EXTRAS.values())
"""Every page of a task."""


@dataclass(frozen=True)
class Cell:
    """One piece of work: a stage for a seed, and for a subnetwork where it has one.

    Attributes:
        stage: "baseline", "finetune", "search", "importance", "ablation", "patterns", or a phase of
            `methods.PHASES` and those beside it.
        seed: of fine-tuning; 0 for baselines, which have none.
        method: a name in `methods.ALL_METHODS`, or empty.
        kind: "good", "random", "bad" or "inverted"; for other stages their variant, or empty.
    """

    stage: str
    seed: int
    method: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """The cell in a few words."""
        return " ".join(part for part in (self.stage, self.method, self.kind) if part)


def cells_of(settings: Settings, pages: Collection[str] = CORE) -> Iterator[Cell]:
    """All work behind these pages of a task, in the order in which it is done.

    Args:
        settings: of one task.
        pages: names of templates, without `.ipynb`.
    """
    yield Cell("baseline", 0, kind="frozen")
    if "09_how_bad_is_bad" in pages:
        yield from (Cell("baseline", 0, kind=kind) for kind in ("bag", "bilstm"))
        if settings.task.is_regression:
            yield Cell("baseline", 0, kind="guess")
    scored = list(dict.fromkeys(s for page, grid in GRIDS.items() if page in pages for s in grid))
    methods = dict.fromkeys(method for method, _, _ in scored)
    if "union" in methods:
        methods = dict.fromkeys([*(name for name in methods if name != "union"), "union"])
    for seed in settings.seeds:
        yield Cell("finetune", seed)
        for method in methods:
            if ALL_METHODS[method].way != "agreement":
                yield Cell("search", seed, method)
            if method != "super":
                yield from _scores(seed, method, scored)
        yield from _measurements(seed, pages)
    if "super" in methods and len(settings.seeds) > 1:
        inside = settings.attention_in_subnetwork and "07_attention_patterns" in pages
        for seed in settings.seeds:
            yield Cell("search", seed, "super")
            yield from _scores(seed, "super", scored)
            for condition in CONDITIONS if inside else ():
                yield Cell("patterns", seed, "super", condition)


def _scores(seed: int, method: str, scored: list[tuple[str, str, str]]) -> Iterator[Cell]:
    for name, kind, phase in scored:
        if name == method:
            yield Cell(phase, seed, method, kind)


def _measurements(seed: int, pages: Collection[str]) -> Iterator[Cell]:
    if "02_structured_pruning" in pages:
        for accumulation in ("example", "batch", "cumulative"):
            yield Cell("importance", seed, kind=accumulation)
    if "07_attention_patterns" in pages:
        for condition in CONDITIONS:
            yield Cell("patterns", seed, kind=condition)
    if "11_extensions" in pages:
        yield Cell("ablation", seed)


def wave_of(cell: Cell) -> int:
    """Cells of one wave do not need each other, only those of earlier waves: first fine-tuning and
    baselines, then the searches, then searches that build on those, and scores a wave after the
    search for their method.
    """
    if cell.stage in ("baseline", "finetune"):
        return 0
    found = 1
    if cell.method and ALL_METHODS[cell.method].way not in ("search", "to half"):
        found = 2
    return found if cell.stage == "search" else found + 1


def compute(experiment: Experiment, cell: Cell, report: Progress = silent) -> str:
    """Compute a cell unless it is in the store, and say what was found in a few words."""
    if cell.stage == "search":
        subnetwork = experiment.subnetwork(cell.seed, cell.method, "good", report)
        return f"keeps {subnetwork.density(experiment.shape):.0%} of the encoder"
    if cell.stage == "importance":
        experiment.importance(cell.seed, cell.kind)  # type: ignore[arg-type]
        return "measured"
    if cell.stage == "ablation":
        lowest = experiment.ablation(cell.seed, report).min()
        return f"without the head that matters most {lowest:.3f}"
    if cell.stage == "patterns":
        within = cell.method or "full"
        counts = count_patterns(experiment, cell.seed, cell.kind, report, within)
        return f"{counts.sum():,} maps classified"
    if cell.stage == "baseline":
        score = experiment.baseline(cell.kind, report)
    elif cell.stage == "finetune":
        score = experiment.full_score(cell.seed, report)
    else:
        score = experiment.score(cell.seed, cell.method, cell.kind, cell.stage, report)
    constant = ", a constant predictor" if score.constant else ""
    metric = experiment.task.metric
    return f"{metric} {score.metrics[metric]:.3f}{constant}"


def key_of(experiment: Experiment, cell: Cell) -> Key:
    """Where the store keeps what the cell computes."""
    if cell.stage == "search":
        return experiment.search_key(cell.seed, cell.method)
    if cell.stage == "importance":
        return experiment.importance_key(cell.seed, cell.kind)
    if cell.stage == "ablation":
        return experiment.ablation_key(cell.seed)
    if cell.stage == "patterns":
        return counts_key(experiment, cell.seed, cell.kind, cell.method or "full")
    if cell.stage == "baseline":
        return experiment.baseline_key(cell.kind)
    if cell.stage == "finetune":
        return experiment.finetuned_key(cell.seed)
    return experiment.score_key(cell.seed, cell.method, cell.kind, cell.stage)


def is_done(experiment: Experiment, cell: Cell) -> bool:
    """Whether the store has what the cell computes."""
    return experiment.store.has(key_of(experiment, cell))


def provenance(experiment: Experiment, cell: Cell) -> dict[str, Any]:
    """Versions, device and seconds of a cell that is done."""
    return experiment.store.provenance(key_of(experiment, cell))
