"""Costs: how long jobs take beside each other, as measured."""

from __future__ import annotations

from lotterylib.runs.jobs import Job
from lotterylib.runs.methods import ALL_METHODS

COSTS = {
    "frozen": (0.1, 1.0, 1.3),
    "bag": (0.0, 0.0, 1.6),
    "bilstm": (0.08, 0.0, 0.0),
    "guess": (0.0, 0.0, 0.1),
    "finetune": (1.0, 1.0, 0.0),
    "search structured": (0.0, 25.0, 0.0),
    "search magnitude": (0.0, 10.0, 0.0),
    "search iterative": (2.3, 0.0, 0.0),
    "search derived": (0.0, 0.0, 0.1),
    "pruned structured": (0.0, 0.7, 0.0),
    "pruned magnitude": (0.0, 1.4, 0.0),
    "retrained structured": (0.7, 0.7, 0.0),
    "retrained magnitude": (1.1, 1.4, 0.0),
    "longer structured": (1.4, 0.7, 0.0),
    "from scratch structured": (0.7, 0.7, 0.0),
    "rewound structured": (0.7, 0.7, 0.0),
    "rewound magnitude": (1.1, 1.4, 0.0),
    "importance": (0.0, 2.6, 0.0),
    "ablation": (0.0, 51.0, 0.0),
    "classifier": (0.0, 0.0, 25.0),
    "patterns": (0.0, 0.0, 1.9),
    "tickets pruned": (0.0, 450.0, 0.0),
    "tickets search": (0.0, 9.0, 0.0),
    "ticket": (0.5, 0.5, 0.0),
}
"""What a job costs: fine-tunings, scorings of the dev set, and seconds beside them.

From the processor time of all jobs of a run: MiniLM, acceptability, 320 training and 200 dev rows,
three epochs, the preset paper, one thread; those of tickets by their arithmetic. What depends on
what a search finds is a mean. Ablation and patterns grow with the heads (there were `HEADS`), and
all tickets with their number.
"""

HEADS = 72


def kind_of(job: Job) -> str:
    """The name under which `COSTS` has a job."""
    if not job.method or job.stage == "patterns":
        return job.kind if job.stage == "baseline" else job.stage
    method = ALL_METHODS[job.method]
    way = "structured" if method.is_structured else "magnitude"
    if job.stage == "search" and method.builds_on:
        way = "iterative" if method.way == "iterative" else "derived"
    return f"{job.stage} {way}"
