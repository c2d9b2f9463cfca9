"""The table of methods and the pages that score them, held against each other."""

import itertools

import pytest

from lotterylib.runs.methods import (
    ALL_METHODS,
    CORE,
    EXTRAS,
    GRIDS,
    KINDS,
    METHODS,
    PHASES,
    SEVERAL_SEEDS,
)

EVERY_KIND = {*KINDS, "inverted"}
EVERY_PHASE = {*PHASES, "longer", "rewound", "from scratch"}
SCORED = [(page, *scored) for page, grid in GRIDS.items() for scored in grid]


@pytest.mark.parametrize("scored", SCORED, ids=lambda scored: "-".join(scored))
def test_every_entry_names_what_there_is(scored):
    page, method, kind, phase = scored
    assert page in (*CORE, *EXTRAS.values())
    assert method in ALL_METHODS
    assert kind in EVERY_KIND
    assert phase in EVERY_PHASE


def test_every_method_kind_and_phase_is_scored_somewhere():
    methods, kinds, phases = (set(names) for names in zip(*(s[1:] for s in SCORED), strict=True))
    assert methods == set(ALL_METHODS)
    assert kinds == EVERY_KIND
    assert phases == EVERY_PHASE


def test_figure_2_is_methods_times_kinds_times_phases():
    assert set(GRIDS["04_subnetworks"]) == set(itertools.product(METHODS, KINDS, PHASES))
    assert METHODS == ("structured", "magnitude")


def test_methods_are_told_apart():
    assert all(name == method.name for name, method in ALL_METHODS.items())
    assert len({method.title for method in ALL_METHODS.values()}) == len(ALL_METHODS)


def test_a_row_says_all_that_makes_a_method_its_own():
    what = [
        (method.prunes, method.way, method.threshold, method.searched_on)
        for method in ALL_METHODS.values()
    ]
    assert len(set(what)) == len(what)
    plain = {name for name in ALL_METHODS if ALL_METHODS[name].way == "search"}
    for name in ALL_METHODS:
        method = ALL_METHODS[name]
        assert method.searched_on == "dev" or name in plain
        assert method.threshold == 0 or (
            name in plain and name.endswith(f"{method.threshold:.0%}"[:2])
        )


def test_super_survivors_are_scored_on_a_page_of_several_seeds_only():
    pages = {page for page, method, _, _ in SCORED if ALL_METHODS[method].way == "agreement"}
    assert pages
    assert pages <= set(SEVERAL_SEEDS) <= set(CORE)


def test_subnetworks_of_pre_trained_weights_are_never_scored_with_fine_tuned_ones():
    phases = {
        phase
        for _, method, _, phase in SCORED
        if ALL_METHODS[method].way in ("pre-trained", "iterative")
    }
    assert phases == {"retrained"}


def test_pages_asked_for_are_not_those_of_every_run():
    assert not set(CORE) & set(EXTRAS.values())
    assert "all" not in EXTRAS  # it stands for every one of them
    assert list(CORE) == sorted(CORE)
    assert set(GRIDS) <= {*CORE, *EXTRAS.values()}
