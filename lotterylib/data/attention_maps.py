"""Real attention maps with labels, to measure on them the classifiers that learnt from others.

The maps that the authors and Kovaleva et al. labelled (section 5.2) cannot be had. In their place
`labelled/` holds a few; its `PROTOCOL.md` says how they were drawn and read, and what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from lotterylib.data.files import damage_of
from lotterylib.errors import LotteryError
from lotterylib.patterns import PATTERNS

KINDS, HALVES = ("raw", "normed"), ("tuning", "validation")
FOLDER = Path(__file__).parent / "labelled"


@dataclass(frozen=True, eq=False)
class LabelledMaps:
    """Maps and what is known about each.

    Attributes:
        maps: float32[n, n] each, rows attending to columns, without padding.
        table: a row per map in the same order: `id`, `kind`, `encoder`, `task`, `layer` and `head`
            from 0, `length`, `label`, `half`, `annotator`, and `second_label`, which is empty where
            only one reader looked.
    """

    maps: tuple[np.ndarray, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def codes(self) -> np.ndarray:
        """The label of each map as a place in `PATTERNS`: int64[maps]."""
        return _codes(self.table["label"])

    def part(self, kind: str, half: str) -> LabelledMaps:
        """The maps of one kind and one half."""
        chosen = (self.table["kind"] == kind) & (self.table["half"] == half)
        maps = tuple(self.maps[row] for row in np.flatnonzero(chosen))
        return LabelledMaps(maps, self.table[chosen].reset_index(drop=True))

    def read_twice(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and the second reader's codes, int64 each, of the maps that both looked at."""
        both = self.table[self.table["second_label"] != ""]
        return _codes(both["label"]), _codes(both["second_label"])


def load_labelled() -> LabelledMaps:
    """The labelled maps that come with the library.

    Raises:
        LotteryError: a file is missing or not the one of the manifest.
    """
    if damage := damage_of(FOLDER):
        raise LotteryError(
            f"The labelled maps in {FOLDER} are damaged: {damage}. Labels may belong to other maps."
        )
    table = pd.read_csv(FOLDER / "labels.csv", keep_default_na=False)
    maps = load_file(FOLDER / "raw.safetensors") | load_file(FOLDER / "normed.safetensors")
    return LabelledMaps(tuple(maps[each].astype(np.float32) for each in table["id"]), table)


def _codes(labels: pd.Series) -> np.ndarray:
    return np.array([PATTERNS.index(label) for label in labels], dtype=np.int64)
