"""Overlap between tasks: hand-computed cases, exact tests, and the authors' own numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lotterylib.errors import LotteryError
from lotterylib.overlap import task_overlap
from lotterylib.subnetworks import StructuredSubnetwork
from lotterylib.super_survivors import super_survivors

subnetwork = st.tuples(arrays(bool, (2, 3)), arrays(bool, 2)).map(
    lambda pair: StructuredSubnetwork(*pair)
)
tasks_of_seeds = st.tuples(st.integers(1, 3), st.integers(1, 4)).flatmap(
    lambda sizes: st.lists(
        st.lists(subnetwork, min_size=sizes[1], max_size=sizes[1]),
        min_size=sizes[0],
        max_size=sizes[0],
    )
)

# The authors' masks compared (rows: CoLA, MNLI, ...), recomputed with the standard deviation of
# ddof 1; the means of the heads are the paper's Figure 5.
TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
EXPECTED = {
    "heads": {
        "mean": """
            92.2
            62.4 95.0
            58.4 64.4 89.4
            57.6 62.4 57.4 85.2
            55.4 54.6 52.2 52.2 78.2
            48.8 55.0 51.6 52.0 43.2 74.0
            49.6 50.4 43.4 40.2 38.2 35.0 67.0
            53.4 55.6 54.2 51.0 47.4 46.0 36.2 76.8
            23.2 19.0 19.0 17.6 17.6 14.8 13.4 16.2 28.8""",
        "sd": """
            18.91
            10.24 4.95
            11.33 7.80 9.13
            10.43 7.44 6.27 7.98
            18.85 8.99 7.40 6.98 16.12
            22.03 27.06 23.00 25.12 20.10 35.69
            13.05 11.46 8.99 8.58 10.23 18.77 15.65
            14.94 3.91 6.18 5.74 14.40 20.95 9.73 7.98
            51.88 42.49 42.49 39.35 39.35 33.09 29.96 36.22 64.40""",
        "chance": """
            61.02
            60.62 62.81
            57.00 58.98 55.97
            54.22 56.41 52.99 50.76
            51.24 51.25 48.30 45.81 43.91
            46.02 49.23 45.81 44.74 40.19 45.11
            43.51 44.34 41.19 39.64 36.04 32.80 32.53
            49.84 50.53 47.45 45.22 42.37 39.33 35.80 41.31
            23.20 19.00 19.00 17.60 17.60 14.80 13.40 16.20 28.80""",
    },
    "mlps": {
        "mean": """
            10.8
            8.0 8.4
            8.6 6.4 9.2
            8.0 6.0 7.4 8.8
            7.8 6.2 6.6 6.4 8.6
            8.4 6.8 6.8 6.8 6.6 9.2
            7.2 5.2 6.4 6.0 6.2 5.6 7.8
            7.0 5.6 6.2 6.0 5.0 5.8 4.4 7.4
            0 0 0 0 0 0 0 0 0""",
        "sd": """
            0.84
            1.00 0.89
            0.55 1.14 1.10
            0.71 0.71 1.14 0.45
            1.30 1.30 1.14 0.89 0.55
            2.07 1.30 0.84 1.30 1.14 1.79
            1.10 0.84 1.14 1.87 1.30 1.14 0.84
            1.22 1.52 1.48 1.41 0.71 1.79 0.89 1.52
            0 0 0 0 0 0 0 0 0""",
        "chance": """
            9.77
            7.57 5.93
            8.25 6.45 7.13
            7.93 6.17 6.75 6.47
            7.75 6.02 6.62 6.32 6.18
            8.35 6.48 6.95 6.75 6.57 7.27
            7.02 5.43 5.98 5.73 5.60 5.93 5.12
            6.62 5.23 5.68 5.40 5.27 5.70 4.75 4.72
            0 0 0 0 0 0 0 0 0""",
    },
    "super_heads": {
        "mean": """
            34
            10 40
            9 17 28
            12 14 14 31
            8 11 9 9 23
            3 7 6 5 5 11
            6 9 4 5 2 1 19
            10 14 13 13 8 5 4 24
            0 0 0 0 0 0 0 0 0""",
        "chance": """
            8.03
            9.44 11.11
            6.61 7.78 5.44
            7.32 8.61 6.03 6.67
            5.43 6.39 4.47 4.95 3.67
            2.60 3.06 2.14 2.37 1.76 0.84
            4.49 5.28 3.69 4.09 3.03 1.45 2.51
            5.67 6.67 4.67 5.17 3.83 1.83 3.17 4.00
            0 0 0 0 0 0 0 0 0""",
    },
}


def triangle(text):
    """A symmetric array from its lower triangle."""
    rows = [list(map(float, line.split())) for line in text.strip().splitlines()]
    return np.array([[rows[max(i, j)][min(i, j)] for j in range(9)] for i in range(9)])


def heads_only(*masks):
    """Subnetworks of one layer, from rows such as "1101"."""
    return [
        StructuredSubnetwork(np.array([[letter == "1" for letter in row]]), np.array([True]))
        for row in masks
    ]


@settings(max_examples=50, deadline=None)
@given(tasks_of_seeds, st.sampled_from(["heads", "mlps"]))
def test_each_entry_equals_a_loop_over_seeds(lists, part):
    tasks = {f"task{number}": seeds for number, seeds in enumerate(lists)}
    found = task_overlap(tasks, part, permutations=3)
    assert found.tasks == tuple(tasks)
    assert found.part == part
    for i, one in enumerate(lists):
        for j, other in enumerate(lists):
            pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(one, other, strict=True)]
            shared = [int((a & b).sum()) for a, b in pairs]
            assert found.mean[i, j] == pytest.approx(np.mean(shared))
            expected = [a.sum() * b.sum() / a.size for a, b in pairs]
            assert found.chance[i, j] == pytest.approx(np.mean(expected))
            if len(shared) > 1:
                assert found.sd[i, j] == pytest.approx(np.std(shared, ddof=1))
            else:
                assert np.isnan(found.sd[i, j])
    np.testing.assert_array_equal(found.p, found.p.T)
    assert np.isnan(found.p.diagonal()).all()


def test_seeds_are_matched_and_the_diagonal_counts_survivors():
    found = task_overlap(
        {"a": heads_only("1100", "0011"), "b": heads_only("1100", "1100")}, "heads", permutations=9
    )
    np.testing.assert_array_equal(found.mean, [[2, 1], [1, 2]])
    np.testing.assert_allclose(found.sd, [[0, np.sqrt(2)], [np.sqrt(2), 0]])
    np.testing.assert_array_equal(found.chance, [[1, 1], [1, 1]])


@pytest.mark.parametrize("shared", [9, 12, 15])
def test_the_p_value_of_single_subnetworks_is_that_of_fishers_exact_test(shared):
    items = np.arange(40)
    one, other = items < 18, (items < shared) | (items >= 40 - (24 - shared))
    found = task_overlap(
        {
            name: [StructuredSubnetwork(mask[None], np.array([True]))]
            for name, mask in (("a", one), ("b", other))
        },
        "heads",
        permutations=4000,
    )
    exact = stats.hypergeom.sf(found.mean[0, 1] - 1, 40, one.sum(), other.sum())
    assert found.mean[0, 1] == shared
    assert found.p[0, 1] == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000) + 1 / 4000)


def test_seeds_that_resemble_each_other_do_not_count_as_independent_evidence():
    """Two unrelated tasks, each of five seeds with the same mask: a test that took the seeds for
    independent would call far more than one in twenty of such pairs significant.
    """
    draw, significant, naive = np.random.default_rng(0), 0, 0
    rounds = 200
    for _ in range(rounds):
        a, b = (
            StructuredSubnetwork(draw.permutation(np.arange(60) < 30)[None], np.array([True]))
            for _ in "ab"
        )
        found = task_overlap({"a": [a] * 5, "b": [b] * 5}, "heads", permutations=99)
        significant += found.p[0, 1] <= 0.05
        # five independent overlaps of this mean: the sum's standard deviation shrinks
        alone = stats.hypergeom(60, 30, 30)
        naive += found.mean[0, 1] >= alone.mean() + 1.645 * alone.std() / np.sqrt(5)
    assert significant / rounds <= 0.1
    assert naive / rounds > 0.15


def test_tasks_that_keep_the_same_items_are_significant_and_opposite_ones_are_not():
    draw = np.random.default_rng(1)
    masks = ["".join(draw.permutation(list("1" * 10 + "0" * 10))) for _ in range(3)]
    turned = [mask.translate(str.maketrans("01", "10")) for mask in masks]
    found = task_overlap(
        {"a": heads_only(*masks), "same": heads_only(*masks), "other": heads_only(*turned)},
        "heads",
        permutations=499,
    )
    assert found.p[0, 1] == 1 / 500
    assert found.p[0, 2] == 1
    again = task_overlap({"a": heads_only(*masks), "b": heads_only(*turned)}, "heads", 99, seed=3)
    same = task_overlap({"a": heads_only(*masks), "b": heads_only(*turned)}, "heads", 99, seed=3)
    np.testing.assert_array_equal(again.p, same.p)


def test_requests_that_cannot_be_met():
    small = heads_only("110", "011")
    for ask, words in (
        (lambda: task_overlap({}, "heads"), "no tasks"),
        (lambda: task_overlap({"a": []}, "heads"), "no subnetworks"),
        (
            lambda: task_overlap({"a": small, "b": small[:1]}, "heads"),
            "a has subnetworks of 2 seeds and b of 1",
        ),
        (
            lambda: task_overlap({"a": small, "b": heads_only("1111", "0000")}, "heads"),
            r"a has 1x3 heads \(layers x heads\) and b 1x4",
        ),
        (lambda: task_overlap({"a": small}, "head"), "Did you mean 'heads'"),
        (lambda: task_overlap({"a": small}, "heads", permutations=0), "at least one permutation"),
    ):
        with pytest.raises(LotteryError, match=words):
            ask()


@pytest.mark.parametrize("part", ["heads", "mlps"])
@pytest.mark.parametrize("field", ["mean", "sd", "chance"])
def test_the_authors_masks_give_the_published_overlaps(authors, part, field):
    found = getattr(task_overlap(authors, part, permutations=1), field)
    np.testing.assert_allclose(found, triangle(EXPECTED[part][field]), atol=0.00501)


@pytest.mark.parametrize("field", ["mean", "chance"])
def test_the_authors_super_survivors_share_what_they_should(authors, field):
    once = {task: [super_survivors(good)] for task, good in authors.items()}
    found = task_overlap(once, "heads", permutations=1)
    np.testing.assert_allclose(
        getattr(found, field), triangle(EXPECTED["super_heads"][field]), atol=0.00501
    )
    assert np.isnan(found.sd).all()


def test_the_authors_super_survivors_do_not_vary_when_given_for_each_seed(authors):
    each = {task: [super_survivors(good)] * 5 for task, good in authors.items()}
    assert (task_overlap(each, "heads", permutations=1).sd == 0).all()


def test_the_authors_super_survivor_mlps(authors):
    once = {task: [super_survivors(good)] for task, good in authors.items()}
    mean = task_overlap(once, "mlps", permutations=1).mean
    cola, mnli, qnli = (TASKS.index(task) for task in ("cola", "mnli", "qnli"))
    assert (mean[cola, qnli], mean[cola, mnli]) == (5, 4)
