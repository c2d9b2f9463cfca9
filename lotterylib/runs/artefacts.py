"""Artefacts: scores and subnetworks as the files that the run store keeps."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from lotterylib.data.files import read_json, write_json
from lotterylib.errors import LotteryError
from lotterylib.subnetworks import (
    StructuredSubnetwork,
    Subnetwork,
    WeightSubnetwork,
    natural_order,
)

if TYPE_CHECKING:  # subnetworks can be read without waiting for torch
    from lotterylib.scoring import Score

_SIZE = re.compile(r"[0-9]{1,18}")


def write_score(folder: Path, score: Score) -> None:
    """Write a score into a folder."""
    write_json(folder / "score.json", asdict(score))


def read_score(folder: Path) -> Score:
    """Read what `write_score` wrote; equal to what was written."""
    from lotterylib.scoring import Score

    values = read_json(folder / "score.json")
    return Score(values["metrics"], values["constant"], tuple(values["predictions"]))


def save_subnetwork(subnetwork: Subnetwork, path: Path) -> None:
    """Write a subnetwork as safetensors; booleans of weight subnetworks are packed eight a byte."""
    if isinstance(subnetwork, StructuredSubnetwork):
        save_file({"heads": subnetwork.heads, "mlps": subnetwork.mlps}, path)
        return
    packed = {name: np.packbits(kept) for name, kept in subnetwork.weights.items()}
    shapes = {name: ",".join(map(str, kept.shape)) for name, kept in subnetwork.weights.items()}
    # One entry: the order of several in the file is random, and equal subnetworks are equal files.
    save_file(packed, path, metadata={"shapes": json.dumps(shapes, sort_keys=True)})


def load_subnetwork(path: Path) -> Subnetwork:
    """Read what `save_subnetwork` wrote; the result equals what was saved.

    Raises:
        LotteryError: the file is missing, damaged, or holds something else.
    """
    try:
        arrays = load_file(path)
        with safe_open(path, "numpy") as file:
            shapes = file.metadata() or {}
        if "shapes" in shapes:  # older stores have an entry per parameter
            shapes = dict(json.loads(shapes["shapes"]))
    except (
        *(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError),
        SafetensorError,
    ) as error:  # the last ones come of types that NumPy lacks, and of JSON
        raise LotteryError(f"{path} is not a readable subnetwork: {error}.") from None
    if arrays.keys() == {"heads", "mlps"}:
        return StructuredSubnetwork(arrays["heads"], arrays["mlps"])
    if not arrays or arrays.keys() != shapes.keys():
        raise LotteryError(f"{path} holds no subnetwork.")
    weights = {}
    for name in sorted(arrays, key=natural_order):
        sizes = str(shapes[name]).split(",")
        numbers = [name.split(".")[0], *sizes]
        if arrays[name].dtype != np.uint8 or not all(map(_SIZE.fullmatch, numbers)):
            raise LotteryError(f"{path} holds no subnetwork: {name} is not a packed mask.")
        shape = tuple(map(int, sizes))
        if arrays[name].shape != ((math.prod(shape) + 7) // 8,):
            raise LotteryError(f"{path} holds no subnetwork: {name} has the wrong size.")
        bits = np.unpackbits(arrays[name], count=math.prod(shape))
        weights[name] = bits.astype(bool).reshape(shape)
    return WeightSubnetwork(weights)
