"""Jobs: the pieces of work that the pages of a task need, and what each of them starts from.

The pages themselves ask the experiment for what they show; computing the jobs beforehand gives the
same artefacts, several at once, with progress and time left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lotterylib.finetuning import Progress, silent
from lotterylib.runs import lottery, pattern_counts
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import ALL_METHODS, CORE, EXTRAS, GRIDS
from lotterylib.runs.pattern_counts import CONDITIONS, classifier_key, count_patterns, counts_key
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import Key

Plan = Sequence[tuple[Experiment, Sequence[str]]]
"""Experiments, each with the names of the pages that are wanted of it."""

ALL = (*CORE, *EXTRAS.values())
"""Every page of a task."""


@dataclass(frozen=True)
class Job:
    """One piece of work: a stage for a seed, and for a subnetwork where it has one.

    Attributes:
        stage: "baseline", "classifier" (of attention maps), "finetune", "search", "importance",
            "ablation", "patterns", a phase of `methods.PHASES` and those beside it, or, of the
            whole lottery, "tickets pruned", "tickets search" or "ticket".
        seed: of fine-tuning; 0 for baselines and the classifier, which have none.
        method: a name in `methods.ALL_METHODS`, or empty.
        kind: "good", "random", "bad" or "inverted"; for other stages their variant, such as the
            number of a ticket, or empty.
    """

    stage: str
    seed: int
    method: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """The job in a few words."""
        return " ".join(part for part in (self.stage, self.method, self.kind) if part)


def jobs_of(settings: Settings, pages: Collection[str] = CORE) -> Iterator[Job]:
    """All work behind these pages of a task, in the order in which it is done.

    Args:
        settings: of one task.
        pages: names of templates, without `.ipynb`.
    """
    yield Job("baseline", 0, kind="frozen")
    if "09_how_bad_is_bad" in pages:
        yield from (Job("baseline", 0, kind=kind) for kind in ("bag", "bilstm"))
        if settings.task.is_regression:
            yield Job("baseline", 0, kind="guess")
    if "07_attention_patterns" in pages:
        yield Job("classifier", 0)
    scored = list(dict.fromkeys(s for page, grid in GRIDS.items() if page in pages for s in grid))
    methods = dict.fromkeys(method for method, _, _ in scored)
    if "union" in methods:
        methods = dict.fromkeys([*(name for name in methods if name != "union"), "union"])
    for seed in settings.seeds:
        yield Job("finetune", seed)
        for method in methods:
            if ALL_METHODS[method].way != "agreement":
                yield Job("search", seed, method)
            if method != "super":
                yield from _scores(seed, method, scored)
        yield from _measurements(seed, pages)
    if "super" in methods and len(settings.seeds) > 1:
        inside = settings.attention_in_subnetwork and "07_attention_patterns" in pages
        for seed in settings.seeds:
            yield Job("search", seed, "super")
            yield from _scores(seed, "super", scored)
            for condition in CONDITIONS if inside else ():
                yield Job("patterns", seed, "super", condition)


def ticket_jobs(settings: Settings, tickets: Sequence[int]) -> Iterator[Job]:
    """The work behind the page on the whole lottery: all tickets as pruned, with the search on the
    first seed, and some of them retrained on every seed.

    Args:
        settings: of one task.
        tickets: those to retrain, in the order in which that is done.
    """
    first = settings.seeds[0]
    yield Job("baseline", 0, kind="frozen")
    yield from (Job(each, first) for each in ("finetune", "tickets pruned", "tickets search"))
    for ticket in tickets:
        yield from (Job("ticket", seed, kind=str(ticket)) for seed in settings.seeds)


def _scores(seed: int, method: str, scored: list[tuple[str, str, str]]) -> Iterator[Job]:
    for name, kind, phase in scored:
        if name == method:
            yield Job(phase, seed, method, kind)


def _measurements(seed: int, pages: Collection[str]) -> Iterator[Job]:
    if "02_structured_pruning" in pages:
        for accumulation in ("example", "batch", "cumulative"):
            yield Job("importance", seed, kind=accumulation)
    if "07_attention_patterns" in pages:
        for condition in CONDITIONS:
            yield Job("patterns", seed, kind=condition)
    if "11_extensions" in pages:
        yield Job("ablation", seed)


def needs_of(job: Job, settings: Settings) -> list[Job]:
    """The jobs whose results a job starts from; what those start from is left out.

    Args:
        job: one of `jobs_of`.
        settings: those of the task.
    """
    if job.stage in ("baseline", "classifier", "finetune"):
        return []
    finetuned, found = Job("finetune", job.seed), Job("search", job.seed, job.method)
    if job.stage == "search":
        method = ALL_METHODS[job.method]
        seeds = settings.seeds if method.way == "agreement" else (job.seed,)
        before = [Job("search", seed, name) for seed in seeds for name in method.builds_on]
        return before or [finetuned]
    if job.stage == "patterns":
        models = [found] if job.method else [finetuned] * job.kind.startswith("fine-tuned")
        return [Job("classifier", 0), *models]
    return [found] if job.method else [finetuned]


@dataclass(frozen=True)
class Piece:
    """A job with all that it takes to compute it.

    Attributes:
        experiment: whose.
        job: which.
        key: of its result in the store.
    """

    experiment: Experiment
    job: Job
    key: Key

    @property
    def name(self) -> str:
        """Task, seed and job, for people."""
        seedless = self.job.stage in ("baseline", "classifier")
        seed = "" if seedless else f", seed {self.job.seed}"
        return f"{self.experiment.task.title}{seed}: {self.job.label}"

    @property
    def needs(self) -> set[Path]:
        """The places in the store of what the job starts from."""
        made = self.experiment
        needed = needs_of(self.job, made.settings)
        return {made.store.root / key_of(made, each).path for each in needed}


def pieces_of(plan: Plan) -> dict[Path, Piece]:
    """Every job of a plan by its place in the store; what two parts of it share stands there once.

    Args:
        plan: experiments, each with the names of the pages that are wanted of it.
    """
    found: dict[Path, Piece] = {}
    for experiment, pages in plan:
        for place, piece in as_pieces(experiment, jobs_of(experiment.settings, pages)).items():
            found.setdefault(place, piece)
    return found


def as_pieces(experiment: Experiment, jobs: Iterable[Job]) -> dict[Path, Piece]:
    """Jobs of an experiment by their place in the store."""
    pieces = [Piece(experiment, job, key_of(experiment, job)) for job in jobs]
    return {experiment.store.root / piece.key.path: piece for piece in pieces}


def compute(experiment: Experiment, job: Job, report: Progress = silent) -> str:
    """Compute a job unless it is in the store, and say what was found in a few words."""
    if job.stage == "search":
        subnetwork = experiment.subnetwork(job.seed, job.method, "good", report)
        return f"keeps {subnetwork.density(experiment.shape):.0%} of the encoder"
    if job.stage == "importance":
        experiment.importance(job.seed, job.kind)  # type: ignore[arg-type]
        return "measured"
    if job.stage == "ablation":
        lowest = experiment.ablation(job.seed, report).min()
        return f"without the head that matters most {lowest:.3f}"
    if job.stage == "patterns":
        within = job.method or "full"
        counts = count_patterns(experiment, job.seed, job.kind, report, within)
        return f"{counts.sum():,} maps classified"
    if job.stage == "classifier":
        pattern_counts.classifier(experiment.store)
        return "trained"
    if job.stage == "tickets pruned":
        found = lottery.pruned(experiment, job.seed, report)["score"]
        return f"{len(found):,} scored"
    if job.stage == "tickets search":
        states = lottery.searched(experiment, job.seed, report)
        return "leaves " + ", ".join(str(state["ticket"]) for state in states)
    if job.stage == "baseline":
        score = experiment.baseline(job.kind, report)
    elif job.stage == "ticket":
        score = lottery.retrained(experiment, job.seed, int(job.kind), report)
    elif job.stage == "finetune":
        score = experiment.full_score(job.seed, report)
    else:
        score = experiment.score(job.seed, job.method, job.kind, job.stage, report)
    constant = ", a constant predictor" if score.constant else ""
    metric = experiment.task.metric
    return f"{metric} {score.metrics[metric]:.3f}{constant}"


def key_of(experiment: Experiment, job: Job) -> Key:
    """Where the store keeps what a job computes."""
    if job.stage == "search":
        return experiment.search_key(job.seed, job.method)
    if job.stage == "importance":
        return experiment.importance_key(job.seed, job.kind)
    if job.stage == "ablation":
        return experiment.ablation_key(job.seed)
    if job.stage == "patterns":
        return counts_key(experiment, job.seed, job.kind, job.method or "full")
    if job.stage == "classifier":
        return classifier_key()
    if job.stage == "tickets pruned":
        return lottery.pruned_key(experiment, job.seed)
    if job.stage == "tickets search":
        return lottery.search_key(experiment, job.seed)
    if job.stage == "ticket":
        return lottery.retrained_key(experiment, job.seed, int(job.kind))
    if job.stage == "baseline":
        return experiment.baseline_key(job.kind)
    if job.stage == "finetune":
        return experiment.finetuned_key(job.seed)
    return experiment.score_key(job.seed, job.method, job.kind, job.stage)


def is_done(experiment: Experiment, job: Job) -> bool:
    """Whether the store has what a job computes."""
    return experiment.store.has(key_of(experiment, job))


def provenance(experiment: Experiment, job: Job) -> dict[str, Any]:
    """Versions, device and seconds of a job that is done."""
    return experiment.store.provenance(key_of(experiment, job))
