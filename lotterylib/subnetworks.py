"""Subnetworks: what survives pruning, as a value, and the good, random and bad ones of one size.

Paper, section 4.2. A structured subnetwork keeps whole heads and MLPs; a weight subnetwork keeps
single weights of the encoder's dense layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lotterylib.encoder import Shape
from lotterylib.errors import LotteryError, unknown

Prunable = Literal["heads", "mlps", "weights"]
"""What a method prunes."""

Sampling = Literal["exact", "bernoulli"]
"""Whether random structured subnetworks have exactly the size of the good one, or on average."""

TITLE_OFFSET = 0.21
"""What the authors subtract from remaining / all parameters to get the percentage that their
Figure 2 prints (`eval_performance_analysis.ipynb`, cell 2)."""


@dataclass(frozen=True, eq=False)
class StructuredSubnetwork:
    """Whole heads and MLPs that survive: bool[layers, heads] and bool[layers].

    Raises:
        LotteryError: other shapes, or arrays that are not boolean.
    """

    heads: np.ndarray
    mlps: np.ndarray

    def __post_init__(self) -> None:
        for name, array, dimensions in (("heads", self.heads, 2), ("mlps", self.mlps, 1)):
            if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
                raise LotteryError(f"A subnetwork's {name} must be an array of booleans.")
            if array.size == 0:
                raise LotteryError(f"A subnetwork's {name} must not be empty: {array.shape}.")
            if array.ndim != dimensions:
                raise LotteryError(
                    f"A subnetwork's {name} must have {dimensions} dimensions, not {array.shape}."
                )
        if len(self.heads) != len(self.mlps):
            raise LotteryError(
                f"A subnetwork has heads in {len(self.heads)} layers but MLPs in {len(self.mlps)}."
            )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, StructuredSubnetwork)
            and np.array_equal(self.heads, other.heads)
            and np.array_equal(self.mlps, other.mlps)
        )

    def complement(self, parts: Collection[Prunable] = ("heads", "mlps")) -> StructuredSubnetwork:
        """What was pruned; a part that is not named stays, as in the authors' inverted masks."""
        return StructuredSubnetwork(
            ~self.heads if "heads" in parts else self.heads,
            ~self.mlps if "mlps" in parts else self.mlps,
        )

    def density(self, shape: Shape) -> float:
        """The share of the encoder's dense parameters (weights and biases) that survive, 0 to 1; a
        `LotteryError` for an encoder of other layers or heads, as in `printed_share`.
        """
        return self._kept(shape) / shape.encoder_parameters

    def printed_share(self, shape: Shape) -> float:
        """As the titles of the paper's Figure 2 count it: the share of all parameters less 0.21."""
        removed = shape.encoder_parameters - self._kept(shape)
        return (shape.total - removed) / shape.total - TITLE_OFFSET

    def overlap(self, other: StructuredSubnetwork) -> dict[str, float]:
        """Shares of this one's heads and MLPs that the other keeps too (nan where it has none).

        Raises:
            LotteryError: they are of different encoders.
        """
        self._refuse_another_encoder(other)
        return {
            "heads": _share(self.heads & other.heads, self.heads),
            "mlps": _share(self.mlps & other.mlps, self.mlps),
        }

    def shared_share(self, other: StructuredSubnetwork, shape: Shape) -> float:
        """The part of this one's heads and MLPs, in parameters, that the other keeps too.

        Raises:
            LotteryError: they are of different encoders.
        """
        self._refuse_another_encoder(other)
        mine = _parameters(self.heads, self.mlps, shape)
        shared = _parameters(self.heads & other.heads, self.mlps & other.mlps, shape)
        return shared / mine if mine else float("nan")

    def _refuse_another_encoder(self, other: StructuredSubnetwork) -> None:
        if self.heads.shape != other.heads.shape:
            raise LotteryError(
                f"These subnetworks are of different encoders: one has {self.heads.shape} heads "
                f"(layers, heads), the other {other.heads.shape}."
            )

    def _kept(self, shape: Shape) -> int:
        if self.heads.shape != (shape.layers, shape.heads):
            raise LotteryError(
                f"A subnetwork of {self.heads.shape[0]} layers of {self.heads.shape[1]} heads does "
                f"not fit an encoder of {shape.layers} layers of {shape.heads}."
            )
        always = shape.layers * shape.hidden  # the biases of W_O belong to no head
        return always + _parameters(self.heads, self.mlps, shape)


@dataclass(frozen=True, eq=False)
class WeightSubnetwork:
    """Single weights that survive: `{parameter: bool array of its shape}`, named as in
    `encoder.prunable_weights`.

    Raises:
        LotteryError: no parameters, or arrays that are not boolean.
    """

    weights: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.weights:
            raise LotteryError("A subnetwork of weights must name at least one parameter.")
        for name, array in self.weights.items():
            if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
                raise LotteryError(f"A subnetwork's {name} must be an array of booleans.")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, WeightSubnetwork)
            and self.weights.keys() == other.weights.keys()
            and all(np.array_equal(a, other.weights[name]) for name, a in self.weights.items())
        )

    @property
    def size(self) -> int:
        """How many weights survive."""
        return sum(int(kept.sum()) for kept in self.weights.values())

    @property
    def capacity(self) -> int:
        """How many weights there were."""
        return sum(kept.size for kept in self.weights.values())

    def complement(self, _parts: Collection[Prunable] = ()) -> WeightSubnetwork:
        """What was pruned."""
        return WeightSubnetwork({name: ~kept for name, kept in self.weights.items()})

    def density(self, shape: Shape) -> float:
        """The share of the encoder's dense parameters that survive, 0 to 1; those that are never
        ranked survive always.
        """
        return (shape.encoder_parameters - self.capacity + self.size) / shape.encoder_parameters

    def printed_share(self, shape: Shape) -> float:
        """The share as the titles of the paper's Figure 2 count it."""
        return (shape.total - self.capacity + self.size) / shape.total - TITLE_OFFSET

    def overlap(self, other: WeightSubnetwork) -> dict[str, float]:
        """The share of this one's weights that the other keeps too (nan where it has none).

        Raises:
            LotteryError: they are of different encoders.
        """
        if {name: kept.shape for name, kept in self.weights.items()} != {
            name: kept.shape for name, kept in other.weights.items()
        }:
            raise LotteryError(
                f"These subnetworks are of different encoders: one has {self.capacity:,} weights, "
                f"the other {other.capacity:,}."
            )
        shared = sum(int((kept & other.weights[name]).sum()) for name, kept in self.weights.items())
        return {"weights": shared / self.size if self.size else float("nan")}

    def shared_share(self, other: WeightSubnetwork, _shape: Shape) -> float:
        """The part of this one's weights that the other keeps too."""
        return self.overlap(other)["weights"]


Subnetwork = StructuredSubnetwork | WeightSubnetwork


def full_subnetwork(shape: Shape) -> StructuredSubnetwork:
    """All heads and MLPs."""
    return StructuredSubnetwork(
        np.ones((shape.layers, shape.heads), dtype=bool), np.ones(shape.layers, dtype=bool)
    )


def random_like(
    good: Subnetwork,
    seed: int,
    sampling: Sampling = "exact",
    number: int = 0,
) -> Subnetwork:
    """A random subnetwork of the size of `good`, drawn from all elements of the full model.

    Args:
        good: the subnetwork whose size to match, heads and MLPs each for itself.
        seed, number: of the draw; several may be made under one seed.
        sampling: for structured subnetworks, exactly that size (paper) or each element with the
            probability that gives it on average (authors' `create_random_masks.ipynb`).

    Raises:
        LotteryError: another name of sampling.
    """
    if sampling not in get_args(Sampling):
        raise unknown("sampling", sampling, get_args(Sampling))
    draw = _generator(seed, 1, number)
    if isinstance(good, WeightSubnetwork):
        flat = np.zeros(good.capacity, dtype=bool)
        flat[draw.choice(good.capacity, good.size, replace=False, shuffle=False)] = True
        return _unflatten(flat, good)
    if sampling == "bernoulli":
        return StructuredSubnetwork(
            draw.random(good.heads.shape) < good.heads.mean(),
            draw.random(good.mlps.shape) < good.mlps.mean(),
        )
    return StructuredSubnetwork(
        draw.permuted(good.heads.ravel()).reshape(good.heads.shape), draw.permutation(good.mlps)
    )


def bad_like(good: Subnetwork, seed: int, number: int = 0) -> Subnetwork:
    """A bad subnetwork of exactly the size of `good`: drawn from what it pruned, and, where that
    is too little, all of it topped up with elements drawn from `good` itself (paper, section 4.2).
    The authors' own bad weights, the smallest ones, are what
    `magnitude.Ranking.smallest_pruned(good.size)` prunes (`find_global_weight_mask.py`, line 422).

    Args:
        good: the subnetwork whose size to match, heads and MLPs each for itself.
        seed, number: of the draw; several may be made under one seed.
    """
    draw = _generator(seed, 2, number)
    if isinstance(good, WeightSubnetwork):
        return _unflatten(_bad(_flatten(good), draw), good)
    return StructuredSubnetwork(_bad(good.heads, draw), _bad(good.mlps, draw))


def _generator(seed: int, kind: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, kind, number])


def head_and_mlp_survival(subnetwork: Subnetwork, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The share of each head and each MLP that survives, for the paper's survival heatmaps:
    float64[layers, heads] and float64[layers], from 0 to 1.

    For weights, a head is its rows of W_Q, W_K, W_V with their biases and its columns of W_O; an
    MLP is both of its dense layers (authors' `global_magnitude_pruning_heatmaps.ipynb`, which
    counts a part of the bias of W_O with each head; here that bias is no head's).
    """
    if isinstance(subnetwork, StructuredSubnetwork):
        return subnetwork.heads.astype(float), subnetwork.mlps.astype(float)
    heads = np.zeros((shape.layers, shape.heads))
    mlps = np.zeros(shape.layers)
    for layer in range(shape.layers):
        rows = [
            subnetwork.weights[f"{layer}.{module}.{kind}"].reshape(shape.heads, -1)
            for module in ("query", "key", "value")
            for kind in ("weight", "bias")
        ]
        columns = subnetwork.weights[f"{layer}.output.weight"].T.reshape(shape.heads, -1)
        heads[layer] = np.hstack([*rows, columns]).mean(1)
        mlps[layer] = np.concatenate(
            [
                subnetwork.weights[f"{layer}.{name}"].ravel()
                for name in ("mlp_in.weight", "mlp_in.bias", "mlp_out.weight")
            ]
        ).mean()
    return heads, mlps


def _parameters(heads: np.ndarray, mlps: np.ndarray, shape: Shape) -> int:
    return int(heads.sum()) * shape.head_parameters + int(mlps.sum()) * shape.mlp_parameters


def _bad(good: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    size = int(good.sum())
    pruned, kept = np.flatnonzero(~good), np.flatnonzero(good)
    bad = np.zeros(good.size, dtype=bool)
    if size <= len(pruned):
        bad[draw.choice(pruned, size, replace=False, shuffle=False)] = True
    else:
        bad[pruned] = True
        bad[draw.choice(kept, size - len(pruned), replace=False, shuffle=False)] = True
    return bad.reshape(good.shape)


def _flatten(subnetwork: WeightSubnetwork) -> np.ndarray:
    names = sorted(subnetwork.weights, key=natural_order)
    return np.concatenate([subnetwork.weights[name].ravel() for name in names])


def _unflatten(flat: np.ndarray, like: WeightSubnetwork) -> WeightSubnetwork:
    weights, start = {}, 0
    # A draw must not depend on who listed them.
    for name in sorted(like.weights, key=natural_order):
        kept = like.weights[name]
        weights[name] = flat[start : start + kept.size].reshape(kept.shape)
        start += kept.size
    return WeightSubnetwork({name: weights[name] for name in like.weights})


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def natural_order(name: str) -> tuple[int, str]:
    """Sorts names of parameters such as "10.query.weight" by their layers' numbers."""
    layer, _, rest = name.partition(".")
    return (int(layer) if layer.isdecimal() else -1), rest
