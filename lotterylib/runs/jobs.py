"""Jobs: the pieces of work that the pages of a task need, and what each of them starts from.

The pages themselves ask the experiment for what they show; computing the jobs beforehand gives the
same artefacts, several at once, with progress and time left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lotterylib.finetuning import Progress, silent
from lotterylib.runs import lottery, pattern_counts
from lotterylib.runs.experiment import Experiment
from lotterylib.runs.methods import ALL_METHODS, CORE, EXTRAS, GRIDS, Scored
from lotterylib.runs.pattern_counts import CONDITIONS
from lotterylib.runs.settings import Settings
from lotterylib.runs.store import Key
from lotterylib.scoring import Score

Plan = Sequence[tuple[Experiment, Sequence[str]]]
"""Experiments, each with the names of the pages that are wanted of it."""

ALL = (*CORE, *EXTRAS.values())
"""Every page of a task."""


@dataclass(frozen=True)
class Job:
    """One piece of work: a stage for a seed, and for a subnetwork where it has one.

    Attributes:
        stage: "baseline", "classifier" (of attention maps), "finetune", "search", "importance",
            "ablation", "patterns", a phase of scoring, or, of the whole lottery, "tickets pruned",
            "tickets search" or "ticket".
        seed: of fine-tuning; 0 for baselines and the classifier, which have none.
        method: a name in `methods.ALL_METHODS`, or empty.
        kind: "good", "random", "bad" or "inverted"; for other stages their variant, such as the
            number of a ticket, or empty.
        number: of the draw or of the half of dev, as in `Experiment.subnetwork`.
    """

    stage: str
    seed: int
    method: str = ""
    kind: str = ""
    number: int = 0

    @property
    def label(self) -> str:
        """The job in a few words."""
        unit = "draw" if self.kind in ("random", "bad") else "half"
        number = f"{unit} {self.number}" if self.number else ""
        return " ".join(part for part in (self.stage, self.method, self.kind, number) if part)


def jobs_of(settings: Settings, pages: Collection[str] = CORE) -> list[Job]:
    """All work behind these pages of a task, needs before what needs them."""
    scored = list(dict.fromkeys(s for page, grid in GRIDS.items() if page in pages for s in grid))
    methods = dict.fromkeys(method for method, _, _ in scored)
    jobs = [Job("baseline", 0, kind="frozen")]
    if "09_how_bad_is_bad" in pages:
        more = ("bag", "bilstm", *(["guess"] if settings.task.is_regression else []))
        jobs += [Job("baseline", 0, kind=kind) for kind in more]
    conditions = CONDITIONS if "07_attention_patterns" in pages else ()
    if conditions:
        jobs.append(Job("classifier", 0))
        methods |= dict.fromkeys(("structured", "super"))
    measured: tuple[str, ...] = ()
    if "02_structured_pruning" in pages:
        measured = ("example", "batch", "cumulative")
    elif {"05_stability", "11_extensions"} & set(pages):
        measured = (settings.importance,)
    for seed in settings.seeds:
        jobs.append(Job("finetune", seed))
        for method in methods:
            if method != "super":
                halves = range(settings.draws_of(method, "good", "pruned"))
                jobs += [Job("search", seed, method, number=number) for number in halves]
                jobs += _scores(settings, seed, method, scored)
        jobs += [Job("importance", seed, kind=accumulation) for accumulation in measured]
        jobs += [Job("patterns", seed, kind=condition) for condition in conditions]
        if "11_extensions" in pages:
            jobs.append(Job("ablation", seed))
    if "super" in methods and len(settings.seeds) > 1:
        inside = conditions if settings.attention_in_subnetwork else ()
        for seed in settings.seeds:
            jobs.append(Job("search", seed, "super"))
            jobs += _scores(settings, seed, "super", scored)
            jobs += [Job("patterns", seed, "super", condition) for condition in inside]
    return jobs


def _scores(settings: Settings, seed: int, method: str, scored: Sequence[Scored]) -> list[Job]:
    return [
        Job(phase, seed, method, kind, number)
        for name, kind, phase in scored
        if name == method
        for number in range(settings.draws_of(method, kind, phase))
    ]


def ticket_jobs(settings: Settings, tickets: Sequence[int]) -> list[Job]:
    """The work behind the page on the whole lottery: all tickets as pruned, with the search on the
    first seed, and some of them retrained on every seed, in their order.
    """
    first = settings.seeds[0]
    jobs = [Job(each, first) for each in ("finetune", "tickets pruned", "tickets search")]
    retrained = [Job("ticket", s, kind=str(t)) for t in tickets for s in settings.seeds]
    return [Job("baseline", 0, kind="frozen"), *jobs, *retrained]


def needs_of(job: Job, settings: Settings) -> list[Job]:
    """The jobs whose results a job starts from; what those start from is left out."""
    if job.stage in ("baseline", "classifier", "finetune"):
        return []
    half = 0 if job.kind in ("random", "bad") else job.number
    finetuned, found = Job("finetune", job.seed), Job("search", job.seed, job.method, number=half)
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
    """A job with all that it takes to compute it, and the key of its result in the store."""

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
    """Every job of a plan by its place in the store; what its parts share stands there once."""
    found: dict[Path, Piece] = {}
    for experiment, pages in plan:
        for place, piece in as_pieces(experiment, jobs_of(experiment.settings, pages)).items():
            found.setdefault(place, piece)
    return found


def as_pieces(experiment: Experiment, jobs: Iterable[Job]) -> dict[Path, Piece]:
    """Jobs of an experiment by their place in the store."""
    pieces = [Piece(experiment, job, key_of(experiment, job)) for job in jobs]
    return {experiment.store.root / piece.key.path: piece for piece in pieces}


def lacking(pieces: Mapping[Path, Piece]) -> dict[Path, Piece]:
    """Those that the store has not, or has damaged."""
    return {p: each for p, each in pieces.items() if not each.experiment.store.is_whole(each.key)}


def _work(
    made: Experiment, job: Job
) -> tuple[Key, Callable[[Progress], Any], Callable[[Any], str]]:
    """Where the store keeps what a job computes, what computes it, and what is said of that."""
    seed, method, kind, number = job.seed, job.method, job.kind, job.number

    def told(score: Score) -> str:
        constant = ", a constant predictor" if score.constant else ""
        return f"{made.task.metric} {score.metrics[made.task.metric]:.3f}{constant}"

    match job.stage:
        case "baseline":
            return made.baseline_key(kind), lambda report: made.baseline(kind, report), told
        case "classifier":
            key = pattern_counts.classifier_key()
            return key, lambda _: pattern_counts.classifier(made.store), lambda _: "trained"
        case "finetune":
            return made.finetuned_key(seed), lambda report: made.full_score(seed, report), told
        case "search":
            return (
                made.search_key(seed, method, number),
                lambda report: made.subnetwork(seed, method, "good", report, number),
                lambda good: f"keeps {good.density(made.shape):.0%} of the encoder",
            )
        case "importance":
            key = made.importance_key(seed, kind)
            return key, lambda _: made.importance(seed, kind), lambda _: "measured"  # type: ignore[arg-type]
        case "ablation":
            return (
                made.ablation_key(seed),
                lambda report: made.ablation(seed, report),
                lambda scores: f"without the head that matters most {scores.min():.3f}",
            )
        case "patterns":
            return (
                pattern_counts.counts_key(made, seed, kind, method),
                lambda report: pattern_counts.count_patterns(made, seed, kind, report, method),
                lambda counts: f"{counts.sum():,} maps classified",
            )
        case "tickets pruned":
            return (
                lottery.pruned_key(made, seed),
                lambda report: lottery.pruned(made, seed, report),
                lambda found: f"{len(found['score']):,} scored",
            )
        case "tickets search":
            return (
                lottery.search_key(made, seed),
                lambda report: lottery.searched(made, seed, report),
                lambda states: "leaves " + ", ".join(str(state["ticket"]) for state in states),
            )
        case "ticket":
            key = lottery.retrained_key(made, seed, int(kind))
            return key, lambda report: lottery.retrained(made, seed, int(kind), report), told
        case phase:
            key = made.score_key(seed, method, kind, phase, number)
            return key, lambda report: made.score(seed, method, kind, phase, report, number), told


def compute(experiment: Experiment, job: Job, report: Progress = silent) -> str:
    """Compute a job unless it is in the store, and say what was found in a few words."""
    _, result, words = _work(experiment, job)
    return words(result(report))


def key_of(experiment: Experiment, job: Job) -> Key:
    """Where the store keeps what a job computes."""
    return _work(experiment, job)[0]
