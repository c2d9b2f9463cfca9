"""Methods: the ways of finding a good subnetwork, and what is done with it; a row a method.

The first two are the paper's (sections 3.2 and 3.3). The others are its appendices and side
studies (heads or MLPs alone, the union of both searches, super-survivors), other thresholds and
other examples for the search, and what later work would have done in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lotterylib.subnetworks import Prunable

Way = Literal["search", "union", "agreement", "to half", "matched", "pre-trained", "iterative"]


@dataclass(frozen=True)
class Method:
    """One way of finding a good subnetwork.

    Attributes:
        name: as in the results table.
        prunes: whole heads, whole MLPs, both, or single weights.
        way: how the good one is found. "search": pruned for as long as the score holds. "union":
            what the searches for heads alone and for MLPs alone pruned, taken together.
            "agreement": what the structured search kept for every seed. "to half": structured
            pruning without regard to the score until half of the heads and half of the MLPs are
            left, so that good and bad can be disjoint. "matched": the largest weights, as many as
            the structured subnetwork has. "pre-trained": the largest weights before fine-tuning, as
            many as the magnitude search keeps. "iterative": likewise, with training between
            prunings.
        builds_on: the methods whose good subnetworks this one starts from; none if it starts from
            the fine-tuned model.
        threshold: the share of the full score that the search keeps; 0.0 for the preset's.
        searched_on: the dev examples, one half of them, or as many training examples.
        title: the method in a few words, for tables and figures.
    """

    name: str
    prunes: tuple[Prunable, ...]
    title: str
    way: Way = "search"
    builds_on: tuple[str, ...] = ()
    threshold: float = 0.0
    searched_on: Literal["dev", "half", "train"] = "dev"

    @property
    def is_structured(self) -> bool:
        """Whether whole heads or MLPs go."""
        return "weights" not in self.prunes


_BOTH: tuple[Prunable, ...] = ("heads", "mlps")
_WEIGHTS: tuple[Prunable, ...] = ("weights",)

ALL_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("structured", _BOTH, "heads and MLPs"),
        Method("magnitude", _WEIGHTS, "weights"),
        Method("super", _BOTH, "super-survivors", "agreement", ("structured",)),
        Method("heads", ("heads",), "heads alone"),
        Method("mlps", ("mlps",), "MLPs alone"),
        Method("union", _BOTH, "heads and MLPs found apart", "union", ("heads", "mlps")),
        Method("structured-95", _BOTH, "heads and MLPs, 95% kept", threshold=0.95),
        Method("structured-80", _BOTH, "heads and MLPs, 80% kept", threshold=0.8),
        Method("magnitude-95", _WEIGHTS, "weights, 95% kept", threshold=0.95),
        Method("magnitude-80", _WEIGHTS, "weights, 80% kept", threshold=0.8),
        Method("structured-half-dev", _BOTH, "heads and MLPs, half of dev", searched_on="half"),
        Method("structured-train", _BOTH, "heads and MLPs, training rows", searched_on="train"),
        Method("magnitude-half-dev", _WEIGHTS, "weights, half of dev", searched_on="half"),
        Method("magnitude-train", _WEIGHTS, "weights, training rows", searched_on="train"),
        Method("disjoint", _BOTH, "half of heads and MLPs", "to half"),
        Method("matched", _WEIGHTS, "weights, as many as structured", "matched", ("structured",)),
        Method("before", _WEIGHTS, "weights, before fine-tuning", "pre-trained", ("magnitude",)),
        Method("iterative", _WEIGHTS, "weights, training in between", "iterative", ("magnitude",)),
    )
}

METHODS = ("structured", "magnitude")
"""The two methods of the paper's main experiment."""

KINDS = ("good", "random", "bad")
"""The three subnetworks of one size. A fourth, "inverted", is what the search pruned: of the
complementary size, and everything of the part that was not searched."""

ALL_KINDS = (*KINDS, "inverted")
"""All that `Experiment.subnetwork` knows."""

PHASES = ("pruned", "retrained")
"""How a subnetwork is scored: the fine-tuned weights that survive, or the pre-trained ones trained
anew. Further ones: "longer" (retrained for twice the epochs, appendix D), "rewound" (retrained from
the weights after the first steps of fine-tuning) and "from scratch" (trained from random weights,
section 4.3)."""

ALL_PHASES = (*PHASES, "longer", "rewound", "from scratch")
"""All that `Experiment.left` knows."""

Scored = tuple[str, str, str]
"""A method, a kind of subnetwork, and a phase."""


def _scored(method: str, kinds: tuple[str, ...], phases: tuple[str, ...]) -> list[Scored]:
    return [(method, kind, phase) for kind in kinds for phase in phases]


GRIDS: dict[str, tuple[Scored, ...]] = {
    "02_structured_pruning": (("structured", "good", "pruned"),),
    "03_magnitude_pruning": (("magnitude", "good", "pruned"),),
    "04_subnetworks": tuple(s for method in METHODS for s in _scored(method, KINDS, PHASES)),
    "05_stability": (("structured", "good", "pruned"),),
    "06_super_survivors": (
        *_scored("structured", ("good",), PHASES),
        *_scored("super", KINDS, PHASES),
    ),
    "09_how_bad_is_bad": (
        *_scored("structured", ("good", "bad"), (*PHASES, "longer")),
        *_scored("magnitude", ("good", "bad"), PHASES),
        ("structured", "random", "from scratch"),
        *_scored("disjoint", KINDS, PHASES),
    ),
    "10_variants": (
        *_scored("structured", ("good", "inverted"), ("pruned",)),
        *_scored("magnitude", ("good",), ("pruned",)),
        *_scored("heads", ("good", "random", "inverted"), PHASES),
        *_scored("mlps", ("good", "random", "inverted"), ("pruned",)),
        *_scored("union", ("good",), ("pruned",)),
        *(
            (f"{method}-{change}", "good", "pruned")
            for method in METHODS
            for change in ("95", "80", "half-dev", "train")
        ),
    ),
    "11_extensions": (
        *_scored("structured", ("good",), (*PHASES, "rewound")),
        *_scored("magnitude", ("good",), (*PHASES, "rewound")),
        *_scored("matched", ("good",), PHASES),
        *_scored("before", ("good",), ("retrained",)),
        *_scored("iterative", ("good",), ("retrained",)),
    ),
}
"""What each page of a task scores, beside the full model and the baselines."""

CORE = (
    "01_finetune",
    "02_structured_pruning",
    "03_magnitude_pruning",
    "04_subnetworks",
    "05_stability",
    "06_super_survivors",
    "07_attention_patterns",
)
"""The pages that every run of a task has."""

EXTRAS = {
    "how-bad-is-bad": "09_how_bad_is_bad",
    "variants": "10_variants",
    "extensions": "11_extensions",
}
"""The pages of a task that have to be asked for, by the name on the command line."""

SEVERAL_SEEDS = ("05_stability", "06_super_survivors")
"""The pages that need at least two seeds."""
