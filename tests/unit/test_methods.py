"""The table of methods and the pages that score them, held against each other."""

import itertools

from lotterylib.runs.methods import (
    ALL_METHODS,
    CORE,
    GRIDS,
    KINDS,
    METHODS,
    PHASES,
    SEVERAL_SEEDS,
)

SCORED = [(page, *scored) for page, grid in GRIDS.items() for scored in grid]


def test_every_method_kind_and_phase_is_scored_somewhere_and_nothing_else():
    methods, kinds, phases = (set(names) for names in zip(*(s[1:] for s in SCORED), strict=True))
    assert methods == set(ALL_METHODS)
    assert kinds == {*KINDS, "inverted"}
    assert phases == {*PHASES, "longer", "rewound", "from scratch"}
    assert set(GRIDS["04_subnetworks"]) == set(itertools.product(METHODS, KINDS, PHASES))


def test_a_row_says_all_that_makes_a_method_its_own():
    assert all(name == method.name for name, method in ALL_METHODS.items())
    assert len({method.title for method in ALL_METHODS.values()}) == len(ALL_METHODS)
    what = [(m.prunes, m.way, m.threshold, m.searched_on) for m in ALL_METHODS.values()]
    assert len(set(what)) == len(what)
    for name, method in ALL_METHODS.items():
        if method.way != "search":
            assert (method.searched_on, method.threshold) == ("dev", 0)
        elif method.threshold:
            assert name.endswith(f"{method.threshold:.0%}"[:2])


def test_special_methods_are_scored_where_they_mean_something():
    def scored(*ways):
        return [(page, phase) for page, name, _, phase in SCORED if ALL_METHODS[name].way in ways]

    pages = {page for page, _ in scored("agreement")}
    assert set() < pages <= set(SEVERAL_SEEDS) <= set(CORE)
    # pre-trained weights were never meant to go with fine-tuned ones
    assert {phase for _, phase in scored("pre-trained", "iterative")} == {"retrained"}
