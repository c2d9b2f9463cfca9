"""The five patterns of attention maps: maps drawn from a known pattern, and rules that name one.

Section 5.2 sorts maps into the classes of Kovaleva et al. (2019). The maps that the authors
labelled cannot be had, so the classifier of `pattern_cnn` learns from maps generated here. It and
the rules look at brightness, as a reader does, so raw and norm-weighted maps are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lotterylib.errors import LotteryError

PATTERNS = ("vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous")
"""The classes, in the order of their codes. The authors' data say "mix" for vertical+diagonal and
"other" for heterogeneous."""


def brightness(attention: np.ndarray) -> np.ndarray:
    """A map as a reader sees it, float32[n, n]: divided by its n/2-th largest cell and cut at 1.

    Half a column or half a diagonal of equal cells is then fully bright whatever the length of the
    example, and neither a few outliers nor the unit of a norm-weighted map matter. Maps are
    float[n, n] of values from 0, rows attending to columns, n at least 2.
    """
    attention = np.asarray(attention, dtype=np.float32)
    rank = attention.size - len(attention) // 2
    scale = np.partition(attention, rank, axis=None)[rank] or attention.max()
    return np.minimum(attention / scale, 1) if scale else attention


@dataclass(frozen=True)
class Features:
    """What the rules look at, measured on a map's brightness; none depends on the length.

    Near the diagonal means within two tokens of it, three from 30 tokens on. A column is visible
    where two thirds of its rows are brighter than a quarter; the last three look only at the cells
    outside visible columns.

    Attributes:
        agreement: the part of the variance that lies between columns, from 0 to 1 (a bar code).
        diagonal: how bright two thirds of the rows are at their brightest cell near the diagonal.
        concentration: the share of all brightness that is near the diagonal, less the share by
            chance, divided by what chance leaves: 0 by chance, at most 1.
        block: mean cell inside less outside the two squares of the best split, divided by their
            sum, without the cells near the diagonal; at most 1.
    """

    agreement: float
    diagonal: float
    concentration: float
    block: float


VISIBLE = 0.25
"""The brightness that two thirds of a visible column's rows have."""


def features(attention: np.ndarray) -> Features:
    """Measure a map, float[n, n]."""
    bright = brightness(attention).astype(float)
    n = len(bright)
    reached = np.quantile(bright, 1 / 3, axis=0, method="lower")
    free = np.broadcast_to(reached < VISIBLE, bright.shape)
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= (2 if n < 30 else 3)
    rest = bright * free
    chance = _ratio((near & free).sum(), free.sum())
    share = _ratio(rest[near].sum(), rest.sum())
    return Features(
        agreement=_ratio(bright.mean(axis=0).var(), bright.var()),
        diagonal=float(np.quantile((rest * near).max(axis=1), 1 / 3, method="lower")),
        concentration=_ratio(share - chance, 1 - chance),
        block=_block_contrast(rest * ~near, free & ~near),
    )


def classify_by_rules(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The pattern of each map, float[n, n] without padding: codes in `PATTERNS`, int64[maps].

    The thresholds were chosen on generated maps and on the tuning half of the labelled ones. Weak
    spots: beside columns a faint but clean diagonal counts; squares of under eight tokens pass for
    a diagonal.
    """
    return np.array([PATTERNS.index(_rule(features(each))) for each in maps], dtype=np.int64)


def _rule(found: Features) -> str:
    if found.diagonal >= 0.05 and found.concentration >= 0.3:
        return "vertical+diagonal" if found.agreement >= 0.2 else "diagonal"
    if found.agreement >= 0.35:
        return "vertical"
    return "block" if found.block >= 0.4 else "heterogeneous"


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _block_contrast(values: np.ndarray, counted: np.ndarray) -> float:
    """The best contrast, (inside - outside) / (inside + outside), over splits into two squares, of
    which the smaller one has a fifth of the tokens.
    """
    n, total, cells = len(values), values.sum(), counted.sum()
    splits = np.arange(max(2, n // 5), n - max(2, n // 5) + 1)
    if not len(splits) or not total:
        return 0.0

    def inside(array: np.ndarray) -> np.ndarray:
        sums = np.pad(array.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        corner = sums[splits, splits]
        return 2 * corner + sums[n, n] - sums[splits, n] - sums[n, splits]

    within, covered = inside(values), inside(counted.astype(float))
    inner = within / np.maximum(covered, 1)
    outer = (total - within) / np.maximum(cells - covered, 1)
    return float(((inner - outer) / np.maximum(inner + outer, 1e-12)).max())


def generate_maps(
    count: int,
    seed: int,
    noise: tuple[float, float] = (0.0, 0.6),
    lengths: tuple[int, int] = (8, 60),
) -> tuple[list[np.ndarray], np.ndarray]:
    """Maps of known pattern, as many of each as the count allows, in random order.

    Patterns vary as real ones do. Columns: the first token, separators, a few tokens, a bar code;
    some are broken. Diagonals: self, previous or next token; sharp, wide or clumped. Blocks: both
    segments or one, with or without a column at the separators. Heterogeneous: attention by
    content, clouds, lines far from the main diagonal, faint mixtures. Half of the maps are raw:
    every row sums to 1. In the others each column is multiplied by a random positive factor, and
    special tokens that are not the pattern are damped, which is what weighting by norms does.

    Args:
        count: of maps.
        seed: the same seed gives the same maps.
        noise: the range from which each map draws its own, from 0 (the bare pattern) to below 1:
            the share of a background without the pattern, and how much single cells vary.
        lengths: the fewest and the most tokens, 4 or more.

    Returns:
        A list of float32[n, n], and the codes of their patterns in `PATTERNS`, int64[count].

    Raises:
        LotteryError: other lengths.
    """
    if not 4 <= lengths[0] <= lengths[1]:
        raise LotteryError(f"Maps have 4 tokens or more, the fewest first, not {lengths}.")
    draw = np.random.default_rng(seed)
    codes = draw.permutation(np.arange(count) % len(PATTERNS))
    maps = []
    for code in codes:
        n = int(draw.integers(lengths[0], lengths[1] + 1))
        maps.append(_generate(PATTERNS[code], n, draw.uniform(*noise), draw))
    return maps, codes


def _generate(pattern: str, n: int, noise: float, draw: np.random.Generator) -> np.ndarray:
    """One map; `special` are the places of the first token and of one or two separators."""
    special = np.array([0, n - 1])
    if pattern == "block" or draw.random() < 0.5:
        special = np.insert(special, 1, draw.integers(max(1, n // 5), n - max(1, n // 5)))
    columns = np.zeros(n)
    if pattern == "vertical":
        columns = _column_weights(n, special, draw)
        content = draw.uniform(0, 0.3) * (
            _content(n, draw) + draw.uniform(0, 0.3) * _far_lines(n, draw)
        )
        picture = _columns(columns, draw) + content
        if draw.random() < 0.5:
            picture = _beside(picture, _diagonal(n, draw), draw.uniform(0, 0.3), draw)
    elif pattern == "diagonal":
        faint = _columns(_column_weights(n, special, draw, bar_code=False), draw)
        picture = _beside(_diagonal(n, draw), faint, draw.uniform(0, 0.3), draw)
    elif pattern == "vertical+diagonal":
        columns = _column_weights(n, special, draw, bar_code=False)
        ratio = np.exp(draw.uniform(np.log(0.4), np.log(2.5)))
        picture = _beside(_columns(columns, draw), _diagonal(n, draw), ratio, draw)
    elif pattern == "block":
        picture = _block(n, special, draw)
    else:
        picture = _heterogeneous(n, special, draw)
    background = noise * draw.uniform(0.2, 0.8)
    attention = (1 - background) * picture + background * _content(n, draw)
    attention = _rows(attention * draw.lognormal(0, noise, attention.shape))
    if draw.random() < 0.5:
        norms = draw.lognormal(0, 0.3, n) * draw.uniform(0.2, 5)
        norms[special[columns[special] == 0]] *= draw.uniform(0.05, 0.6)
        attention = attention * norms
    return attention.astype(np.float32)


def _rows(picture: np.ndarray) -> np.ndarray:
    return picture / picture.sum(axis=1, keepdims=True)


def _column_weights(
    n: int, special: np.ndarray, draw: np.random.Generator, bar_code: bool = True
) -> np.ndarray:
    """How much all attend to each token: float[n], summing to 1."""
    kinds = ["first", "separators", "special", "few", "stripes", "soft stripes"]
    kind = draw.choice(kinds[: 4 + 2 * bar_code])
    if kind == "soft stripes":
        return _rows(draw.lognormal(0, draw.uniform(0.7, 1.5), (1, n)))[0]
    if kind == "stripes":
        chosen = draw.choice(n, max(2, int(n * draw.uniform(0.1, 0.4))), replace=False)
    elif kind == "few":
        chosen = draw.choice(n, int(draw.integers(1, 4)), replace=False)
        if draw.random() < 0.5:
            chosen = np.union1d(chosen, [0])
    else:
        chosen = {"first": special[:1], "separators": special[1:], "special": special}[kind]
    weights = np.zeros(n)
    weights[chosen] = draw.gamma(4, size=len(chosen))
    return weights / weights.sum()


def _columns(weights: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Columns whose brightness varies along their rows; up to a third of the rows breaks them."""
    n = len(weights)
    picture = weights * draw.lognormal(0, draw.uniform(0, 0.5), (n, 1))
    broken = draw.random(n) < draw.uniform(-0.3, 0.3)
    picture[broken] *= draw.uniform(0.05, 0.5)
    return picture


def _diagonal(n: int, draw: np.random.Generator) -> np.ndarray:
    width = draw.choice([0.15, draw.uniform(0.3, max(1, n / 25))], p=[0.3, 0.7])
    target = np.arange(n) + draw.integers(-1, 2) + draw.normal(0, width / 2, n)
    if draw.random() < 0.3:  # neighbours share a target, as the words of a phrase do
        clumped = draw.random(n) < draw.uniform(0.3, 1)
        target[clumped] = target[clumped] // 3 * 3 + 1
    distance = (np.arange(n) - np.clip(target, 0, n - 1)[:, None]) / width
    return _rows(np.exp(-0.5 * distance**2) + 1e-9)


def _block(n: int, special: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Each segment attends to itself; in some maps only one of them does."""
    segment = np.arange(n) > special[1]
    within = segment[:, None] == segment
    texture = _content(n, draw) * n if draw.random() < 0.6 else np.ones((n, n))
    picture = within * texture + draw.uniform(0, 0.12)
    if draw.random() < 0.15:
        picture[segment == draw.integers(2)] = 1.0
    if draw.random() < 0.4:
        picture[:, 0] += draw.uniform(0, 0.15) * n
    if draw.random() < 0.4:
        picture[:, special[1:]] += draw.uniform(0, 0.15) * n * within[:, special[1:]]
    if draw.random() < 0.3:
        picture = _rows(picture) + draw.uniform(0, 0.15) * _diagonal(n, draw)
    return _rows(picture)


def _content(n: int, draw: np.random.Generator) -> np.ndarray:
    """Attention by random queries and keys, from nearly uniform to sharp."""
    width = int(draw.integers(2, 9))
    queries, keys = draw.normal(size=(2, n, width))
    queries += draw.normal(0, draw.uniform(0, 0.5), width)  # all like some tokens a little more
    scores = queries @ keys.T / np.sqrt(width) * draw.uniform(0.2, 2)
    return _rows(np.exp(scores + draw.normal(0, draw.uniform(0, 0.8), scores.shape)))


def _beside(
    one: np.ndarray, other: np.ndarray, ratio: float, draw: np.random.Generator
) -> np.ndarray:
    """Two patterns in one map; the other's brightest cells, row by row, are `ratio` times as bright
    as those of the first, give or take. Below a third a reader is told to ignore them.
    """
    scale = np.median(one.max(axis=1)) / np.median(other.max(axis=1))
    return _rows(one + ratio * scale * draw.lognormal(0, 0.3, (len(one), 1)) * other)


def _far_lines(n: int, draw: np.random.Generator) -> np.ndarray:
    """Lines beside the main diagonal: words that attend to their like in the other segment."""
    shift = int(draw.integers(n // 3, n - n // 4))
    picture = np.eye(n, k=shift) + np.eye(n, k=-shift)
    return picture * (draw.random((n, n)) < draw.uniform(0.4, 1)) + 1e-9


def _heterogeneous(n: int, special: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    content = _content(n, draw)
    kind = draw.choice(["content", "cloud", "lines", "mixture"], p=[0.3, 0.25, 0.1, 0.35])
    if kind == "cloud":
        width, centre = n * draw.uniform(0.1, 0.4), np.arange(n) + draw.normal(0, n / 8, n)
        cloud = np.exp(-0.5 * ((np.arange(n) - centre[:, None]) / width) ** 2)
        return _rows((cloud + draw.uniform(0, 0.3)) * content)
    if kind == "lines":
        return _rows(_far_lines(n, draw) + draw.uniform(0.2, 1) * content)
    if kind == "mixture":
        parts = draw.dirichlet([1, 1, 4]) * [0.4, 0.15, 1]
        columns = _columns(_column_weights(n, special, draw), draw)
        return _rows(parts[0] * columns + parts[1] * _diagonal(n, draw) + parts[2] * content)
    return content
