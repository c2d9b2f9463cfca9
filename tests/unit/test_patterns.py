"""Maps of known pattern have it, features equal loops, and the rules tell clear patterns apart."""

import numpy as np
import pytest

from lotterylib.patterns import (
    PATTERNS,
    Features,
    brightness,
    classify_by_rules,
    features,
    generate_maps,
)


def rows(picture):
    return picture / picture.sum(axis=1, keepdims=True)


def column_map(n, columns, rest=0.1):
    picture = np.full((n, n), rest / n)
    picture[:, columns] = 1
    return rows(picture)


def diagonal_map(n, offset=0, rest=0.01):
    return rows(np.eye(n, k=offset) + rest / n)


def block_map(n, middle, rest=0.02):
    segment = np.arange(n) > middle
    return rows((segment[:, None] == segment) + rest)


def noise_map(n, seed=0):
    return rows(np.random.default_rng(seed).gamma(1.0, size=(n, n)))


def brightness_by_sorting(attention):
    cells = sorted(attention.ravel().tolist(), reverse=True)
    scale = cells[len(attention) // 2 - 1]
    return np.minimum(attention / scale, 1)


@pytest.mark.parametrize("n", [2, 7, 20])
def test_brightness_equals_a_sort(n, rng):
    attention = rng.random((n, n))
    np.testing.assert_allclose(brightness(attention), brightness_by_sorting(attention), rtol=1e-6)
    assert not brightness(np.zeros((n, n))).any()
    single = np.zeros((n, n))
    single[1, 0] = 0.4
    assert np.array_equal(brightness(single), single > 0)


def features_by_loops(attention):
    """The docstrings of `Features`, cell by cell."""
    bright = brightness_by_sorting(attention)
    n = len(bright)
    reach = 2 if n < 30 else 3
    visible = {j for j in range(n) if sorted(bright[:, j])[(n - 1) // 3] >= 0.25}
    cells = [(i, j) for i in range(n) for j in range(n) if j not in visible]
    near = [(i, j) for i, j in cells if abs(i - j) <= reach]
    far = [(i, j) for i, j in cells if abs(i - j) > reach]
    total = sum(bright[c] for c in cells)
    chance = len(near) / len(cells)
    peaks = [max([bright[c] for c in near if c[0] == i], default=0) for i in range(n)]
    contrasts = []
    for split in range(max(2, n // 5), n - max(2, n // 5) + 1):
        inside = [bright[c] for c in far if (c[0] < split) == (c[1] < split)]
        outside = [bright[c] for c in far if (c[0] < split) != (c[1] < split)]
        inner, outer = sum(inside) / max(len(inside), 1), sum(outside) / max(len(outside), 1)
        contrasts.append((inner - outer) / (inner + outer))
    means = bright.mean(axis=0)
    return Features(
        agreement=((means - means.mean()) ** 2).mean() / ((bright - bright.mean()) ** 2).mean(),
        diagonal=sorted(peaks)[(n - 1) // 3],
        concentration=(sum(bright[c] for c in near) / total - chance) / (1 - chance),
        block=max(contrasts),
    )


def test_features_equal_loops():
    for attention in generate_maps(15, seed=4, lengths=(8, 33))[0]:
        wanted = pytest.approx(vars(features_by_loops(attention)), rel=1e-4, abs=1e-5)
        assert vars(features(attention)) == wanted


@pytest.mark.parametrize("empty", [np.zeros((9, 9)), np.full((9, 9), 0.2)], ids=["zero", "even"])
def test_maps_without_contrast_have_features_and_are_heterogeneous(empty):
    assert np.isfinite(list(vars(features(empty)).values())).all()
    assert classify_by_rules([empty]).tolist() == [PATTERNS.index("heterogeneous")]


@pytest.mark.parametrize("n", [12, 25, 128])
def test_rules_name_clear_patterns_at_any_length(n):
    middle = n // 2
    both = 0.5 * column_map(n, [0]) + 0.5 * diagonal_map(n, -1)
    clear = {
        "vertical": [column_map(n, [0]), column_map(n, [middle, n - 1]), column_map(n, [3])],
        "diagonal": [diagonal_map(n, offset) for offset in (-1, 0, 1)],
        "vertical+diagonal": [both, 0.6 * column_map(n, [n - 1]) + 0.4 * diagonal_map(n)],
        "block": [block_map(n, middle), block_map(n, n // 3)] if n > 20 else [],
        "heterogeneous": [noise_map(n, seed) for seed in range(3)],
    }
    for name, maps in clear.items():
        assert [PATTERNS[code] for code in classify_by_rules(maps)] == [name] * len(maps)


def test_weighting_the_columns_of_special_tokens_down_uncovers_the_diagonal():
    raw = 0.7 * column_map(24, [0]) + 0.3 * diagonal_map(24, 1)
    norms = np.array([0.03] + [1.0] * 23)
    found = [PATTERNS[code] for code in classify_by_rules([raw, raw * norms])]
    assert found == ["vertical+diagonal", "diagonal"]


def test_generated_maps_are_reproducible_balanced_and_of_the_lengths_asked_for():
    maps, codes = generate_maps(103, seed=3, lengths=(9, 12))
    again, same = generate_maps(103, seed=3, lengths=(9, 12))
    other, _ = generate_maps(103, seed=4, lengths=(9, 12))
    assert [each.tobytes() for each in maps] == [each.tobytes() for each in again]
    assert np.array_equal(codes, same)
    assert [each.tobytes() for each in maps] != [each.tobytes() for each in other]
    assert np.bincount(codes).tolist() == [21, 21, 21, 20, 20]
    assert {len(each) for each in maps} == {9, 10, 11, 12}
    assert codes.dtype == np.int64


def test_half_of_the_generated_maps_are_raw_and_half_weighted():
    maps, codes = generate_maps(600, seed=0, lengths=(8, 20))
    raw = np.array([np.allclose(each.sum(axis=1), 1, atol=1e-5) for each in maps])
    for code in range(len(PATTERNS)):
        assert 0.35 < raw[codes == code].mean() < 0.65
    shortest, _ = generate_maps(200, seed=1, lengths=(4, 5))
    for each in maps + shortest:
        assert each.dtype == np.float32
        assert np.isfinite(each).all()
        assert each.min() >= 0
    classify_by_rules(shortest)
